"""What a table will cost before anything is sent: expected, an interval, and the most a single call may cost.

Input tokens are counted. Output tokens are one number per model, or follow the length of the prompt by a power law that
is fitted on answers paid for before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.pricing import counterfactual
from schemas.billing import USD
from schemas.run import AnswerLength

TOKENIZER_SPREAD = 0.2
"""Providers count tokens differently from the router: plans allow 20 % either way."""
LENGTH_SPREAD = 2.0
"""Mean answer lengths differ from the assumed one: plans allow half and double of it."""
CEILING_LENGTH = 4.0
"""Without a token limit, a single answer is taken to be at most this many times the expected length."""
MIN_ANSWERS = 30
"""With fewer answers to learn from, only their mean length is taken."""
STEEPEST = 1.0
"""Largest |power| of prompt tokens: a prompt ten times as long gets no answer more than ten times as long."""


@dataclass(frozen=True, slots=True)
class Pricing:
    """How to price one model of the pair."""

    model: str
    base_url: str
    provider: str | None
    expected_output_tokens: int
    output_limit: int | None
    """Output token limit sent with every call; a row's own limit comes before it."""
    answer_length: AnswerLength | None = None
    """Goes before `expected_output_tokens`."""


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
    length = _length(model)

    def usage(input_factor: float, output: pl.Expr) -> pl.DataFrame:
        return scored.select(
            called_at=pl.lit(at).cast(pl.Datetime("us", "UTC")),
            input_tokens=(tokens * input_factor).ceil().cast(pl.Int64),
            cached_tokens=pl.lit(None, pl.Int64),
            cache_write_tokens=pl.lit(None, pl.Int64),
            cache_write_1h_tokens=pl.lit(None, pl.Int64),
            output_tokens=output.ceil().cast(pl.Int64),
        )

    def cost(input_factor: float, output: pl.Expr) -> pl.Series:
        costs = counterfactual(
            usage(input_factor, output), prices, model=model.model, provider=model.provider, base_url=model.base_url
        )
        return costs["cost_usd"].cast(USD)

    def at_most_limit(mean: pl.Expr) -> pl.Expr:
        return pl.min_horizontal(mean, limit.cast(pl.Float64))

    makers: dict[str, Callable[[], pl.Series | pl.Expr]] = {
        "usd": lambda: cost(1.0, at_most_limit(length)),
        "low_usd": lambda: cost(1 - TOKENIZER_SPREAD, at_most_limit(length / LENGTH_SPREAD)),
        "high_usd": lambda: cost(1 + TOKENIZER_SPREAD, at_most_limit(length * LENGTH_SPREAD)),
        "ceiling_usd": lambda: cost(1 + TOKENIZER_SPREAD, pl.coalesce(limit.cast(pl.Float64), length * CEILING_LENGTH)),
        "tokens": lambda: tokens + pl.min_horizontal(length.ceil().cast(pl.Int64), limit),
    }
    return scored.with_columns(makers[name]().alias(f"{prefix}_{name}") for name in columns)


def fit_answer_length(prompt_tokens: NDArray[np.float64], output_tokens: NDArray[np.float64]) -> AnswerLength:
    """Fit how long a model's answers are, from the lengths of their prompts.

    The power is the least-squares slope between logarithms; the scale makes the predicted lengths add up to the
    observed ones, because it is the bill that they are for.

    Args:
        prompt_tokens: Input tokens of answered queries, shape (n,), n >= 1.
        output_tokens: Output tokens of their answers, same shape.
    """
    asked = np.maximum(prompt_tokens, 1.0)
    x, y = np.log(asked), np.log(np.maximum(output_tokens, 1.0))
    spread = float(((x - x.mean()) ** 2).sum())
    power = 0.0
    if len(x) >= MIN_ANSWERS and spread > 0:
        power = float(np.clip(((x - x.mean()) * y).sum() / spread, -STEEPEST, STEEPEST))
    scale = float(output_tokens.sum() / (asked**power).sum())
    return AnswerLength(scale=scale, power=power, answers=len(x))


def _length(model: Pricing) -> pl.Expr:
    """Expected output tokens of each query, Float64, without limits."""
    length = model.answer_length
    if length is None:
        return pl.lit(float(model.expected_output_tokens))
    asked = pl.max_horizontal(pl.col("prompt_tokens").cast(pl.Float64), pl.lit(1.0))
    # Rounded, so that the last bit of a power is no token more on another machine.
    return (length.scale * asked.pow(length.power)).round(6)
