"""DAILY -> what was paid, by each dimension, and how the log's own spend compares. Sums are exact."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import polars as pl

from routing.audit.what_if_groups import MAX_GROUPS
from schemas.audit import DaySpend, ErrorCount, LoggedSpend, Spend, UnpricedCalls, Waste

_COUNTS = ("calls", "failed_calls", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
_MONEY = ("cost_usd", "logged_usd")
_UNPRICED = pl.col("unpriced_reason").is_not_null()


def total(daily: pl.DataFrame) -> Spend:
    """Everything, under the key null."""
    return _spend(_added(daily).row(0, named=True), None)


def spend_by(daily: pl.DataFrame, dimension: str) -> list[Spend]:
    """Spend of each value of a column (null is a value), dearest first, then most calls, then by name."""
    rows = _dearest_first(_added(daily, dimension), dimension)
    return [_spend(row, row[dimension]) for row in rows.iter_rows(named=True)]


def spend_by_tenant(daily: pl.DataFrame) -> list[Spend]:
    """Spend of each tenant, dearest first; of more than 1,000 the others are one, the last.

    A log may name its users where tenants are meant: a report of each would be hundreds of megabytes. The daily table
    has them all.
    """
    found = spend_by(daily, "tenant")
    shown, others = found[:MAX_GROUPS], found[MAX_GROUPS:]
    return [*shown, merged(others, f"({len(others):,} others)")] if others else shown


def spend_by_day(daily: pl.DataFrame, tenants: list[Spend]) -> list[DaySpend]:
    """Spend of each day, in order, with the cost of each tenant.

    Args:
        daily: DAILY.
        tenants: `spend_by_tenant(daily)`: the order of `groups`.
    """
    shown, others = tenants[:MAX_GROUPS], tenants[MAX_GROUPS:]
    own = daily.filter(pl.col("tenant").is_in(pl.lit([one.key for one in shown], pl.List(pl.String)), nulls_equal=True))
    cells = own.group_by("day", "tenant").agg(pl.col("cost_usd").sum())
    costs: dict[tuple[Any, ...], Decimal] = {(day, tenant): _usd(cost) for day, tenant, cost in cells.iter_rows()}
    nothing, found = Decimal(0), list[DaySpend]()
    for row in _added(daily, "day").sort("day").iter_rows(named=True):
        groups = [costs.get((row["day"], tenant.key), nothing) for tenant in shown]
        if others:
            groups.append(_usd(row["cost_usd"] - sum(groups, nothing)))
        found.append(DaySpend(day=row["day"], spend=_spend(row, row["day"].isoformat()), groups=groups))
    return found


def merged(spends: Sequence[Spend], key: str | None) -> Spend:
    """Several as one."""
    counts = {name: sum(getattr(one, name) for one in spends) for name in (*_COUNTS, "unpriced_calls")}
    money = {name: sum((getattr(one, name) for one in spends), Decimal(0)) for name in _MONEY}
    return Spend(key=key, **counts, **money)


def logged_spend(daily: pl.DataFrame) -> list[LoggedSpend]:
    """Logged against recomputed spend of each provider's model, over the calls that have both; dearest first."""
    compared = daily.with_columns(
        compared_calls=pl.when(~_UNPRICED).then("logged_calls").otherwise(0),
        logged=pl.when(~_UNPRICED).then("logged_usd"),
    )
    rows = compared.group_by("provider", "model").agg(
        pl.col("calls", "compared_calls", "logged", "compared_usd", "cost_usd", "differing_calls").sum(),
        pl.col("first_called_at").min(),
        pl.col("last_called_at").max(),
    )
    return [
        LoggedSpend(
            provider=row["provider"],
            model=row["model"],
            calls=row["calls"],
            compared_calls=row["compared_calls"],
            logged_usd=_usd(row["logged"]),
            recomputed_usd=_usd(row["compared_usd"]),
            difference_usd=_usd(row["logged"] - row["compared_usd"]),
            differing_calls=row["differing_calls"],
            first_called_at=row["first_called_at"],
            last_called_at=row["last_called_at"],
        )
        for row in _dearest_first(rows, "provider", "model").iter_rows(named=True)
    ]


def unpriced(daily: pl.DataFrame) -> list[UnpricedCalls]:
    """Calls whose cost is unknown, by reason, most first."""
    rows = (
        daily.filter(_UNPRICED)
        .group_by("unpriced_reason")
        .agg(pl.col("calls", "input_tokens", "output_tokens", "logged_calls", "logged_usd").sum())
    )
    return [
        UnpricedCalls(
            reason=row["unpriced_reason"],
            calls=row["calls"],
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            logged_usd=_usd(row["logged_usd"]) if row["logged_calls"] else None,
        )
        for row in rows.sort("calls", "unpriced_reason", descending=[True, False]).iter_rows(named=True)
    ]


def failures(calls: pl.DataFrame) -> pl.DataFrame:
    """CALL_LOG + COSTS -> `error_code`, `calls`, `cost_usd` of the failed calls of a part."""
    failed = calls.filter(pl.col("outcome") == "failed")
    return merge_failures(failed.select("error_code", "cost_usd", calls=pl.lit(1, pl.Int64)))


def merge_failures(cells: pl.DataFrame) -> pl.DataFrame:
    """Add up failures of the same code."""
    return cells.group_by("error_code").agg(pl.col("calls", "cost_usd").sum())


def waste(daily: pl.DataFrame, failed: pl.DataFrame, *, duplicated_logged_usd: Decimal) -> Waste:
    """What was paid for nothing.

    Args:
        daily: DAILY.
        failed: `failures` of the whole log.
        duplicated_logged_usd: Logged spend of the rows that repeat another.
    """
    sums = daily.select(pl.col("failed_calls", "failed_usd", "retried_calls", "extra_attempts").sum()).row(
        0, named=True
    )
    errors = _dearest_first(failed, "error_code").select("error_code", "calls", "cost_usd")
    return Waste(
        failed_calls=sums["failed_calls"],
        failed_usd=_usd(sums["failed_usd"]),
        retried_calls=sums["retried_calls"],
        extra_attempts=sums["extra_attempts"],
        duplicated_logged_usd=_usd(duplicated_logged_usd),
        errors=[ErrorCount(error_code=code, calls=n, cost_usd=_usd(cost)) for code, n, cost in errors.iter_rows()],
    )


def _added(daily: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Sums by some columns; without any, of everything."""
    sums = (
        *(pl.col(name).sum() for name in (*_COUNTS, *_MONEY)),
        pl.col("calls").filter(_UNPRICED).sum().alias("unpriced_calls"),
    )
    return daily.group_by(by).agg(sums) if by else daily.select(sums)


def _dearest_first(rows: pl.DataFrame, *names: str) -> pl.DataFrame:
    descending = [True, True, *(False for _ in names)]
    return rows.sort("cost_usd", "calls", *names, descending=descending, nulls_last=True)


def _spend(row: dict[str, Any], key: str | None) -> Spend:
    money = {name: _usd(row[name]) for name in _MONEY}
    return Spend(key=key, unpriced_calls=row["unpriced_calls"], **{name: row[name] for name in _COUNTS}, **money)


def _usd(amount: Decimal) -> Decimal:
    """Nothing is 0, not 0E-12."""
    return amount or Decimal(0)
