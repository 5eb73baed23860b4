"""What is recommended, and what is said to be taken for granted."""

import numpy as np
import pytest

from routing.audit.answer_lengths import Answers, covariates_of, fit_lengths
from routing.audit.what_if_advice import Ground, advice, assumptions, recommended
from routing.audit.what_if_routed import PairModel
from routing.audit.what_if_tenants import Lengths, by_tenant
from schemas.sweep import Estimate, Histogram, SingleModel, Sweep, SweepPoint


def sure(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def sweep(*, costs: list[float], lows: list[float]) -> Sweep:
    """Points from all weak to all strong; the single models cost 1 and 10."""
    last = len(costs) - 1
    points = [
        SweepPoint(
            alpha=None if i == 0 else 1.0 - i / 10,
            strong_share=i / last,
            n_strong=i,
            cost_usd=sure(cost),
            observed_usd=0.0,
            saving_usd=sure(10.0 - cost),
            saving_share=Estimate(value=1.0 - cost / 10, low=0.9 - cost / 10, high=1.1 - cost / 10),
            saving_vs_best_share=sure(1.0 - cost / 10),
            quality=sure(0.9),
            quality_share=Estimate(value=(1.0 + low) / 2, low=low, high=1.0),
            expected_wins=0.5,
        )
        for i, (cost, low) in enumerate(zip(costs, lows, strict=True))
    ]
    single = {
        "strong": SingleModel(model="big", cost_usd=sure(10)),
        "weak": SingleModel(model="small", cost_usd=sure(1)),
    }
    return Sweep(**single, best_single="big", points=points, histogram=Histogram(counts=[1]))


COSTS = [1.0, 3.0, 5.0, 8.0, 10.0]


@pytest.mark.parametrize(
    ("lows", "costs", "expected"),
    [
        ([0.5, 0.8, 0.95, 0.97, 1.0], COSTS, 2),
        ([0.96, 0.97, 0.98, 0.99, 1.0], COSTS, 0),
        ([0.5, 0.6, 0.7, 0.8, 1.0], COSTS, 4),
        ([0.5, 0.95, 0.8, 0.97, 1.0], COSTS, 3),  # the lucky second point lies behind one that fails
        ([0.5, 0.6, 0.96, 0.97, 1.0], [1.0, 3.0, 9.0, 8.0, 10.0], 3),  # of those that hold it, the cheapest
    ],
)
def test_the_cheapest_point_that_holds_the_floor_is_taken(lows: list[float], costs: list[float], expected: int) -> None:
    shares = [Estimate(value=1.0, low=low, high=1.0) for low in lows]
    assert recommended(costs, shares, 0.95) == expected


def test_advice_says_what_it_costs_and_keeps() -> None:
    found = sweep(costs=COSTS, lows=[0.5, 0.8, 0.95, 0.97, 1.0])
    assert advice(found, 2, 0.95, labelled=True, paid_usd=8.0) == (
        "alpha = 0.8 sends 50.0% of the calls to big and is the cheapest point shown to hold 95.0% of big's quality "
        "(97.5%, 95 % interval 95.0% to 100.0%). Cost $5.00 instead of $10.00: 50.0% saved (95 % interval 40.0% to "
        "60.0%). These calls did cost $8.00, $3.00 more than that."
    )


def test_advice_says_when_routing_costs_more_than_what_was_done() -> None:
    found = sweep(costs=COSTS, lows=[0.5, 0.8, 0.95, 0.97, 1.0])
    said = advice(found, 2, 0.95, labelled=True, paid_usd=4.5)
    assert said.endswith("These calls did cost $4.50, $0.500000 less than that.")


@pytest.mark.parametrize(
    ("chosen", "floor", "labelled", "part"),
    [
        (0, 0.95, True, "small alone holds the floor of 95.0% of big's quality (75.0%, 95 % interval 50.0% to 100.0%): "
                        "routing buys nothing"),
        (4, 0.95, True, "No point below all strong is shown to hold 95.0% of big's quality: stay with big"),
        (None, None, True, "set what_if.quality_floor"),
        (None, 0.95, True, "there is no quality to keep"),
        (None, None, False, "add [what_if.labels]"),
    ],
)  # fmt: skip
def test_advice_says_why_there_is_none(chosen: int | None, floor: float | None, labelled: bool, part: str) -> None:
    found = sweep(costs=COSTS, lows=[0.5, 0.8, 0.95, 0.97, 1.0])
    assert part in advice(found, chosen, floor, labelled=labelled, paid_usd=8.0)


def test_a_point_that_saves_nothing_is_not_advised() -> None:
    found = sweep(costs=[1.0, 3.0, 10.5, 10.6, 10.7], lows=[0.5, 0.8, 0.95, 0.97, 1.0])
    assert advice(found, 2, 0.95, labelled=True, paid_usd=8.0).endswith(
        "Cost $10.50 instead of $10.00: routing buys nothing, stay with big."
    )


def learnt(n: int) -> Lengths:
    columns = np.full(n, 100.0), np.full(n, 0.5), np.linspace(50, 150, n)
    model = fit_lengths(Answers(*columns), covariates_of(np.ones(9), np.ones(9)), assumed=264.0, seed=0)
    return by_tenant(model, Answers(*columns), np.zeros(n, np.intp), 1)


def ground(*, warm: bool = False, answers: tuple[int, int] = (50, 50), at_standard: int = 0, labels: int | None = None,
           effective: float | None = None) -> str:  # fmt: skip
    pair = learnt(answers[0]), learnt(answers[1])
    return "\n".join(
        assumptions(Ground((PairModel("big"), PairModel("small")), pair, warm, at_standard, labels, effective))
    )


def test_assumptions_are_those_of_this_very_audit() -> None:
    plain = ground()
    assert "the cache is cold after a move" in plain
    assert "labels" not in plain
    assert "standard" not in plain
    assert "assumed" not in plain
    assert "finds its cached tokens cached" in ground(warm=True)
    assert "No answer of small is known: 264 output tokens are assumed" in ground(answers=(50, 0))
    assert "big: 3 answers say little" in ground(answers=(3, 50))
    assert "1,200 prices of batch or tier calls were taken as standard" in ground(at_standard=1_200)
    assert "The 400 labels are drawn from the same traffic" in ground(labels=400, effective=390.0)
    assert "count as" not in ground(labels=400, effective=390.0)
    assert "they count as 90 labels" in ground(labels=400, effective=90.0)
