import asyncio
import sqlite3
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from routing.calls import Call
from routing.dispatch import Dispatcher, DispatchPolicy, Usage
from routing.errors import ConfigError, InputMissingError, NightrouteError, StorageError, TryLaterError
from routing.guards import Breaker, Budget, DiskGuard
from routing.ledger import Ledger, Reply, Send
from routing.limits import Limits
from tests.dispatching import IDS, calls, night
from tests.fakes import FakeClock, FakeComplete, answered, broken, call, completion, let_others_run, refused


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


# ---- DESIGN section 4, row by row -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (refused(400), "bad_request"),
        (refused(404), "not_found"),
        (refused(413), "too_large"),
        (refused(422), "unprocessable"),
        (refused(400, "content_filter"), "content_filter"),
        (refused(400, "context_length_exceeded"), "context_length"),
    ],
)
def test_an_error_that_no_retry_can_mend_is_an_error_row_at_once(path: Path, reply: Reply, code: str) -> None:
    result = night(path, FakeComplete({"q0": [reply]}), calls(2))
    assert result.decided == {"q0": code, "q1": None}
    assert result.attempts == {"q0": 1, "q1": 1}
    assert (result.stopped_by, result.clock.slept) == (None, [])


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (refused(408), "timeout"),
        (refused(409), "conflict"),
        (refused(500), "server_error"),
        (refused(502), "server_error"),
        (refused(503), "server_error"),
        (broken("timeout"), "timeout"),
        (broken("connection"), "connection"),
    ],
)
def test_a_transient_error_is_tried_again_up_to_max_attempts(path: Path, reply: Reply, code: str) -> None:
    result = night(path, FakeComplete({"q0": [reply]}), calls(1))
    assert result.complete.query_ids == ["q0"] * 3
    assert (result.decided, result.attempts) == ({"q0": code}, {"q0": 3})


def test_a_transient_error_that_passes_is_an_answer(path: Path) -> None:
    result = night(path, FakeComplete({"q0": [refused(500), broken("timeout"), answered()]}), calls(1))
    assert (result.decided, result.attempts) == ({"q0": None}, {"q0": 3})


def test_the_wait_between_attempts_doubles_up_to_its_limit(path: Path) -> None:
    policy = DispatchPolicy(max_attempts=6, backoff_initial_s=0.5, backoff_max_s=3.0, backoff_jitter_s=0.0)
    result = night(path, FakeComplete(default=refused(500)), calls(1), policy=policy)
    assert result.clock.slept == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_jitter_spreads_the_longest_waits_too(path: Path) -> None:
    policy = DispatchPolicy(max_attempts=12, backoff_initial_s=1.0, backoff_max_s=4.0, backoff_jitter_s=1.0)
    result = night(path, FakeComplete(default=refused(500)), calls(1), policy=policy)
    longest = result.clock.slept[2:]
    assert len(longest) == 9
    assert all(4.0 <= wait <= 5.0 for wait in longest)
    assert len(set(longest)) > 1


def test_refusals_do_not_lengthen_the_wait_after_an_error(path: Path) -> None:
    script = [refused(429, retry_after_s=8.0)] * 3 + [refused(500), answered()]
    result = night(path, FakeComplete({"q0": script}), calls(1))
    assert result.clock.slept == [8.0, 8.0, 8.0, 0.5]


@pytest.mark.parametrize("reply", [refused(429, retry_after_s=9.0), refused(503, retry_after_s=9.0)])
def test_a_refusal_makes_everybody_wait_at_least_that_long(path: Path, reply: Reply) -> None:
    clock = FakeClock()
    complete = FakeComplete({"q0": [reply, answered()]}, clock=clock)
    result = night(path, complete, calls(6), clock=clock, workers=1)
    assert result.decided == dict.fromkeys(IDS[:6])
    assert complete.query_ids[:2] == ["q0", "q0"]
    assert all(at >= 1009 for at in complete.at[1:])


def test_refusals_have_their_own_budget(path: Path) -> None:
    script = [refused(429), refused(500), refused(429), refused(500), refused(429), answered()]
    result = night(path, FakeComplete({"q0": script}), calls(1))  # max_attempts 3, max_refusals 4
    assert (result.decided, result.attempts) == ({"q0": None}, {"q0": 6})
    assert result.dispatcher.progress.refusals == 3


def test_a_call_that_is_only_ever_refused_ends_as_an_error_row(path: Path) -> None:
    result = night(path, FakeComplete(default=refused(429, retry_after_s=1.0)), calls(1))
    assert (result.decided, result.attempts) == ({"q0": "rate_limit"}, {"q0": 4})
    assert result.stopped_by is None


def test_a_refusal_that_asks_for_hours_ends_the_run_and_leaves_the_call_pending(path: Path) -> None:
    result = night(path, FakeComplete(default=refused(429, retry_after_s=86_400.0)), calls(1))
    assert isinstance(result.stopped_by, TryLaterError)
    assert "asks to wait 86400 s, longer than dispatch.max_retry_after_s = 900" in str(result.stopped_by)
    assert result.decided == {}
    assert result.dispatcher.progress.attempts == 1


def test_a_refusal_cuts_concurrency_and_an_error_does_not(path: Path) -> None:
    result = night(path, FakeComplete({"q0": [refused(500), answered()]}), calls(1))
    assert result.dispatcher.gate.concurrency.allowed == 8
    result = night(path, FakeComplete({"q1": [refused(429), answered()]}), [call("q1")])
    assert result.dispatcher.gate.concurrency.allowed == 6


@pytest.mark.parametrize("body", ["", "no json", completion(None), completion("Half", finish_reason="length")])
def test_http_200_decides_a_call_and_its_raw_body_is_kept(path: Path, body: str) -> None:
    result = night(path, FakeComplete({"q0": [answered(body)]}), calls(1))
    assert result.decided == {"q0": None}
    with Ledger(path) as ledger:
        assert ledger.paid(0)["body"].to_list() == [body]


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (refused(401), ConfigError, r"model 'm' answers authentication \(HTTP 401\): said no; check the key"),
        (refused(403), ConfigError, r"permission \(HTTP 403\).*its rights"),
        (refused(402), TryLaterError, r"insufficient_quota \(HTTP 402\).*top up the account, then resume"),
        (refused(429, "insufficient_quota"), TryLaterError, r"insufficient_quota \(HTTP 429\)"),
    ],
)
def test_a_refused_key_or_an_empty_account_stops_the_run(
    path: Path, reply: Reply, error: type[NightrouteError], said: str
) -> None:
    result = night(path, FakeComplete({"q2": [reply]}), calls(10), workers=1)
    with pytest.raises(error, match=said):
        raise result.stopped_by or AssertionError("not stopped")
    assert result.decided == {"q0": None, "q1": None}  # paid for and kept; q2 itself stays pending
    assert result.complete.query_ids == ["q0", "q1", "q2"]
    assert result.unknown == []


def test_calls_in_flight_at_a_stop_are_waited_for_and_stored(path: Path) -> None:
    refused_key = asyncio.Event()

    async def before(request: Call) -> None:
        if request.query_id == "q0":
            while complete.in_flight < 3:
                await asyncio.sleep(0)
        else:
            await refused_key.wait()  # still in flight when the run stops

    complete = FakeComplete({"q0": [refused(401)]}, before=before)

    class Watched(Ledger):
        async def replied(self, *args: Any, **kwargs: Any) -> None:
            await super().replied(*args, **kwargs)
            asyncio.get_running_loop().call_later(0.01, refused_key.set)

    result = night(path, complete, calls(10), workers=3, ledger_type=Watched)
    assert isinstance(result.stopped_by, ConfigError)
    assert result.decided == {"q1": None, "q2": None}
    assert sorted(complete.query_ids) == ["q0", "q1", "q2"]
    assert result.unknown == []


# ---- guards ---------------------------------------------------------------------------------------------------------


def test_the_breaker_stops_a_run_that_mostly_fails(path: Path) -> None:
    result = night(path, FakeComplete(default=refused(400)), calls(10), workers=1, breaker=Breaker(window=4))
    assert isinstance(result.stopped_by, TryLaterError)
    assert "4 of the last 4 attempts failed, the last with bad_request (said no)" in str(result.stopped_by)
    assert result.decided == dict.fromkeys(IDS[:4], "bad_request")
    assert len(result.complete.query_ids) == 4


def test_refusals_are_no_failures_to_the_breaker(path: Path) -> None:
    script = {query_id: [refused(429, retry_after_s=1.0), answered()] for query_id in IDS}
    result = night(path, FakeComplete(script), calls(10), breaker=Breaker(window=4, max_failed_share=0.0))
    assert (result.stopped_by, len(result.decided)) == (None, 10)


def test_replies_that_are_no_completions_open_the_breaker(path: Path) -> None:
    usage = Usage(lambda body: None, lambda body: Decimal(0))
    complete = FakeComplete(default=answered("<html>login</html>"))
    result = night(path, complete, calls(10), workers=1, breaker=Breaker(window=3), usage=usage)
    assert isinstance(result.stopped_by, TryLaterError)
    assert "a reply that is no chat completion" in str(result.stopped_by)
    assert len(complete.query_ids) == 3


def test_the_budget_is_never_passed_and_what_was_paid_for_is_kept(path: Path) -> None:
    # An estimate of 3 cents each; a call really costs one. At 5 booked, one more may cost 3: 8 > 7.
    budget = Budget(Decimal("0.07"))
    result = night(path, FakeComplete(), calls(10, estimate_usd="0.03"), budget=budget)
    assert isinstance(result.stopped_by, TryLaterError)
    assert "the budget of $0.07 is reached" in str(result.stopped_by)
    assert len(result.decided) == 5
    assert (budget.booked_usd, result.unknown) == (Decimal("0.05"), [])


def test_money_is_not_lost_to_failed_attempts(path: Path) -> None:
    budget = Budget(Decimal("0.04"))
    script = {query_id: [refused(500), answered()] for query_id in IDS}
    result = night(path, FakeComplete(script), calls(2, estimate_usd="0.03"), budget=budget)
    assert (result.stopped_by, result.decided) == (None, {"q0": None, "q1": None})
    assert budget.booked_usd == Decimal("0.02")


def test_a_full_disk_stops_sending(path: Path) -> None:
    free = iter([500, 500, 1])
    disk = DiskGuard(lambda: next(free), min_free_bytes=100, every=1)
    result = night(path, FakeComplete(), calls(10), workers=1, disk=disk)
    assert isinstance(result.stopped_by, TryLaterError)
    assert "are free on the disk" in str(result.stopped_by)
    assert result.complete.query_ids == ["q0", "q1"]
    assert result.unknown == []


def test_a_ledger_that_cannot_be_written_stops_the_run_before_the_request_leaves(path: Path) -> None:
    class Refusing(Ledger):
        def _connect(self) -> sqlite3.Connection:
            connection = super()._connect()
            if path.stat().st_size > 4096:  # once the tables are there
                connection.execute("PRAGMA query_only = ON")
            return connection

    result = night(path, FakeComplete(), calls(10), ledger_type=Refusing)
    assert isinstance(result.stopped_by, StorageError)
    assert (result.complete.query_ids, result.decided, result.unknown) == ([], {}, [])


# ---- interrupt and resume -------------------------------------------------------------------------------------------


def test_an_interrupt_finishes_what_is_in_flight_and_leaves_the_rest_pending(path: Path) -> None:
    stop = asyncio.Event()

    async def before(request: Call) -> None:
        if request.query_id == "q3":
            stop.set()
        await let_others_run()

    result = night(path, FakeComplete(before=before), calls(10), workers=2, stop=stop)
    assert result.stopped_by is None
    assert set(result.decided) == set(result.complete.query_ids)
    assert "q3" in result.decided
    assert len(result.decided) < 10
    assert result.unknown == []


def test_an_interrupt_ends_the_wait_between_attempts(path: Path) -> None:
    stop = asyncio.Event()

    async def forever(seconds: float) -> None:
        stop.set()
        await asyncio.Event().wait()

    def setup(dispatcher: Dispatcher) -> None:
        dispatcher.sleep = forever

    result = night(path, FakeComplete(default=refused(500)), calls(3), workers=1, stop=stop, setup=setup)
    assert (result.complete.query_ids, result.decided, result.unknown) == (["q0"], {}, [])


def test_a_request_that_never_left_is_not_taken_for_a_lost_one(path: Path) -> None:
    stop, cooling = asyncio.Event(), asyncio.Event()

    class Endless(FakeClock):
        async def sleep(self, seconds: float) -> None:
            cooling.set()
            await asyncio.Event().wait()

    class Slow(Ledger):
        """While q1 is announced, the endpoint refuses q0; then the run is interrupted."""

        async def sent(self, send: Send) -> int:
            send_id = await super().sent(send)
            if send.query_id == "q1":
                await cooling.wait()
                asyncio.get_running_loop().call_later(0.01, stop.set)
            return send_id

    complete = FakeComplete(default=refused(429, retry_after_s=60.0))
    result = night(path, complete, calls(2), clock=Endless(), stop=stop, ledger_type=Slow)
    assert (complete.query_ids, result.decided, result.unknown) == (["q0"], {}, [])
    with Ledger(path) as ledger:
        assert dict(ledger.sends(0).iter_rows()) == {call("q0").call_key: 1}


def test_attempts_count_over_resumes_and_request_ids_never_repeat(path: Path) -> None:
    first = night(path, FakeComplete(default=refused(500)), calls(1))
    again = night(path, FakeComplete(), calls(1, attempts_before=first.attempts["q0"]))
    assert again.attempts == {"q0": 4}
    assert again.decided == {"q0": None}
    key = call("q0").call_key[:32]
    assert first.complete.request_ids + again.complete.request_ids == [f"{key}-{n}" for n in (1, 2, 3, 4)]


def test_a_resume_has_its_full_number_of_attempts(path: Path) -> None:
    result = night(path, FakeComplete(default=refused(500)), calls(1, attempts_before=2))
    assert (len(result.complete.query_ids), result.attempts) == (3, {"q0": 5})


# ---- the pool -------------------------------------------------------------------------------------------------------


def test_every_call_is_sent_once(path: Path) -> None:
    result = night(path, FakeComplete(), calls(10))
    assert sorted(result.complete.query_ids) == sorted(IDS)
    assert result.decided == dict.fromkeys(IDS)
    assert result.dispatcher.progress.answered == 10


def test_no_calls_no_requests(path: Path) -> None:
    result = night(path, FakeComplete(), [])
    assert (result.complete.query_ids, result.decided, result.stopped_by) == ([], {}, None)


def test_progress_counts_outcomes_and_attempts(path: Path) -> None:
    script = {"q0": [refused(400)], "q1": [refused(500), answered()], "q2": [refused(429), answered()]}
    progress = night(path, FakeComplete(script), calls(4)).dispatcher.progress
    assert (progress.answered, progress.failed, progress.attempts, progress.refusals) == (3, 1, 6, 1)


def test_a_call_that_waits_does_not_keep_others_from_being_sent(path: Path) -> None:
    complete = FakeComplete({"q0": [refused(500), answered()]})
    night(path, complete, calls(4), workers=2, limits=Limits(start_in_flight=1, max_in_flight=1))
    assert complete.most_in_flight == 1
    assert complete.query_ids[0] == "q0"
    assert complete.query_ids.index("q1") < len(complete.query_ids) - 1 - complete.query_ids[::-1].index("q0")


def test_used_tokens_correct_the_reservation(path: Path) -> None:
    # 10 tokens a second, 100 at once. 100 are reserved for each call, 15 used: the second needs to wait for nothing
    # but 15 missing tokens, 1.5 s; without the correction it would be 10 s.
    clock = FakeClock()
    complete = FakeComplete(clock=clock)
    limits = Limits(tpm=600, burst_s=10.0, start_in_flight=1, max_in_flight=1)
    night(path, complete, calls(2, estimated_tokens=100), clock=clock, limits=limits, workers=1)
    assert complete.at == [1000, 1001.5]


def test_when_the_table_cannot_be_read_any_further_calls_in_flight_are_still_stored(path: Path) -> None:
    sending = asyncio.Event()

    async def before(request: Call) -> None:
        sending.set()
        await let_others_run()

    async def source() -> AsyncIterator[Call]:
        yield call("q0")
        await sending.wait()
        raise InputMissingError("part 1 is gone")

    result = night(path, FakeComplete(before=before), source())
    assert isinstance(result.stopped_by, InputMissingError)
    assert (result.decided, result.unknown) == ({"q0": None}, [])


def test_the_first_cause_is_the_one_that_is_told(path: Path) -> None:
    script = {"q0": [refused(401)], "q1": [refused(402)]}

    async def before(request: Call) -> None:
        while request.query_id == "q1" and not night_stop.is_set():
            await asyncio.sleep(0)

    night_stop = asyncio.Event()
    result = night(path, FakeComplete(script, before=before), calls(2), stop=night_stop)
    assert isinstance(result.stopped_by, ConfigError)
