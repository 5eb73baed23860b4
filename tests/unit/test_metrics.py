import numpy as np
import pytest

from routing.errors import DataError
from routing.metrics import Floats, average_pgr, bootstrap, cost_quality_curve, first_share, random_router

# Ten queries by falling win rate. Gains (strong - weak): 1 0 1 0 0 | 1 0 -1 0 0, so the gap is 2 of 10.
WIN_RATES = np.array([0.95, 0.9, 0.8, 0.7, 0.65, 0.6, 0.5, 0.4, 0.2, 0.1])
STRONG = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
WEAK = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0])


def test_ten_rows_by_hand() -> None:
    curve = cost_quality_curve(WIN_RATES, STRONG, WEAK)
    assert curve.strong_share == pytest.approx(np.arange(11) / 10)
    # The weak model scores 5 of 10; each strong answer adds its gain.
    assert curve.quality == pytest.approx([0.5, 0.6, 0.6, 0.7, 0.7, 0.7, 0.8, 0.8, 0.7, 0.7, 0.7])
    # Divided by the gap of 0.2.
    assert curve.pgr == pytest.approx([0, 0.5, 0.5, 1, 1, 1, 1.5, 1.5, 1, 1, 1])
    # Trapezoids of width 0.1: the ends count half.
    assert curve.apgr == pytest.approx(0.1 * (0.5 * 0 + 0.5 + 0.5 + 1 + 1 + 1 + 1.5 + 1.5 + 1 + 1 + 0.5 * 1))
    assert curve.cpt(0.0) == 0.0
    assert curve.cpt(0.5) == pytest.approx(0.1)
    assert curve.cpt(0.8) == pytest.approx(0.3)
    assert curve.cpt(1.0) == pytest.approx(0.3)


def test_equal_win_rates_are_one_step() -> None:
    tied = np.where(WIN_RATES > 0.62, 0.9, WIN_RATES)
    curve = cost_quality_curve(tied, STRONG, WEAK)
    assert curve.strong_share == pytest.approx([0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert curve.pgr[:3] == pytest.approx([0, 1, 1.5])
    # No alpha splits the five tied queries, so a PGR of one half costs all of them.
    assert curve.cpt(0.5) == pytest.approx(0.5)


def test_cpt_is_the_first_share_on_a_curve_that_falls_again() -> None:
    gains = np.array([1.0, -1.0, 0.0, 1.0])
    curve = cost_quality_curve(np.array([4.0, 3.0, 2.0, 1.0]), gains.clip(0), (-gains).clip(0))
    assert curve.pgr == pytest.approx([0, 1, 0, 0, 1])
    assert curve.cpt(0.9) == pytest.approx(0.25)


@pytest.mark.parametrize("pgr", [-0.1, 1.1, 80.0])
def test_cpt_wants_a_share(pgr: float) -> None:
    with pytest.raises(ValueError, match=r"CPT needs a PGR in \[0, 1\]"):
        cost_quality_curve(WIN_RATES, STRONG, WEAK).cpt(pgr)


@pytest.mark.parametrize(
    ("win_rates", "strong", "weak", "message"),
    [
        (WIN_RATES[:9], STRONG, WEAK, "one length"),
        (WIN_RATES[:0], STRONG[:0], WEAK[:0], "no rows"),
        (np.where(WIN_RATES > 0.9, np.nan, WIN_RATES), STRONG, WEAK, "finite"),
        (WIN_RATES, WEAK, STRONG, "swap the pair"),
        (WIN_RATES, STRONG, STRONG, "swap the pair"),
    ],
)
def test_what_cannot_be_measured_says_so(win_rates: Floats, strong: Floats, weak: Floats, message: str) -> None:
    with pytest.raises(DataError, match=message):
        cost_quality_curve(win_rates, strong, weak)


def test_the_bootstrap_is_seeded_and_surrounds_the_value() -> None:
    rng = np.random.default_rng(1)
    strong, weak = (rng.random(400) < 0.8).astype(float), (rng.random(400) < 0.6).astype(float)
    win_rates = np.round(0.5 + 0.2 * (strong - weak) + rng.normal(0, 0.3, 400), 2)
    first = bootstrap(win_rates, strong, weak, average_pgr, resamples=300, seed=3)
    assert first == bootstrap(win_rates, strong, weak, average_pgr, resamples=300, seed=3)
    assert first != bootstrap(win_rates, strong, weak, average_pgr, resamples=300, seed=4)
    assert first.low < first.value < first.high
    assert first.value == cost_quality_curve(win_rates, strong, weak).apgr


def test_the_bootstrap_agrees_with_one_curve_per_resample() -> None:
    rng = np.random.default_rng(5)
    strong, weak = rng.random(30), rng.random(30) * 0.5
    win_rates = rng.integers(0, 8, 30) / 8
    statistic = first_share(0.5)
    interval = bootstrap(win_rates, strong, weak, statistic, resamples=200, seed=9)
    drawn = np.random.default_rng(9).integers(0, 30, size=(200, 30))
    curves = [cost_quality_curve(win_rates[rows], strong[rows], weak[rows]) for rows in drawn]
    assert [interval.low, interval.high] == pytest.approx(np.quantile([c.cpt(0.5) for c in curves], [0.025, 0.975]))


def test_random_routers_scatter_around_one_half() -> None:
    rng = np.random.default_rng(2)
    strong, weak = (rng.random(2_000) < 0.8).astype(float), (rng.random(2_000) < 0.6).astype(float)
    chance = random_router(strong, weak, average_pgr, routers=400, seed=0)
    assert chance.value == pytest.approx(0.5, abs=0.01)
    assert chance.low < 0.5 < chance.high
