"""The sweep over alpha as a page reads it: points, groups, single models, histogram."""

from dataclasses import dataclass

import numpy as np

from routing.audit.what_if_costs import CostCurve, Costs, estimates, savings, single
from routing.audit.what_if_groups import Groups, group_sweeps
from routing.audit.what_if_points import remaining, running
from routing.audit.what_if_quality import QualityCurve
from routing.audit.what_if_sums import Sums
from routing.metrics import Floats
from schemas.sweep import Estimate, Histogram, SingleModel, Sweep, SweepPoint

BINS = 100
"""Of the histogram: win rates of one router often lie close together."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the curve is made of."""

    sums: Sums
    costs: CostCurve
    quality: QualityCurve | None
    win_rates: Floats
    """Of the routed calls, shape (n,)."""
    groups: Groups
    names: tuple[str, str]
    """Of the strong and of the weak model."""


def sweep_of(found: Found, floor: float | None) -> Sweep:
    """Return the curve with everything beside it; `floor` is the share of the strong model's quality to keep."""
    strong, weak = found.names
    best_name, best = _best(found, floor)
    return Sweep(
        strong=_single(found, strong, found.costs.strong, -1),
        weak=_single(found, weak, found.costs.weak, 0),
        best_single=best_name,
        points=_points(found, best),
        groups=group_sweeps(found.sums, found.groups, found.quality.correction if found.quality else None),
        histogram=Histogram(counts=np.histogram(found.win_rates, BINS, (0.0, 1.0))[0].tolist()),
    )


def unrouted(strong: str, weak: str) -> Sweep:
    """Return the curve of no calls: it has no points, and nothing costs nothing on either model."""
    nothing = Estimate(value=0.0, low=0.0, high=0.0)
    return Sweep(
        strong=SingleModel(model=strong, cost_usd=nothing, saving_share=nothing),
        weak=SingleModel(model=weak, cost_usd=nothing, saving_share=nothing),
        best_single=strong,
        points=[],
        histogram=Histogram(counts=[0] * BINS),
    )


def _single(found: Found, name: str, costs: Costs, point: int) -> SingleModel:
    _, (share,) = savings(Costs(np.atleast_1d(costs.value), costs.draws[:, None]), found.costs.strong)
    return SingleModel(model=name, cost_usd=single(costs), saving_share=share, quality=_quality(found, point))


def _points(found: Found, best: Costs) -> list[SweepPoint]:
    points, costs = found.sums.points, found.costs
    n = int(points.n_strong[-1])
    saving, share = savings(costs.routed, costs.strong)
    _, against_best = savings(costs.routed, best)
    losses = np.diff(points.n_strong) - found.sums.win_rates
    claims = (running(found.sums.win_rates) + remaining(losses)) / n
    shares = found.quality.share if found.quality else None
    return [
        SweepPoint(
            alpha=points.alpha[i],
            strong_share=int(points.n_strong[i]) / n,
            n_strong=int(points.n_strong[i]),
            cost_usd=cost,
            observed_usd=float(costs.observed_usd[i]),
            saving_usd=saving[i],
            saving_share=share[i],
            saving_vs_best_share=against_best[i],
            quality=_quality(found, i),
            quality_share=shares[i] if shares else None,
            expected_wins=float(claims[i]),
        )
        for i, cost in enumerate(estimates(costs.routed.value, costs.routed.draws))
    ]


def _quality(found: Found, point: int) -> Estimate | None:
    return found.quality.quality[point] if found.quality else None


def _best(found: Found, floor: float | None) -> tuple[str, Costs]:
    """The cheapest single model that holds the floor; the strong one always does.

    All weak is tested by itself, whatever points between the two do: a router that ranks badly is no reason to pay
    for the strong model.
    """
    strong, weak = found.names
    costs = found.costs
    shares = found.quality.share if found.quality else None
    holds = floor is not None and shares is not None and shares[0].low >= floor
    return (weak, costs.weak) if holds and costs.weak.value < costs.strong.value else (strong, costs.strong)
