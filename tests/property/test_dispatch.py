import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.calls import Call, Verdict, verdict
from routing.dispatch import DispatchPolicy
from routing.errors import TryLaterError
from routing.guards import Budget
from routing.ledger import Ledger, Reply
from routing.limits import Limits
from tests.dispatching import CENT, IDS, Night, night
from tests.fakes import FakeComplete, answered, broken, call, refused

Before = Callable[[Call], Awaitable[None]]
POLICY = DispatchPolicy(max_attempts=3, max_refusals=4, backoff_jitter_s=0.0)
outcomes = st.sampled_from(
    [
        answered(),
        refused(400),
        refused(500),
        refused(503),
        broken("timeout"),
        refused(429),
        refused(429, retry_after_s=3.0),
        refused(503, retry_after_s=0.5),
    ]
)
scripts = st.lists(st.lists(outcomes, min_size=1, max_size=6), max_size=len(IDS))
limits = st.builds(
    Limits,
    max_in_flight=st.integers(1, 5),
    start_in_flight=st.integers(1, 5),
    rpm=st.none() | st.just(480),
    tpm=st.none() | st.just(7680),
)


def expected(script: list[Reply]) -> tuple[int, str | None]:
    """Play one call through the table of DESIGN section 4: attempts, and how it ends. The last reply repeats."""
    failures = refusals = attempts = 0
    while True:
        reply = script[min(attempts, len(script) - 1)]
        attempts += 1
        failures += verdict(reply) is Verdict.RETRY
        refusals += verdict(reply) is Verdict.COOL_DOWN
        if verdict(reply) is Verdict.DONE or failures == POLICY.max_attempts or refusals == POLICY.max_refusals:
            return attempts, reply.error_code


def dispatched(
    path: Path, scripts: list[list[Reply]], *, skip: Collection[str] = (), before: Before | None = None, **fields: Any
) -> Night:
    script = dict(zip(IDS, scripts, strict=False))
    calls = [call(query_id, estimate_usd="0.03") for query_id in script if query_id not in skip]
    return night(path, FakeComplete(script, before=before), calls, policy=POLICY, **fields)


@settings(max_examples=25)
@given(scripts=scripts, workers=st.integers(1, 6), limits=limits)
def test_every_call_is_decided_once_by_its_own_replies(
    scripts: list[list[Reply]], workers: int, limits: Limits
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = dispatched(Path(folder) / "ledger.sqlite", scripts, workers=workers, limits=limits)
    wanted = {query_id: expected(script) for query_id, script in zip(IDS, scripts, strict=False)}
    assert result.decided == {query_id: code for query_id, (_, code) in wanted.items()}
    assert result.attempts == {query_id: attempts for query_id, (attempts, _) in wanted.items()}
    assert Counter(result.complete.query_ids) == Counter(result.attempts)
    assert (result.stopped_by, result.unknown) == (None, [])
    assert result.complete.most_in_flight <= min(workers, limits.max_in_flight)
    assert len(set(result.complete.request_ids)) == len(result.complete.request_ids)


@settings(max_examples=25)
@given(scripts=scripts, workers=st.integers(1, 6), limits=limits, stop_after=st.integers(0, 20))
def test_an_interrupted_run_resumes_where_it_ended(
    scripts: list[list[Reply]], workers: int, limits: Limits, stop_after: int
) -> None:
    stop = asyncio.Event()
    sent: list[str] = []

    async def before(request: Call) -> None:
        sent.append(request.query_id)
        if len(sent) > stop_after:
            stop.set()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        first = dispatched(path, scripts, workers=workers, limits=limits, before=before, stop=stop)
        with Ledger(path) as ledger:
            counted = sum(ledger.sends(0)["attempts"])
        again = dispatched(path, scripts, workers=workers, limits=limits, skip=first.decided)
    assert first.unknown == again.unknown == []
    assert counted == len(first.complete.query_ids)  # every attempt is on record, and no other
    assert set(again.decided) == set(IDS[: len(scripts)])  # decided or pending: nothing is lost
    assert not set(first.decided) & set(again.complete.query_ids)  # and nothing is paid for twice


@settings(max_examples=25)
@given(workers=st.integers(1, 6), limits=limits, cents=st.integers(0, 12))
def test_no_budget_is_passed(workers: int, limits: Limits, cents: int) -> None:
    budget = Budget(cents * CENT)
    with tempfile.TemporaryDirectory() as folder:
        scripts = [[answered()]] * len(IDS)
        result = dispatched(Path(folder) / "l.sqlite", scripts, workers=workers, limits=limits, budget=budget)
    assert budget.booked_usd == len(result.decided) * CENT
    # A call costs 1 cent and may cost 3: the last one is sent while 3 are left.
    assert len(result.decided) == min(len(IDS), max(0, cents - 2))
    assert isinstance(result.stopped_by, TryLaterError) == (cents < len(IDS) + 2)
    assert budget.booked_usd <= Decimal(cents) * CENT
