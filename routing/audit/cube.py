"""CALL_LOG + COSTS -> DAILY and HOURLY, part by part: what is known of millions of calls, in a table that fits memory.

Memory grows with the cells of the table (days x tenants x models x prices), not with the calls.
"""

from collections.abc import Callable
from decimal import Decimal

import polars as pl

from schemas.billing import STANDARD, USD
from schemas.call_log import TOKENS
from schemas.daily import Daily, Hourly

KEYS = ("day", "tenant", "provider", "model", "processing", "price_id", "unpriced_reason")

ABSOLUTE_USD = Decimal("0.000001")
RELATIVE = Decimal("0.001")
"""Logged spend is another one than the cost when it is off by more than both: floats and rounding stay below."""

_SUMS = tuple(
    name for name in Daily.column_names() if name not in (*KEYS, "calls", "first_called_at", "last_called_at")
)
_MONEY = ("cost_usd", "failed_usd", "logged_usd", "compared_usd")
_MERGE_ROWS = 100_000


class Tally:
    """A table of sums, merged as it grows."""

    def __init__(self, merge: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        """Start empty.

        Args:
            merge: Adds up the rows that belong together; the same columns in and out.
        """
        self._merge = merge
        self._frames: list[pl.DataFrame] = []
        self._limit = _MERGE_ROWS

    def add(self, frame: pl.DataFrame) -> None:
        """Add the sums of one more part."""
        self._frames.append(frame)
        if sum(frame.height for frame in self._frames) > self._limit:
            merged = self.total()
            # Merging only when the table has doubled keeps the work linear.
            self._limit = max(_MERGE_ROWS, 2 * merged.height)

    def total(self) -> pl.DataFrame:
        """Return the merged table.

        Raises:
            ValueError: Nothing was added.
        """
        if len(self._frames) != 1:
            self._frames = [self._merge(pl.concat(self._frames))]
        return self._frames[0]


def differs(logged: pl.Expr, cost: pl.Expr) -> pl.Expr:
    """Whether logged spend is another one than the cost: off by more than $0.000001 and by more than 0.1 % of it."""
    off = (logged - cost).abs()
    return (off > ABSOLUTE_USD) & (off > cost.abs() * RELATIVE)


def processing() -> pl.Expr:
    """The way of processing, as prices name it."""
    named = pl.col("processing").is_not_null() & (pl.col("processing") != "default")
    return pl.when(named).then("processing").otherwise(pl.lit(STANDARD)).alias("processing")


def daily(calls: pl.DataFrame) -> pl.DataFrame:
    """CALL_LOG + COSTS -> DAILY cells of one part, nulls of money still zero (see `merge_daily`, `finish_daily`)."""
    failed, logged = pl.col("outcome") == "failed", pl.col("logged_usd").is_not_null()
    priced = pl.col("cost_usd").is_not_null()
    retries = pl.col("attempts").fill_null(1) - 1
    cells = calls.select(
        pl.col("called_at").dt.date().alias("day"),
        "tenant",
        "provider",
        "model",
        processing(),
        "price_id",
        "unpriced_reason",
        *TOKENS,
        "cost_usd",
        "logged_usd",
        "called_at",
        failed_calls=failed,
        billed_calls="billed",
        answered_calls=pl.col("billed") & (~failed | (pl.sum_horizontal("input_tokens", "output_tokens") > 0)),
        retried_calls=retries > 0,
        extra_attempts=pl.max_horizontal(retries, 0),
        missing_prompts=pl.col("prompt").str.strip_chars().fill_null("") == "",
        failed_usd=pl.when(failed).then("cost_usd"),
        logged_calls=logged,
        compared_usd=pl.when(logged).then("cost_usd"),
        differing_calls=logged & priced & differs(pl.col("logged_usd"), pl.col("cost_usd")),
    )
    return cells.group_by(KEYS).agg(
        pl.len().cast(pl.Int64).alias("calls"),
        *(pl.col(name).sum().cast(USD if name in _MONEY else pl.Int64) for name in _SUMS),
        first_called_at=pl.col("called_at").min(),
        last_called_at=pl.col("called_at").max(),
    )


def merge_daily(cells: pl.DataFrame) -> pl.DataFrame:
    """Add up cells of the same key."""
    return cells.group_by(KEYS).agg(
        pl.col("calls", *_SUMS).sum(), pl.col("first_called_at").min(), pl.col("last_called_at").max()
    )


def finish_daily(cells: pl.DataFrame) -> pl.DataFrame:
    """Merged cells -> DAILY: days in order, sums over nothing null."""
    priced, logged = pl.col("unpriced_reason").is_null(), pl.col("logged_calls") > 0
    known = {"cost_usd": priced, "failed_usd": priced, "logged_usd": logged, "compared_usd": priced & logged}
    return Daily.validate(
        cells.with_columns(pl.when(when).then(name).alias(name) for name, when in known.items())
        .select(Daily.column_names())
        .sort(KEYS)
    )


def hourly(calls: pl.DataFrame) -> pl.DataFrame:
    """CALL_LOG -> HOURLY cells of one part."""
    return merge_hourly(calls.select(hour=pl.col("called_at").dt.truncate("1h"), calls=pl.lit(1, pl.Int64)))


def merge_hourly(cells: pl.DataFrame) -> pl.DataFrame:
    """Add up cells of the same hour."""
    return Hourly.validate(cells.group_by("hour").agg(pl.col("calls").sum()).sort("hour"))
