import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from routing.errors import StorageError
from routing.ledger import WITHDRAWN, Ledger, LedgerReader
from tests.fakes import NOON, answered, broken, completion, refused, send

ROOT = Path(__file__).parents[2]


async def decide(ledger: Ledger, key: str, *, attempt: int = 1, error_code: str | None = None, body: str = "{}") -> int:
    """Send and end one call."""
    sending = send(key, attempt=attempt)
    send_id = await ledger.sent(sending)
    reply = answered(body) if error_code is None else refused(500)
    await ledger.replied(send_id, sending, reply, ends=True, error_code=error_code)
    return send_id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def rows(path: Path, table: str) -> int:
    """Count what an independent connection sees."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


# ---- durability -----------------------------------------------------------------------------------------------------


def test_a_send_is_on_disk_before_the_request_leaves_and_a_reply_before_it_is_read(path: Path) -> None:
    async def scenario(ledger: Ledger) -> None:
        sending = send("a")
        send_id = await ledger.sent(sending)
        assert rows(path, "sends") == 1
        await ledger.replied(send_id, sending, answered("raw"), ends=True, error_code=None)
        assert (rows(path, "replies"), rows(path, "ends")) == (1, 1)

    with Ledger(path) as ledger:
        asyncio.run(scenario(ledger))


def test_commits_survive_a_power_cut(path: Path) -> None:
    with Ledger(path) as ledger, contextlib.closing(ledger._connect()) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: fsync at every commit


def test_a_reply_and_the_end_of_its_call_are_one_transaction(path: Path) -> None:
    async def scenario(ledger: Ledger) -> None:
        sending = send("a")
        send_id = await ledger.sent(sending)
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TRIGGER no_ends BEFORE INSERT ON ends BEGIN SELECT raise(ABORT, 'no ends'); END")
        with pytest.raises(StorageError, match="no ends"):
            await ledger.replied(send_id, sending, answered(), ends=True, error_code=None)

    with Ledger(path) as ledger:
        asyncio.run(scenario(ledger))
    assert rows(path, "replies") == 0


def test_many_writes_share_a_commit(path: Path) -> None:
    statements: list[str] = []

    class Traced(Ledger):
        def _connect(self) -> sqlite3.Connection:
            connection = super()._connect()
            connection.set_trace_callback(statements.append)
            return connection

    async def scenario(ledger: Ledger) -> list[int]:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # the disk is busy while the writes gather
            writes = [asyncio.create_task(ledger.sent(send(str(i)))) for i in range(200)]
            await asyncio.sleep(0.05)
            other.execute("COMMIT")
        return list(await asyncio.gather(*writes))

    with Traced(path) as ledger:
        statements.clear()
        assert asyncio.run(scenario(ledger)) == list(range(1, 201))
        assert statements.count("COMMIT") <= 2
    assert rows(path, "sends") == 200


def test_closing_commits_what_is_queued(path: Path) -> None:
    async def scenario(ledger: Ledger) -> None:
        writes = [asyncio.create_task(ledger.sent(send(str(i)))) for i in range(50)]
        await asyncio.sleep(0)  # queued, not awaited
        ledger.close()
        await asyncio.gather(*writes)

    asyncio.run(scenario(Ledger(path)))
    assert rows(path, "sends") == 50


def test_what_was_queued_when_the_loop_died_is_committed_all_the_same(path: Path) -> None:
    async def scenario(ledger: Ledger) -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            tasks = [asyncio.create_task(ledger.sent(send(str(i)))) for i in range(20)]
            await asyncio.sleep(0.02)
            other.execute("COMMIT")
        for task in tasks:
            task.cancel()

    with Ledger(path) as ledger:
        asyncio.run(scenario(ledger))
    assert rows(path, "sends") == 20


def test_a_ledger_serves_one_event_loop_after_another(path: Path) -> None:
    with Ledger(path) as ledger:
        assert [asyncio.run(decide(ledger, key)) for key in "abc"] == [1, 2, 3]


# ---- after a kill ---------------------------------------------------------------------------------------------------

CHILD = """
import asyncio, sys
from pathlib import Path
from routing.ledger import Ledger
from tests.fakes import answered, send

async def main():
    ledger = Ledger(Path(sys.argv[1]))
    ids = [await ledger.sent(send(key)) for key in "abc"]
    await ledger.replied(ids[1], send("b"), answered("paid for"), ends=True, error_code=None)
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_after_a_kill_answers_are_kept_and_lost_requests_are_known(path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, cwd=ROOT)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        os.kill(child.pid, signal.SIGKILL)
    with Ledger(path) as ledger:
        assert ledger.ended(0).rows() == [("b", None)]
        assert ledger.paid(0)["body"].to_list() == ["paid for"]
        assert ledger.unknown().sort("query_id").rows() == [("id-a", "m", NOON, "0.25"), ("id-c", "m", NOON, "0.25")]
        assert dict(ledger.sends(0).iter_rows()) == {"a": 1, "b": 1, "c": 1}
        assert asyncio.run(ledger.sent(send("a", attempt=2))) == 4  # ids go on


# ---- questions ------------------------------------------------------------------------------------------------------


def test_a_new_ledger_is_empty(path: Path) -> None:
    with Ledger(path) as ledger:
        for table in (ledger.ended(0), ledger.sends(0), ledger.replies(0), ledger.paid(0), ledger.unknown()):
            assert table.is_empty()
        assert ledger.counts().is_empty()
        assert ledger.mean_output_tokens() == {}


def test_the_latest_decision_of_a_call_counts(path: Path) -> None:
    async def scenario(ledger: Ledger) -> None:
        await decide(ledger, "a", attempt=1, error_code="server_error")
        await decide(ledger, "b", attempt=1, body="first")
        await decide(ledger, "a", attempt=2, body="second")  # sent again by --retry-failed

    with Ledger(path) as ledger:
        asyncio.run(scenario(ledger))
        assert sorted(ledger.ended(0).iter_rows()) == [("a", None), ("b", None)]
        found = ledger.replies(0).select("call_key", "attempts", "error_code", "body").sort("call_key")
        assert found.rows() == [("a", 2, None, "second"), ("b", 1, None, "first")]


def test_an_attempt_that_did_not_decide_leaves_its_call_pending(path: Path) -> None:
    async def scenario(ledger: Ledger) -> None:
        sending = send("a")
        await ledger.replied(await ledger.sent(sending), sending, broken("timeout"), ends=False, error_code="timeout")

    with Ledger(path) as ledger:
        asyncio.run(scenario(ledger))
        assert ledger.ended(0).is_empty()
        assert ledger.unknown().is_empty()
        assert dict(ledger.sends(0).iter_rows()) == {"a": 1}


def test_a_withdrawn_request_is_neither_lost_nor_an_attempt(path: Path) -> None:
    async def scenario(ledger: Ledger) -> None:
        sending = send("a")
        await ledger.replied(await ledger.sent(sending), sending, broken(WITHDRAWN), ends=False, error_code=WITHDRAWN)

    with Ledger(path) as ledger:
        asyncio.run(scenario(ledger))
        assert ledger.unknown().is_empty()
        assert ledger.sends(0).is_empty()


def test_parts_are_apart(path: Path) -> None:
    async def scenario(ledger: Ledger) -> None:
        for part in (0, 3):
            sending = send("a", part=part)
            await ledger.replied(await ledger.sent(sending), sending, answered(str(part)), ends=True, error_code=None)

    with Ledger(path) as ledger:
        asyncio.run(scenario(ledger))
        assert [ledger.paid(part)["body"].to_list() for part in (0, 1, 3)] == [["0"], [], ["3"]]
        assert [ledger.replies(part).height for part in (0, 1, 3)] == [1, 0, 1]
        assert [ledger.sends(part).height for part in (0, 1, 3)] == [1, 0, 1]


def test_every_http_200_is_paid_for_used_or_not(path: Path) -> None:
    async def scenario(ledger: Ledger) -> None:
        for attempt, reply in enumerate([refused(500), answered("one"), answered("two")], start=1):
            sending = send("a", attempt=attempt)
            await ledger.replied(await ledger.sent(sending), sending, reply, ends=True, error_code=reply.error_code)

    with Ledger(path) as ledger:
        asyncio.run(scenario(ledger))
        assert ledger.paid(0)["body"].to_list() == ["one", "two"]
        assert ledger.replies(0)["body"].to_list() == ["two"]


def test_mean_output_tokens_are_those_billed_per_model(path: Path) -> None:
    async def scenario(ledger: Ledger) -> None:
        bodies = [
            ("big", completion(usage={"completion_tokens": 10})),
            ("big", completion(usage={"completion_tokens": 13})),
            ("big", "no json"),
            ("big", completion(usage=None)),
            ("small", completion(usage={"completion_tokens": 3})),
            ("mute", "{}"),
        ]
        for number, (model, body) in enumerate(bodies):
            sending = send(str(number), model=model)
            await ledger.replied(await ledger.sent(sending), sending, answered(body), ends=True, error_code=None)

    with Ledger(path) as ledger:
        asyncio.run(scenario(ledger))
        assert ledger.mean_output_tokens() == {"big": 12, "small": 3}  # 11.5 is rounded to even


def test_outcomes_are_counted_by_model(path: Path) -> None:
    async def scenario(ledger: Ledger) -> None:
        await decide(ledger, "a", attempt=3)
        await decide(ledger, "b")
        await decide(ledger, "c", attempt=5, error_code="server_error")

    with Ledger(path) as ledger:
        asyncio.run(scenario(ledger))
        assert ledger.counts().rows() == [("m", None, 2, 4), ("m", "server_error", 1, 5)]


def test_everything_of_a_reply_is_kept(path: Path) -> None:
    body = 'raw \x00 "quotes" 😀'

    async def scenario(ledger: Ledger) -> None:
        sending = send("a")
        reply = refused(400, retry_after_s=1.5, request_id="req-9", body=body, latency_s=0.75)
        await ledger.replied(await ledger.sent(sending), sending, reply, ends=True, error_code="bad_request")

    with Ledger(path) as ledger:
        asyncio.run(scenario(ledger))
        assert ledger.replies(0).rows() == [("a", 1, "bad_request", "said no", 400, 0.75, NOON, body)]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT retry_after_s, request_id FROM replies").fetchall() == [(1.5, "req-9")]


def test_a_reader_looks_on_while_another_writes(path: Path) -> None:
    async def scenario(ledger: Ledger) -> None:
        reader = LedgerReader(path)
        for n in range(1, 4):
            await decide(ledger, str(n))
            assert reader.ended(0).height == n

    with Ledger(path) as ledger:
        asyncio.run(scenario(ledger))


# ---- a disk that refuses --------------------------------------------------------------------------------------------


class SmallDisk(Ledger):
    """A disk with room for 30 pages of 4 KiB."""

    def _connect(self) -> sqlite3.Connection:
        connection = super()._connect()
        connection.execute("PRAGMA max_page_count = 30")
        return connection


def test_a_full_disk_is_an_error_and_what_was_stored_before_is_kept(path: Path) -> None:
    async def scenario(ledger: Ledger) -> None:
        await decide(ledger, "a", body="kept")
        for _ in range(2):  # the ledger does not hang after its first error
            with pytest.raises(StorageError, match=r"could not be written: database or disk is full; free disk space"):
                await asyncio.wait_for(decide(ledger, "b", body="x" * 500_000), timeout=10)
        await decide(ledger, "c", body="small enough")

    with SmallDisk(path) as ledger:
        asyncio.run(scenario(ledger))
        assert ledger.paid(0)["body"].to_list() == ["kept", "small enough"]


def test_a_write_that_fails_does_not_take_those_beside_it_along(path: Path) -> None:
    async def scenario(ledger: Ledger) -> list[BaseException | None]:
        await ledger.sent(send("first"))  # the writer's connection is open
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # what follows gathers into one commit
            bodies = {"a": "small", "b": "x" * 500_000, "c": "small"}
            sends = [send(key) for key in bodies]
            writes = [
                asyncio.create_task(ledger.replied(number, sending, answered(body), ends=True, error_code=None))
                for number, (sending, body) in enumerate(zip(sends, bodies.values(), strict=True), start=2)
            ]
            await asyncio.sleep(0.05)
            other.execute("COMMIT")
        return await asyncio.gather(*writes, return_exceptions=True)

    with SmallDisk(path) as ledger:
        outcomes = asyncio.run(scenario(ledger))
        assert [type(outcome) for outcome in outcomes] == [type(None), StorageError, type(None)]
        assert sorted(ledger.ended(0)["call_key"]) == ["a", "c"]


def test_a_folder_that_is_gone_is_an_error_not_an_endless_wait(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with Ledger(folder / "ledger.sqlite") as ledger:
        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(StorageError, match="ledger"):
            asyncio.run(asyncio.wait_for(ledger.sent(send("a")), timeout=10))


def test_text_that_cannot_be_stored_is_an_error_not_an_endless_wait(path: Path) -> None:
    async def scenario(ledger: Ledger) -> None:
        with pytest.raises(StorageError, match="could not be written"):
            await asyncio.wait_for(decide(ledger, "a", body="half a pair: \ud83d"), timeout=10)
        await asyncio.wait_for(decide(ledger, "b"), timeout=10)

    with Ledger(path) as ledger:
        asyncio.run(scenario(ledger))
        assert ledger.ended(0).rows() == [("b", None)]


@pytest.mark.parametrize("content", [b"this is no database, but a text of some length " * 30, None])
def test_what_is_no_ledger_is_refused(path: Path, content: bytes | None) -> None:
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(StorageError, match=r"cannot be opened: .*check that the disk is local, writable and not full"):
        Ledger(path)


def test_a_path_may_hold_any_letter(tmp_path: Path) -> None:
    with Ledger(tmp_path / "50% #1? ü.sqlite") as ledger:
        asyncio.run(decide(ledger, "a"))
        assert ledger.ended(0).height == 1


def test_a_ledger_that_cannot_be_read_is_a_storage_error(path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        LedgerReader(path).ended(0)
