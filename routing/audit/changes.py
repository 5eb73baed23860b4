"""What changed while the log ran: models that were renamed or replaced, and prices."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

import polars as pl

from routing.audit.cube import differs, processing
from routing.pricing import price
from schemas.audit import ModelChange, PriceChange

HANDOVER = timedelta(days=1)
"""A new name begins at most this long before or after the last call of the old one."""
FEWEST_CALLS = 20
"""Of a model, in the seven days at the change: fewer are somebody trying it out."""
MOST_TIMES = 4.0
"""What one of the two names may be used more than the other, in calls a day."""

_WEEK = timedelta(days=6)
"""From the first to the last of seven days."""
_INSTANT = timedelta(microseconds=1)
_RATES = (
    "input_usd_per_mtok",
    "cached_input_usd_per_mtok",
    "cache_write_usd_per_mtok",
    "output_usd_per_mtok",
    "request_usd",
)
_WAY = ("provider", "model", "processing")


@dataclass(frozen=True, slots=True)
class PriceStep:
    """A price change, and which calls may have been logged at the old price."""

    change: PriceChange
    """`stale_calls` not counted yet."""
    until: datetime | None
    """First instant of the price after the new one."""
    differing_calls: int
    """Calls at the new price whose logged spend is another one: an upper bound of the stale ones."""

    def concerns(self) -> pl.Expr:
        """Over CALL_LOG: logged calls at the new price."""
        change = self.change
        named = pl.col("provider").eq_missing(pl.lit(change.provider, pl.String)) & (pl.col("model") == change.model)
        after = pl.col("called_at") >= change.changed_at
        before_next = pl.lit(value=True) if self.until is None else pl.col("called_at") < self.until
        logged = pl.col("billed") & pl.col("logged_usd").is_not_null()
        return named & (processing() == change.processing) & after & before_next & logged

    def stale_calls(self, calls: pl.DataFrame, prices: pl.DataFrame, resolved: pl.DataFrame) -> int:
        """Count the calls whose logged spend is not the new price's but the old one's.

        Args:
            calls: CALL_LOG + COSTS that the step `concerns`.
            prices: See `routing.prices.price_snapshot`.
            resolved: Of the names in `calls`.
        """
        doubtful = calls.filter(differs(pl.col("logged_usd"), pl.col("cost_usd")))
        just_before = pl.lit(self.change.changed_at - _INSTANT, calls.schema["called_at"])
        old = price(doubtful.with_columns(called_at=just_before), prices, resolved)
        return old.filter(~differs(pl.col("logged_usd"), pl.col("cost_usd"))).height


def model_changes(daily: pl.DataFrame, prices: pl.DataFrame) -> list[ModelChange]:
    """DAILY x PRICES -> models that ended where another one of the same provider began, in order of time.

    A rename or a successor, no trial and no slow migration: the two names meet within a day, both have at least twenty
    calls in the week at the change, and neither more than four times as many a day as the other. A name ends once and
    begins once; those that meet most closely go first.
    """
    models = _spans(daily.drop_nulls("model"), "provider", "model").filter(pl.col("calls") >= FEWEST_CALLS)
    apart = (pl.col("first_called_at_after") - pl.col("last_called_at")).abs()
    pairs = (
        models.join(models, on="provider", nulls_equal=True, suffix="_after")
        .filter(
            pl.col("first_called_at") < pl.col("first_called_at_after"),
            pl.col("last_called_at") < pl.col("last_called_at_after"),
            apart <= HANDOVER,
        )
        .sort(apart, "provider", "model", "model_after")
    )
    ended, begun, found = set(), set(), []
    for pair in pairs.iter_rows(named=True):
        before, after = (pair["provider"], pair["model"]), (pair["provider"], pair["model_after"])
        if before not in ended and after not in begun and _takes_over(daily, pair):
            ended.add(before)
            begun.add(after)
            found.append(
                ModelChange(
                    provider=pair["provider"],
                    before=pair["model"],
                    after=pair["model_after"],
                    changed_at=pair["first_called_at_after"],
                    calls_before=pair["calls"],
                    calls_after=pair["calls_after"],
                    same_price=_same_price(daily, prices, pair),
                )
            )
    return sorted(found, key=lambda change: (change.changed_at, change.before))


def price_steps(daily: pl.DataFrame, prices: pl.DataFrame) -> list[PriceStep]:
    """DAILY x PRICES -> prices that changed between two calls of the same provider, model and way of processing.

    The tiers of one price are one price, and so are two dated prices with the same rates. Nothing is said where two
    prices hold at the same time (one name served at two endpoints).
    """
    used = _spans(daily.drop_nulls("price_id"), *_WAY, "price_id").with_columns(version=_version())
    dated = (
        prices.with_columns(version=_version())
        .filter(pl.col("version").is_in(used["version"].unique().implode()))
        .sort("min_input_tokens")
        .group_by("version")
        .agg(
            pl.col("price_id", "valid_from", "valid_to").first(),
            rates=pl.struct("min_input_tokens", *_rates()),
        )
    )
    versions = (
        _spans(used, *_WAY, "version")
        .join(dated, on="version")
        .sort(*_WAY, "first_called_at", "last_called_at", "version")
    )
    found = []
    for _, group in groupby(versions.iter_rows(named=True), key=itemgetter(*_WAY)):
        held = [list(same) for _, same in groupby(group, key=itemgetter("rates"))]
        changed = [_changed_at(before[-1], after[0]) for before, after in pairwise(held)]
        for number, (before, after) in enumerate(pairwise(held)):
            at, until = (*changed[number:], None)[:2]
            if at is not None:
                found.append(_step(before, after, at, until))
    return sorted(found, key=lambda step: (step.change.changed_at, step.change.model, step.change.processing))


def _step(
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
    at: datetime,
    until: datetime | None,
) -> PriceStep:
    new = after[0]
    change = PriceChange(
        **{name: new[name] for name in _WAY},
        changed_at=at,
        before_price_id=before[-1]["price_id"],
        after_price_id=new["price_id"],
        calls_before=sum(row["calls"] for row in before),
        calls_after=sum(row["calls"] for row in after),
        stale_calls=0,
    )
    return PriceStep(change, until, sum(row["differing_calls"] for row in after))


def _changed_at(before: dict[str, Any], after: dict[str, Any]) -> datetime | None:
    """When the new price began, or the old one (an override) ended: between the last call and the first one."""
    last, first = before["last_called_at"], after["first_called_at"]
    edges = (after["valid_from"], before["valid_to"])
    return next((edge for edge in edges if edge is not None and last < edge <= first), None)


def _takes_over(daily: pl.DataFrame, pair: dict[str, Any]) -> bool:
    """Whether the new name is used about as much as the old one was."""
    ended: date = pair["last_called_at"].date()
    began: date = pair["first_called_at_after"].date()
    first, last = daily["day"][0], daily["day"][-1]
    weeks = (pair["model"], max(ended - _WEEK, first), ended), (pair["model_after"], began, min(began + _WEEK, last))
    calls, a_day = list[int](), list[float]()
    for model, start, end in weeks:
        named = pl.col("provider").eq_missing(pl.lit(pair["provider"], pl.String)) & (pl.col("model") == model)
        calls.append(int(daily.filter(named & pl.col("day").is_between(start, end))["calls"].sum()))
        a_day.append(calls[-1] / ((end - start).days + 1))
    return min(calls) >= FEWEST_CALLS and max(a_day) <= MOST_TIMES * min(a_day)


def _same_price(daily: pl.DataFrame, prices: pl.DataFrame, pair: dict[str, Any]) -> bool:
    """Whether the rates of the old name's last calls are those of the new name's first, where both have any."""
    rates = prices.select("price_id", "min_input_tokens", *_rates())
    ours = daily.drop_nulls("price_id").filter(pl.col("provider").eq_missing(pl.lit(pair["provider"], pl.String)))
    kind, held = ["processing", "min_input_tokens"], []
    for model, order, descending in (("model", "last_called_at", True), ("model_after", "first_called_at", False)):
        priced = ours.filter(pl.col("model") == pair[model]).join(rates, on="price_id")
        held.append(priced.sort(order, descending=descending).unique(kind, keep="first", maintain_order=True))
    both = held[0].join(held[1], on=kind, suffix="_after")
    same = pl.all_horizontal(pl.col(rate).eq_missing(pl.col(f"{rate}_after")) for rate in _RATES)
    return not both.is_empty() and bool(both.select(same.all()).item())


def _spans(cells: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """Calls, first and last of each key."""
    return cells.group_by(keys).agg(
        pl.col("calls", "differing_calls").sum(), pl.col("first_called_at").min(), pl.col("last_called_at").max()
    )


def _version() -> pl.Expr:
    """A price_id without its tier."""
    return pl.col("price_id").str.replace(r">\d+$", "")


def _rates() -> list[pl.Expr]:
    """Rates as they are applied: without a cached or write rate, such tokens cost what input costs."""
    instead = {name: pl.col("input_usd_per_mtok") for name in _RATES[1:3]} | {"request_usd": pl.lit(0)}
    return [pl.col(name).fill_null(instead[name]) if name in instead else pl.col(name) for name in _RATES]
