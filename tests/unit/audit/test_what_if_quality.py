"""Quality of answers that nobody graded."""

import numpy as np
import pytest

from routing.audit.what_if_points import points_of
from routing.audit.what_if_quality import ISOTONIC_LABELS, MIN_LABELS, Graded, QualityCurve, fit_quality, quality_curve
from routing.errors import DataError
from routing.metrics import Floats


def graded(n: int, *, seed: int = 0, hard: float = 0.0) -> tuple[Graded, Floats, Floats]:
    """Prompts on which the weak model fails the oftener the higher their win rate; and both chances.

    `hard` draws more of the high win rates than there are.
    """
    rng = np.random.default_rng(seed)
    rates = rng.beta(2.0 + hard, 2.0, n).round(4)
    strong, weak = np.full(n, 0.9), 0.9 - 0.7 * rates**2
    return Graded(rates, *((rng.random(n) < chance).astype(float) for chance in (strong, weak))), strong, weak


def curve(labels: Graded, win_rates: Floats, *, wanted: int = 11, repeated: float = 1.0) -> QualityCurve:
    points = points_of(win_rates, wanted)
    model = fit_quality(labels, seed=0)
    weak, gain = model.expected(win_rates)
    gains = np.bincount(points.cell(win_rates), gain, minlength=points.cells).astype(np.float64)
    return quality_curve(labels, model, points, win_rates, gains=gains, weak=float(weak.mean()), repeated=repeated)


@pytest.mark.parametrize(("n", "hard"), [(60, 0.0), (400, 0.0), (400, 1.0), (ISOTONIC_LABELS, 0.0)])
def test_intervals_hold_the_scores_of_these_very_calls(n: int, hard: float) -> None:
    """60 draws of labels and 500 calls; labels of other win rates than the calls' are weighted."""
    inside = []
    for seed in range(60):
        calls, _, _ = graded(500, seed=1_000 + seed)
        found = curve(graded(n, seed=seed, hard=hard)[0], calls.win_rates)
        points = points_of(calls.win_rates, 11)
        cell = points.cell(calls.win_rates)
        assert found.share is not None
        for i in (0, 3, 7, 10):
            true = np.where(cell < i, calls.strong, calls.weak).mean()
            inside.append(found.quality[i].low <= true <= found.quality[i].high)
            inside.append(found.share[i].low <= true / calls.strong.mean() <= found.share[i].high)
    # The figures of one draw hang together: an honest 95 % is below this about once in a hundred times.
    assert np.mean(inside) >= 0.90


def test_labels_of_hard_prompts_do_not_make_easy_calls_hard() -> None:
    calls, strong, weak = graded(20_000, seed=7)
    labels, _, _ = graded(4_000, hard=1.0)
    found = curve(labels, calls.win_rates)
    assert abs(found.quality[0].value - weak.mean()) < 0.02 < abs(labels.weak.mean() - weak.mean())
    assert found.quality[-1].value == pytest.approx(strong.mean(), abs=0.02)
    assert found.effective_labels < 3_500


def test_quality_follows_the_formula() -> None:
    """Worked out anew, label by label, for one bin of labels."""
    labels, _, _ = graded(MIN_LABELS)
    calls = np.array([0.1, 0.4, 0.4, 0.8])
    model = fit_quality(labels, seed=0)
    found = curve(labels, calls, wanted=3)
    for i, alpha in enumerate([2.0, 0.8, 0.1]):  # one call or three come as near to half: the cheaper point is taken

        def predicted(rates: Floats, alpha: float = alpha, last: bool = i == 2) -> Floats:
            weak, gain = model.expected(rates)
            return weak + ((rates >= alpha) | last) * gain

        score = np.where((labels.win_rates >= alpha) | (i == 2), labels.strong, labels.weak)
        expected = predicted(calls).mean() + (score - predicted(labels.win_rates)).mean()
        assert found.quality[i].value == pytest.approx(expected)
    assert found.share is not None
    assert found.share[0].value == pytest.approx(found.quality[0].value / found.quality[2].value)


def test_all_strong_has_all_of_its_own_quality() -> None:
    found = curve(graded(300)[0], graded(500, seed=1)[0].win_rates)
    assert found.share is not None
    assert (found.share[-1].low, found.share[-1].value, found.share[-1].high) == pytest.approx((1.0, 1.0, 1.0))


def test_labels_that_all_agree_are_not_certain() -> None:
    rates = graded(100)[0].win_rates
    found = curve(Graded(rates, np.ones(100), np.ones(100)), rates)
    assert found.share is not None
    assert found.quality[0].value == pytest.approx(1.0)
    assert 0.9 < found.quality[0].low < 0.98
    assert found.share[0].low < 0.98
    # Fewer calls go the other way, so less is left open.
    assert found.share[0].low < found.share[5].low < found.share[9].low < 1.0


def test_more_labels_and_more_calls_are_surer() -> None:
    many, few = graded(2_000)[0], graded(200)[0]
    calls = graded(5_000, seed=3)[0].win_rates

    def width(found: QualityCurve) -> float:
        return found.quality[5].high - found.quality[5].low

    assert width(curve(many, calls)) < 0.5 * width(curve(few, calls))
    # Calls that repeat a few prompts are as uncertain as these few.
    assert width(curve(many, calls, repeated=100.0)) > 2 * width(curve(many, calls))


def test_a_router_that_ranks_backwards_only_moves_the_share() -> None:
    labels, _, _ = graded(400)
    backwards = Graded(1.0 - labels.win_rates, labels.strong, labels.weak)
    model = fit_quality(backwards, seed=0)
    assert model.strong_wins is None
    assert "does not rank" in model.method
    found = curve(backwards, 1.0 - graded(500, seed=1)[0].win_rates)
    assert found.quality[0].low < labels.weak.mean() < found.quality[0].high


def test_the_method_follows_the_number_of_labels() -> None:
    assert fit_quality(graded(400)[0], seed=0).method.startswith("Platt scaling of 400 labels")
    assert fit_quality(graded(ISOTONIC_LABELS)[0], seed=0).method.startswith("isotonic regression of 2,000 labels")
    with pytest.raises(DataError, match=r"49 labels say too little of quality; expected 50 or more"):
        fit_quality(graded(MIN_LABELS - 1)[0], seed=0)


def test_a_strong_model_that_never_scores_has_no_quality_to_share() -> None:
    rates = graded(100)[0].win_rates
    assert curve(Graded(rates, np.zeros(100), np.zeros(100)), rates).share is None


def test_labels_that_are_separated_are_no_trouble() -> None:
    """The weak model is right below .5 and wrong above: no sigmoid is steep enough."""
    rates = np.linspace(0.0, 1.0, 101)
    found = curve(Graded(rates, np.ones(101), (rates < 0.5).astype(float)), rates)
    assert found.quality[0].value == pytest.approx(0.5, abs=0.02)
    assert found.quality[5].value == pytest.approx(1.0, abs=0.03)


def test_labels_that_are_tied_at_their_lowest_win_rate_leave_no_call_out() -> None:
    """Three quarters of the labels at .5, the others at .6; calls below, between and above."""
    rng = np.random.default_rng(0)
    rates = np.repeat([0.5, 0.6], [150, 50])
    labels = Graded(rates, np.ones(200), np.where(rates == 0.5, 1.0, 0.0))
    below = curve(labels, rng.uniform(0.3, 0.4, 200))
    assert below.effective_labels == pytest.approx(150)  # as those at .5
    # A third of the calls are as hard as the labels at .6, where the weak model fails.
    mixed = curve(labels, np.repeat([0.3, 0.55, 0.7], 100))
    assert mixed.quality[0].value == pytest.approx(2 / 3, abs=0.01)


def test_every_call_lies_in_a_bin_with_labels() -> None:
    """A third of the labels at .2, the others at .8: no edge of a bin lies between, where calls would be in none."""
    rates = np.repeat([0.2, 0.8], [50, 100])
    found = curve(Graded(rates, np.ones(150), np.where(rates < 0.5, 1.0, 0.0)), np.repeat([0.75, 0.9], 100))
    assert found.effective_labels == pytest.approx(1.0 / (50 * 0.01**2 + 100 * 0.005**2))


def test_a_strong_model_that_scores_nothing_leaves_no_quality_to_share() -> None:
    """The weak model has points, so that the fitted gains are no zeros, and their sum is rounding."""
    rates = graded(300)[0].win_rates
    for seed in range(10):
        weak = (np.random.default_rng(seed).random(300) < 0.9 - 0.8 * rates).astype(float)
        assert curve(Graded(rates, np.zeros(300), weak), rates).share is None
