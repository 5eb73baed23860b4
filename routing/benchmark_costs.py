"""What the answers of a benchmark cost: tokens from its responses, dollars from tokens and dated prices."""

from collections.abc import Callable, Sequence
from datetime import datetime

import dataframely as dy
import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.benchmarks import SIDES
from routing.pricing import counterfactual
from routing.score import TOKENS_PER_MESSAGE, TOKENS_PER_REPLY
from schemas.benchmarks import Benchmark
from schemas.billing import USD


def with_tokens(rows: pl.DataFrame, count: Callable[[Sequence[str]], NDArray[np.int64]]) -> dy.DataFrame[Benchmark]:
    """BENCHMARK -> BENCHMARK: count the tokens of prompts and responses where responses are known and tokens are not.

    Input is the prompt with the framing of one chat message; what else was sent (few-shot examples, a system message)
    is not in the table and not counted.

    Args:
        rows: BENCHMARK.
        count: Tokens of texts, shape (n,).
    """
    columns: dict[str, pl.Expr | pl.Series] = {}
    for side in SIDES:
        known = rows[f"{side}_response"].is_not_null()
        if not known.any():
            continue
        texts = {f"{side}_input_tokens": "prompt", f"{side}_output_tokens": f"{side}_response"}
        for column, text in texts.items():
            framing = TOKENS_PER_MESSAGE + TOKENS_PER_REPLY if text == "prompt" else 0
            counted = pl.Series(count(rows[text].fill_null("").to_list()), dtype=pl.Int64) + framing
            columns[column] = pl.coalesce(pl.col(column), pl.when(known).then(counted))
    return Benchmark.validate(rows.with_columns(**columns))


def with_costs(
    rows: pl.DataFrame, prices: pl.DataFrame, *, strong: str, weak: str, at: datetime
) -> tuple[dy.DataFrame[Benchmark], dict[str, str]]:
    """BENCHMARK -> BENCHMARK with dollars where tokens and a price are known, and why there is none per side.

    Dollars that the table states itself stay.

    Args:
        rows: BENCHMARK.
        prices: See `routing.prices.price_snapshot`.
        strong: The strong model, as prices name it.
        weak: The weak one.
        at: Moment whose prices hold.
    """
    reasons = {}
    for side, model in zip(SIDES, (strong, weak), strict=True):
        usage = rows.select(
            called_at=pl.lit(at).cast(pl.Datetime("us", "UTC")),
            input_tokens=f"{side}_input_tokens",
            cached_tokens=pl.lit(None, pl.Int64),
            cache_write_tokens=pl.lit(None, pl.Int64),
            cache_write_1h_tokens=pl.lit(None, pl.Int64),
            output_tokens=f"{side}_output_tokens",
        )
        costs = counterfactual(usage, prices, model=model)
        usd = pl.coalesce(pl.col(f"{side}_usd"), costs["cost_usd"].cast(USD))
        unknown = rows[f"{side}_usd"].is_null() & costs["cost_usd"].is_null()
        if unknown.any():
            why = ", ".join(sorted(costs.filter(unknown)["unpriced_reason"].unique()))
            reasons[side] = f"{why} ({int(unknown.sum()):,} of {len(rows):,} prompts)"
        rows = rows.with_columns(usd.alias(f"{side}_usd"))
    return Benchmark.validate(rows), reasons
