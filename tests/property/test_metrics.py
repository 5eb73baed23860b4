from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routing.metrics import Floats, cost_quality_curve

GRADES = st.sampled_from([0.0, 0.25, 0.5, 1.0])
ROWS = st.lists(st.tuples(st.integers(0, 6), GRADES, GRADES), min_size=1, max_size=40)


def _columns(rows: list[tuple[int, float, float]]) -> tuple[Floats, Floats, Floats]:
    table = np.array(rows, np.float64)
    win_rates, strong, weak = table[:, 0] / 6, table[:, 1], table[:, 2]
    assume(strong.mean() > weak.mean() + 1e-6)
    return win_rates, strong, weak


@given(ROWS)
def test_both_ends_exist_and_pgr_is_normed(rows: list[tuple[int, float, float]]) -> None:
    win_rates, strong, weak = _columns(rows)
    curve = cost_quality_curve(win_rates, strong, weak)
    assert (curve.strong_share[0], curve.strong_share[-1]) == (0.0, 1.0)
    assert (np.diff(curve.strong_share) > 0).all()
    assert curve.quality[[0, -1]] == pytest.approx([weak.mean(), strong.mean()])
    assert (curve.pgr[0], curve.pgr[-1]) == (0.0, 1.0)


@given(ROWS)
def test_no_router_beats_the_oracle(rows: list[tuple[int, float, float]]) -> None:
    win_rates, strong, weak = _columns(rows)
    router, oracle = (cost_quality_curve(rates, strong, weak) for rates in (win_rates, strong - weak))
    assert oracle.apgr >= router.apgr - 1e-9


@given(ROWS)
def test_reversed_scores_mirror_the_curve(rows: list[tuple[int, float, float]]) -> None:
    win_rates, strong, weak = _columns(rows)
    ahead, back = (cost_quality_curve(rates, strong, weak) for rates in (win_rates, -win_rates))
    assert ahead.apgr + back.apgr == pytest.approx(1.0)
    assert back.strong_share == pytest.approx(1.0 - ahead.strong_share[::-1])
    assert back.pgr == pytest.approx(1.0 - ahead.pgr[::-1])


@given(ROWS)
def test_a_constant_router_is_a_random_one(rows: list[tuple[int, float, float]]) -> None:
    _, strong, weak = _columns(rows)
    curve = cost_quality_curve(np.full_like(strong, 0.3), strong, weak)
    assert curve.apgr == pytest.approx(0.5)
    assert curve.cpt(0.01) == 1.0


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_scale_of_scores_do_not_count(
    rows: list[tuple[int, float, float]],
    random: Random,
) -> None:
    win_rates, strong, weak = _columns(rows)
    mixed = rows.copy()
    random.shuffle(mixed)
    other = cost_quality_curve(*_columns(mixed))
    curve = cost_quality_curve(np.exp(3 * win_rates), strong, weak)
    assert other.strong_share == pytest.approx(curve.strong_share)
    assert other.quality == pytest.approx(curve.quality)


@given(st.integers(3, 60), st.integers(0, 10**6))
def test_cpt_is_that_of_exact_arithmetic(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    win_rates, strong, weak = rng.permutation(n) / n, rng.integers(0, 5, n) / 4, rng.integers(0, 4, n) / 4
    gained = np.cumsum((strong - weak)[np.argsort(-win_rates)])  # exact, in quarters
    assume(gained[-1] > 0)
    curve = cost_quality_curve(win_rates, strong, weak)
    for wanted in (Fraction(1, 5), Fraction(1, 2), Fraction(4, 5), Fraction(1)):
        reached = [k for k in range(1, n + 1) if Fraction(gained[k - 1]) / Fraction(gained[-1]) >= wanted]
        assert curve.cpt(float(wanted)) == pytest.approx(reached[0] / n)


@given(ROWS, st.floats(0, 1), st.floats(0, 1))
def test_more_quality_never_costs_less(rows: list[tuple[int, float, float]], one: float, other: float) -> None:
    curve = cost_quality_curve(*_columns(rows))
    low, high = sorted((one, other))
    assert curve.cpt(low) <= curve.cpt(high)
