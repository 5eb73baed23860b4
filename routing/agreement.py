"""How alike two routers are, and how a router's win rates spread."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.errors import DataError
from routing.metrics import Floats
from routing.score import stable_hash
from routing.split import by_strong_share, is_strong
from schemas.run import Split


def spearman(a: Floats, b: Floats) -> float | None:
    """Return the rank correlation of two routers on the same prompts, ties at their middle rank.

    Args:
        a: Win rates, shape (n,).
        b: Win rates of the other router, same shape.

    Returns:
        None where a router gives all prompts one win rate, or there are fewer than two prompts.

    Raises:
        DataError: different lengths.
    """
    _check(a, b)
    if len(a) < 2 or (a == a[0]).all() or (b == b[0]).all():
        return None
    ranks = np.stack([pl.Series(rates).rank("average").to_numpy() for rates in (a, b)])
    return float(np.corrcoef(ranks)[0, 1])


def same_side(a: Floats, b: Floats, share: float) -> float:
    """Return the share of prompts that both routers send to the same model.

    Args:
        a: Win rates, shape (n,).
        b: Win rates of the other router, same shape.
        share: Strong share of each router; `routing.split` rounds it and cuts its ties.

    Raises:
        DataError: no rows or different lengths.
        ConfigError: the share is outside [0, 1].
    """
    _check(a, b)
    one, two = (strong_side(rates, share)[1] for rates in (a, b))
    return float((one == two).mean())


def strong_side(win_rates: Floats, share: float) -> tuple[Split, NDArray[np.bool_]]:
    """Return the split of a table at a strong share, and which of its prompts go strong, shape (n,)."""
    table = split_table(win_rates)
    split = by_strong_share(table, share)
    return split, side(table, split)


def split_table(win_rates: Floats) -> pl.DataFrame:
    """Return the columns that `routing.split` reads: win_rate, tie_key (hashes of the row numbers)."""
    rates = pl.Series("win_rate", win_rates, dtype=pl.Float64)
    rows = pl.DataFrame([rates]).with_row_index("row").with_columns(pl.col("row").cast(pl.String))
    return rows.select("win_rate", tie_key=stable_hash("row"))


def side(table: pl.DataFrame, split: Split) -> NDArray[np.bool_]:
    """Return which rows of a table with win_rate and tie_key a split sends to the strong model, shape (n,)."""
    return table.select(is_strong(split)).to_series().to_numpy()


def histogram(win_rates: Floats, bins: int = 40) -> tuple[list[float], list[int]]:
    """Return edges (bins + 1, rising) and counts of win rates, from their lowest to their highest value.

    Raises:
        DataError: no rows.
    """
    if not len(win_rates):
        raise DataError("no win rates to count; check the filters of the evaluation table")
    counts, edges = np.histogram(win_rates, bins=bins)
    return edges.tolist(), counts.tolist()


def _check(a: Floats, b: Floats) -> None:
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise DataError(
            f"two routers must be compared on the same prompts, got win rates of shapes {a.shape}, {b.shape}"
        )
