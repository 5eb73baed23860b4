"""Answers to one tenant are longer or shorter than answers to like prompts of another: by how much, and how surely.

A tenant that one model answers is no witness for the length of another tenant's answers, and a log of a million calls
would else promise a saving to a tenth of a percent that rests on strangers. Each tenant has a factor on the modelled
length, estimated by credibility (Buehlmann and Straub, 1970): between what its own answers say and what all tenants
say, by how much each is worth.

A factor is measured against the model, so it takes the model's error at the tenant's own calls out again. What is left
of that error is how much further it is off where the tenant's calls move: `Lengths.centre`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.audit.answer_lengths import FEW_ANSWERS, Answers, LengthModel, repeats
from routing.audit.credibility import TENANT_SPREAD, between, degrees
from routing.metrics import Floats

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
    centre: Floats
    """Covariates at which the factor was measured, so that the model's error there is none, shape (tenants, p)."""
    common: float
    """Variance of what the other tenants say: one error for all."""
    degrees: float
    """Of freedom of the variance between tenants."""

    def mean(self, design: Floats, tenant: NDArray[np.intp]) -> Floats:
        """Return the expected output tokens of calls, shape (n,)."""
        return self.model.mean(design) * self.factor[tenant]


def by_tenant(model: LengthModel, answers: Answers, tenants: int) -> Lengths:
    """Return answer lengths for each tenant.

    Args:
        model: Fitted on these answers.
        answers: Of this model; their tenants are 0 .. tenants - 1, or strangers of higher numbers.
        tenants: Number of tenants.
    """
    answers = answers.telling()
    count = max(tenants, int(answers.whom.max(initial=0)) + 1)
    p = len(model.coefficients)
    if count == 1 or model.answers < FEW_ANSWERS:
        # An assumed length is as uncertain as it says; that tenants differ comes on top.
        left = np.full(tenants, 0.0 if count == 1 else TENANT_SPREAD**2)
        return Lengths(model, np.ones(tenants), left, np.ones(tenants), np.zeros((tenants, p)), 0.0, degrees(0))
    expected, variance, observed, centre = _summed(model, answers, count)
    known = expected > 0
    ratio = observed[known] / expected[known]
    noise = np.maximum(variance[known], 1e-12) / expected[known] ** 2 * model.design_effect(repeats(answers.digests))
    apart = between(ratio, noise)
    weight = 1.0 / (apart + noise)
    share = weight / weight.sum()
    typical = float(share @ ratio)
    credibility = np.zeros(count)
    credibility[known] = apart * weight
    factor = np.full(count, typical)
    factor[known] += credibility[known] * (ratio - typical)
    factor = np.maximum(factor, _LEAST)[:tenants]
    others = 1.0 - credibility[:tenants]
    return Lengths(
        model=model,
        factor=factor,
        left=apart * others / factor**2,
        by_others=others / factor,
        centre=credibility[:tenants, None] * centre[:tenants] + others[:, None] * (share @ centre[known]),
        common=float(1.0 / weight.sum()),
        degrees=degrees(len(ratio)),
    )


def _summed(model: LengthModel, answers: Answers, count: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Expected tokens, variance and observed tokens of each tenant, and the mean covariates of its answers."""
    expected, variance, observed = np.zeros((3, count))
    centre = np.zeros((count, len(model.coefficients)))
    for start in range(0, len(answers), _CHUNK_ROWS):
        part = answers.take(np.s_[start : start + _CHUNK_ROWS])
        design = model.covariates.design(part.input_tokens, part.win_rates)
        mean = model.mean(design)
        sums = [(expected, mean), (variance, model.variance(mean, design)), (observed, part.output_tokens)]
        sums += [(centre[:, column], mean * design[:, column]) for column in range(centre.shape[1])]
        for total, values in sums:
            total += np.bincount(part.whom, values, minlength=count)
    return expected, variance, observed, centre / np.maximum(expected, 1e-300)[:, None]
