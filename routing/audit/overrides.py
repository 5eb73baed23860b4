"""Overrides of prices that priced nothing: a name that is mistyped, or lacks its date, does so without a word."""

from collections.abc import Collection

import polars as pl

from routing.prices import OVERRIDE

SHOWN = 3
"""Names that a sentence lists."""


def unused_overrides(daily: pl.DataFrame, prices: pl.DataFrame, *, besides: Collection[str] = ()) -> list[str]:
    """DAILY x PRICES -> a sentence for each model whose overrides priced no call, in order of PRICES.

    Overrides of one model count as one: that the price of last year priced nothing is no mistake.

    Args:
        daily: DAILY.
        prices: The PRICES that the calls were priced with.
        besides: Models whose overrides are there for something else (a what-if).
    """
    used = daily["price_id"].drop_nulls().unique()
    overrides = (
        prices.filter(source=OVERRIDE)
        .group_by("provider", "model", maintain_order=True)
        .agg(used=pl.col("price_id").is_in(used.implode()).any())
        .filter(~pl.col("used") & ~pl.col("model").is_in(list(besides)))
    )
    logged = daily["model"].drop_nulls().unique().sort().to_list()
    return [
        f"[[prices]] of {model!r}{f' at {provider!r}' if provider else ''} priced no call: {_why(model, logged)}"
        for provider, model, _ in overrides.iter_rows()
    ]


def _why(model: str, logged: list[str]) -> str:
    if model in logged:
        return "the log has this model, so look at provider, valid_from and valid_to."
    like = [name for name in logged if model.lower() in name.lower() or name.lower() in model.lower()]
    if not like:
        return "the log has no such model."
    names = ", ".join(repr(name) for name in like[:SHOWN]) + (", ..." if len(like) > SHOWN else "")
    return f"it holds for exactly this name, and the log has {names}."
