"""Paired comparison of two routers: both are read on the same resampled prompts, so what they share cancels out."""

from dataclasses import dataclass

import numpy as np

from routing.errors import DataError
from routing.metrics import Floats, Samples, Statistic, sample


@dataclass(frozen=True, slots=True)
class Difference:
    """One router's figure minus another's, with the 95 % interval of a paired percentile bootstrap over prompts."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided: twice the smaller share of resamples on one side of zero, at most 1. Zero is below 2 / resamples."""


def paired_bootstrap(
    win_rates: Floats,
    other: Floats,
    strong: Floats,
    weak: Floats,
    statistic: Statistic,
    *,
    resamples: int = 1_000,
    seed: int,
) -> Difference:
    """Return how much higher a statistic is for one router than for another on the same prompts.

    Args:
        win_rates: Of the router, shape (n,).
        other: Of the router that it is compared with, same shape.
        strong: Grade of the strong model's answers, same shape.
        weak: Grade of the weak model's answers, same shape.
        statistic: `average_pgr`, `first_share(...)`, ...
        resamples: Bootstrap samples of n prompts each.
        seed: The resamples are those of `routing.metrics.bootstrap` with this seed.

    Raises:
        DataError: as `routing.metrics.bootstrap`.
    """
    one, two = (
        sample(rates, strong, weak, {"": statistic}, resamples=resamples, seed=seed)[""] for rates in (win_rates, other)
    )
    return difference(one, two)


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
