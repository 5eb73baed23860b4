"""Stage 2 of an audit: one pass over the priced calls, and everything that is said of the past."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import chain

import polars as pl

from jobs.audit_calls import StoredCalls
from jobs.audit_config import PageSection
from routing.audit import cube, spend
from routing.audit.changes import PriceStep, model_changes, price_steps
from routing.audit.control import compare
from routing.audit.duplicates import Hashes, identical, null_id_hashes
from routing.audit.gaps import find_gaps
from routing.audit.prompt_groups import PromptGroups
from routing.matching import resolve_models
from schemas.audit import Paid, PriceChange, Reconciliation, RowCounts
from schemas.billing import Costs, Usage
from schemas.call_log import TOKENS, CallLog

READ = (
    "called_at",
    "tenant",
    "provider",
    "model",
    "processing",
    *TOKENS,
    "logged_usd",
    "billed",
    "outcome",
    "error_code",
    "attempts",
    "prompt",
    *Costs.column_names(),
)
"""Columns of CALL_LOG + COSTS that the books are kept from."""

_NO_CALL = pl.concat([CallLog.create_empty(), Costs.create_empty()], how="horizontal").select(READ)


@dataclass(frozen=True, slots=True)
class Books:
    """What an audit knows of the past."""

    reconciliation: Reconciliation
    paid: Paid
    daily: pl.DataFrame
    """DAILY."""
    hourly: pl.DataFrame
    """HOURLY."""

    @property
    def first_called_at(self) -> datetime | None:
        """First kept call; null where there is none."""
        return self.daily["first_called_at"].min()  # type: ignore[return-value]  # min() is typed as any literal

    @property
    def last_called_at(self) -> datetime | None:
        """Last kept call; null where there is none."""
        return self.daily["last_called_at"].max()  # type: ignore[return-value]  # max() is typed as any literal


def keep_books(calls: StoredCalls, prices: pl.DataFrame, *, control: pl.DataFrame | None, page: PageSection) -> Books:
    """Add up what was paid and hold it against what the log, the clock and others say.

    The calls are read once; those that may have been logged at an outdated price once more.

    Args:
        calls: The log.
        prices: See `routing.prices.price_snapshot`.
        control: Totals of another source, from `routing.audit.control.conform`, where there are any.
        page: What is shown of prompts.
    """
    cells, hours = cube.Tally(cube.merge_daily), cube.Tally(cube.merge_hourly)
    failures, groups = cube.Tally(spend.merge_failures), PromptGroups()
    nameless = list[Hashes]()
    columns = READ if not calls.null_ids else (*READ, "call_id")
    for part in chain([_NO_CALL], calls.kept(prices, columns)):
        if "call_id" in part.columns:
            nameless.append(null_id_hashes(part.drop(Costs.column_names())))
        cells.add(cube.daily(part))
        hours.add(cube.hourly(part))
        failures.add(spend.failures(part))
        groups.add(part)
    daily = cube.finish_daily(cells.total())
    hourly = hours.total()
    differences, keys = ([], None) if control is None else compare(daily, control)
    tenants = spend.spend_by_tenant(daily)
    return Books(
        reconciliation=Reconciliation(
            rows=_rows(calls, daily, identical_null_ids=identical(nameless)),
            rejected=calls.broken_rules,
            unpriced=spend.unpriced(daily),
            gaps=find_gaps(hourly),
            models=spend.logged_spend(daily),
            model_changes=model_changes(daily, prices),
            price_changes=_price_changes(calls, prices, price_steps(daily, prices)),
            control=differences,
            control_keys=keys,
        ),
        paid=Paid(
            total=spend.total(daily),
            days=spend.spend_by_day(daily, tenants),
            tenants=tenants,
            models=spend.spend_by(daily, "model"),
            providers=spend.spend_by(daily, "provider"),
            tiers=spend.spend_by(daily, "processing"),
            prompt_groups=groups.dearest(page.top, excerpts=page.excerpts),
            waste=spend.waste(daily, failures.total(), duplicated_logged_usd=calls.duplicated_logged_usd),
        ),
        daily=daily,
        hourly=hourly,
    )


def _rows(calls: StoredCalls, daily: pl.DataFrame, *, identical_null_ids: int) -> RowCounts:
    sums = daily.select(
        pl.col("failed_calls", "missing_prompts").sum(),
        unpriced=pl.col("calls").filter(pl.col("unpriced_reason").is_not_null()).sum(),
        unbilled=(pl.col("calls") - pl.col("billed_calls")).sum(),
    ).row(0, named=True)
    return RowCounts(
        read=calls.read,
        left_out=calls.left_out,
        rejected=calls.rejected,
        duplicated=calls.duplicated,
        kept=calls.kept_rows,
        null_ids=calls.null_ids,
        identical_null_ids=identical_null_ids,
        reused_ids=calls.reused_ids,
        unpriced=sums["unpriced"],
        unbilled=sums["unbilled"],
        failed=sums["failed_calls"],
        missing_prompts=sums["missing_prompts"],
    )


def _price_changes(calls: StoredCalls, prices: pl.DataFrame, steps: Sequence[PriceStep]) -> list[PriceChange]:
    """Count stale calls, which needs those of a step once more, priced at the old price."""
    doubtful = {number: step for number, step in enumerate(steps) if step.differing_calls}
    stale = [(0, Decimal(0)) for _ in steps]
    if doubtful:
        concerned = pl.any_horizontal(step.concerns() for step in doubtful.values())
        resolved = resolve_models(calls.names, prices)
        columns = [*Usage.column_names(), "billed", "logged_usd", "cost_usd"]
        for part in calls.kept(prices, columns, where=concerned):
            for number, step in doubtful.items():
                more, usd = step.stale(part.filter(step.concerns()), prices, resolved)
                stale[number] = stale[number][0] + more, stale[number][1] + usd
    return [
        step.change.model_copy(update={"stale_calls": count, "stale_usd": usd or Decimal(0)})
        for step, (count, usd) in zip(steps, stale, strict=True)
    ]
