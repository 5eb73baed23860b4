import asyncio
import hashlib
from decimal import Decimal
from pathlib import Path

import pytest

from routing.errors import StorageError
from routing.sandbox.config import ModelSpec
from routing.sandbox.journal import Journal
from tests.unit.sandbox.support import QUESTION, QUESTION_TOKENS, FakeClock, ask, config_with, events, live

PRICED = ModelSpec(name="small", input_usd_per_mtok=Decimal("0.15"), output_usd_per_mtok=Decimal("0.60"), latency_s=2.0)


class HeldClock(FakeClock):
    """Whoever sleeps waits until the test lets go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.let_go = asyncio.Event(), asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.reached.set()
        await self.let_go.wait()
        await super().sleep(seconds)


def test_a_request_is_two_lines(tokenizer_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"

    async def scenario() -> tuple[int, int]:
        async with live(config_with(tokenizer_path, PRICED, journal=path), clock=FakeClock()) as sandbox:
            reply = await sandbox.post(x_client_request_id="q-7")
            return reply.json["usage"]["completion_tokens"], len(reply.body)

    completion_tokens, body_bytes = asyncio.run(scenario())
    (received,), (finished,) = events(path, "received"), events(path, "finished")
    assert received["pid"] == finished["pid"]
    assert received["at"] <= finished["at"]
    del received["pid"], received["at"], finished["pid"], finished["at"]
    assert received == {
        "event": "received", "ordinal": 1, "endpoint": "chat", "monotonic_s": 1000.0, "model": "small",
        "client_request_id": "q-7", "prompt_sha256": hashlib.sha256(QUESTION.encode()).hexdigest(), "in_flight": 1,
        "not_before_s": None, "early": False,
    }  # fmt: skip
    micro_usd = QUESTION_TOKENS * Decimal("0.15") + completion_tokens * Decimal("0.60")
    assert Decimal(finished.pop("cost_usd")) == micro_usd / 10**6
    assert finished == {
        "event": "finished", "ordinal": 1, "monotonic_s": 1002.0, "model": "small", "client_request_id": "q-7",
        "status": 200, "fault": None, "error_code": None, "finish_reason": "stop", "retry_after_s": None,
        "not_before_s": None, "prompt_tokens": QUESTION_TOKENS, "completion_tokens": completion_tokens,
        "cached_tokens": 0, "reasoning_tokens": 0, "bytes": body_bytes, "connected": True,
    }  # fmt: skip


def test_a_promise_and_the_request_that_breaks_it_are_both_booked(tokenizer_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    spec = ModelSpec(name="small", rpm=2)

    async def scenario() -> None:
        clock = FakeClock()
        async with live(config_with(tokenizer_path, spec, journal=path), clock=clock) as sandbox:
            for _ in range(3):
                await sandbox.post()
            clock.now_s += 29.0
            await sandbox.post(ask(model="another"))
            await sandbox.post()
            clock.now_s += 30.0
            await sandbox.post()

    asyncio.run(scenario())
    # 2 requests a minute: the third is told to wait 30 s, comes back after 29 s, waits 30 s more and is let in.
    finished = events(path, "finished")
    assert [line["status"] for line in finished] == [200, 200, 429, 200, 429, 200]
    assert [line["not_before_s"] for line in finished] == [None, None, 1030.0, None, 1059.0, None]
    received = events(path, "received")
    assert [line["not_before_s"] for line in received] == [None, None, None, None, 1030.0, 1059.0]
    assert [line["early"] for line in received] == [False, False, False, False, True, False]


def test_unreadable_requests_are_booked_too(tokenizer_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"

    async def scenario() -> None:
        config = config_with(tokenizer_path, PRICED, journal=path, accept_any_model=False)
        async with live(config, clock=FakeClock()) as sandbox:
            await sandbox.post(b"{")
            await sandbox.post(ask(model="gone"))

    asyncio.run(scenario())
    assert [(line["model"], line["prompt_sha256"] is None) for line in events(path, "received")] == [
        (None, True),
        ("gone", False),
    ]
    booked = [(line["status"], line["error_code"], line["cost_usd"]) for line in events(path, "finished")]
    assert booked == [(400, None, "0"), (404, "model_not_found", "0")]


def test_a_request_that_broke_off_is_booked_without_a_traceback(
    tokenizer_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.jsonl"

    async def scenario() -> None:
        async with asyncio.timeout(30), live(config_with(tokenizer_path, PRICED, journal=path)) as sandbox:
            host, port = sandbox.base_url.removeprefix("http://").removesuffix("/v1").split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()
            await writer.wait_closed()
            while not events(path, "finished"):
                await asyncio.sleep(0.01)

    asyncio.run(scenario())
    (finished,) = events(path, "finished")
    assert (finished["status"], finished["connected"], finished["cost_usd"]) == (400, False, "0")
    assert caplog.records == []


def test_a_model_without_prices_costs_null(tokenizer_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"

    async def scenario() -> None:
        async with live(config_with(tokenizer_path, journal=path)) as sandbox:
            await sandbox.post()

    asyncio.run(scenario())
    (finished,) = events(path, "finished")
    assert finished["cost_usd"] is None
    assert finished["completion_tokens"] > 0


def test_a_reply_is_booked_although_the_client_hung_up(tokenizer_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    slow = PRICED.model_copy(update={"latency_s": 0.3})

    async def scenario() -> None:
        clock = HeldClock()
        async with asyncio.timeout(30), live(config_with(tokenizer_path, slow, journal=path), clock=clock) as sandbox:
            asking = asyncio.create_task(sandbox.post())
            await clock.reached.wait()
            asking.cancel()
            await asyncio.sleep(0.05)  # the line is cut
            clock.let_go.set()
            while not events(path, "finished"):
                await asyncio.sleep(0.01)

    asyncio.run(scenario())
    (finished,) = events(path, "finished")
    assert (finished["status"], finished["connected"]) == (200, False)
    assert Decimal(finished["cost_usd"]) > 0


def test_the_journal_is_complete_when_many_are_in_flight(tokenizer_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    spec = PRICED.model_copy(update={"latency_s": 0.05})

    async def scenario() -> None:
        async with live(config_with(tokenizer_path, spec, journal=path)) as sandbox:
            await asyncio.gather(*(sandbox.post(ask(f"question {i}"), x_client_request_id=f"q-{i}") for i in range(40)))

    asyncio.run(scenario())
    received, finished = events(path, "received"), events(path, "finished")
    assert sorted(line["ordinal"] for line in received) == list(range(1, 41))
    assert {line["ordinal"]: line["client_request_id"] for line in received} == {
        line["ordinal"]: line["client_request_id"] for line in finished
    }
    assert max(line["in_flight"] for line in received) > 10


def test_a_journal_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="name another file"):
        Journal(tmp_path)


def test_a_second_server_appends(tokenizer_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"

    async def scenario() -> None:
        for _ in range(2):
            async with live(config_with(tokenizer_path, journal=path)) as sandbox:
                await sandbox.post()

    asyncio.run(scenario())
    assert [line["ordinal"] for line in events(path, "finished")] == [1, 1]
