import numpy as np
import pytest

from routing.comparison import Difference, difference
from routing.errors import DataError
from routing.metrics import Floats, Samples, Statistic, average_pgr, bootstrap, cost_quality_curve, first_share, sample

# The ten rows of test_metrics: gains by falling win rate 1 0 1 0 0 | 1 0 -1 0 0.
WIN_RATES = np.array([0.95, 0.9, 0.8, 0.7, 0.65, 0.6, 0.5, 0.4, 0.2, 0.1])
STRONG = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
WEAK = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0])


def paired(
    one: Floats, two: Floats, strong: Floats, weak: Floats, statistic: Statistic, *, resamples: int, seed: int
) -> Difference:
    ahead, behind = (
        sample(rates, strong, weak, {"": statistic}, resamples=resamples, seed=seed)[""] for rates in (one, two)
    )
    return difference(ahead, behind)


def test_the_value_is_the_difference_of_the_ten_rows_by_hand() -> None:
    # PGR of the order: 0 .5 .5 1 1 1 1.5 1.5 1 1 1, APGR 0.95. Of the reverse, by symmetry, 1 - 0.95.
    found = paired(WIN_RATES, -WIN_RATES, STRONG, WEAK, average_pgr, resamples=200, seed=0)
    assert found.value == pytest.approx(0.95 - 0.05)
    assert found.low < found.value < found.high


def test_pairs_share_their_resamples() -> None:
    rng = np.random.default_rng(3)
    strong, weak = rng.random(40), rng.random(40) * 0.4
    one, two = rng.random(40), rng.integers(0, 5, 40) / 5
    statistic = first_share(0.5)
    found = paired(one, two, strong, weak, statistic, resamples=150, seed=7)
    drawn = np.random.default_rng(7).integers(0, 40, size=(150, 40))
    each = [
        cost_quality_curve(one[rows], strong[rows], weak[rows]).cpt(0.5)
        - cost_quality_curve(two[rows], strong[rows], weak[rows]).cpt(0.5)
        for rows in drawn
    ]
    assert [found.low, found.high] == pytest.approx(np.quantile(each, [0.025, 0.975]))
    below, above = np.mean(np.array(each) <= 1e-12), np.mean(np.array(each) >= -1e-12)
    assert found.p == pytest.approx(min(1.0, 2 * min(below, above)))


def test_resamples_are_those_of_the_bootstrap() -> None:
    samples = sample(WIN_RATES, STRONG, WEAK, {"apgr": average_pgr}, resamples=300, seed=11)["apgr"]
    alone = bootstrap(WIN_RATES, STRONG, WEAK, average_pgr, resamples=300, seed=11)
    kept = samples.draws[~np.isnan(samples.draws)]
    assert 0 < len(kept) < 300  # ten rows: some resamples have no better strong model, and keep their place as NaN
    assert [alone.low, alone.high] == np.quantile(kept, [0.025, 0.975]).tolist()
    assert difference(samples, Samples(0.0, np.zeros(300))).low == alone.low


def test_p_counts_the_smaller_side_twice() -> None:
    zero = Samples(0.0, np.zeros(8))
    assert difference(Samples(1.0, np.array([-1.0, 1, 1, 1, 1, 1, 1, np.nan])), zero).p == pytest.approx(2 / 7)
    assert difference(Samples(1.0, np.ones(8)), zero).p == 0.0
    assert difference(zero, zero).p == 1.0


def test_what_cannot_be_paired_says_so() -> None:
    with pytest.raises(DataError, match="same resamples, got 3 and 2"):
        difference(Samples(0.0, np.zeros(3)), Samples(0.0, np.zeros(2)))
    with pytest.raises(DataError, match="better in no resample"):
        difference(Samples(0.0, np.full(3, np.nan)), Samples(0.0, np.zeros(3)))
