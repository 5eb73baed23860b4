"""What logged calls would have cost on another model, apart from the length of its answer."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from routing.audit.what_if_routed import PairModel
from routing.errors import ConfigError
from routing.matching import resolve_models
from routing.metrics import Floats
from routing.pricing import price
from schemas.billing import STANDARD, Usage

COLUMNS = (
    *("called_at", "processing", "input_tokens", "cached_tokens"),
    *("cache_write_tokens", "cache_write_1h_tokens"),
)
"""What is read of CALL_LOG."""


@dataclass(frozen=True, slots=True)
class OnModel:
    """Cost of the same calls on one model = input + output tokens * rate."""

    cold_usd: Floats
    """Input, where nothing is in the cache: what the cache served or was written to it is written anew, at the input
    rate where writing has none. Never below `warm_usd`. Shape (n,)."""
    warm_usd: Floats
    """Input, where the cache holds what it held. Shape (n,)."""
    usd_per_output_token: Floats
    """Shape (n,)."""
    at_standard: int
    """Calls of a batch or a tier for which this model has no price: they pay its standard one."""


def on_model(calls: pl.DataFrame, prices: pl.DataFrame, model: PairModel) -> OnModel:
    """CALL_LOG x PRICES -> the parts of what each call would have cost on a model, at the prices of its time.

    Args:
        calls: Any calls with known tokens.
        prices: See `routing.prices.price_snapshot`.
        model: The other model.

    Raises:
        ConfigError: it has no price, or none for output.
    """
    usage = calls.select(
        *(pl.lit(value, pl.String).alias(column) for column, value in model.served.items()),
        *COLUMNS,
        output_tokens=pl.lit(0, pl.Int64),
    ).select(Usage.column_names())
    every = pl.sum_horizontal("cached_tokens", "cache_write_tokens")
    hour = pl.col("cache_write_1h_tokens")
    anew = usage.with_columns(
        cached_tokens=pl.lit(None, pl.Int64),
        cache_write_tokens=every,
        # A call that writes for an hour alone has written for an hour what it reads.
        cache_write_1h_tokens=pl.when((hour > 0) & (hour == pl.col("cache_write_tokens"))).then(every).otherwise(hour),
    )
    cold, at_standard = _priced(anew, prices, model)
    warm = _priced(usage, prices, model)[0] if anew["cache_write_tokens"].max() else cold
    rates = prices.select("price_id", "output_usd_per_mtok").with_columns(pl.col("price_id").cast(pl.String))
    rate = cold.join(rates, on="price_id", how="left", maintain_order="left")["output_usd_per_mtok"]
    if rate.null_count():
        raise ConfigError(f"what_if: {model.name!r} has no output price; add [[prices]] for it")
    warm_usd = _usd(warm)
    return OnModel(np.maximum(_usd(cold), warm_usd), warm_usd, rate.cast(pl.Float64).to_numpy() / 1e6, at_standard)


def _priced(usage: pl.DataFrame, prices: pl.DataFrame, model: PairModel) -> tuple[pl.DataFrame, int]:
    """Price each call as it was processed; where the model has no such price, as standard."""
    resolved = resolve_models(pl.DataFrame([model.served], schema=dict.fromkeys(model.served, pl.String)), prices)
    costs = price(usage, prices, resolved).select("cost_usd", "price_id", "unpriced_reason")
    missing = costs["unpriced_reason"].is_not_null()
    if not missing.any():
        return costs, 0
    standard = usage.with_columns(processing=pl.when(missing).then(pl.lit(STANDARD)).otherwise("processing"))
    costs = price(standard, prices, resolved).select("cost_usd", "price_id", "unpriced_reason")
    reasons = costs["unpriced_reason"].drop_nulls()
    if not reasons.is_empty():
        raise ConfigError(
            f"what_if: {reasons[0]} ({len(reasons):,} of {len(costs):,} calls); "
            f"add [[prices]] for {model.name!r}, or correct its name or provider"
        )
    return costs, int(missing.sum())


def _usd(costs: pl.DataFrame) -> Floats:
    return np.asarray(costs["cost_usd"].cast(pl.Float64).to_numpy())
