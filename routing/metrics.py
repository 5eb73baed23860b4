"""Cost against quality of a router: the curve over the strong share, PGR, APGR, CPT, and bootstrap intervals.

Definitions follow RouteLLM (arXiv 2406.18665, section 3): with r(c) the mean score when a share c of the queries goes
to the strong model, PGR(c) = (r(c) - r_weak) / (r_strong - r_weak), APGR is its mean over c, and CPT(x) the smallest c
with PGR(c) >= x. The curve sweeps ranks, so both ends exist, and whole groups of equal win rates, because no alpha can
split one. A random, a length and an oracle baseline are just other win rates.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.errors import DataError

Floats = NDArray[np.float64]
Statistic = Callable[[Floats, Floats], Floats]
"""(strong_share, pgr), both of shape (..., points), to one figure per curve, shape (...)."""

ROUNDING = 1e-9
"""What a running sum may be off by, as a share of what is summed: tenths that should cancel leave 1e-16 or so, and a
PGR of one half is now and then a hair below."""
Z95 = 1.959963984540054
"""Standard normal quantile of 0.975: half the width of a 95 % interval, in standard errors."""

_CHUNK_CELLS = 250_000
"""Cells (resamples x prompts) held at once: bounds the memory of a bootstrap (a few caches full), not its result."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the 95 % interval of a percentile bootstrap over prompts."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Samples:
    """A figure on all prompts and on each resample of them, in the order in which a seed draws them."""

    value: float
    draws: Floats
    """Shape (resamples,); NaN where the strong model is not better, so that a PGR does not exist."""


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
        return share_of_way(self.quality)

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
    check_scores(win_rates, strong_scores, weak_scores)
    order, ends = tie_groups(win_rates)
    gain = np.cumsum((strong_scores - weak_scores)[order])[ends]
    n = len(order)
    return CostQualityCurve(
        strong_share=np.concatenate([[0.0], (ends + 1) / n]),
        quality=weak_scores.mean() + np.concatenate([[0.0], gain]) / n,
    )


def share_of_way(values: Floats) -> Floats:
    """Return how far each point of a curve is from its first value (0) to its last one (1), shape (points,)."""
    gained = values - values[0]
    return np.asarray(gained / gained[-1])


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
        first = np.argmax(pgr_curve >= pgr - ROUNDING, axis=-1)
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
    found = bootstrap_many(win_rates, strong_scores, weak_scores, {"": statistic}, resamples=resamples, seed=seed)
    return found[""]


def bootstrap_many(
    win_rates: Floats,
    strong_scores: Floats,
    weak_scores: Floats,
    statistics: Mapping[str, Statistic],
    *,
    on_quality: Mapping[str, Statistic] | None = None,
    resamples: int = 1_000,
    seed: int,
) -> dict[str, Interval]:
    """Return several statistics as `bootstrap` does, from one pass over the resamples; arguments as `sample`."""
    samples = sample(
        win_rates, strong_scores, weak_scores, statistics, on_quality=on_quality, resamples=resamples, seed=seed
    )
    return {name: interval(found) for name, found in samples.items()}


def sample(
    win_rates: Floats,
    strong_scores: Floats,
    weak_scores: Floats,
    statistics: Mapping[str, Statistic],
    *,
    on_quality: Mapping[str, Statistic] | None = None,
    resamples: int = 1_000,
    seed: int,
) -> dict[str, Samples]:
    """Return statistics on all prompts and on every resample, so that routers can be compared resample by resample.

    Args:
        win_rates: Shape (n,).
        strong_scores: Shape (n,).
        weak_scores: Shape (n,).
        statistics: Name -> statistic of (strong_share, pgr).
        on_quality: Name -> statistic of (strong_share, quality), e.g. {"auc": average_pgr}: the area under the curve.
        resamples: Bootstrap samples of n prompts each.
        seed: Same seed and n, same resamples, whatever the router.

    Returns:
        All names of both mappings.

    Raises:
        DataError: as `cost_quality_curve`.
    """
    on_quality = on_quality or {}
    curve = cost_quality_curve(win_rates, strong_scores, weak_scores)
    n = len(win_rates)
    draws: dict[str, list[Floats]] = {name: [] for name in (*statistics, *on_quality)}
    gain = strong_scores - weak_scores
    for counts, (queries, gains) in resampled_sums(win_rates, (None, gain), resamples=resamples, seed=seed):
        usable = gains[:, -1] > rounding(gain)
        share = queries / n
        pgr = gains / np.where(usable, gains[:, -1], np.nan)[:, None]
        _extend(draws, statistics, share, pgr, usable)
        if on_quality:
            quality = ((counts @ weak_scores)[:, None] + gains) / n
            _extend(draws, on_quality, share, quality, usable)
    values = {name: statistic(curve.strong_share, curve.pgr) for name, statistic in statistics.items()} | {
        name: statistic(curve.strong_share, curve.quality) for name, statistic in on_quality.items()
    }
    return {name: Samples(float(values[name]), np.concatenate(found)) for name, found in draws.items()}


def resampled_sums(
    key: Floats, columns: Sequence[Floats | None], *, resamples: int, seed: int
) -> Iterator[tuple[Floats, list[Floats]]]:
    """Yield running sums over prompts of falling key, for chunks of resamples: the raw material of every bootstrap.

    Args:
        key: What the prompts are ordered by, shape (n,); equal keys are one step.
        columns: What is summed, each of shape (n,); None counts the prompts.
        resamples: Bootstrap samples of n prompts each.
        seed: Same seed and n, same resamples.

    Yields:
        How often each prompt is drawn, shape (chunk, n), and for each column its sums, shape (chunk, groups + 1), with
        the zero of all weak in front. A group of which nothing was drawn repeats the point before it.
    """
    order, ends = tie_groups(key)
    starts = np.concatenate([[0], ends[:-1] + 1])
    ranked_columns = [None if column is None else column[order] for column in columns]
    for counts in _resampled_counts(len(key), resamples=resamples, seed=seed):
        ranked = counts[:, order]
        cells = (ranked if column is None else ranked * column for column in ranked_columns)
        yield (
            counts,
            [_from_zero(cell if len(starts) == len(key) else np.add.reduceat(cell, starts, axis=1)) for cell in cells],
        )


def random_router(
    strong_scores: Floats, weak_scores: Floats, statistic: Statistic, *, routers: int = 1_000, seed: int
) -> Interval:
    """Return the mean and the central 95 % of a statistic over single random routers on the same prompts.

    This is the range in which a figure says nothing: one random router falls inside it 19 times in 20.
    """
    return random_many(strong_scores, weak_scores, {"": statistic}, routers=routers, seed=seed)[""]


def random_many(
    strong_scores: Floats,
    weak_scores: Floats,
    statistics: Mapping[str, Statistic],
    *,
    on_quality: Mapping[str, Statistic] | None = None,
    routers: int = 1_000,
    seed: int,
) -> dict[str, Interval]:
    """Return several statistics as `random_router` does, from one set of random routers; mappings as in `sample`."""
    check_scores(strong_scores, strong_scores, weak_scores)
    on_quality = on_quality or {}
    gain = strong_scores - weak_scores
    n = len(gain)
    rng = np.random.default_rng(seed)
    draws: dict[str, list[Floats]] = {name: [] for name in (*statistics, *on_quality)}
    for size in _chunks(n, routers):
        gains = _from_zero(rng.permuted(np.broadcast_to(gain, (size, n)), axis=1))
        share = np.broadcast_to(np.linspace(0.0, 1.0, n + 1), gains.shape)
        everywhere = np.ones(size, np.bool_)
        _extend(draws, statistics, share, gains / gains[:, -1:], everywhere)
        _extend(draws, on_quality, share, weak_scores.mean() + gains / n, everywhere)
    found = {name: np.concatenate(values) for name, values in draws.items()}
    return {name: interval(Samples(float(values.mean()), values)) for name, values in found.items()}


def interval(samples: Samples) -> Interval:
    """Return the figure with the central 95 % of its resamples.

    Raises:
        DataError: no resample has the figure.
    """
    draws = samples.draws[~np.isnan(samples.draws)]
    if not len(draws):
        raise DataError("the strong model is better in no resample: too few prompts for an interval; use more")
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(value=samples.value, low=float(low), high=float(high))


def _extend(
    draws: dict[str, list[Floats]], statistics: Mapping[str, Statistic], x: Floats, y: Floats, usable: NDArray[np.bool_]
) -> None:
    for name, statistic in statistics.items():
        draws[name].append(np.where(usable, statistic(x, y), np.nan))


def check_scores(win_rates: Floats, strong_scores: Floats, weak_scores: Floats) -> None:
    """Check that rows can be measured.

    Raises:
        DataError: no rows, different lengths, a value that is not finite, or a strong model that is not better.
    """
    shapes = {values.shape for values in (win_rates, strong_scores, weak_scores)}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise DataError(f"win rates and both scores must be vectors of one length, got shapes {sorted(shapes)}")
    if not len(win_rates):
        raise DataError("no rows to measure; check the filters of the evaluation table")
    if not all(np.isfinite(values).all() for values in (win_rates, strong_scores, weak_scores)):
        raise DataError("win rates and scores must be finite; drop or repair rows with missing grades")
    if not has_gap(strong_scores - weak_scores):
        raise DataError(
            f"PGR needs a strong model that is better: mean scores are {strong_scores.mean():.4f} (strong) and "
            f"{weak_scores.mean():.4f} (weak); swap the pair, or leave this benchmark out"
        )


def has_gap(differences: Floats) -> bool:
    """Return whether differences between two models, shape (n,), add up to more than rounding: a gap to share out."""
    return bool(differences.sum() > rounding(differences))


def rounding(values: Floats) -> float:
    """Return what a sum of values like these may be off by."""
    return ROUNDING * float(np.abs(values).sum())


def tie_groups(win_rates: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
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
