import numpy as np
import pytest

from routing.errors import DataError
from routing.metrics import Floats
from routing.reliability import expected_calibration_error, reliability

# Ten queries by rising win rate; outcomes are (1 + strong - weak) / 2.
WIN_RATES = np.array([0.1, 0.2, 0.4, 0.5, 0.6, 0.65, 0.7, 0.8, 0.9, 0.95])
OUTCOME = np.array([0.5, 0.5, 0.0, 0.5, 1.0, 0.5, 0.5, 1.0, 0.5, 1.0])


def test_ten_rows_by_hand() -> None:
    low, high = reliability(WIN_RATES, OUTCOME, bins=2)
    assert (low.n, high.n) == (5, 5)
    assert low.predicted == pytest.approx((0.1 + 0.2 + 0.4 + 0.5 + 0.6) / 5)
    assert low.observed == pytest.approx(2.5 / 5)
    assert high.predicted == pytest.approx((0.65 + 0.7 + 0.8 + 0.9 + 0.95) / 5)
    assert high.observed == pytest.approx(3.5 / 5)
    # |.36 - .5| and |.8 - .7|, five prompts each.
    assert expected_calibration_error([low, high]) == pytest.approx((0.14 + 0.10) / 2)


def test_the_interval_of_wins_and_losses_is_wilsons() -> None:
    # Seven of ten: Wilson's interval from tables (Newcombe 1998, method 3): .3968 to .8922.
    (one,) = reliability(np.full(10, 0.5), np.repeat([1.0, 0.0], [7, 3]))
    assert (one.low, one.high) == pytest.approx((0.3968, 0.8922), abs=5e-5)


def test_no_and_all_wins_keep_a_width() -> None:
    (lost,) = reliability(np.full(20, 0.1), np.zeros(20))
    # z^2 / (n + z^2) with z^2 = 3.8415.
    assert [lost.low, lost.high] == pytest.approx([0, 3.8415 / 23.8415], abs=1e-5)
    (won,) = reliability(np.full(20, 0.9), np.ones(20))
    assert [won.low, won.high] == pytest.approx([20 / 23.8415, 1], abs=1e-5)


def test_ties_make_an_interval_narrower_but_never_a_point() -> None:
    flips = reliability(np.full(100, 0.5), np.tile([0.0, 1.0], 50))[0]
    mixed = reliability(np.full(100, 0.5), np.tile([0.0, 0.5, 0.5, 1.0], 25))[0]
    tied = reliability(np.full(100, 0.5), np.full(100, 0.5))[0]
    widths = [row.high - row.low for row in (flips, mixed, tied)]
    # Half the variance of a coin flip: as if there were 200 of them.
    assert widths[1] == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 200), rel=0.02)
    assert widths[0] > widths[1] > widths[2] > 0.01


def test_equal_win_rates_share_a_bin() -> None:
    rows = reliability(np.repeat([0.2, 0.5, 0.9], [1, 8, 1]), np.full(10, 0.5), bins=5)
    assert [(row.n, row.predicted) for row in rows] == [(1, 0.2), (8, 0.5), (1, 0.9)]


def test_bins_have_equal_mass() -> None:
    rows = reliability(np.random.default_rng(0).permutation(103) / 103, np.full(103, 0.5))
    assert [row.n for row in rows] == [11, 10, 10, 11, 10, 10, 11, 10, 10, 10]
    assert [row.predicted for row in rows] == sorted(row.predicted for row in rows)


@pytest.mark.parametrize(
    ("win_rates", "outcome", "message"),
    [
        (WIN_RATES[:9], OUTCOME, "one length"),
        (WIN_RATES[:0], OUTCOME[:0], "with rows"),
        (WIN_RATES * 20, OUTCOME, "win rates of a reliability curve must lie in"),
        (WIN_RATES, OUTCOME * 3 - 1, "outcomes of a reliability curve must lie in"),
        (np.where(WIN_RATES > 0.9, np.nan, WIN_RATES), OUTCOME, "must lie in"),
    ],
)
def test_what_cannot_be_read_says_so(win_rates: Floats, outcome: Floats, message: str) -> None:
    with pytest.raises(DataError, match=message):
        reliability(win_rates, outcome)


def test_no_bins_say_so() -> None:
    with pytest.raises(ValueError, match="at least one bin"):
        reliability(WIN_RATES, OUTCOME, bins=0)
    with pytest.raises(DataError, match="got none"):
        expected_calibration_error([])
