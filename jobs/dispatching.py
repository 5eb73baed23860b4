"""Stage 3: send what is pending on both models at once, within limits and budget; resume where the ledger ends."""

import asyncio
import contextlib
import hashlib
import json
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import polars as pl
import polars_hash as plh

from jobs.night import SIDES, Night, endpoint, endpoint_fields
from jobs.scoring import read_scored
from jobs.source import read_part
from routing.account import spent
from routing.calls import Call, Complete
from routing.dispatch import Dispatcher, DispatchPolicy, Progress, Usage
from routing.errors import NightrouteError
from routing.estimate import DISPATCH, estimate
from routing.guards import Breaker, Budget, DiskGuard
from routing.ledger import Ledger, LedgerReader
from routing.limits import Gate, Limits
from routing.pricing import RateCard, Unpriced, rate_card
from routing.providers import OpenAICompletions
from routing.replies import read_bodies
from routing.split import route
from schemas.run import Part, Split

WORKERS_PER_PERMIT = 2
"""Workers beyond the permits: those waiting out a backoff do not keep others from sending."""


class InterruptedRunError(NightrouteError):
    """Ctrl-C or SIGTERM: calls in flight were waited for, the run can be resumed."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class DispatchResult:
    """How the stage ended."""

    stopped_by: NightrouteError | None
    """Null when every call is decided."""


def call_keys(night: Night) -> dict[str, str]:
    """Side -> digest of everything about a model that decides its answer."""
    fields = {side: json.dumps(endpoint_fields(night.model(side)), sort_keys=True) for side in SIDES}
    return {side: hashlib.sha256(text.encode()).hexdigest() for side, text in fields.items()}


def routed_part(night: Night, part: Part, split: Split) -> pl.DataFrame:
    """ROUTED of a part."""
    keys = call_keys(night)
    models = {side: night.model(side).name for side in SIDES}
    routed = route(read_scored(night, part), split, strong=models["strong"], weak=models["weak"])
    side_key = pl.when(pl.col("route") == "strong").then(pl.lit(keys["strong"])).otherwise(pl.lit(keys["weak"]))
    identity = plh.concat_str(["query_id", "content_sha256", side_key], separator="\x1f")
    return routed.with_columns(call_key=identity.chash.sha2_256())


def pending(
    night: Night, part: Part, split: Split, ledger: LedgerReader, *, side: str, retry_failed: bool
) -> pl.DataFrame:
    """ROUTED rows of one side that the ledger has not decided, with what has to be sent."""
    ended = ledger.ended(part.number)
    if retry_failed:
        ended = ended.filter(pl.col("error_code").is_null())
    rows = (
        routed_part(night, part, split)
        .filter(pl.col("route") == side)
        .join(ended.select("call_key"), on="call_key", how="anti", maintain_order="left")
    )
    if rows.is_empty():
        return rows
    rows = estimate(rows, night.prices, night.pricing(side), prefix="call", at=night.plan.created_at, columns=DISPATCH)
    sends = ledger.sends(part.number).rename({"attempts": "attempts_before"})
    texts = read_part(night.source, part).queries.select("row", "prompt", "messages_json", "system")
    return rows.join(sends, on="call_key", how="left", maintain_order="left").join(
        texts, on="row", how="left", maintain_order="left"
    )


async def pending_calls(
    night: Night, split: Split, ledger: LedgerReader, *, side: str, retry_failed: bool
) -> AsyncIterator[Call]:
    """Yield the calls of one side, part by part: one part's texts are in memory at a time."""
    for part in night.plan.parts:
        rows = await asyncio.to_thread(pending, night, part, split, ledger, side=side, retry_failed=retry_failed)
        for row in rows.iter_rows(named=True):  # one HTTP request each: not a hot loop
            ceiling = row["call_ceiling_usd"]
            yield Call(
                call_key=row["call_key"],
                part=part.number,
                row=row["row"],
                query_id=row["query_id"],
                model=row["model"],
                messages=_messages(row["prompt"], row["messages_json"], row["system"]),
                max_output_tokens=row["max_output_tokens"],
                estimated_tokens=row["call_tokens"],
                estimate_usd=None if ceiling is None else str(ceiling),
                attempts_before=row["attempts_before"] or 0,
            )


def _messages(prompt: str, messages_json: str | None, system: str | None) -> list[dict[str, str]]:
    first = [] if system is None else [{"role": "system", "content": system}]
    if messages_json is None:
        return [*first, {"role": "user", "content": prompt}]
    return [*first, *json.loads(messages_json)["messages"]]


def reply_reader(rates: RateCard | Unpriced) -> Usage:
    """Tokens and cost of a raw reply, for the guards only: the published cost is computed from the ledger."""

    def usage(body: str) -> dict[str, int] | None:
        try:
            found = json.loads(body)["usage"]
            return {name: int(found[name]) for name in ("prompt_tokens", "completion_tokens")}
        except (ValueError, TypeError, KeyError):
            return None

    def tokens(body: str) -> int | None:
        found = usage(body)
        return None if found is None else sum(found.values())

    def cost_usd(body: str) -> Decimal:
        found = usage(body)
        if found is None or isinstance(rates, Unpriced):
            return Decimal(0)
        output_rate = rates.output_usd_per_mtok or Decimal(0)
        dollars = found["prompt_tokens"] * rates.input_usd_per_mtok + found["completion_tokens"] * output_rate
        return dollars / 1_000_000 + rates.request_usd

    return Usage(tokens, cost_usd)


def booked_usd(night: Night, ledger: LedgerReader) -> Decimal:
    """What the ledger has booked so far, every reply priced as billed; unpriced replies count nothing.

    Calls lost in a kill count with their estimate: the provider may bill them, and the limit has to hold all the same.
    """
    total = sum((Decimal(usd) for usd in ledger.unknown()["estimate_usd"].drop_nulls()), Decimal(0))
    billing = night.billing({})
    for part in night.plan.parts:
        total += Decimal(spent(paid_replies(ledger, part), night.prices, billing)["cost_usd"].sum() or 0)
    return total


def paid_replies(ledger: LedgerReader, part: Part) -> pl.DataFrame:
    """Every billed reply of a part, read."""
    answered_at = pl.from_epoch((pl.col("replied_at") * 1_000_000).cast(pl.Int64), time_unit="us")
    return read_bodies(ledger.paid(part.number)).with_columns(answered_at=answered_at.dt.replace_time_zone("UTC"))


def max_usd(night: Night) -> Decimal | None:
    """Limit of the budget guard: [budget], else the budget that the split was made for."""
    config = night.job.config
    return config.budget.max_usd if config.budget.max_usd is not None else config.split.max_usd


async def dispatch_all(
    night: Night,
    split: Split,
    ledger: Ledger,
    *,
    retry_failed: bool,
    watch: Callable[[dict[str, Progress]], contextlib.AbstractContextManager[None]],
) -> DispatchResult:
    """Run both worker pools until every call is decided or the run has to stop.

    Args:
        night: The run.
        split: Where it is cut.
        ledger: Its ledger.
        retry_failed: Send failed calls again.
        watch: Shows progress while its context is open.
    """
    config = night.job.config
    stop = asyncio.Event()
    limit = max_usd(night)
    budget = Budget(limit, booked_usd=Decimal(0) if limit is None else booked_usd(night, ledger))
    disk = DiskGuard(
        lambda: shutil.disk_usage(night.run.root).free, min_free_bytes=config.dispatch.min_free_disk_mb * 1_000_000
    )
    progress = {side: Progress() for side in SIDES}
    with _interrupts(stop) as interrupted, watch(progress):
        async with contextlib.AsyncExitStack() as stack:
            pools = []
            for side in SIDES:
                model = night.model(side)
                complete = await stack.enter_async_context(OpenAICompletions(endpoint(model, side)))
                pool = _pool(night, side, complete, ledger, budget, disk, stop, progress[side])
                calls = pending_calls(night, split, ledger, side=side, retry_failed=retry_failed)
                workers = WORKERS_PER_PERMIT * model.max_in_flight
                pools.append(pool.run(calls, workers=workers, queue_size=model.max_in_flight))
            results = await asyncio.gather(*pools, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    for error in errors:
        if not isinstance(error, NightrouteError):
            raise error
    if errors:
        return DispatchResult(next(error for error in errors if isinstance(error, NightrouteError)))
    if interrupted:
        return DispatchResult(InterruptedRunError(f"interrupted; resume with: nightroute resume {night.run.root}"))
    return DispatchResult(None)


def _pool(
    night: Night,
    side: str,
    complete: Complete,
    ledger: Ledger,
    budget: Budget,
    disk: DiskGuard,
    stop: asyncio.Event,
    progress: Progress,
) -> Dispatcher:
    model, settings = night.model(side), night.job.config.dispatch
    limits = Limits(
        max_in_flight=model.max_in_flight, start_in_flight=model.start_in_flight, rpm=model.rpm, tpm=model.tpm
    )
    rates = rate_card(
        model.name, night.prices, at=night.plan.created_at, provider=model.provider, base_url=model.base_url
    )
    return Dispatcher(
        complete=complete,
        gate=Gate(limits, clock=time.monotonic, stop=stop),
        ledger=ledger,
        policy=DispatchPolicy(
            max_attempts=settings.max_attempts,
            max_refusals=settings.max_refusals,
            max_retry_after_s=settings.max_retry_after_s,
            backoff_initial_s=settings.backoff_initial_s,
            backoff_max_s=settings.backoff_max_s,
        ),
        breaker=Breaker(window=settings.breaker_window, max_failed_share=settings.breaker_failed_share),
        budget=budget,
        disk=disk,
        usage=reply_reader(rates),
        stop=stop,
        progress=progress,
    )


@contextlib.contextmanager
def _interrupts(stop: asyncio.Event) -> Iterator[list[int]]:
    """First Ctrl-C or SIGTERM: stop sending and wait for calls in flight. Second: leave at once."""
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    def on_signal(number: int) -> None:
        seen.append(number)
        stop.set()
        if len(seen) > 1:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield seen
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
