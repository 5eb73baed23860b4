"""Signals: what they are turned into, and that they are given back."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from jobs.interrupting import NUMBERS, handled, interruptible


@pytest.fixture(autouse=True)
def _given_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_an_interrupt_and_then_what_it_was(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_what_the_parent_had_ignored_stays_so_unless_it_must_not() -> None:
    """`nightroute run ... &` in a script: Ctrl-C is for what runs in front."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruptible():
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible(always=True):
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize("number", NUMBERS)
def test_after_an_event_loop_had_a_signal_it_is_an_interrupt_again(number: signal.Signals) -> None:
    seen: list[int] = []

    async def serve() -> None:
        heard = asyncio.Event()

        def hear(number: signal.Signals) -> None:
            seen.append(number)
            heard.set()

        with handled(hear):
            os.kill(os.getpid(), number)
            await asyncio.wait_for(heard.wait(), 10)

    with interruptible():
        asyncio.run(serve())
        assert seen == [number]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
