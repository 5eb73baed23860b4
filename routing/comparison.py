"""Paired comparison of two routers: both are read on the same resampled prompts, so what they share cancels out."""

from dataclasses import dataclass

import numpy as np

from routing.errors import DataError
from routing.metrics import Samples


@dataclass(frozen=True, slots=True)
class Difference:
    """One router's figure minus another's, with the 95 % interval of a paired percentile bootstrap over prompts."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided: twice the smaller share of resamples on one side of zero, at most 1. Zero is below 2 / resamples."""


def difference(samples: Samples, other: Samples) -> Difference:
    """Return the paired difference of two figures that were sampled with one seed on the same prompts.

    Many routers are compared from one `routing.metrics.sample` each, rather than from one bootstrap for each two.

    Args:
        samples: Of the router.
        other: Of the router that it is compared with; as many draws.

    Raises:
        DataError: different numbers of draws, or no resample has both figures.
    """
    if samples.draws.shape != other.draws.shape:
        raise DataError(
            f"paired figures need the same resamples, got {len(samples.draws)} and {len(other.draws)}; "
            "sample both with one seed and one number of resamples"
        )
    draws = samples.draws - other.draws
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        raise DataError("the strong model is better in no resample: too few prompts for an interval; use more")
    low, high = np.quantile(draws, [0.025, 0.975])
    one_side = min(float((draws <= 0).mean()), float((draws >= 0).mean()))
    return Difference(samples.value - other.value, float(low), float(high), min(1.0, 2 * one_side))
