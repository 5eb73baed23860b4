"""How fast one endpoint may be asked: cool-down, adaptive concurrency and token buckets behind one gate.

A worker asks the gate for a permit before each attempt and gives it back with what happened. Nobody sleeps while
holding a permit: whoever has to wait waits at the gate, in order of arrival.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


async def pause(seconds: float, stop: asyncio.Event, sleep: Sleep) -> None:
    """Sleep, but not beyond a stop."""
    tasks = {asyncio.ensure_future(sleep(seconds)), asyncio.ensure_future(stop.wait())}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


@dataclass(frozen=True, slots=True)
class Limits:
    """What the provider allows for one model, and how we approach it."""

    max_in_flight: int = 64
    """Requests at once, at most."""
    start_in_flight: int = 8
    """Requests at once when the run starts; doubled per round of successes until the first refusal (slow start)."""
    rpm: int | None = None
    """Requests per minute; null: not limited by us."""
    tpm: int | None = None
    """Tokens per minute, input and output; null: not limited by us."""
    burst_s: float = 1.0
    """Seconds of allowance that may be spent at once: providers enforce per-minute limits over shorter windows."""
    cut: float = 0.75
    """Concurrency is multiplied by this, once per burst of refusals (AIMD)."""
    default_cool_down_s: float = 2.0
    """Pause after a refusal that names no Retry-After; doubled from burst to burst, up to a minute."""


class TokenBucket:
    """An allowance that refills at a constant rate; it may go into debt when an estimate was too low."""

    def __init__(self, per_minute: int, burst_s: float, clock: Clock) -> None:
        """Start full.

        Args:
            per_minute: Refill per minute.
            burst_s: Capacity in seconds of refill (at least one unit).
            clock: Monotonic seconds.
        """
        self._rate = per_minute / 60
        self._capacity = max(1.0, self._rate * burst_s)
        self._level = self._capacity
        self._clock = clock
        self._at = clock()

    def wait_s(self, amount: float) -> float:
        """Seconds until `amount` may be taken; more than the capacity may be taken once the bucket is full."""
        self._refill()
        missing = min(amount, self._capacity) - self._level
        return max(0.0, missing / self._rate)

    def take(self, amount: float) -> None:
        """Take what is there, or go into debt."""
        self._refill()
        self._level -= amount

    def refund(self, amount: float) -> None:
        """Give back what an estimate had too much (or, negative, take what it had too little)."""
        self._level = min(self._capacity, self._level + amount)

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now


class Concurrency:
    """Additive increase, multiplicative decrease (AIMD) with a slow start, in requests at once."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        """Start at `start_in_flight`."""
        self._limits = limits
        self._clock = clock
        self._successes = 0
        self._slow_start = True
        self._cut_at = float("-inf")
        self.allowed = min(limits.start_in_flight, limits.max_in_flight)

    def succeeded(self) -> None:
        """Count a success; after a full round of them allow more."""
        self._successes += 1
        if self._successes < self.allowed:
            return
        self._successes = 0
        more = self.allowed if self._slow_start else 1
        self.allowed = min(self._limits.max_in_flight, self.allowed + more)

    def refused(self, sent_at: float) -> bool:
        """Cut once per burst: refusals of requests sent before the last cut belong to the burst that caused it.

        Returns:
            Whether this refusal begins a burst.
        """
        self._successes = 0
        self._slow_start = False
        if sent_at <= self._cut_at:
            return False
        self._cut_at = self._clock()
        self.allowed = max(1, int(self.allowed * self._limits.cut))
        return True


@dataclass(slots=True)
class Permit:
    """The right to send one request."""

    sent_at: float
    """Monotonic seconds at which the gate opened."""
    reserved_tokens: int


class Gate:
    """Admits requests to one model at one endpoint."""

    def __init__(
        self, limits: Limits, *, clock: Clock, sleep: Sleep = asyncio.sleep, stop: asyncio.Event | None = None
    ) -> None:
        """Open the gate.

        Args:
            limits: What is allowed.
            clock: Monotonic seconds.
            sleep: Awaitable wait, in seconds.
            stop: Once set, nobody waits any more: who gets a permit has to look at it before sending.
        """
        self._stop = stop or asyncio.Event()
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._requests = TokenBucket(limits.rpm, limits.burst_s, clock) if limits.rpm else None
        self._tokens = TokenBucket(limits.tpm, limits.burst_s, clock) if limits.tpm else None
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._not_before = float("-inf")
        self._bursts = 0
        self.concurrency = Concurrency(limits, clock)
        self.in_flight = 0

    @asynccontextmanager
    async def permit(self, tokens: int) -> AsyncIterator[Permit]:
        """Wait for a turn, hold a permit for the body of the `async with`.

        Args:
            tokens: Estimate of input plus output tokens, reserved from the TPM allowance.
        """
        async with self._turn:  # asyncio locks are fair, so only the head of the line waits below
            while not self._stop.is_set():
                if self.in_flight >= self.concurrency.allowed:
                    self._freed.clear()
                    await self._freed.wait()
                    continue
                wait = self._wait_s(tokens)
                if wait <= 0:
                    break
                await pause(wait, self._stop, self._sleep)
            self.in_flight += 1
            if self._requests is not None:
                self._requests.take(1)
            if self._tokens is not None:
                self._tokens.take(tokens)
        try:
            yield Permit(self._clock(), tokens)
        finally:
            self.in_flight -= 1
            self._freed.set()

    def succeeded(self, permit: Permit, *, used_tokens: int | None) -> None:
        """Report an answer; the reservation is corrected to the tokens really used."""
        self._bursts = 0
        self.concurrency.succeeded()
        if self._tokens is not None and used_tokens is not None:
            self._tokens.refund(permit.reserved_tokens - used_tokens)

    def refused(self, permit: Permit, retry_after_s: float | None) -> None:
        """Report a 429, or a 503 with Retry-After: everybody pauses, and concurrency is cut once per burst."""
        self._bursts += self.concurrency.refused(permit.sent_at)
        pause = retry_after_s
        if pause is None:
            pause = min(60.0, self._limits.default_cool_down_s * 2 ** min(max(0, self._bursts - 1), 5))
        self._not_before = max(self._not_before, self._clock() + pause)

    def _wait_s(self, tokens: int) -> float:
        waits = [self._not_before - self._clock()]
        if self._requests is not None:
            waits.append(self._requests.wait_s(1))
        if self._tokens is not None:
            waits.append(self._tokens.wait_s(tokens))
        return max(waits)

    @property
    def cooling(self) -> bool:
        """Whether a cool-down is on: a permit holder that has not sent yet should give its permit back and wait."""
        return self._clock() < self._not_before
