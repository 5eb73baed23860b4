"""Cost along alpha, with what is uncertain of it: length models, tenants, the scatter of single answers.

Both sides of every difference and ratio are drawn together: the same lengths stand in the cost of routing and in that
of the single models, so that what they share cancels.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from routing.audit.answer_lengths import LengthModel, drawn
from routing.audit.what_if_points import remaining, running
from routing.audit.what_if_sums import ModelSums, Sums, cell_table, merged
from routing.audit.what_if_tenants import Lengths
from routing.metrics import Floats
from schemas.sweep import Estimate

_MOST_LOG_FACTOR = 12.0
_ROUNDING = 1e-9
_CHUNK_TENANTS = 10_000


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs as expected, and as drawn."""

    value: Floats
    """Shape (points,), or () for a single model."""
    draws: Floats
    """Shape (draws, points), or (draws,)."""


@dataclass(frozen=True, slots=True)
class CostCurve:
    """What routing would have cost."""

    routed: Costs
    observed_usd: Floats
    """The part of it that was paid just so, shape (points,)."""
    strong: Costs
    """All calls on the strong model, with a warm cache."""
    weak: Costs


def cost_curve(sums: Sums, lengths: tuple[Lengths, Lengths], *, repeated: float, draws: int, seed: int) -> CostCurve:
    """Return the curve.

    Args:
        sums: Over all routed calls.
        lengths: Of the strong and of the weak model.
        repeated: How often a prompt occurs among the calls (`routing.audit.answer_lengths.repeats`).
        draws: Joint draws of everything that is uncertain.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    groups = merged(sums.groups, ("tenant", "cell"))
    strong, weak = (
        # No answer costs less than nothing.
        np.maximum(
            _drawn_output(of_model, known.model, repeated, draws, rng)
            + _drawn_tenants(groups.select("tenant", "cell", usd=column), known, sums.points.cells, draws, rng),
            0.0,
        )
        for of_model, known, column in (
            (sums.strong, lengths[0], "strong_output_usd"),
            (sums.weak, lengths[1], "weak_output_usd"),
        )
    )
    fixed = tuple(side.observed_usd + side.input_usd for side in (sums.strong, sums.weak))
    routed = Costs(
        running(sums.strong.expected_usd) + remaining(sums.weak.expected_usd),
        running(fixed[0] + strong) + remaining(fixed[1] + weak),
    )
    observed = running(sums.strong.observed_usd) + remaining(sums.weak.observed_usd)
    return CostCurve(routed, observed, _alone(sums.strong, strong), _alone(sums.weak, weak))


def estimates(value: Floats, draws: Floats) -> list[Estimate]:
    """Return figures of shape (k,) with the central 95 % of their draws, shape (draws, k)."""
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    # What was observed has equal ends, and no rounding of sums between them.
    sure = np.ptp(draws, axis=0) <= _ROUNDING * np.abs(draws).max(axis=0)
    low, high = (np.where(sure, value, end) for end in (np.minimum(low, value), np.maximum(high, value)))
    ends = zip(value.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Estimate(value=middle, low=bottom, high=top) for middle, bottom, top in ends]


def single(costs: Costs) -> Estimate:
    """Return the cost of a single model with its interval."""
    return estimates(np.atleast_1d(costs.value), costs.draws[:, None])[0]


def savings(routed: Costs, alone: Costs) -> tuple[list[Estimate], list[Estimate]]:
    """Return what each point saves against a single model, in dollars and as a share of what that one costs."""
    value, draws = alone.value - routed.value, alone.draws[:, None] - routed.draws
    # Where all calls are free, there is nothing to save.
    whole, drawn = (np.where(cost > 0, cost, np.inf) for cost in (alone.value, alone.draws[:, None]))
    return estimates(value, draws), estimates(value / whole, draws / drawn)


def _alone(sums: ModelSums, output: Floats) -> Costs:
    fixed = sums.observed_usd + sums.warm_usd
    return Costs(sums.alone_usd.sum(), (fixed + output).sum(axis=1))


def _drawn_output(sums: ModelSums, model: LengthModel, repeated: float, draws: int, rng: np.random.Generator) -> Floats:
    """Draw the modelled output of each cell, shape (draws, cells).

    The parameters move a cell's mean by exp(gradient / mean * deviation), which is exact to first order in the spread
    of the covariates within the cell; around it, the sum of single answers is a gamma variable of the right variance.
    """
    some = sums.output_usd > 0
    whole = np.where(some, sums.output_usd, 1.0)
    factor = model.deviations(draws, rng) @ (sums.gradient / whole[:, None]).T
    mean = sums.output_usd * np.exp(np.minimum(factor, _MOST_LOG_FACTOR))
    variance = model.design_effect(repeated) * sums.variance
    scattered = some & (variance > 0)
    shape = np.where(scattered, whole**2 / np.where(scattered, variance, 1.0), 1.0)
    scatter = rng.standard_gamma(shape, (draws, len(shape))) / shape
    return np.asarray(np.where(scattered, mean * scatter, mean))


def _drawn_tenants(groups: pl.DataFrame, known: Lengths, cells: int, draws: int, rng: np.random.Generator) -> Floats:
    """Draw what tenants add to or take from the modelled output of each cell, shape (draws, cells).

    A tenant's factor is one for all its cells. Tenants are many and independent, so that their sum is normal, or t
    where their spread was estimated.
    """
    covariance, common = np.zeros((cells, cells)), np.zeros(cells)
    for start in range(0, len(known.factor), _CHUNK_TENANTS):
        rows = groups.filter(pl.col("tenant").is_between(start, start + _CHUNK_TENANTS - 1))
        size = min(_CHUNK_TENANTS, len(known.factor) - start)
        output = cell_table(rows.with_columns(pl.col("tenant") - start), "tenant", "usd", (size, cells))
        of_chunk = slice(start, start + size)
        covariance += (output * known.left[of_chunk, None]).T @ output
        common += known.by_others[of_chunk] @ output
    covariance += known.common * np.outer(common, common)
    return drawn(covariance, draws, rng, degrees=known.degrees)
