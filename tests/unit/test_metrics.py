import numpy as np
import pytest

from routing import metrics
from routing.errors import DataError
from routing.metrics import (
    Floats,
    Samples,
    average_pgr,
    bootstrap,
    bootstrap_many,
    cost_quality_curve,
    first_share,
    has_gap,
    interval,
    random_many,
    random_router,
    sample,
)

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


def test_cpt_is_not_missed_by_rounding() -> None:
    # Gains 0 1 1 on a weak score of 1 0 0: at two of three rows half of the gap is recovered, as .49999999999999994.
    curve = cost_quality_curve(np.array([0.9, 0.8, 0.7]), np.ones(3), np.array([1.0, 0.0, 0.0]))
    assert curve.pgr[2] < 0.5
    assert curve.cpt(0.5) == pytest.approx(2 / 3)
    # A third of 300 tenths: what many such sums are off by is more than one last digit.
    tenths = np.tile([0.1, 0.2, 0.3, -0.3], 300)
    rising = cost_quality_curve(np.arange(1_200.0), tenths.clip(0), (-tenths).clip(0))
    assert rising.cpt(0.5) == pytest.approx(rising.strong_share[np.argmax(rising.pgr > 0.5 - 1e-6)])


def test_a_gap_is_more_than_rounding() -> None:
    tenths = np.array([0.1, 0.2, -0.3] * 3)
    assert tenths.sum() > 0
    assert not has_gap(tenths)
    assert not has_gap(np.zeros(5))
    assert not has_gap(-np.ones(5))
    assert has_gap(np.array([1.0, -0.999]))


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


def test_a_gap_of_rounding_is_no_gap() -> None:
    # Eight grades in tenths: 0.1 + 0.2 - 0.3 is 5.6e-17 in binary, and dividing by it would make PGRs of 1e15.
    strong, weak = np.array([0.1, 0.2, 0.0] * 3), np.array([0.0, 0.0, 0.3] * 3)
    assert (strong - weak).sum() > 0
    with pytest.raises(DataError, match="swap the pair"):
        cost_quality_curve(np.arange(9.0), strong, weak)
    strong = np.append(strong, 0.2)
    weak = np.append(weak, 0.0)
    found = bootstrap(np.arange(10.0), strong, weak, average_pgr, resamples=2_000, seed=0)
    assert -20 < found.low < found.high < 20
    samples = sample(np.arange(10.0), strong, weak, {"": average_pgr}, resamples=2_000, seed=0)[""].draws
    assert np.nanmax(np.abs(samples)) < 100


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


STATISTICS = {"apgr": average_pgr, "cpt20": first_share(0.2), "cpt80": first_share(0.8)}
AREA = {"auc": average_pgr}


def test_one_pass_gives_every_statistic_as_its_own_pass_does() -> None:
    rng = np.random.default_rng(6)
    strong, weak, win_rates = rng.random(300), rng.random(300) * 0.7, rng.integers(0, 40, 300) / 40
    many = bootstrap_many(win_rates, strong, weak, STATISTICS, on_quality=AREA, resamples=150, seed=2)
    chance = random_many(strong, weak, STATISTICS, on_quality=AREA, routers=150, seed=2)
    assert list(many) == list(chance) == [*STATISTICS, *AREA]
    for name, statistic in STATISTICS.items():
        assert many[name] == bootstrap(win_rates, strong, weak, statistic, resamples=150, seed=2)
        assert chance[name] == random_router(strong, weak, statistic, routers=150, seed=2)


def test_the_area_under_quality_is_resampled_with_both_models() -> None:
    rng = np.random.default_rng(8)
    strong, weak, win_rates = rng.random(50), rng.random(50) * 0.5, rng.random(50)
    found = bootstrap_many(win_rates, strong, weak, {}, on_quality=AREA, resamples=120, seed=4)["auc"]
    drawn = np.random.default_rng(4).integers(0, 50, size=(120, 50))
    curves = [cost_quality_curve(win_rates[rows], strong[rows], weak[rows]) for rows in drawn]
    areas = [np.trapezoid(curve.quality, curve.strong_share) for curve in curves]
    assert [found.low, found.high] == pytest.approx(np.quantile(areas, [0.025, 0.975]))


def test_chunks_bound_the_memory_and_not_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    strong, weak, win_rates = rng.random(101), rng.random(101) * 0.7, rng.integers(0, 40, 101) / 40
    whole = bootstrap_many(win_rates, strong, weak, STATISTICS, resamples=50, seed=2)
    chance = random_many(strong, weak, STATISTICS, routers=50, seed=2)
    monkeypatch.setattr(metrics, "_CHUNK_CELLS", 7 * 101)
    assert bootstrap_many(win_rates, strong, weak, STATISTICS, resamples=50, seed=2) == whole
    assert random_many(strong, weak, STATISTICS, routers=50, seed=2) == chance


def test_resamples_without_a_pgr_are_left_out_of_an_interval() -> None:
    found = interval(Samples(0.5, np.array([np.nan, 0.0, 1.0, np.nan])))
    assert [found.value, found.low, found.high] == pytest.approx([0.5, 0.025, 0.975])
    with pytest.raises(DataError, match="better in no resample"):
        interval(Samples(0.5, np.full(3, np.nan)))
