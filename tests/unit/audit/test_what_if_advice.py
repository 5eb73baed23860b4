"""What is recommended, and what is said to be taken for granted."""

from decimal import Decimal

import numpy as np
import pytest

from routing.audit.answer_lengths import Answers, covariates_of, fit_lengths
from routing.audit.what_if_advice import Choice, Ground, advice, assumptions, choose, nothing_routed, recommended
from routing.audit.what_if_routed import REASONS, PairModel
from routing.audit.what_if_tenants import Lengths, by_tenant
from schemas.audit import UnroutedCalls
from schemas.sweep import Estimate, Histogram, SingleModel, Sweep, SweepPoint


def sure(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def sweep(*, costs: list[float], lows: list[float], weak: float = 1.0, floor: float = 0.95) -> Sweep:
    """Points from all weak to all strong; the strong model alone costs 10."""
    last = len(costs) - 1
    best = weak if lows[0] >= floor and weak < 10.0 else 10.0
    points = [
        SweepPoint(
            alpha=None if i == 0 else 1.0 - i / 10,
            strong_share=i / last,
            n_strong=i,
            cost_usd=sure(cost),
            observed_usd=0.0,
            saving_usd=sure(10.0 - cost),
            saving_share=Estimate(value=1.0 - cost / 10, low=0.9 - cost / 10, high=1.1 - cost / 10),
            saving_vs_best_share=sure(1.0 - cost / best),
            quality=sure(0.9),
            quality_share=Estimate(value=(1.0 + low) / 2, low=low, high=1.0),
            expected_wins=0.5,
        )
        for i, (cost, low) in enumerate(zip(costs, lows, strict=True))
    ]
    saving = Estimate(value=1.0 - weak / 10, low=0.9 - weak / 10, high=1.1 - weak / 10)
    return Sweep(
        strong=SingleModel(model="big", cost_usd=sure(10), saving_share=sure(0.0)),
        weak=SingleModel(model="small", cost_usd=sure(weak), saving_share=saving),
        best_single="big" if best == 10.0 else "small",
        points=points,
        histogram=Histogram(counts=[1]),
    )


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


HOLD = [0.5, 0.8, 0.95, 0.97, 1.0]
"""Lower ends of which the middle one is the first to hold .95."""
ALL_HOLD = [0.96, 0.97, 0.98, 0.99, 1.0]


def told(found: Sweep, paid_usd: float = 8.0) -> str:
    return advice(found, choose(found, 0.95), 0.95, labelled=True, paid_usd=paid_usd)


@pytest.mark.parametrize(
    ("costs", "lows", "weak", "expected"),
    [
        (COSTS, HOLD, 1.0, Choice(2, None)),
        (COSTS, ALL_HOLD, 1.0, Choice(0, "small")),
        # A cold cache: the end of the curve is dearer than an inner point, and that is dearer than the model alone.
        ([6.0, 3.0, 5.0, 8.0, 11.0], ALL_HOLD, 1.0, Choice(0, "small")),
        # A router that ranks badly: the walk ends at once, but the weak model alone holds the floor.
        (COSTS, [0.96, 0.5, 0.5, 0.97, 1.0], 1.0, Choice(0, "small")),
        ([6.0, 3.0, 5.0, 8.0, 11.0], ALL_HOLD, 5.5, Choice(1, None)),  # the best of both beats the cheap model alone
        (COSTS, [0.5, 0.6, 0.7, 0.8, 1.0], 1.0, Choice(4, "big")),
        ([14.0, 13.0, 12.0, 11.0, 10.0], ALL_HOLD, 14.0, Choice(4, "big")),
        ([1.0, 3.0, 10.5, 10.6, 10.7], HOLD, 1.0, Choice(4, "big")),  # the strong model alone keeps its cache
        ([1.0, 3.0, 10.0, 10.0, 10.0], HOLD, 1.0, Choice(4, "big")),
    ],
)
def test_routing_is_chosen_only_where_it_beats_the_best_single_model(
    costs: list[float], lows: list[float], weak: float, expected: Choice
) -> None:
    assert choose(sweep(costs=costs, lows=lows, weak=weak), 0.95) == expected


def test_nothing_is_chosen_without_a_floor_or_a_quality() -> None:
    found = sweep(costs=COSTS, lows=HOLD)
    assert choose(found, None) is None
    ungraded = [point.model_copy(update={"quality_share": None}) for point in found.points]
    assert choose(found.model_copy(update={"points": ungraded}), 0.95) is None


def test_advice_says_what_it_costs_and_keeps() -> None:
    assert told(sweep(costs=COSTS, lows=HOLD)) == (
        "alpha = 0.8 sends 50.0% of the calls to big and is the cheapest point shown to hold 95.0% of big's quality "
        "(97.5%, 95 % interval 95.0% to 100.0%). Cost $5.00 instead of $10.00: 50.0% saved (95 % interval 40.0% to "
        "60.0%). These calls did cost $8.00, $3.00 more than that."
    )


def test_advice_says_when_routing_costs_more_than_what_was_done() -> None:
    assert told(sweep(costs=COSTS, lows=HOLD), 4.5).endswith("These calls did cost $4.50, $0.500000 less than that.")


def test_advice_to_route_names_the_weak_model_where_that_holds_the_floor_alone() -> None:
    said = told(sweep(costs=[6.0, 3.0, 5.0, 8.0, 11.0], lows=ALL_HOLD, weak=5.5))
    assert said.startswith("alpha = 0.9 sends 25.0% of the calls to big")
    assert " small alone holds the floor as well, for $5.50. " in said


@pytest.mark.parametrize("costs", [COSTS, [6.0, 3.0, 5.0, 8.0, 11.0]])
def test_advice_is_the_weak_model_alone_where_that_is_the_cheapest(costs: list[float]) -> None:
    """Its cost is that of the single model, not that of an end of the curve where every call lost its cache."""
    assert told(sweep(costs=costs, lows=ALL_HOLD)) == (
        "small alone holds the floor of 95.0% of big's quality (98.0%, 95 % interval 96.0% to 100.0%): routing buys "
        "nothing, send every call to small. Cost $1.00 instead of $10.00: 90.0% saved (95 % interval 80.0% to 100.0%). "
        "These calls did cost $8.00, $7.00 more than that."
    )


@pytest.mark.parametrize(
    ("costs", "lows", "weak"),
    [
        ([14.0, 13.0, 12.0, 11.0, 10.0], ALL_HOLD, 14.0),
        ([14.0, 13.0, 12.0, 11.0, 10.0], [0.96, 0.5, 0.5, 0.5, 1.0], 14.0),
        ([1.0, 3.0, 10.5, 10.6, 10.7], HOLD, 1.0),
    ],
)
def test_advice_says_when_the_strong_model_is_the_cheapest(costs: list[float], lows: list[float], weak: float) -> None:
    """More labels would change nothing."""
    assert told(sweep(costs=costs, lows=lows, weak=weak)) == (
        "No point that is shown to hold 95.0% of big's quality costs less than big alone ($10.00): routing buys "
        "nothing, stay with big."
    )


def test_advice_says_when_nothing_is_shown_to_hold_the_floor() -> None:
    for lows in ([0.5, 0.6, 0.7, 0.8, 1.0], [0.5, 0.96, 0.7, 0.8, 1.0]):  # one of them luckily
        assert told(sweep(costs=COSTS, lows=lows)) == (
            "No point below all strong is shown to hold 95.0% of big's quality: stay with big. More labels, another "
            "router or a lower floor may change that."
        )


@pytest.mark.parametrize(
    ("floor", "labelled", "part"),
    [
        (None, True, "set what_if.quality_floor"),
        (0.95, True, "there is no quality to keep"),
        (None, False, "add [what_if.labels]"),
    ],
)
def test_advice_says_why_there_is_none(floor: float | None, labelled: bool, part: str) -> None:
    found = sweep(costs=COSTS, lows=HOLD)
    assert part in advice(found, None, floor, labelled=labelled, paid_usd=8.0)


@pytest.mark.parametrize("reason", REASONS)
def test_advice_for_a_log_without_a_call_to_route_is_that_for_most_of_them(reason: str) -> None:
    some = [UnroutedCalls(reason=one, calls=2_000 if one == reason else 3, cost_usd=Decimal(1)) for one in REASONS]
    said = nothing_routed(some)
    assert said.startswith("No call of this log could be routed (failed: ")
    assert f"{reason}: 2,000" in said
    assert len({nothing_routed([row]).partition("). ")[2] for row in some} | {said.partition("). ")[2]}) == len(REASONS)
    assert nothing_routed([]) == "No call of this log could be routed: it holds none."


def learnt(n: int) -> Lengths:
    columns = np.full(n, 100.0), np.full(n, 0.5), np.linspace(50, 150, n)
    model = fit_lengths(Answers(*columns), covariates_of(np.ones(9), np.ones(9)), assumed=264.0, seed=0)
    return by_tenant(model, Answers(*columns), 1)


def ground(*, warm: bool = False, answers: tuple[int, int] = (50, 50), at_standard: int = 0, labels: int | None = None,
           effective: float | None = None) -> str:  # fmt: skip
    pair = learnt(answers[0]), learnt(answers[1])
    return "\n".join(
        assumptions(Ground((PairModel("big"), PairModel("small")), pair, warm, at_standard, labels, effective))
    )


def test_assumptions_are_those_of_this_very_audit() -> None:
    plain = ground()
    assert "is written anew, at the input rate where writing has no price" in plain
    assert "labels" not in plain
    assert "standard" not in plain
    assert "assumed" not in plain
    assert "finds its cached tokens cached" in ground(warm=True)
    assert (
        "No answer of small is known: 264 output tokens are assumed, and the interval reaches from half to double of "
        "that." in ground(answers=(50, 0))
    )
    assert "big: 3 answers say little" in ground(answers=(3, 50))
    assert "1,200 prices of batch or tier calls were taken as standard" in ground(at_standard=1_200)
    assert "The 400 labels are drawn from the same traffic" in ground(labels=400, effective=390.0)
    assert "count as" not in ground(labels=400, effective=390.0)
    assert "they count as 90 labels" in ground(labels=400, effective=90.0)
