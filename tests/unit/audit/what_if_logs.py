"""Logs for tests of the what-if: literal calls, priced, in parts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import polars as pl

from routing.matching import resolve_models, served_names
from routing.prices import price_snapshot
from routing.pricing import price
from schemas.billing import PriceOverride
from schemas.call_log import OUTCOMES, CallLog

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
STRONG, WEAK = "big", "small"

RATES = (
    {"model": STRONG, "input_usd_per_mtok": "10", "cached_input_usd_per_mtok": "1", "output_usd_per_mtok": "40"},
    {"model": WEAK, "input_usd_per_mtok": "1", "output_usd_per_mtok": "2", "batch_factor": "0.5"},
    {"model": "old", "input_usd_per_mtok": "20", "output_usd_per_mtok": "60"},
)


@cache
def prices() -> pl.DataFrame:
    """Round prices of `big`, `small` (which has a batch price) and `old`."""
    return price_snapshot([PriceOverride.model_validate(rates) for rates in RATES])


def call_log(columns: Mapping[str, Any], prices: pl.DataFrame) -> pl.DataFrame:
    """CALL_LOG + COSTS of columns, billed and ok where nothing else is said."""
    rows = pl.DataFrame(columns).with_row_index("row").cast({"row": pl.UInt64})
    given = {"called_at": NOON, "billed": True, "outcome": "ok"}
    rows = rows.with_columns(pl.lit(value).alias(name) for name, value in given.items() if name not in rows.columns)
    rows = rows.with_columns(pl.col("outcome").cast(pl.Enum(OUTCOMES)))
    whole = pl.concat([CallLog.create_empty(), rows], how="diagonal_relaxed").cast(CallLog.create_empty().schema)
    priced = price(whole, prices, resolve_models(served_names(whole), prices))
    free = ~pl.col("billed")
    return priced.with_columns(
        cost_usd=pl.when(free).then(pl.lit(0)).otherwise("cost_usd").cast(pl.Decimal(38, 12)),
        unpriced_reason=pl.when(~free).then("unpriced_reason"),
    )


@dataclass(frozen=True)
class Parts:
    """Calls in parts, as a stored log yields them."""

    calls: pl.DataFrame
    rows: int = 500

    def kept(self, _: pl.DataFrame, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        for part in self.calls.iter_slices(self.rows):
            yield part if columns is None else part.select(columns)
