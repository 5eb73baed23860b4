"""Stage 3: send what is pending on both models at once, within limits and budget; resume where the ledger ends."""

import asyncio
import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import polars as pl
import polars_hash as plh

from jobs.config import Dispatch, Model
from jobs.embedding_cost import embedding_usd
from jobs.interrupting import handled
from jobs.night import SIDES, Night, TableRun, endpoint, endpoint_fields, pricing
from jobs.source import read_part
from jobs.splitting import in_order
from routing.account import Billing, spent
from routing.calls import Call, Complete, Endpoint, Request
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


@dataclass(frozen=True, slots=True)
class Lane:
    """One model, and the calls that it is sent."""

    role: str
    """What it is to the job, as in the config: strong, weak, judge."""
    model: Model
    calls: AsyncIterator[Request]
    client: Callable[[Endpoint], contextlib.AbstractAsyncContextManager[Complete]] = OpenAICompletions
    usage: Callable[[RateCard | Unpriced], Usage] = reply_reader
    """Makes what reads its raw replies for the guards."""


Watch = Callable[[dict[str, Progress]], contextlib.AbstractContextManager[None]]
"""Role -> counters; shows them while its context is open."""


def model_key(model: Model) -> str:
    """Digest of everything about a model that decides its answer."""
    return hashlib.sha256(json.dumps(endpoint_fields(model), sort_keys=True).encode()).hexdigest()


def call_key(*identity: str | pl.Expr) -> pl.Expr:
    """Identity of a call: the digest of the columns that decide what is asked, and of whom."""
    return plh.concat_str(list(identity), separator="\x1f").chash.sha2_256()


def routed_part(night: Night, part: Part, split: Split) -> pl.DataFrame:
    """ROUTED of a part."""
    models = {side: night.model(side) for side in SIDES}
    keys = {side: pl.lit(model_key(model)) for side, model in models.items()}
    routed = route(in_order(night, part, split), split, strong=models["strong"].name, weak=models["weak"].name)
    side_key = pl.when(pl.col("route") == "strong").then(keys["strong"]).otherwise(keys["weak"])
    return routed.with_columns(call_key=call_key("query_id", "content_sha256", side_key))


def pending(
    night: Night, part: Part, split: Split, ledger: LedgerReader, *, side: str, retry_failed: bool
) -> pl.DataFrame:
    """ROUTED rows of one side that the ledger has not decided, with what has to be sent."""
    rows = routed_part(night, part, split).filter(pl.col("route") == side)
    rows = undecided(night, rows, part.number, ledger, night.model(side), retry_failed=retry_failed)
    if rows.is_empty():
        return rows
    texts = read_part(night.source, part).queries.select("row", "prompt", "messages_json", "system")
    return rows.join(texts, on="row", how="left", maintain_order="left")


def undecided(
    table: TableRun, calls: pl.DataFrame, part: int, ledger: LedgerReader, model: Model, *, retry_failed: bool
) -> pl.DataFrame:
    """Keep the calls of one model that the ledger has not decided; add what they may cost and their earlier attempts.

    Args:
        table: The run.
        calls: Rows with `call_key`, `prompt_tokens` and `max_output_tokens`.
        part: Number that the ledger files them under.
        ledger: The run's ledger.
        model: Whom they are for.
        retry_failed: Calls that failed for good count as not decided.
    """
    ended = ledger.ended(part)
    if retry_failed:
        ended = ended.filter(pl.col("error_code").is_null())
    rows = calls.join(ended.select("call_key"), on="call_key", how="anti", maintain_order="left")
    if rows.is_empty():
        return rows
    at = table.plan.created_at
    rows = estimate(rows, table.prices, pricing(model), prefix="call", at=at, columns=DISPATCH)
    sends = ledger.sends(part).rename({"attempts": "attempts_before"})
    return rows.join(sends, on="call_key", how="left", maintain_order="left")


async def pending_calls(
    night: Night, split: Split, ledger: LedgerReader, *, side: str, retry_failed: bool
) -> AsyncIterator[Call]:
    """Yield the calls of one side, part by part: one part's texts are in memory at a time."""
    for part in night.plan.parts:
        rows = await asyncio.to_thread(pending, night, part, split, ledger, side=side, retry_failed=retry_failed)
        for call in calls_of(rows, part.number):
            yield call


def calls_of(rows: pl.DataFrame, part: int) -> Iterator[Call]:
    """Turn rows of `undecided`, with their texts, into calls."""
    for row in rows.iter_rows(named=True):  # one HTTP request each: not a hot loop
        ceiling = row["call_ceiling_usd"]
        yield Call(
            call_key=row["call_key"],
            part=part,
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


def booked_usd(table: TableRun, ledger: LedgerReader, parts: Iterable[int], billing: Mapping[str, Billing]) -> Decimal:
    """What the ledger has booked so far, every reply priced as billed; unpriced replies count nothing.

    Calls lost in a kill count with their estimate: the provider may bill them, and the limit has to hold all the same.
    """
    total = sum((Decimal(usd) for usd in ledger.unknown()["estimate_usd"].drop_nulls()), Decimal(0))
    return total + sum((spent_usd(table, ledger, part, billing) for part in parts), Decimal(0))


def spent_usd(table: TableRun, ledger: LedgerReader, part: int, billing: Mapping[str, Billing]) -> Decimal:
    """Sum of every billed reply of a part, used or not."""
    return Decimal(spent(paid_replies(ledger, part), table.prices, billing)["cost_usd"].sum() or 0)


def paid_replies(ledger: LedgerReader, part: int) -> pl.DataFrame:
    """Every billed reply of a part, read."""
    answered_at = pl.from_epoch((pl.col("replied_at") * 1_000_000).cast(pl.Int64), time_unit="us")
    return read_bodies(ledger.paid(part)).with_columns(answered_at=answered_at.dt.replace_time_zone("UTC"))


def budget_guard(
    table: TableRun, ledger: LedgerReader, limit: Decimal | None, parts: Iterable[int], billing: Mapping[str, Billing]
) -> Budget:
    """Open the purse: the limit of the run, less what its ledger has booked."""
    booked = Decimal(0) if limit is None else booked_usd(table, ledger, parts, billing)
    return Budget(limit, booked_usd=booked)


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
    watch: Watch,
) -> DispatchResult:
    """Send what the split needs, on both models at once, until every call is decided or the run has to stop.

    Args:
        night: The run.
        split: Where it is cut.
        ledger: Its ledger.
        retry_failed: Send failed calls again.
        watch: Shows progress while its context is open.
    """
    budget = budget_guard(night, ledger, max_usd(night), (part.number for part in night.plan.parts), night.billing({}))
    budget.booked_usd += embedding_usd(night)
    lanes = [
        Lane(side, night.model(side), pending_calls(night, split, ledger, side=side, retry_failed=retry_failed))
        for side in SIDES
    ]
    return await send_all(
        night,
        lanes,
        ledger,
        settings=night.job.config.dispatch,
        budget=budget,
        resume_with=f"nightroute resume {night.run.root}",
        watch=watch,
    )


async def send_all(
    table: TableRun,
    lanes: Sequence[Lane],
    ledger: Ledger,
    *,
    settings: Dispatch,
    budget: Budget,
    resume_with: str,
    watch: Watch,
) -> DispatchResult:
    """Run one worker pool a lane, all at once, until every call is decided or the run has to stop.

    Args:
        table: The run.
        lanes: The models and their calls.
        ledger: Its ledger.
        settings: Retries and guards.
        budget: The one purse of all lanes.
        resume_with: Command that goes on with this run, for the message of an interrupt.
        watch: Shows progress while its context is open.
    """
    stop = asyncio.Event()
    disk = DiskGuard(
        lambda: shutil.disk_usage(table.run.root).free, min_free_bytes=settings.min_free_disk_mb * 1_000_000
    )
    progress = {lane.role: Progress() for lane in lanes}
    with _interrupts(stop) as interrupted, watch(progress):
        async with contextlib.AsyncExitStack() as stack:
            pools = []
            for lane in lanes:
                model = lane.model
                complete = await stack.enter_async_context(lane.client(endpoint(model, lane.role)))
                pool = _pool(table, lane, settings, complete, ledger, budget, disk, stop, progress[lane.role])
                workers = WORKERS_PER_PERMIT * model.max_in_flight
                pools.append(pool.run(lane.calls, workers=workers, queue_size=model.max_in_flight))
            results = await asyncio.gather(*pools, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    for error in errors:
        if not isinstance(error, NightrouteError):
            raise error
    if errors:
        return DispatchResult(next(error for error in errors if isinstance(error, NightrouteError)))
    if interrupted:
        return DispatchResult(InterruptedRunError(f"interrupted; resume with: {resume_with}"))
    return DispatchResult(None)


def _pool(
    table: TableRun,
    lane: Lane,
    settings: Dispatch,
    complete: Complete,
    ledger: Ledger,
    budget: Budget,
    disk: DiskGuard,
    stop: asyncio.Event,
    progress: Progress,
) -> Dispatcher:
    model = lane.model
    limits = Limits(
        max_in_flight=model.max_in_flight, start_in_flight=model.start_in_flight, rpm=model.rpm, tpm=model.tpm
    )
    rates = rate_card(
        model.name, table.prices, at=table.plan.created_at, provider=model.provider, base_url=model.base_url
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
        usage=lane.usage(rates),
        stop=stop,
        progress=progress,
    )


@contextlib.contextmanager
def _interrupts(stop: asyncio.Event) -> Iterator[list[int]]:
    """First Ctrl-C or SIGTERM: stop sending and wait for calls in flight. Second: leave at once."""
    seen: list[int] = []

    def on_signal(number: int) -> None:
        seen.append(number)
        stop.set()
        if len(seen) > 1:
            raise KeyboardInterrupt

    with handled(on_signal):
        yield seen
