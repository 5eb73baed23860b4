from itertools import combinations, pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bradley_terry import Floats, ratings, strengths, tiers

WINS = st.integers(2, 6).flatmap(
    lambda n: st.lists(st.floats(0.01, 100.0), min_size=n * n, max_size=n * n).map(
        lambda cells: np.array(cells).reshape(n, n) * (1 - np.eye(n))
    )
)
VALUES = st.lists(st.integers(-500, 500).map(float), min_size=1, max_size=9)


def frame(wins: Floats) -> pl.DataFrame:
    a, b = np.nonzero(wins)
    names = np.array([f"m{i}" for i in range(len(wins))])
    return pl.DataFrame({"model_a": names[a], "model_b": names[b], "winner": "model_a", "weight": wins[a, b]})


@given(WINS)
def test_every_model_wins_as_often_as_its_strength_says(wins: Floats) -> None:
    """The likelihood equations: observed wins are expected wins, model by model."""
    found = strengths(wins)
    expected = (wins + wins.T) / (1 + np.exp(found[None, :] - found[:, None]))
    assert (expected - np.diag(np.diag(expected))).sum(axis=1) == pytest.approx(wins.sum(axis=1), rel=1e-6)


@given(WINS, st.randoms(use_true_random=False))
def test_neither_order_nor_side_matters(wins: Floats, random: object) -> None:
    battles = frame(wins)
    swapped = battles.select(model_a="model_b", model_b="model_a", winner=pl.lit("model_b"), weight="weight").reverse()
    one, other = (ratings(rows).sort("model")["rating"].to_numpy() for rows in (battles, swapped))
    assert one == pytest.approx(other, abs=1e-6)


@given(VALUES, st.integers(1, 4))
def test_no_split_of_the_sorted_ratings_is_better(values: list[float], n_tiers: int) -> None:
    n_tiers = min(n_tiers, len(values))
    table = pl.DataFrame({"model": [f"m{i}" for i in range(len(values))], "rating": values})
    found = table.join(tiers(table, n_tiers), on="model")
    assert sorted(found["tier"].unique()) == list(range(n_tiers))
    ordered = found.sort("tier", pl.col("rating"), descending=[False, True])["rating"].to_list()
    assert ordered == sorted(values, reverse=True)
    got = found.group_by("tier").agg(pl.col("rating").var(ddof=0))["rating"].sum()
    cuts = combinations(range(1, len(values)), n_tiers - 1)
    best = min(sum(np.var(ordered[a:b]) for a, b in pairwise((0, *cut, len(values)))) for cut in cuts)
    assert got == pytest.approx(best, abs=1e-6)
