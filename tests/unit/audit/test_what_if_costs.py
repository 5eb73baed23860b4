"""Cost along alpha: what stays is certain, what moves has an interval that holds the truth."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from routing.audit.answer_lengths import Answers, covariates_of, fit_lengths
from routing.audit.what_if_costs import CostCurve, Costs, cost_curve, estimates, savings, single
from routing.audit.what_if_points import Points, points_of
from routing.audit.what_if_prices import OnModel
from routing.audit.what_if_sums import RoutedPart, Sums, add
from routing.audit.what_if_tenants import Lengths, by_tenant
from routing.metrics import Floats

RATES = np.array([30e-6, 6e-6])


def curve(
    win_rates: Floats,
    tokens: Floats,
    lengths: Floats,
    strong: NDArray[np.bool_],
    tenant: NDArray[np.intp],
    repeated: float = 1.0,
    history: Answers | None = None,
) -> tuple[CostCurve, Points]:
    """The what-if of calls whose two answer lengths, shape (2, n), are known; only output costs anything.

    `history` has more answers of the weak model.
    """
    tenants = int(tenant.max()) + 1
    side = np.where(strong, 1, 2).astype(np.int8)
    covariates = covariates_of(tokens, win_rates)
    found: list[Lengths] = []
    for number, output in enumerate(lengths, start=1):
        own = side == number
        answers = Answers(tokens[own], win_rates[own], output[own], tenants=tenant[own])
        if history is not None and number == 2:
            answers = answers.with_more(history)
        model = fit_lengths(answers, covariates, assumed=264.0, seed=0)
        found.append(by_tenant(model, answers, tenants))
    pair = found[0], found[1]
    points = points_of(win_rates, 11)
    sums = Sums.empty(points, pair, warm=False)
    paid = np.where(strong, *(RATES[:, None] * lengths))
    calls = pl.DataFrame({"cost_usd": paid}).with_columns(called_at=datetime(2026, 9, 1, tzinfo=UTC))
    nothing = np.zeros(len(tokens))
    part = RoutedPart(calls, tenant, side, win_rates, covariates.design(tokens, win_rates), nothing, nothing)
    first, second = (OnModel(nothing, nothing, np.full(len(tokens), rate), 0) for rate in RATES)
    add(sums, part, (first, second), pair)
    return cost_curve(sums, pair, repeated=repeated, draws=1_000, seed=0), points


def world(
    seed: int, *, n: int, tenants: int, apart: float, prompts_apart: float = 0.0
) -> tuple[Floats, Floats, Floats, NDArray[np.intp]]:
    """Win rates, input tokens, both answer lengths and tenants.

    Their answers are longer or shorter by `apart`, their prompts longer and harder or shorter and easier.
    """
    rng = np.random.default_rng(seed)
    tenant = rng.integers(0, tenants, n)
    rates = rng.beta(4.0, 4.0, n).round(6)
    tokens = np.exp(rng.normal(6.0, 1.0, n))
    if prompts_apart:
        of_tenant = rng.normal(0.0, prompts_apart, (2, tenants))[:, tenant]
        rates = (1.0 / (1.0 + np.exp(-rng.normal(of_tenant[0], 0.5)))).round(6)
        tokens = np.exp(rng.normal(6.0 + of_tenant[1], 0.5))
    own = np.exp(rng.normal(0.0, apart, (2, tenants)))[:, tenant]
    mean = np.stack([20.0 * np.exp(rates), 10.0 * np.exp(2.0 * rates)]) * tokens**0.3 * own
    return rates, tokens, rng.gamma(2.0, mean / 2.0), tenant


@pytest.mark.parametrize(("tenants", "apart", "prompts_apart"), [(1, 0.0, 0.0), (30, 0.4, 0.0), (30, 0.3, 1.2)])
def test_intervals_hold_the_true_cost(tenants: int, apart: float, prompts_apart: float) -> None:
    """40 logs; with tenants, each one asks hardly more than one of the models."""
    inside = []
    for seed in range(40):
        n = 1_500 if tenants == 1 else 8_000
        rates, tokens, lengths, tenant = world(seed, n=n, tenants=tenants, apart=apart, prompts_apart=prompts_apart)
        rng = np.random.default_rng(1_000 + seed)
        mostly = rng.beta(0.1, 0.1, tenants) if tenants > 1 else np.array([0.5])
        found, points = curve(rates, tokens, lengths, rng.random(len(rates)) < mostly[tenant], tenant)
        cell = points.cell(rates)
        on = RATES[:, None] * lengths
        truth = np.array([np.where(cell < i, on[0], on[1]).sum() for i in range(11)])
        said = estimates(found.routed.value, found.routed.draws)
        inside += [one.low <= true <= one.high for one, true in zip(said, truth, strict=True)]
        share = savings(found.routed, found.strong)[1]
        true_share = 1.0 - truth / on[0].sum()
        inside += [one.low <= true <= one.high for one, true in zip(share[1:-1], true_share[1:-1], strict=True)]
    assert np.mean(inside) >= 0.89


@pytest.mark.parametrize("named", [False, True])
def test_a_pilot_of_few_tenants_does_not_speak_for_all(named: bool) -> None:
    """All calls went strong, and the history has weak answers to 3 of 30 tenants, with or without their names."""
    inside, width = [], []
    for seed in range(40):
        rates, tokens, lengths, tenant = world(seed, n=4_000, tenants=30, apart=0.25)
        calls, pilot = np.arange(4_000) < 3_000, (np.arange(4_000) >= 3_000) & (tenant < 3)
        whom = tenant[pilot] if named else np.full(pilot.sum(), 30)
        history = Answers(tokens[pilot], rates[pilot], lengths[1, pilot], tenants=whom)
        found, _ = curve(
            rates[calls], tokens[calls], lengths[:, calls], np.ones(3_000, np.bool_), tenant[calls], history=history
        )
        said = single(found.weak)
        inside.append(said.low <= RATES[1] * lengths[1, calls].sum() <= said.high)
        width.append((said.high - said.low) / said.value)
    assert np.mean(inside) >= 0.87
    assert np.mean(width) < 1.3


def test_what_both_sides_share_cancels() -> None:
    """All strong against all strong saves exactly nothing, however uncertain either is."""
    rates, tokens, lengths, tenant = world(1, n=200, tenants=3, apart=0.2)
    found, _ = curve(rates, tokens, lengths, np.arange(200) % 10 == 0, tenant)
    cost = single(found.strong)
    assert cost.high - cost.low > 0.05 * cost.value
    usd, share = savings(found.routed, found.strong)
    for one in (usd[-1], share[-1]):
        assert (one.low, one.value, one.high) == (0.0, 0.0, 0.0)


def test_the_rounding_of_sums_is_no_saving() -> None:
    routed = Costs(np.array([0.1 + 0.2, 0.2]), np.array([[0.1 + 0.2, 0.2], [0.6, 0.4]]))
    usd, share = savings(routed, Costs(np.asarray(0.3), np.array([0.3, 0.6])))
    assert [(one.low, one.value, one.high) for one in (usd[0], share[0])] == [(0.0, 0.0, 0.0)] * 2
    assert share[1].value == pytest.approx(1 / 3)


def test_draws_lie_around_what_is_expected() -> None:
    rates, tokens, lengths, tenant = world(2, n=3_000, tenants=1, apart=0.0)
    found, _ = curve(rates, tokens, lengths, np.arange(3_000) % 2 == 0, tenant)
    assert found.routed.draws.mean(axis=0) == pytest.approx(found.routed.value, rel=0.01)
    assert found.strong.draws.mean() == pytest.approx(float(found.strong.value), rel=0.01)
    assert (found.observed_usd < found.routed.value).all()


def test_calls_of_few_prompts_are_less_certain() -> None:
    rates, tokens, lengths, tenant = world(3, n=1_000, tenants=1, apart=0.0)
    strong = np.arange(1_000) % 2 == 0
    once, often = (curve(rates, tokens, lengths, strong, tenant, repeated)[0] for repeated in (1.0, 50.0))
    assert often.routed.draws[:, 5].std() > 2 * once.routed.draws[:, 5].std()
    assert often.routed.value.tolist() == once.routed.value.tolist()


def test_estimates_are_central_and_certain_where_nothing_is_drawn() -> None:
    draws = np.stack([np.arange(1_001.0), np.full(1_001, 7.0) + 1e-12 * np.arange(1_001)], axis=1)
    wide, sure = estimates(np.array([500.0, 7.0]), draws)
    assert (wide.low, wide.value, wide.high) == pytest.approx((25.0, 500.0, 975.0))
    assert (sure.low, sure.value, sure.high) == (7.0, 7.0, 7.0)


def test_nothing_is_saved_where_all_is_free() -> None:
    free = Costs(np.zeros(3), np.zeros((50, 3)))
    usd, share = savings(free, Costs(np.asarray(0.0), np.zeros(50)))
    assert [one.value for one in usd + share] == [0.0] * 6
