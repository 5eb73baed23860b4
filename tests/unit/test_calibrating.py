import numpy as np
import pytest

from routing.calibrating import (
    IsotonicMap,
    Method,
    Platt,
    PlattMap,
    cross_fitted,
    fit,
    fit_platt,
    fitness,
)
from routing.errors import DataError
from routing.metrics import Floats, cost_quality_curve
from routing.reliability import outcomes


def labelled(n: int, *, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Win rates that are too timid: the strong model wins with 2 (win_rate - 1/4)."""
    rng = np.random.default_rng(seed)
    rates = rng.uniform(0.3, 0.7, n).round(6)
    wins = (rng.random(n) < 2.0 * (rates - 0.25)).astype(np.float64)
    return rates, wins, 1.0 - wins


# ---- Platt ----------------------------------------------------------------------------------------------------------


def test_platt_recovers_the_chance_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    gap = rng.normal(0.2, 0.1, 40_000)
    truth = Platt(slope=6.0, intercept=-0.5)
    wins = (rng.random(40_000) < truth.apply(gap)).astype(float)
    found = fit_platt(gap, wins, 1.0 - wins)
    assert found.slope == pytest.approx(6.0, abs=0.25)
    assert found.intercept == pytest.approx(-0.5, abs=0.1)


def test_a_tie_is_half_a_win() -> None:
    rng = np.random.default_rng(1)
    gap = rng.normal(0.0, 1.0, 1_000)
    strong = (gap + rng.normal(0.0, 2.0, 1_000) > 0).astype(float)
    found = fit_platt(gap, strong, np.zeros(1_000))
    # Newton ends where the mean win rate is the mean label: wins count 1, ties one half.
    assert found.apply(gap).mean() == pytest.approx((strong.mean() + 1) / 2)


def test_platt_of_slope_one_changes_nothing() -> None:
    rates = np.array([0.001, 0.25, 0.5, 0.875])
    assert PlattMap(Platt(1.0, 0.0)).apply(rates) == pytest.approx(rates, abs=1e-12)


def test_a_steep_sigmoid_does_not_overflow() -> None:
    assert Platt(1e6, 0.0).apply(np.array([-1.0, 0.0, 1.0])).tolist() == pytest.approx([0.0, 0.5, 1.0])


# ---- isotonic -------------------------------------------------------------------------------------------------------


def test_isotonic_runs_through_the_centres_of_its_steps() -> None:
    # Four groups of four; the two in the middle fall, so they become one step.
    rates = np.repeat([0.2, 0.4, 0.6, 0.8], 4)
    won = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1, 1], np.float64)
    found = fit(rates, won, 1.0 - won, "isotonic")
    assert isinstance(found, IsotonicMap)
    assert found.knots == pytest.approx([0.0, 0.2, 0.5, 0.8, 1.0])
    # Steps .25, (.75 + .25) / 2, and 1, which sixteen labels cannot prove: 1 - .5/16.
    assert found.values == pytest.approx([0.0, 0.25, 0.5, 0.96875, 1.0])
    assert found.apply(np.array([0.1, 0.35, 0.9])) == pytest.approx([0.125, 0.375, 0.984375])


@pytest.mark.parametrize("chance", [0.7, 0.48, 0.4])
def test_a_router_that_is_too_sure_is_told_so(chance: float) -> None:
    """Three in ten win rates are 1; where they win no more often than those below them, they share their step."""
    rng = np.random.default_rng(0)
    rates = np.where(rng.random(4_000) < 0.3, 1.0, rng.uniform(0.2, 0.8, 4_000)).round(6)
    won = (rng.random(4_000) < np.where(rates == 1.0, chance, 0.6 * rates)).astype(np.float64)
    found = fit(rates, won, 1.0 - won, "isotonic")
    (sure,) = found.apply(np.array([1.0]))
    assert sure == pytest.approx(won[rates == 1.0].mean(), abs=0.03)
    assert fitness(found.apply(rates), won, 1.0 - won).ece < 0.03
    turned = fit(1.0 - rates, 1.0 - won, won, "isotonic")
    assert turned.apply(np.array([0.0])) == pytest.approx(1.0 - sure, abs=0.005)
    assert found.apply(np.array([0.0])) == [0.0]


def test_steps_that_are_cut_to_one_height_are_one() -> None:
    # Means of 0, 1/32, 1/2 and 1; sixteen labels can show 1/32 at least, so the first two are alike.
    rates = np.repeat([0.2, 0.4, 0.6, 0.8], 4)
    outcome = np.array([0, 0, 0, 0, 0, 0, 0, 0.125, *[0.5] * 4, *[1] * 4])
    found = fit(rates, (2 * outcome - 1).clip(0), (1 - 2 * outcome).clip(0), "isotonic")
    assert isinstance(found, IsotonicMap)
    assert found.knots == pytest.approx([0.0, 0.3, 0.6, 0.8, 1.0])
    assert found.values == pytest.approx([0.0, 1 / 32, 0.5, 31 / 32, 1.0])


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_calibration_makes_win_rates_mean_what_they_say_on_new_prompts(method: Method) -> None:
    rates, strong, weak = labelled(4_000)
    new = labelled(20_000, seed=1)
    before, after = fitness(*new), fitness(fit(rates, strong, weak, method).apply(new[0]), *new[1:])
    assert before.ece > 0.09
    assert after.ece < 0.03
    assert after.log_loss < before.log_loss


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_cross_fitting_never_shows_a_row_to_its_own_map(method: Method) -> None:
    rates, strong, weak = labelled(500)
    crossed = cross_fitted(rates, strong, weak, method, seed=3)
    changed = strong.copy()
    changed[0] = 1.0 - changed[0]
    again = cross_fitted(rates, changed, 1.0 - changed, method, seed=3)
    fold = np.random.default_rng(3).permutation(500) % 5
    assert np.array_equal(crossed[fold == fold[0]], again[fold == fold[0]])
    assert not np.array_equal(crossed[fold != fold[0]], again[fold != fold[0]])


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_calibration_leaves_every_split_by_rank_as_it_was(method: Method) -> None:
    rates, strong, weak = labelled(1_000)
    found = fit(rates, strong, weak, method).apply(rates)
    assert cost_quality_curve(found, strong, weak).apgr == cost_quality_curve(rates, strong, weak).apgr


# ---- what cannot be calibrated --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_router_that_ranks_backwards_is_refused(method: Method) -> None:
    rates = np.linspace(0.1, 0.9, 100)
    with pytest.raises(DataError, match=r"a higher prediction goes with a smaller gap in truth.*must not be used"):
        fit(rates, (rates < 0.5).astype(float), np.full(100, 0.5), method)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_router_that_says_one_thing_is_refused(method: Method) -> None:
    with pytest.raises(DataError, match="the router says the same of all 100 labelled prompts"):
        fit(np.full(100, 0.25), np.linspace(0, 1, 100), np.zeros(100), method)


@pytest.mark.parametrize("won", [[0, 0, 1, 1], [0, 0.5, 0.5, 1], [1, 1, 1, 1], [0, 0, 0, 0.5]])
def test_labels_that_are_separated_have_no_sigmoid(won: list[float]) -> None:
    outcome = np.repeat(won, 10)
    with pytest.raises(DataError, match=r"separates the 40 labelled prompts .*no sigmoid is steep enough"):
        fit(np.repeat([0.1, 0.5, 0.5, 0.9], 10), outcome, 1.0 - outcome, "platt")


def test_too_few_labels_to_check_on_are_refused() -> None:
    with pytest.raises(DataError, match="checked in 5 folds, got 9 labels, expected 10 or more"):
        cross_fitted(*labelled(9), "platt", seed=0)


def test_outcomes_of_grades() -> None:
    assert outcomes(np.array([1.0, 0.5, 0.2]), np.array([0.0, 0.5, 0.9])) == pytest.approx([1.0, 0.5, 0.15])
