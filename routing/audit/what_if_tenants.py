"""Answers to one tenant are longer or shorter than answers to like prompts of another: by how much, and how surely.

A tenant that one model answers is no witness for the length of another tenant's answers, and a log of a million calls
would else promise a saving to a tenth of a percent that rests on strangers. Each tenant has a factor on the modelled
length, estimated by credibility (Buehlmann and Straub, 1970): between what its own answers say and what all tenants
say, by how much each is worth. The variance between tenants is DerSimonian and Laird's (1986).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.audit.answer_lengths import Answers, LengthModel, repeats
from routing.metrics import Floats

FEW_TENANTS = 5
"""With answers to fewer, the variance between tenants is assumed."""
TENANT_SPREAD = 0.2
"""Assumed standard deviation of the factor then."""

_LEAST = 0.05
_CHUNK_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Lengths:
    """Answer lengths of one model, for each tenant."""

    model: LengthModel
    factor: Floats
    """On the modelled length, shape (tenants,)."""
    left: Floats
    """Variance of that factor that is still open, over its square, shape (tenants,)."""
    by_others: Floats
    """Share of the factor that rests on other tenants, shape (tenants,)."""
    common: float
    """Variance of what the other tenants say: one error for all."""
    degrees: float
    """Of freedom of the variance between tenants; infinite where it is assumed."""

    def mean(self, design: Floats, tenant: NDArray[np.intp]) -> Floats:
        """Return the expected output tokens of calls, shape (n,)."""
        return self.model.mean(design) * self.factor[tenant]


def by_tenant(model: LengthModel, answers: Answers, tenant: NDArray[np.intp], tenants: int) -> Lengths:
    """Return answer lengths for each tenant.

    Args:
        model: Fitted on answers of all tenants.
        answers: Of this model in the log, n of them.
        tenant: Whom they were given to, 0 .. tenants - 1, shape (n,).
        tenants: Number of tenants.
    """
    expected, variance, observed = np.zeros((3, tenants))
    for start in range(0, len(answers), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        design = model.covariates.design(answers.input_tokens[rows], answers.win_rates[rows])
        mean = model.mean(design)
        for total, values in (
            (expected, mean),
            (variance, model.variance(mean, design)),
            (observed, answers.output_tokens[rows]),
        ):
            total += np.bincount(tenant[rows], values, minlength=tenants)
    known = expected > 0
    if tenants == 1 or not known.any():
        return Lengths(model, np.ones(tenants), np.zeros(tenants), np.zeros(tenants), 0.0, math.inf)
    ratio = observed[known] / expected[known]
    noise = np.maximum(variance[known], 1e-12) / expected[known] ** 2 * model.design_effect(repeats(answers.digests))
    between = _between(ratio, noise)
    weight = 1.0 / (between + noise)
    typical = float(weight @ ratio / weight.sum())
    credibility = np.zeros(tenants)
    credibility[known] = between * weight
    factor = np.full(tenants, typical)
    factor[known] += credibility[known] * (ratio - typical)
    factor = np.maximum(factor, _LEAST)
    others = 1.0 - credibility
    return Lengths(
        model=model,
        factor=factor,
        left=between * others / factor**2,
        by_others=others / factor,
        common=float(1.0 / weight.sum()),
        degrees=math.inf if len(ratio) < FEW_TENANTS else len(ratio) - 1.0,
    )


def _between(ratio: Floats, noise: Floats) -> float:
    """Return the variance between tenants, given each one's ratio and its own variance."""
    if len(ratio) < FEW_TENANTS:
        return TENANT_SPREAD**2
    weight = 1.0 / noise
    mean = weight @ ratio / weight.sum()
    scatter = float(weight @ (ratio - mean) ** 2)
    room = float(weight.sum() - weight @ weight / weight.sum())
    return max(0.0, (scatter - (len(ratio) - 1)) / room) if room > 0 else 0.0
