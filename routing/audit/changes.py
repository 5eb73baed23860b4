"""What changed while the log ran: models that were renamed or replaced, and prices."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

import polars as pl

from routing.audit.cube import differs, processing
from routing.pricing import price, rates_filled
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
    "cache_write_1h_usd_per_mtok",
    "output_usd_per_mtok",
    "request_usd",
)
_WAY = ("provider", "model", "processing")


@dataclass(frozen=True, slots=True)
class PriceStep:
    """A price change, and which calls may have been logged at the old price."""

    change: PriceChange
    """Stale calls not counted yet."""
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

    def stale(self, calls: pl.DataFrame, prices: pl.DataFrame, resolved: pl.DataFrame) -> tuple[int, Decimal]:
        """Count the calls whose logged spend is not the new price's but the old one's, and what that is off by.

        Args:
            calls: CALL_LOG + COSTS that the step `concerns`.
            prices: See `routing.prices.price_snapshot`.
            resolved: Of the names in `calls`.

        Returns:
            Calls, and their logged minus their recomputed dollars.
        """
        doubtful = calls.filter(differs(pl.col("logged_usd"), pl.col("cost_usd"))).with_columns(due_usd="cost_usd")
        just_before = pl.lit(self.change.changed_at - _INSTANT, calls.schema["called_at"])
        old = price(doubtful.with_columns(called_at=just_before), prices, resolved)
        stale = old.filter(~differs(pl.col("logged_usd"), pl.col("cost_usd")))
        return stale.height, Decimal(stale["logged_usd"].sum()) - Decimal(stale["due_usd"].sum())


def model_changes(daily: pl.DataFrame, prices: pl.DataFrame) -> list[ModelChange]:
    """DAILY x PRICES -> models that ended where another one of the same provider began, in order of time.

    A rename or a successor, no trial and no slow migration: the two names meet within a day, both have at least twenty
    calls in the week at the change, and neither more than four times as many a day as the other. A name ends once and
    begins once; those that meet most closely go first.
    """
    models = _models(daily)
    ended, begun, found = set[int](), set[int](), list[tuple[int, int]]()
    for before, after in _handovers(models).iter_rows():
        if before not in ended and after not in begun:
            ended.add(before)
            begun.add(after)
            found.append((before, after))
    pairs = pl.DataFrame(found, schema={"before": pl.UInt32, "after": pl.UInt32}, orient="row")
    named = pairs.join(models, left_on="before", right_on="name").join(
        models.drop("provider"), left_on="after", right_on="name", suffix="_after"
    )
    changes = [
        ModelChange(
            provider=row["provider"],
            before=row["model"],
            after=row["model_after"],
            changed_at=row["first_called_at_after"],
            calls_before=row["calls"],
            calls_after=row["calls_after"],
            same_price=row["same_price"],
        )
        for row in _with_same_price(named, daily, prices).iter_rows(named=True)
    ]
    return sorted(changes, key=lambda change: (change.changed_at, change.before))


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


def _models(daily: pl.DataFrame) -> pl.DataFrame:
    """Each provider's model under a number, `name`, with its span and its calls a day in its first and last week."""
    day = pl.col("day")
    began, ended = day.min(), day.max()
    weeks = {  # of a log that begins or ends within one, what it has of it
        "beginning": (day <= began + _WEEK, pl.min_horizontal(began + _WEEK, pl.lit(daily["day"].max())) - began),
        "ending": (day >= ended - _WEEK, ended - pl.max_horizontal(ended - _WEEK, pl.lit(daily["day"].min()))),
    }
    return (
        daily.drop_nulls("model")
        .group_by("provider", "model")
        .agg(
            pl.col("calls").sum(),
            pl.col("first_called_at").min(),
            pl.col("last_called_at").max(),
            *(pl.col("calls").filter(within).sum().alias(name) for name, (within, _) in weeks.items()),
            *((days.dt.total_days() + 1).alias(f"{name}_days") for name, (_, days) in weeks.items()),
        )
        .sort("provider", "model")
        .with_row_index("name")
        .with_columns((pl.col(name) / pl.col(f"{name}_days")).alias(f"{name}_a_day") for name in weeks)
    )


def _handovers(models: pl.DataFrame) -> pl.DataFrame:
    """`before`, `after`: models of which one may have taken over from the other, those that meet most closely first.

    By days that meet, not each with each: logs of fine-tuned models hold thousands of names.
    """
    near = [timedelta(days=days) for days in range(-HANDOVER.days, HANDOVER.days + 1)]
    span = ["provider", "first_called_at", "last_called_at"]
    before = models.filter(pl.col("ending") >= FEWEST_CALLS).select(
        *span, before="name", a_day="ending_a_day", day=pl.col("last_called_at").dt.date()
    )
    after = models.filter(pl.col("beginning") >= FEWEST_CALLS).select(
        *span,
        after="name",
        a_day="beginning_a_day",
        day=pl.concat_list(pl.col("first_called_at").dt.date() + shift for shift in near),
    )
    apart = (pl.col("first_called_at_after") - pl.col("last_called_at")).abs()
    often, seldom = (most("a_day", "a_day_after") for most in (pl.max_horizontal, pl.min_horizontal))
    return (
        before.join(after.explode("day"), on=["provider", "day"], nulls_equal=True, suffix="_after")
        .filter(
            pl.col("first_called_at") < pl.col("first_called_at_after"),
            pl.col("last_called_at") < pl.col("last_called_at_after"),
            apart <= HANDOVER,
            often <= MOST_TIMES * seldom,
        )
        .sort(apart, "before", "after")
        .select("before", "after")
    )


def _with_same_price(pairs: pl.DataFrame, daily: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
    """Add whether the rates of the old name's last calls are those of the new name's first, where both have any."""
    rates = prices.select("price_id", "min_input_tokens", *_rates())
    kind = ["processing", "min_input_tokens"]
    priced = daily.drop_nulls("price_id").join(rates, on="price_id").sort("first_called_at")
    first = priced.unique(["provider", "model", *kind], keep="first", maintain_order=True)
    last = priced.sort("last_called_at").unique(["provider", "model", *kind], keep="last", maintain_order=True)
    same = pl.all_horizontal(pl.col(rate).eq_missing(pl.col(f"{rate}_after")) for rate in _RATES)
    both = (
        pairs.select("provider", "model", "model_after")
        .join(last.select("provider", "model", *kind, *_RATES), on=["provider", "model"], nulls_equal=True)
        .join(
            first.select("provider", *kind, *_RATES, model_after="model"),
            on=["provider", "model_after", *kind],
            nulls_equal=True,
            suffix="_after",
        )
        .group_by("provider", "model", "model_after")
        .agg(same_price=same.all())
    )
    found = pairs.join(both, on=["provider", "model", "model_after"], how="left", nulls_equal=True)
    return found.with_columns(pl.col("same_price").fill_null(value=False))


def _spans(cells: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """Calls, first and last of each key."""
    return cells.group_by(keys).agg(
        pl.col("calls", "differing_calls").sum(), pl.col("first_called_at").min(), pl.col("last_called_at").max()
    )


def _version() -> pl.Expr:
    """A price_id without its tier."""
    return pl.col("price_id").str.replace(r">\d+$", "")


def _rates() -> list[pl.Expr]:
    """Rates as they are applied."""
    return [pl.col("input_usd_per_mtok", "output_usd_per_mtok"), *rates_filled(), pl.col("request_usd").fill_null(0)]
