"""What stops a run before it does harm: a failing endpoint, an empty purse, a full disk."""

import asyncio
from collections import deque
from collections.abc import Callable
from decimal import Decimal

from routing.errors import TryLaterError


class Breaker:
    """Opens when too many of the last attempts failed. Refusals (429) are not failures: the gate handles them."""

    def __init__(self, *, window: int = 100, max_failed_share: float = 0.5) -> None:
        """Start closed.

        Args:
            window: Attempts looked back on; the breaker never opens before that many were made.
            max_failed_share: Share of failed attempts in the window above which it opens.
        """
        self._outcomes: deque[bool] = deque(maxlen=window)
        self._window = window
        self._max_failed_share = max_failed_share
        self._failed = 0

    def record(self, *, failed: bool) -> None:
        """Count an attempt."""
        if len(self._outcomes) == self._window:
            self._failed -= self._outcomes[0]
        self._outcomes.append(failed)
        self._failed += failed

    @property
    def open(self) -> bool:
        """Whether the run has to stop."""
        return len(self._outcomes) == self._window and self._failed > self._max_failed_share * self._window

    def describe(self) -> str:
        """Say what was seen."""
        return f"{self._failed} of the last {len(self._outcomes)} attempts failed"


class Budget:
    """Admits a call only while booked money plus the estimates of calls in flight stay within the limit."""

    def __init__(self, max_usd: Decimal | None, *, booked_usd: Decimal = Decimal(0)) -> None:
        """Start with what earlier runs of this ledger have booked.

        Args:
            max_usd: The limit for the whole run, resumes included; null: no limit.
            booked_usd: Money already spent.
        """
        self._max_usd = max_usd
        self._in_flight_usd = Decimal(0)
        self._settled = asyncio.Event()
        self.booked_usd = booked_usd

    async def admit(self, estimate_usd: Decimal) -> None:
        """Reserve an estimate, waiting for calls in flight to settle if that may make room.

        Raises:
            TryLaterError: even if every call in flight cost nothing, this call would pass the limit.
        """
        while self._max_usd is not None and self.booked_usd + self._in_flight_usd + estimate_usd > self._max_usd:
            if self._in_flight_usd == 0 or self.booked_usd + estimate_usd > self._max_usd:
                raise TryLaterError(
                    f"the budget of ${self._max_usd} is reached: ${self.booked_usd:.6f} is booked and the next call "
                    f"may cost ${estimate_usd:.6f}; resume with a higher --max-usd, or publish what there is with "
                    "--publish-unsent"
                )
            self._settled.clear()
            await self._settled.wait()
        self._in_flight_usd += estimate_usd

    def settle(self, estimate_usd: Decimal, cost_usd: Decimal) -> None:
        """Replace an estimate by what the call really cost."""
        self._in_flight_usd -= estimate_usd
        self.booked_usd += cost_usd
        self._settled.set()


class DiskGuard:
    """Stops sending while there is still room to store the replies of the calls in flight."""

    def __init__(self, free_bytes: Callable[[], int], *, min_free_bytes: int, every: int = 64) -> None:
        """Watch a disk.

        Args:
            free_bytes: Returns the free bytes of the ledger's disk.
            min_free_bytes: What has to stay free.
            every: Calls between two looks.
        """
        self._free_bytes = free_bytes
        self._min_free_bytes = min_free_bytes
        self._every = every
        self._calls = 0

    def check(self) -> None:
        """Look at the disk now and then.

        Raises:
            TryLaterError: less than the minimum is free.
        """
        if self._calls % self._every == 0 and (free := self._free_bytes()) < self._min_free_bytes:
            raise TryLaterError(
                f"only {free / 1e6:.0f} MB are free on the disk of the run folder, {self._min_free_bytes / 1e6:.0f} MB "
                "have to stay free so that replies already paid for can be stored; free some space, then resume the run"
            )
        self._calls += 1
