"""Cost against quality of a router: the curve over the strong share, PGR, APGR, CPT, and bootstrap intervals.

Definitions follow RouteLLM (arXiv 2406.18665, section 3): with r(c) the mean score when a share c of the queries goes
to the strong model, PGR(c) = (r(c) - r_weak) / (r_strong - r_weak), APGR is its mean over c, and CPT(x) the smallest c
with PGR(c) >= x. The curve sweeps ranks, so both ends exist, and whole groups of equal win rates, because no alpha can
split one. A random, a length and an oracle baseline are just other win rates.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.errors import DataError

Floats = NDArray[np.float64]
Statistic = Callable[[Floats, Floats], Floats]
"""(strong_share, pgr), both of shape (..., points), to one figure per curve, shape (...)."""

_CHUNK_CELLS = 4_000_000
"""Cells (resamples x prompts) held at once: bounds the memory of a bootstrap, not its result."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the 95 % interval of a percentile bootstrap over prompts."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CostQualityCurve:
    """Quality at every strong share that some alpha reaches, from all weak to all strong."""

    strong_share: Floats
    """Shape (points,), rising from 0 to 1."""
    quality: Floats
    """Mean score at that share, same shape."""

    @property
    def pgr(self) -> Floats:
        """Performance gap recovered: 0 at all weak, 1 at all strong, above 1 where routing beats the strong model."""
        gained = self.quality - self.quality[0]
        return np.asarray(gained / gained[-1])

    @property
    def apgr(self) -> float:
        """Mean PGR over the strong share; 0.5 is a random router."""
        return float(average_pgr(self.strong_share, self.pgr))

    def cpt(self, pgr: float) -> float:
        """Return the smallest strong share whose PGR is at least `pgr`.

        Raises:
            ValueError: `pgr` is outside [0, 1], where no share need reach it.
        """
        return float(first_share(pgr)(self.strong_share, self.pgr))


def cost_quality_curve(win_rates: Floats, strong_scores: Floats, weak_scores: Floats) -> CostQualityCurve:
    """Return the curve of a router on prompts whose two scores are known.

    Args:
        win_rates: P(strong beats weak), shape (n,); only their order counts.
        strong_scores: Grade of the strong model's answer, shape (n,).
        weak_scores: Grade of the weak model's answer, shape (n,).

    Raises:
        DataError: no rows, different lengths, a value that is not finite, or a strong model that is not better.
    """
    _check(win_rates, strong_scores, weak_scores)
    order, ends = _tie_groups(win_rates)
    gain = np.cumsum((strong_scores - weak_scores)[order])[ends]
    n = len(order)
    return CostQualityCurve(
        strong_share=np.concatenate([[0.0], (ends + 1) / n]),
        quality=weak_scores.mean() + np.concatenate([[0.0], gain]) / n,
    )


def average_pgr(strong_share: Floats, pgr: Floats) -> Floats:
    """Integrate PGR over the strong share by trapezoids, exact between tie groups; shapes (..., points) -> (...)."""
    return np.asarray(np.trapezoid(pgr, strong_share, axis=-1))


def first_share(pgr: float) -> Statistic:
    """Return the statistic CPT(pgr): the first strong share at which a curve's PGR is at least `pgr`.

    Raises:
        ValueError: `pgr` is outside [0, 1].
    """
    if not 0.0 <= pgr <= 1.0:
        raise ValueError(f"CPT needs a PGR in [0, 1], got {pgr}; CPT(80%) is written 0.8")

    def statistic(strong_share: Floats, pgr_curve: Floats) -> Floats:
        first = np.argmax(pgr_curve >= pgr, axis=-1)
        return np.take_along_axis(strong_share, np.expand_dims(first, -1), axis=-1).squeeze(-1)

    return statistic


def bootstrap(
    win_rates: Floats,
    strong_scores: Floats,
    weak_scores: Floats,
    statistic: Statistic,
    *,
    resamples: int = 1_000,
    seed: int,
) -> Interval:
    """Return a statistic of the curve with its 95 % percentile interval over resampled prompts.

    Resamples in which the strong model is not better have no PGR and are left out.

    Args:
        win_rates: Shape (n,).
        strong_scores: Shape (n,).
        weak_scores: Shape (n,).
        statistic: `average_pgr` or `first_share(...)`.
        resamples: Bootstrap samples of n prompts each.
        seed: Same seed, same interval; two routers with one seed are resampled alike.

    Raises:
        DataError: as `cost_quality_curve`; or no resample in which the strong model is better.
    """
    curve = cost_quality_curve(win_rates, strong_scores, weak_scores)
    order, ends = _tie_groups(win_rates)
    starts = np.concatenate([[0], ends[:-1] + 1])
    gain = strong_scores - weak_scores
    found = []
    for counts in _resampled_counts(len(gain), resamples=resamples, seed=seed):
        queries = _from_zero(np.add.reduceat(counts[:, order], starts, axis=1))
        gains = _from_zero(np.add.reduceat((counts * gain)[:, order], starts, axis=1))
        usable = gains[:, -1] > 0
        share = queries[usable] / queries[usable, -1:]
        found.append(statistic(share, gains[usable] / gains[usable, -1:]))
    return _interval(float(statistic(curve.strong_share, curve.pgr)), np.concatenate(found))


def random_router(
    strong_scores: Floats, weak_scores: Floats, statistic: Statistic, *, routers: int = 1_000, seed: int
) -> Interval:
    """Return the mean and the central 95 % of a statistic over single random routers on the same prompts.

    This is the range in which a figure says nothing: one random router falls inside it 19 times in 20.
    """
    _check(strong_scores, strong_scores, weak_scores)
    gain = strong_scores - weak_scores
    share = np.linspace(0.0, 1.0, len(gain) + 1)
    rng = np.random.default_rng(seed)
    found = []
    for size in _chunks(len(gain), routers):
        gains = _from_zero(rng.permuted(np.broadcast_to(gain, (size, len(gain))), axis=1))
        found.append(statistic(np.broadcast_to(share, gains.shape), gains / gains[:, -1:]))
    values = np.concatenate(found)
    return _interval(float(values.mean()), values)


def _check(win_rates: Floats, strong_scores: Floats, weak_scores: Floats) -> None:
    shapes = {values.shape for values in (win_rates, strong_scores, weak_scores)}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise DataError(f"win rates and both scores must be vectors of one length, got shapes {sorted(shapes)}")
    if not len(win_rates):
        raise DataError("no rows to measure; check the filters of the evaluation table")
    if not all(np.isfinite(values).all() for values in (win_rates, strong_scores, weak_scores)):
        raise DataError("win rates and scores must be finite; drop or repair rows with missing grades")
    if not strong_scores.mean() > weak_scores.mean():
        raise DataError(
            f"PGR needs a strong model that is better: mean scores are {strong_scores.mean():.4f} (strong) and "
            f"{weak_scores.mean():.4f} (weak); swap the pair, or leave this benchmark out"
        )


def _tie_groups(win_rates: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the order of falling win rates, shape (n,), and the last position of each group of equal ones."""
    order = np.argsort(-win_rates, kind="stable")
    ranked = win_rates[order]
    last_of_group = np.append(ranked[1:] != ranked[:-1], [True])
    return order, np.flatnonzero(last_of_group)


def _resampled_counts(n: int, *, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield how often each prompt is drawn, shape (samples of the chunk, n)."""
    rng = np.random.default_rng(seed)
    for size in _chunks(n, resamples):
        drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def _chunks(n: int, total: int) -> Iterator[int]:
    step = max(1, _CHUNK_CELLS // n)
    yield from (min(step, total - start) for start in range(0, total, step))


def _from_zero(values: Floats) -> Floats:
    """Cumulate along the last axis, with the all-weak point in front; shape (m, k) -> (m, k + 1)."""
    return np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0)))


def _interval(value: float, samples: Floats) -> Interval:
    if not len(samples):
        raise DataError("the strong model is better in no resample: too few prompts for an interval; use more")
    low, high = np.quantile(samples, [0.025, 0.975])
    return Interval(value=value, low=float(low), high=float(high))
