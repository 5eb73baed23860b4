"""Dispatch: send the pending calls of one model, attempt by attempt, until each is decided or the run has to stop.

tenacity decides when an attempt is repeated; the gate decides when one may be sent; the ledger remembers both. The
functions here never look into an answer: they store the raw reply, and `routing.replies` reads it later.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NoReturn, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, wait_random

from routing.calls import Complete, Request, Verdict, verdict
from routing.errors import ConfigError, NightrouteError, TryLaterError
from routing.guards import Breaker, Budget, DiskGuard
from routing.ledger import WITHDRAWN, Ledger, Reply, Send
from routing.limits import Clock, Gate, Permit, Sleep, pause

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DispatchPolicy:
    """When to try again, and when to give up."""

    max_attempts: int = 5
    """Attempts per call that ended in 408, 409, 5xx, a lost connection or a timeout, the first included."""
    max_refusals: int = 20
    """Refusals (429, 503 with Retry-After) per call: their own budget, since waiting is the right answer to them."""
    max_retry_after_s: float = 900.0
    """A refusal that asks for a longer pause ends the run instead: it is no burst, and a night is short."""
    backoff_initial_s: float = 0.5
    backoff_max_s: float = 30.0
    backoff_jitter_s: float = 1.0
    """Backoff after the n-th failure = min(max, initial x 2^(n - 1)) + uniform(0, jitter)."""


class Usage:
    """Reads what the guards need from a raw reply: tokens used and cost. An injected pair of functions."""

    def __init__(self, tokens: Callable[[str], int | None], cost_usd: Callable[[str], Decimal]) -> None:
        """Take the two readers.

        Args:
            tokens: body -> input plus output tokens; null when the body is no chat completion.
            cost_usd: body -> cost of the call; 0 when unpriced.
        """
        self.tokens = tokens
        self.cost_usd = cost_usd


@dataclass(slots=True)
class Tally:
    """Attempts of one call, by what they count against."""

    attempts: int = 0
    failures: int = 0
    refusals: int = 0


class StoppedError(Exception):
    """Internal: ends the work on one call because the run is stopping."""


@dataclass(slots=True)
class Progress:
    """Counters of a running dispatch, for the progress bar. One per model."""

    answered: int = 0
    failed: int = 0
    attempts: int = 0
    refusals: int = 0


@dataclass(slots=True)
class Dispatcher:
    """The worker pool of one model at one endpoint."""

    complete: Complete
    gate: Gate
    ledger: Ledger
    policy: DispatchPolicy
    breaker: Breaker
    budget: Budget
    disk: DiskGuard
    usage: Usage
    stop: asyncio.Event
    """Set from outside (interrupt, the other pool's stop): nothing more is sent, calls in flight are waited for."""
    clock: Clock = time.monotonic
    wall_clock: Clock = time.time
    sleep: Sleep = asyncio.sleep
    progress: Progress = field(default_factory=Progress)
    _cause: NightrouteError | None = None

    async def run(self, calls: AsyncIterator[Request], *, workers: int, queue_size: int) -> None:
        """Send every call, `workers` at a time; each ends up decided in the ledger.

        Workers outnumber permits, so that a call waiting out its backoff does not keep another from being sent.

        Raises:
            NightrouteError: why the run has to stop early; calls not sent stay pending, what was paid for is stored.
        """
        queue: asyncio.Queue[Request | None] = asyncio.Queue(queue_size)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed(calls, queue, workers))
            for _ in range(workers):
                group.create_task(self._work(queue))
        if self._cause is not None:
            raise self._cause

    async def _feed(self, calls: AsyncIterator[Request], queue: asyncio.Queue[Request | None], workers: int) -> None:
        try:
            async for call in calls:
                if self.stop.is_set():
                    break
                await queue.put(call)
        except NightrouteError as error:  # the table cannot be read any further
            with contextlib.suppress(StoppedError):
                self._halt(error)
        for _ in range(workers):
            await queue.put(None)

    async def _work(self, queue: asyncio.Queue[Request | None]) -> None:
        while (call := await queue.get()) is not None:
            if not self.stop.is_set():
                # Not raised: a task group would cancel its other workers, and their calls in flight are paid for.
                with contextlib.suppress(StoppedError):
                    await self._decide(call)

    async def _decide(self, call: Request) -> None:
        """Repeat attempts of one call until it is decided."""
        tally = Tally(attempts=call.attempts_before)
        policy, jitter = self.policy, wait_random(0, self.policy.backoff_jitter_s)

        def wait(state: RetryCallState) -> float:
            # After a refusal the gate itself holds everybody back; a backoff on top would only idle the endpoint.
            reply: Reply = state.outcome.result()  # type: ignore[union-attr]  # tenacity sets it before it asks
            if verdict(reply) is Verdict.COOL_DOWN:
                return 0.0
            # The jitter comes on top of the longest wait, too: calls that failed together must not return together.
            return min(policy.backoff_max_s, policy.backoff_initial_s * 2.0 ** (tally.failures - 1)) + jitter(state)

        def again(reply: Reply | None) -> bool:
            return reply is not None and not self._is_last(reply, tally)

        retrying = AsyncRetrying(retry=retry_if_result(again), wait=wait, sleep=self._pause)
        await retrying(self._attempt, call, tally)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            await pause(seconds, self.stop, self.sleep)

    def _is_last(self, reply: Reply, tally: Tally) -> bool:
        decision = verdict(reply)
        if decision is Verdict.RETRY:
            return tally.failures >= self.policy.max_attempts
        if decision is Verdict.COOL_DOWN:
            return tally.refusals >= self.policy.max_refusals
        return True

    async def _attempt(self, call: Request, tally: Tally) -> Reply | None:
        """Send once. Returns null when the run was stopped before the request left."""
        estimate = Decimal(call.estimate_usd or 0)
        if self.stop.is_set():
            return None
        await self._guarded(self.budget.admit(estimate))
        cost = Decimal(0)
        try:
            sent: tuple[int, Send] | None = None
            while not self.stop.is_set():
                async with self.gate.permit(call.estimated_tokens) as permit:
                    if self.stop.is_set():
                        break
                    if sent is None:
                        self._check_disk()
                        sent = await self._announce(call, tally)
                    if self.gate.cooling:
                        continue  # refused while the ledger was written: queue again rather than knock too early
                    reply = await self.complete(call, f"{call.call_key[:32]}-{tally.attempts}")
                    cost = await self._book(call, tally, permit, sent, reply)
                    return reply
            if sent is not None:
                await self._withdraw(*sent)
            return None
        finally:
            self.budget.settle(estimate, cost)

    async def _announce(self, call: Request, tally: Tally) -> tuple[int, Send]:
        tally.attempts += 1
        self.progress.attempts += 1
        send = Send(
            call.call_key,
            call.part,
            call.row,
            call.query_id,
            call.model,
            tally.attempts,
            self.wall_clock(),
            call.estimate_usd,
        )
        return await self._guarded(self.ledger.sent(send)), send

    async def _withdraw(self, send_id: int, send: Send) -> None:
        """Record that an announced request never left: the run stopped in a cool-down, and it costs nothing."""
        reply = Reply(None, WITHDRAWN, None, None, None, 0.0, self.wall_clock(), None)
        await self._guarded(self.ledger.replied(send_id, send, reply, ends=False, error_code=WITHDRAWN))

    async def _book(self, call: Request, tally: Tally, permit: Permit, sent: tuple[int, Send], reply: Reply) -> Decimal:
        """Store the reply, then tell the guards; stop the run where no further call can succeed."""
        decision = verdict(reply)
        tally.failures += decision is Verdict.RETRY
        tally.refusals += decision is Verdict.COOL_DOWN
        cause = self._cause_to_stop(call, reply, decision)
        ends = cause is None and self._is_last(reply, tally)
        send_id, send = sent
        code = reply.error_code
        if decision is Verdict.COOL_DOWN:  # before the ledger is written: meanwhile nobody should knock
            self.progress.refusals += 1
            self.gate.refused(permit, reply.retry_after_s)
        await self._guarded(self.ledger.replied(send_id, send, reply, ends=ends, error_code=code))
        if cause is not None:
            self._halt(cause)
        used = self.usage.tokens(reply.body) if code is None and reply.body is not None else None
        if decision is not Verdict.COOL_DOWN:
            self.breaker.record(failed=code is not None or used is None)
        if self.breaker.open:
            self._halt(
                TryLaterError(
                    f"model {call.model!r}: {self.breaker.describe()}, the last with "
                    f"{code or 'a reply that is no chat completion'} ({reply.error_message or 'no message'}); "
                    "check the endpoint, then resume the run"
                )
            )
        if ends:
            self.progress.answered += code is None
            self.progress.failed += code is not None
        if code is None:
            self.gate.succeeded(permit, used_tokens=used)
        # What came with status 200 is billed, whatever it is worth.
        return self.usage.cost_usd(reply.body or "") if code is None or reply.status == 200 else Decimal(0)

    def _cause_to_stop(self, call: Request, reply: Reply, decision: Verdict) -> NightrouteError | None:
        """What a reply says about every other call, too: null when they may still succeed tonight."""
        if decision in (Verdict.STOP_CREDENTIALS, Verdict.STOP_QUOTA):
            return _refusal(call, reply, decision)
        longest = self.policy.max_retry_after_s
        if decision is Verdict.COOL_DOWN and reply.retry_after_s is not None and reply.retry_after_s > longest:
            return TryLaterError(
                f"model {call.model!r} asks to wait {reply.retry_after_s:.0f} s, longer than "
                f"dispatch.max_retry_after_s = {longest:g}; resume the run later, or raise the limit to wait"
            )
        return None

    def _check_disk(self) -> None:
        try:
            self.disk.check()
        except NightrouteError as error:
            self._halt(error)

    async def _guarded(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except NightrouteError as error:
            self._halt(error)

    def _halt(self, cause: NightrouteError) -> NoReturn:
        """Stop the run. Calls in flight finish: their workers see the stop only when they are done."""
        self._cause = self._cause or cause
        self.stop.set()
        raise StoppedError


def _refusal(call: Request, reply: Reply, decision: Verdict) -> NightrouteError:
    said = f"{reply.error_code} (HTTP {reply.status}): {reply.error_message or 'no message'}"
    if decision is Verdict.STOP_QUOTA:
        return TryLaterError(f"model {call.model!r} answers {said}; top up the account, then resume the run")
    return ConfigError(
        f"model {call.model!r} answers {said}; check the key in the variable named by api_key_env, its rights and the "
        "base_url, then resume the run"
    )
