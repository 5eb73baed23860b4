"""What a table will cost before anything is sent: expected, an interval, and the most a single call may cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import polars as pl

from routing.pricing import counterfactual
from schemas.billing import USD

TOKENIZER_SPREAD = 0.2
"""Providers count tokens differently from the router: plans allow 20 % either way."""
LENGTH_SPREAD = 2.0
"""Mean answer lengths differ from the assumed one: plans allow half and double of it."""
CEILING_LENGTH = 4.0
"""Without a token limit, a single answer is taken to be at most this many times the expected length."""


@dataclass(frozen=True, slots=True)
class Pricing:
    """How to price one model of the pair."""

    model: str
    base_url: str
    provider: str | None
    expected_output_tokens: int
    output_limit: int | None
    """Output token limit sent with every call; a row's own limit comes before it."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A cost with the range that the assumptions above allow. USD."""

    expected: Decimal
    low: Decimal
    high: Decimal


SPLIT = ("usd",)
"""What a split needs."""
FORECAST = ("usd", "low_usd", "high_usd", "tokens")
"""What a plan shows."""
DISPATCH = ("ceiling_usd", "tokens")
"""What limits and budget reserve."""


def estimate(
    scored: pl.DataFrame, prices: pl.DataFrame, model: Pricing, *, prefix: str, at: datetime, columns: Sequence[str]
) -> pl.DataFrame:
    """SCORED -> SCORED + what each query costs on one model, in columns named `<prefix>_<column>`.

    `usd` expected, `low_usd` and `high_usd` under the spreads above, `ceiling_usd` what the budget guard reserves
    (all Decimal(38, 12), null when unpriced), `tokens` input plus expected output (Int64).
    """
    limit = pl.coalesce("max_output_tokens", pl.lit(model.output_limit, pl.Int64))
    tokens = pl.col("prompt_tokens")
    length = model.expected_output_tokens

    def usage(input_factor: float, output: pl.Expr) -> pl.DataFrame:
        return scored.select(
            called_at=pl.lit(at).cast(pl.Datetime("us", "UTC")),
            input_tokens=(tokens * input_factor).ceil().cast(pl.Int64),
            cached_tokens=pl.lit(None, pl.Int64),
            cache_write_tokens=pl.lit(None, pl.Int64),
            output_tokens=output.ceil().cast(pl.Int64),
        )

    def cost(input_factor: float, output: pl.Expr) -> pl.Series:
        costs = counterfactual(
            usage(input_factor, output), prices, model=model.model, provider=model.provider, base_url=model.base_url
        )
        return costs["cost_usd"].cast(USD)

    def at_most_limit(mean: float) -> pl.Expr:
        return pl.min_horizontal(pl.lit(mean), limit.cast(pl.Float64))

    makers: dict[str, Callable[[], pl.Series | pl.Expr]] = {
        "usd": lambda: cost(1.0, at_most_limit(length)),
        "low_usd": lambda: cost(1 - TOKENIZER_SPREAD, at_most_limit(length / LENGTH_SPREAD)),
        "high_usd": lambda: cost(1 + TOKENIZER_SPREAD, at_most_limit(length * LENGTH_SPREAD)),
        "ceiling_usd": lambda: cost(1 + TOKENIZER_SPREAD, pl.coalesce(limit.cast(pl.Float64), length * CEILING_LENGTH)),
        "tokens": lambda: tokens + pl.min_horizontal(pl.lit(length, pl.Int64), limit),
    }
    return scored.with_columns(makers[name]().alias(f"{prefix}_{name}") for name in columns)
