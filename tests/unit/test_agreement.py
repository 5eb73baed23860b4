import numpy as np
import pytest

from routing.agreement import histogram, same_side, side, spearman, split_table, strong_side
from routing.errors import ConfigError, DataError

A = np.array([0.9, 0.7, 0.5, 0.3, 0.1])


def test_spearman_by_hand() -> None:
    # Ranks 5 4 3 2 1 against 4 5 3 1 2: squared differences 1 1 0 1 1, so 1 - 6 * 4 / (5 * 24).
    assert spearman(A, np.array([0.6, 0.8, 0.4, 0.0, 0.2])) == pytest.approx(1 - 24 / 120)
    assert spearman(A, A**3) == pytest.approx(1)
    assert spearman(A, -A) == pytest.approx(-1)
    # A tie has its middle rank: ranks 1 2.5 2.5 4 against 1 2 3 4, covariance 4.5, variances 4.5 and 5.
    assert spearman(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 3, 4])) == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_a_constant_router_has_no_correlation() -> None:
    assert spearman(A, np.full(5, 0.4)) is None
    assert spearman(A[:1], A[:1]) is None


def test_same_side_by_hand() -> None:
    other = np.array([0.6, 0.1, 0.8, 0.2, 0.3])
    # At 0.4 two go strong: rows 0 1 against rows 2 0, so rows 0, 3 and 4 agree.
    assert same_side(A, other, 0.4) == pytest.approx(3 / 5)
    # Half of five is two and a half, and rounds up: rows 0 1 2 against rows 2 0 4; rows 0, 2 and 3 agree.
    assert same_side(A, other, 0.5) == pytest.approx(3 / 5)
    assert same_side(A, other, 0.0) == same_side(A, other, 1.0) == 1.0


def test_ties_are_cut_by_a_key_of_the_row() -> None:
    tied = np.full(5, 0.5)
    split, strong = strong_side(tied, 0.4)
    keys = split_table(tied)["tie_key"].to_numpy()
    assert strong.tolist() == [key in sorted(keys)[:2] for key in keys]
    assert (split.alpha, split.tie_key_max, split.n_strong) == (0.5, sorted(keys)[1], 2)
    # Two constant routers cut the same rows.
    assert same_side(tied, tied * 0.5, 0.4) == 1.0


def test_a_split_found_on_one_table_cuts_another() -> None:
    split, _ = strong_side(A, 0.4)
    assert side(split_table(np.array([0.71, 0.7, 0.69])), split).tolist() == [True, True, False]


def test_what_cannot_be_compared_says_so() -> None:
    with pytest.raises(DataError, match="same prompts"):
        spearman(A, A[:4])
    with pytest.raises(DataError, match="same prompts"):
        same_side(A[:0], A[:0], 0.5)
    with pytest.raises(ConfigError, match="not percent"):
        same_side(A, A, 50.0)


def test_the_histogram_counts_every_row_once() -> None:
    # A bin holds its left edge, the last one both.
    edges, counts = histogram(np.array([0.0, 0.25, 0.3, 0.75, 1.0]), bins=4)
    assert edges == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert counts == [1, 2, 0, 2]
    edges, counts = histogram(np.full(7, 0.4))
    assert (len(edges), len(counts), sum(counts)) == (41, 40, 7)
    with pytest.raises(DataError, match="no win rates"):
        histogram(A[:0])
