import numpy as np
import pytest

from routing.errors import DataError
from routing.training.calibration import Calibration, calibrate


def test_calibration_recovers_the_chance_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    gap = rng.normal(0.2, 0.1, 40_000)
    truth = Calibration(slope=6.0, intercept=-0.5)
    wins = (rng.random(40_000) < truth.apply(gap)).astype(float)
    found = calibrate(gap, wins, 1.0 - wins)
    assert found.slope == pytest.approx(6.0, abs=0.25)
    assert found.intercept == pytest.approx(-0.5, abs=0.1)


def test_a_tie_is_half_a_win() -> None:
    rng = np.random.default_rng(1)
    gap = rng.normal(0.0, 1.0, 1_000)
    strong = (gap + rng.normal(0.0, 2.0, 1_000) > 0).astype(float)
    found = calibrate(gap, strong, np.zeros(1_000))
    # Newton ends where the mean win rate is the mean label: wins count 1, ties one half.
    assert found.apply(gap).mean() == pytest.approx((strong.mean() + 1) / 2)


def test_a_router_that_ranks_backwards_is_refused() -> None:
    gap = np.linspace(0, 1, 100)
    with pytest.raises(DataError, match="must not be shipped"):
        calibrate(gap, (gap < 0.5).astype(float), np.zeros(100))
    with pytest.raises(DataError, match="nothing to calibrate"):
        calibrate(np.full(100, 0.25), gap, np.zeros(100))
