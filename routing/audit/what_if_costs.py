"""Cost along alpha, with what is uncertain of it: length models, tenants, tokenizers, the scatter of single answers.

Both sides of every difference and ratio are drawn together: the same lengths stand in the cost of routing and in that
of the single models, so that what they share cancels.
"""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from routing.audit.answer_lengths import drawn
from routing.audit.what_if_points import remaining, running
from routing.audit.what_if_sums import ModelSums, Sums, cell_table, merged
from routing.audit.what_if_tenants import Lengths
from routing.estimate import TOKENIZER_SPREAD
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


def cost_curve(
    sums: Sums,
    lengths: tuple[Lengths, Lengths],
    *,
    repeated: float,
    draws: int,
    seed: int,
    tokenizer_spread: float = TOKENIZER_SPREAD,
) -> CostCurve:
    """Return the curve.

    Args:
        sums: Over all routed calls.
        lengths: Of the strong and of the weak model.
        repeated: How often a prompt occurs among the calls (`routing.audit.answer_lengths.repeats`).
        draws: Joint draws of everything that is uncertain.
        seed: Of the draws.
        tokenizer_spread: By how much one model may count the tokens of a prompt differently from the other (0.2: 95 %
            sure within 20 %).
    """
    rng = np.random.default_rng(seed)
    groups = merged(sums.groups, ("tenant", "cell"))
    strong, weak = (
        _drawn_output(of_model, known, groups.select("tenant", "cell", usd=column), repeated, draws, rng)
        for of_model, known, column in (
            (sums.strong, lengths[0], "strong_output_usd"),
            (sums.weak, lengths[1], "weak_output_usd"),
        )
    )
    # One ratio of both counts: where the weak model counts more tokens than were logged, the strong one counts fewer.
    # Its draws are evenly spread, for it may be most of what is uncertain.
    even = rng.permutation(stats.norm.ppf((np.arange(draws) + 0.5) / draws))[:, None]
    ratio = np.exp(even * (math.log1p(tokenizer_spread) / stats.norm.ppf(0.975)))
    strong_side, weak_side = Drawn(sums.strong, 1.0 / ratio, strong), Drawn(sums.weak, ratio, weak)
    routed = Costs(
        running(sums.strong.expected_usd) + remaining(sums.weak.expected_usd),
        running(strong_side.expected_usd) + remaining(weak_side.expected_usd),
    )
    observed = running(sums.strong.observed_usd) + remaining(sums.weak.observed_usd)
    return CostCurve(routed, observed, strong_side.alone, weak_side.alone)


@dataclass(frozen=True, slots=True)
class Drawn:
    """All calls of each cell on one model, as drawn."""

    sums: ModelSums
    counted: Floats
    """Input tokens of this model over those logged, shape (draws, 1)."""
    output_usd: Floats
    """Shape (draws, cells)."""

    @property
    def expected_usd(self) -> Floats:
        """Where routing sends them to it, shape (draws, cells)."""
        return self.sums.observed_usd + self.counted * self.sums.input_usd + self.output_usd

    @property
    def alone(self) -> Costs:
        """Were it the only one."""
        usd = self.sums.observed_usd + self.counted * self.sums.warm_usd + self.output_usd
        return Costs(self.sums.alone_usd.sum(), usd.sum(axis=1))


def estimates(value: Floats, draws: Floats, scale: float = 0.0) -> list[Estimate]:
    """Return figures of shape (k,) with the central 95 % of their draws, shape (draws, k).

    `scale` is of what they are differences of: less than its rounding is nothing.
    """
    most = np.abs(draws).max(axis=0)
    nothing = np.maximum(most, np.abs(value)) <= _ROUNDING * scale
    value = np.where(nothing, 0.0, value)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    # What was observed has equal ends, and no rounding of sums between them.
    sure = nothing | (np.ptp(draws, axis=0) <= _ROUNDING * most)
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
    return estimates(value, draws, float(alone.value)), estimates(value / whole, draws / drawn, 1.0)


def _drawn_output(
    sums: ModelSums, known: Lengths, groups: pl.DataFrame, repeated: float, draws: int, rng: np.random.Generator
) -> Floats:
    """Draw the modelled output of each cell, shape (draws, cells).

    The parameters move a cell's mean by exp(gradient / mean * deviation), which is exact to first order in the spread
    of the covariates within the cell; around it, the sum of single answers is a gamma variable of the right variance.

    A tenant's factor is one for all its cells. Tenants are many and independent, so that their sum is normal, or t
    where their spread was estimated.
    """
    some = sums.output_usd > 0
    whole = np.where(some, sums.output_usd, 1.0)
    covariance, centre = _tenants(groups, known, len(whole))
    factor = known.model.deviations(draws, rng) @ ((sums.gradient - centre) / whole[:, None]).T
    mean = sums.output_usd * np.exp(np.minimum(factor, _MOST_LOG_FACTOR))
    variance = known.model.design_effect(repeated) * sums.variance
    scattered = some & (variance > 0)
    shape = np.where(scattered, whole**2 / np.where(scattered, variance, 1.0), 1.0)
    scatter = rng.standard_gamma(shape, (draws, len(shape))) / shape
    output = np.where(scattered, mean * scatter, mean) + drawn(covariance, draws, rng, degrees=known.degrees)
    return np.asarray(np.maximum(output, 0.0))  # no answer costs less than nothing


def _tenants(groups: pl.DataFrame, known: Lengths, cells: int) -> tuple[Floats, Floats]:
    """What tenants' factors leave open of the output of each cell, shape (cells, cells), and its centre, (cells, p).

    The centre is the sum over tenants of their output times `Lengths.centre`.
    """
    covariance, common = np.zeros((cells, cells)), np.zeros(cells)
    centre = np.zeros((cells, known.centre.shape[1]))
    for start in range(0, len(known.factor), _CHUNK_TENANTS):
        rows = groups.filter(pl.col("tenant").is_between(start, start + _CHUNK_TENANTS - 1))
        size = min(_CHUNK_TENANTS, len(known.factor) - start)
        output = cell_table(rows.with_columns(pl.col("tenant") - start), "tenant", "usd", (size, cells))
        of_chunk = slice(start, start + size)
        covariance += (output * known.left[of_chunk, None]).T @ output
        common += known.by_others[of_chunk] @ output
        centre += output.T @ known.centre[of_chunk]
    return covariance + known.common * np.outer(common, common), centre
