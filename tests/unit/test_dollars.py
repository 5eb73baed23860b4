import numpy as np
import pytest

from routing.dollars import dollar_curve, paired_dollars, pgr_within, sample_dollars
from routing.errors import DataError
from routing.metrics import Floats, average_pgr, first_share, interval

# Ten queries by falling win rate. Gains (strong - weak): 1 0 1 0 0 | 1 0 -1 0 0, so the gap is 2 of 10.
WIN_RATES = np.array([0.95, 0.9, 0.8, 0.7, 0.65, 0.6, 0.5, 0.4, 0.2, 0.1])
STRONG = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
WEAK = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
# Extra cost of a strong call: 4 1 1 1 1 | 1 1 4 1 5, together 20.
WEAK_USD = np.full(10, 0.5)
STRONG_USD = WEAK_USD + np.array([4.0, 1, 1, 1, 1, 1, 1, 4, 1, 5])


def test_ten_rows_by_hand() -> None:
    curve = dollar_curve(WIN_RATES, STRONG, WEAK, STRONG_USD, WEAK_USD)
    assert curve.usd == pytest.approx([5, 9, 10, 11, 12, 13, 14, 15, 19, 20, 25])
    assert curve.usd_share == pytest.approx([0, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.7, 0.75, 1])
    assert curve.strong_share == pytest.approx(np.arange(11) / 10)
    assert curve.pgr == pytest.approx([0, 0.5, 0.5, 1, 1, 1, 1.5, 1.5, 1, 1, 1])
    # Trapezoids: width * mean of both ends.
    areas = [0.2 * 0.25, 0.05 * 0.5, 0.05 * 0.75, 0.05, 0.05, 0.05 * 1.25, 0.05 * 1.5, 0.2 * 1.25, 0.05, 0.25]
    assert curve.apgr == pytest.approx(sum(areas))
    cpt = first_share(0.5)(curve.usd_share, curve.pgr)
    assert cpt == pytest.approx(0.2)


def test_the_cheap_gains_first_do_better() -> None:
    # The row that costs 4 for its gain of 1 goes last of the three that gain.
    cheap = np.where(WIN_RATES == 0.95, 0.55, WIN_RATES)
    plain, better = (dollar_curve(order, STRONG, WEAK, STRONG_USD, WEAK_USD) for order in (WIN_RATES, cheap))
    # By hand: shares 0 .05 .1 .15 .2 .25 .45 ..., PGR 0 0 .5 .5 .5 1 1.5 ...
    assert better.usd_share[:7] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.45])
    assert better.pgr[:7] == pytest.approx([0, 0, 0.5, 0.5, 0.5, 1, 1.5])
    assert better.apgr > plain.apgr


def test_pgr_within_a_budget_takes_the_last_cut_that_fits() -> None:
    curve = dollar_curve(WIN_RATES, STRONG, WEAK, STRONG_USD, WEAK_USD)
    found = [float(pgr_within(share)(curve.usd_share, curve.pgr)) for share in (0.0, 0.19, 0.2, 0.49, 0.5, 0.69, 1.0)]
    assert found == pytest.approx([0, 0, 0.5, 1.5, 1.5, 1.5, 1])
    with pytest.raises(ValueError, match="a budget is a share"):
        pgr_within(20.0)


def test_equal_keys_are_one_step() -> None:
    tied = np.where(WIN_RATES > 0.62, 0.9, WIN_RATES)
    curve = dollar_curve(tied, STRONG, WEAK, STRONG_USD, WEAK_USD)
    assert curve.usd_share[:3] == pytest.approx([0, 0.4, 0.45])
    assert curve.pgr[:3] == pytest.approx([0, 1, 1.5])


def test_the_bootstrap_agrees_with_one_curve_per_resample() -> None:
    rng = np.random.default_rng(5)
    strong, weak, weak_usd = rng.random(30), rng.random(30) * 0.5, rng.random(30)
    strong_usd = weak_usd + rng.random(30) * 9 - 0.5  # some strong calls are the cheaper ones
    order, other = rng.integers(0, 8, 30) / 8, rng.random(30)
    drawn = np.random.default_rng(9).integers(0, 30, size=(200, 30))
    curves = [
        [dollar_curve(key[r], strong[r], weak[r], strong_usd[r], weak_usd[r]).apgr for r in drawn]
        for key in (order, other)
    ]
    costs = (strong, weak, strong_usd, weak_usd)
    found = interval(sample_dollars(order, *costs, {"": average_pgr}, resamples=200, seed=9)[""])
    assert [found.low, found.high] == pytest.approx(np.quantile(curves[0], [0.025, 0.975]))
    paired = paired_dollars(order, other, *costs, average_pgr, resamples=200, seed=9)
    assert [paired.low, paired.high] == pytest.approx(np.quantile(np.subtract(curves[0], curves[1]), [0.025, 0.975]))
    assert paired.value == pytest.approx(dollar_curve(order, *costs).apgr - dollar_curve(other, *costs).apgr)


def test_several_statistics_from_one_pass() -> None:
    statistics = {"apgr": average_pgr, "cpt50": first_share(0.5), "pgr30": pgr_within(0.3)}
    costs = (STRONG, WEAK, STRONG_USD, WEAK_USD)
    together = sample_dollars(WIN_RATES, *costs, statistics, resamples=100, seed=1)
    for name, statistic in statistics.items():
        alone = sample_dollars(WIN_RATES, *costs, {name: statistic}, resamples=100, seed=1)[name]
        assert alone.value == together[name].value
        np.testing.assert_array_equal(alone.draws, together[name].draws)


@pytest.mark.parametrize(
    ("strong_usd", "weak_usd", "message"),
    [
        (STRONG_USD[:9], WEAK_USD, "one value a row"),
        (np.where(WIN_RATES > 0.9, np.nan, STRONG_USD), WEAK_USD, "costs must be finite"),
        (WEAK_USD, STRONG_USD, "strong model that is dearer"),
        (WEAK_USD, WEAK_USD, "strong model that is dearer"),
        (np.array([*[0.1, 0.2, 0.0] * 3, 0.0]), np.array([*[0.0, 0.0, 0.3] * 3, 0.0]), "strong model that is dearer"),
    ],
)
def test_what_cannot_be_measured_says_so(strong_usd: Floats, weak_usd: Floats, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dollar_curve(WIN_RATES, STRONG, WEAK, strong_usd, weak_usd)
