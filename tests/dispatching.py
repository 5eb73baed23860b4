"""One dispatch on a real ledger with scripted replies and fake time, and all that it left behind."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from routing.calls import Call
from routing.dispatch import Dispatcher, DispatchPolicy, Usage
from routing.errors import NightrouteError
from routing.guards import Breaker, Budget, DiskGuard
from routing.ledger import Ledger
from routing.limits import Gate, Limits
from tests.fakes import NOON, FakeClock, FakeComplete, call, stream

CENT = Decimal("0.01")
IDS = [f"q{i}" for i in range(10)]


@dataclass
class Night:
    """One dispatch, and all that it left behind."""

    complete: FakeComplete
    clock: FakeClock
    dispatcher: Dispatcher
    stopped_by: NightrouteError | None
    decided: dict[str, str | None]
    """Query id -> error code; null: answered."""
    attempts: dict[str, int]
    """Query id -> attempts of decided calls."""
    unknown: list[str]
    """Query ids of requests without a reply."""


def night(
    path: Path,
    complete: FakeComplete,
    calls: Sequence[Call] | AsyncIterator[Call],
    *,
    workers: int = 4,
    clock: FakeClock | None = None,
    stop: asyncio.Event | None = None,
    setup: Callable[[Dispatcher], None] = lambda dispatcher: None,
    ledger_type: type[Ledger] = Ledger,
    limits: Limits | None = None,
    **fields: Any,
) -> Night:
    """Dispatch calls on a ledger; time is fake, the ledger is real."""
    clock = clock or FakeClock()
    fields = {
        "policy": DispatchPolicy(max_attempts=3, max_refusals=4, backoff_jitter_s=0.0),
        "breaker": Breaker(window=1000),
        "budget": Budget(None),
        "disk": DiskGuard(lambda: 10**12, min_free_bytes=1),
        "usage": Usage(lambda body: 15 if body else None, lambda body: CENT),
        **fields,
    }

    async def scenario() -> tuple[Dispatcher, NightrouteError | None]:
        halt = stop or asyncio.Event()
        with ledger_type(path) as ledger:
            gate = Gate(limits or Limits(), clock=clock, sleep=clock.sleep, stop=halt)
            dispatcher = Dispatcher(
                complete=complete,
                gate=gate,
                ledger=ledger,
                stop=halt,
                clock=clock,
                wall_clock=lambda: NOON,
                sleep=clock.sleep,
                **fields,
            )
            setup(dispatcher)
            source = stream(calls) if isinstance(calls, Sequence) else calls
            try:
                await asyncio.wait_for(dispatcher.run(source, workers=workers, queue_size=2), timeout=30)
            except NightrouteError as error:
                return dispatcher, error
            return dispatcher, None

    dispatcher, stopped_by = asyncio.run(scenario())
    with Ledger(path) as ledger:
        names = {call(query_id).call_key: query_id for query_id in IDS}
        replies = ledger.replies(0)
        decided = {names[key]: code for key, code in replies.select("call_key", "error_code").iter_rows()}
        attempts = {names[key]: n for key, n in replies.select("call_key", "attempts").iter_rows()}
        unknown = ledger.unknown()["query_id"].to_list()
    return Night(complete, clock, dispatcher, stopped_by, decided, attempts, unknown)


def calls(n: int, **fields: Any) -> list[Call]:
    return [call(query_id, **fields) for query_id in IDS[:n]]
