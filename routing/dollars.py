"""The cost-quality curve over dollars: the same routers, but a strong call counts what it costs more than the weak one.

Prompts differ in price, so two routers with one strong share can differ in the bill. PGR is that of `routing.metrics`;
the axis is the share of the way from the bill of all weak to that of all strong. With equal extra cost per row it is
the strong share again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from routing.comparison import Difference, difference
from routing.errors import DataError
from routing.metrics import (
    ROUNDING,
    Floats,
    Samples,
    Statistic,
    average_pgr,
    check_scores,
    has_gap,
    resampled_sums,
    rounding,
    share_of_way,
    tie_groups,
)


@dataclass(frozen=True, slots=True)
class DollarCurve:
    """Cost and quality at every cut of an order, from all weak to all strong."""

    usd: Floats
    """Cost of the whole table at each cut, shape (points,). It can fall where the strong model is cheaper on a row."""
    strong_share: Floats
    """Share of the queries that go strong, same shape, rising from 0 to 1."""
    quality: Floats
    """Mean score, same shape."""

    @property
    def pgr(self) -> Floats:
        """Performance gap recovered: 0 at all weak, 1 at all strong."""
        return share_of_way(self.quality)

    @property
    def usd_share(self) -> Floats:
        """Share of the extra cost of all strong that is spent: 0 at all weak, 1 at all strong."""
        return share_of_way(self.usd)

    @property
    def apgr(self) -> float:
        """Mean PGR over `usd_share`."""
        return float(average_pgr(self.usd_share, self.pgr))


def dollar_curve(order: Floats, strong: Floats, weak: Floats, strong_usd: Floats, weak_usd: Floats) -> DollarCurve:
    """Return the curve of an order on prompts whose scores and costs are known.

    Args:
        order: Any key, shape (n,); higher goes strong first, equal keys go together. A win rate, a gain per dollar, ...
        strong: Grade of the strong model's answers, same shape.
        weak: Grade of the weak model's answers, same shape.
        strong_usd: Cost of each query on the strong model, same shape.
        weak_usd: Cost of each query on the weak model, same shape.

    Raises:
        DataError: as `routing.metrics.cost_quality_curve`; or the strong model is not dearer in total.
    """
    _check(order, strong, weak, strong_usd, weak_usd)
    ranked, ends = tie_groups(order)
    gained, spent = (
        np.concatenate([[0.0], np.cumsum((on_strong - on_weak)[ranked])[ends]])
        for on_strong, on_weak in ((strong, weak), (strong_usd, weak_usd))
    )
    n = len(order)
    return DollarCurve(
        usd=weak_usd.sum() + spent,
        strong_share=np.concatenate([[0.0], (ends + 1) / n]),
        quality=weak.mean() + gained / n,
    )


def pgr_within(share: float) -> Statistic:
    """Return the statistic "PGR at the last cut of a curve that stays within a share" of dollars or of queries.

    No cut between two tie groups exists, so it is a step function, without interpolation.

    Raises:
        ValueError: `share` is outside [0, 1].
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"a budget is a share in [0, 1] of the way from all weak to all strong, got {share}")

    def statistic(spent: Floats, pgr: Floats) -> Floats:
        within = spent <= share + ROUNDING
        last = spent.shape[-1] - 1 - np.argmax(within[..., ::-1], axis=-1)
        return np.take_along_axis(pgr, np.expand_dims(last, -1), axis=-1).squeeze(-1)

    return statistic


def sample_dollars(
    order: Floats,
    strong: Floats,
    weak: Floats,
    strong_usd: Floats,
    weak_usd: Floats,
    statistics: Mapping[str, Statistic],
    *,
    resamples: int = 1_000,
    seed: int,
) -> dict[str, Samples]:
    """Return statistics of (usd_share, pgr) on all prompts and on every resample, as `routing.metrics.sample` does.

    Args:
        order: As the other vectors, see `dollar_curve`.
        strong: Shape (n,).
        weak: Shape (n,).
        strong_usd: Shape (n,).
        weak_usd: Shape (n,).
        statistics: Name -> `average_pgr`, `first_share(...)`, `pgr_within(...)`.
        resamples: Bootstrap samples of n prompts each.
        seed: The resamples are those of `routing.metrics` with this seed.

    Raises:
        DataError: as `dollar_curve`.
    """
    curve = dollar_curve(order, strong, weak, strong_usd, weak_usd)
    draws: dict[str, list[Floats]] = {name: [] for name in statistics}
    extra, gain = strong_usd - weak_usd, strong - weak
    for _, (spent, gained) in resampled_sums(order, (extra, gain), resamples=resamples, seed=seed):
        usable = (gained[:, -1] > rounding(gain)) & (spent[:, -1] > rounding(extra))
        share, pgr = (sums / np.where(usable, sums[:, -1], np.nan)[:, None] for sums in (spent, gained))
        for name, statistic in statistics.items():
            draws[name].append(np.where(usable, statistic(share, pgr), np.nan))
    return {
        name: Samples(float(statistic(curve.usd_share, curve.pgr)), np.concatenate(draws[name]))
        for name, statistic in statistics.items()
    }


def paired_dollars(
    order: Floats,
    other: Floats,
    strong: Floats,
    weak: Floats,
    strong_usd: Floats,
    weak_usd: Floats,
    statistic: Statistic,
    *,
    resamples: int = 1_000,
    seed: int,
) -> Difference:
    """Return how much higher a statistic of (usd_share, pgr) is for one order than for another, resample by resample.

    Raises:
        DataError: as `dollar_curve`; or no resample in which the strong model is better and dearer.
    """
    one, two = (
        sample_dollars(key, strong, weak, strong_usd, weak_usd, {"": statistic}, resamples=resamples, seed=seed)[""]
        for key in (order, other)
    )
    return difference(one, two)


def _check(order: Floats, strong: Floats, weak: Floats, strong_usd: Floats, weak_usd: Floats) -> None:
    check_scores(order, strong, weak)
    if not strong_usd.shape == weak_usd.shape == order.shape:
        raise DataError(
            f"costs must have one value a row, got {strong_usd.shape} and {weak_usd.shape}, expected {order.shape}"
        )
    if not (np.isfinite(strong_usd).all() and np.isfinite(weak_usd).all()):
        raise DataError(
            "costs must be finite; leave rows without a price or without token counts out of the dollar curve"
        )
    if not has_gap(strong_usd - weak_usd):
        raise DataError(
            f"a curve over dollars needs a strong model that is dearer, got {strong_usd.sum():.6f} (strong) and "
            f"{weak_usd.sum():.6f} (weak); a strong model that is better and cheaper needs no router"
        )
