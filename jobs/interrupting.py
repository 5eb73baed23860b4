"""What stops a command from outside."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible(*, always: bool = False) -> Iterator[None]:
    """Turn SIGTERM into what Ctrl-C is: files are closed, staging is emptied, a child ends.

    Only in the main thread; handlers set inside come first while they are set.

    Args:
        always: Also where the parent had a signal ignored, as shells do with Ctrl-C for what runs in the background.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in NUMBERS}
    for number, handler in before.items():
        if always or handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def handled(handler: Callable[[signal.Signals], object]) -> Iterator[None]:
    """Hand SIGINT and SIGTERM to a callback of the running event loop; then to whoever had them before."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in NUMBERS}
    for number in NUMBERS:
        loop.add_signal_handler(number, handler, number)
    try:
        yield
    finally:
        for number in NUMBERS:
            loop.remove_signal_handler(number)
        _restore(before)  # asyncio would leave SIGTERM deadly


def _restore(before: Mapping[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
