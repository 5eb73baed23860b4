"""What holds for every router: full curve, dollars, RouteLLM's bins, paired comparisons."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routing.agreement import same_side, spearman, strong_side
from routing.comparison import difference
from routing.dollars import dollar_curve
from routing.metrics import (
    Floats,
    Samples,
    average_pgr,
    bootstrap,
    bootstrap_many,
    cost_quality_curve,
    first_share,
    sample,
)
from routing.reliability import expected_calibration_error, reliability
from routing.routellm_metrics import routellm_curve

GRADES = st.sampled_from([0.0, 0.25, 0.5, 1.0])
ROWS = st.lists(st.tuples(st.integers(0, 6), GRADES, GRADES, st.integers(1, 9)), min_size=1, max_size=40)
DISTINCT = st.lists(
    st.tuples(st.integers(0, 10_000), GRADES, GRADES), min_size=11, max_size=60, unique_by=lambda r: r[0]
)
Row = tuple[int, float, float, int]


def _columns(rows: list[Row]) -> tuple[Floats, Floats, Floats, Floats]:
    table = np.array(rows, np.float64)
    assume(table[:, 1].mean() > table[:, 2].mean() + 1e-6)
    return table[:, 0] / 6, table[:, 1], table[:, 2], table[:, 3]


@given(ROWS)
def test_at_one_price_dollars_are_calls(rows: list[Row]) -> None:
    win_rates, strong, weak, cost = _columns(rows)
    dollars = dollar_curve(win_rates, strong, weak, cost + 2.0, cost)
    calls = cost_quality_curve(win_rates, strong, weak)
    assert dollars.usd_share == pytest.approx(calls.strong_share)
    assert dollars.quality == pytest.approx(calls.quality)
    assert dollars.apgr == pytest.approx(calls.apgr)


@given(ROWS)
def test_dollars_end_at_both_bills(rows: list[Row]) -> None:
    win_rates, strong, weak, cost = _columns(rows)
    curve = dollar_curve(win_rates, strong, weak, 3 * cost, cost)
    assert curve.usd[[0, -1]] == pytest.approx([cost.sum(), 3 * cost.sum()])
    assert (np.diff(curve.usd) > 0).all()


@given(ROWS)
def test_no_order_beats_gain_per_dollar(rows: list[Row]) -> None:
    win_rates, strong, weak, cost = _columns(rows)
    router, oracle = (
        dollar_curve(order, strong, weak, 2 * cost, cost) for order in (win_rates, (strong - weak) / cost)
    )
    assert oracle.apgr >= router.apgr - 1e-9


@given(ROWS)
def test_only_the_order_of_win_rates_counts(rows: list[Row]) -> None:
    win_rates, strong, weak, cost = _columns(rows)
    stretched = np.exp(3 * win_rates)
    assert dollar_curve(stretched, strong, weak, 2 * cost, cost).apgr == (
        dollar_curve(win_rates, strong, weak, 2 * cost, cost).apgr
    )
    assert same_side(win_rates, stretched, 0.3) == 1.0
    rank = spearman(win_rates, stretched)
    assert rank is None or rank == pytest.approx(1)


@given(ROWS, st.integers(0, 3))
def test_a_router_does_not_differ_from_itself(rows: list[Row], seed: int) -> None:
    win_rates, strong, weak, _ = _columns(rows)
    one, two = (
        sample(rates, strong, weak, {"": average_pgr}, resamples=20, seed=seed)[""]
        for rates in (win_rates, win_rates + 1)
    )
    found = difference(one, two)
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


@given(ROWS)
def test_swapped_routers_swap_the_sign(rows: list[Row]) -> None:
    win_rates, strong, weak, cost = _columns(rows)
    one, two = (sample(order, strong, weak, {"": average_pgr}, resamples=30, seed=1)[""] for order in (win_rates, cost))
    ahead, back = difference(one, two), difference(two, one)
    assert (ahead.value, ahead.low, ahead.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert ahead.p == back.p


@given(ROWS, st.integers(30, 50))
def test_one_pass_gives_what_single_bootstraps_give(rows: list[Row], resamples: int) -> None:
    win_rates, strong, weak, _ = _columns(rows)
    statistics = {"apgr": average_pgr, "cpt50": first_share(0.5)}
    together = bootstrap_many(
        win_rates, strong, weak, statistics, on_quality={"auc": average_pgr}, resamples=resamples, seed=2
    )
    for name, statistic in statistics.items():
        assert together[name] == bootstrap(win_rates, strong, weak, statistic, resamples=resamples, seed=2)
    curve = cost_quality_curve(win_rates, strong, weak)
    gap = strong.mean() - weak.mean()
    assert together["auc"].value == pytest.approx(weak.mean() + gap * curve.apgr)
    scores = np.concatenate([strong, weak])
    assert scores.min() - 1e-9 <= together["auc"].low <= together["auc"].high <= scores.max() + 1e-9


@given(DISTINCT)
def test_routellms_bins_are_points_of_the_full_curve(rows: list[tuple[int, float, float]]) -> None:
    table = np.array(rows, np.float64)
    win_rates, strong, weak = table.T
    assume(strong.mean() > weak.mean() + 1e-6)
    theirs, ours = routellm_curve(win_rates, strong, weak), cost_quality_curve(win_rates, strong, weak)
    at = np.round(theirs.strong_share * len(rows)).astype(int)
    assert theirs.strong_share == pytest.approx(ours.strong_share[at])
    assert theirs.quality == pytest.approx(ours.quality[at])
    assert (at[0], at[-1]) == (0, len(rows))
    # Four times as large is exact in binary; other scales can push an edge to the other side of a win rate.
    assert routellm_curve(win_rates * 4, strong, weak).apgr == theirs.apgr


@given(ROWS, st.integers(1, 12))
def test_reliability_keeps_every_prompt(rows: list[Row], bins: int) -> None:
    table = np.array(rows, np.float64)
    win_rates, outcome = table[:, 0] / 6, table[:, 1]
    found = reliability(win_rates, outcome, bins=bins)
    assert sum(row.n for row in found) == len(rows)
    assert len(found) <= bins
    assert all(row.low <= row.observed <= row.high for row in found)
    assert sum(row.n * row.observed for row in found) == pytest.approx(outcome.sum())
    assert 0 <= expected_calibration_error(found) <= 1
    exact = reliability(outcome, outcome, bins=bins)
    assert expected_calibration_error(exact) == pytest.approx(0)


@given(ROWS, st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]))
def test_a_share_is_met_to_one_row(rows: list[Row], share: float) -> None:
    win_rates = np.array(rows, np.float64)[:, 0] / 6
    split, strong = strong_side(win_rates, share)
    assert strong.sum() == split.n_strong == int(share * len(rows) + 0.5)
    assert win_rates[strong].min(initial=2.0) >= win_rates[~strong].max(initial=-1.0)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_samples_are_plain_vectors(draws: list[float]) -> None:
    from routing.metrics import interval

    found = interval(Samples(0.0, np.array([*draws, np.nan])))
    assert min(draws) <= found.low <= found.high <= max(draws)
