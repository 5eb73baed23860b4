import numpy as np
import pytest

from routing.errors import DataError
from routing.metrics import cost_quality_curve
from routing.routellm_metrics import routellm_curve

# Eleven win rates 0, 0.1, ..., 1 put the bin edges onto them. 0.3, 0.6 and 0.7 are no binary floats: pandas asks for
# quantiles a little above them and gets edges a little above the win rates, so `>=` leaves those three rows out.
WIN_RATES = np.arange(11) / 10
# Gains by rising win rate: 0 0 -1 0 0 0 0 1 0 1 1, so the gap is 2 of 11.
STRONG = np.array([0.0, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1])
WEAK = np.array([0.0, 1, 1, 1, 0, 1, 0, 0, 1, 0, 0])


def test_eleven_rows_by_hand() -> None:
    curve = routellm_curve(WIN_RATES, STRONG, WEAK)
    # Strong rows at the thresholds from the highest to the lowest: none (`>` at the last), 9.., 8.., 8.. (0.7 just
    # missed), 7.. (0.6 missed), 5.., 4.., 4.. (0.3 missed), 2.., 1.., all.
    strong_rows = np.array([0, 2, 3, 3, 4, 6, 7, 7, 9, 10, 11])
    assert curve.strong_share == pytest.approx(strong_rows / 11)
    # All weak scores 5; the rows 10, 9 and 7 add one each, row 2 takes one.
    correct = np.array([5, 7, 7, 7, 8, 8, 8, 8, 7, 7, 7])
    assert curve.quality == pytest.approx(correct / 11)
    # Trapezoids over elevenths: (5+7)/2*2 + 7*1 + 7*0 + (7+8)/2*1 + 8*2 + 8*1 + 8*0 + (8+7)/2*2 + 7*1 + 7*1 = 79.5
    assert curve.auc == pytest.approx(79.5 / 121)
    # Above all weak, 5 * 11 = 55, and over the rectangle of the gap, 2 * 11 = 22.
    assert curve.apgr == pytest.approx((79.5 - 55) / 22)


def test_cpt_is_interpolated_between_points() -> None:
    rising = routellm_curve(WIN_RATES, np.where(WIN_RATES > 0.45, 1.0, 0.0), np.zeros(11))
    # Qualities 0 2 3 3 4 6 6 6 6 6 6 of 11 at 0 2 3 3 4 6 7 7 9 10 11 of 11. Half of the gap is 3, at 3 of 11; 80 %
    # is 4.8, between 4 and 6.
    assert rising.cpt(0.5) == pytest.approx(3 / 11)
    assert rising.cpt(0.8) == pytest.approx(4.8 / 11)
    # The full curve reaches 4.8 with the fifth row only.
    assert cost_quality_curve(WIN_RATES, np.where(WIN_RATES > 0.45, 1.0, 0.0), np.zeros(11)).cpt(0.8) == 5 / 11


@pytest.mark.parametrize("pgr", [-0.1, 80.0])
def test_cpt_wants_a_share(pgr: float) -> None:
    with pytest.raises(ValueError, match=r"CPT needs a PGR in \[0, 1\]"):
        routellm_curve(WIN_RATES, STRONG, WEAK).cpt(pgr)


def test_equal_edges_stop_here_as_in_their_code() -> None:
    with pytest.raises(DataError, match="too many win rates are equal"):
        routellm_curve(np.repeat([0.2, 0.4, 0.9], 10), np.ones(30), np.zeros(30))


def test_a_strong_model_that_is_not_better_is_refused() -> None:
    with pytest.raises(DataError, match="swap the pair"):
        routellm_curve(WIN_RATES, WEAK, STRONG)
