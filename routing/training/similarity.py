"""How near a training set is to a benchmark: S(B, D) of arXiv 2406.18665, appendix C.

    S(B, D) = mean over benchmark prompts b of max over training prompts d of cos(b, d)

The paper's figures are with text-embedding-3-small; those of another embedder compare with each other only.
"""

import numpy as np
from numpy.typing import NDArray

from routing.errors import DataError
from routing.metrics import Interval
from routing.training.similarity_weighted import unit

_BLOCK_VALUES = 1 << 24


def nearest_cosines(benchmark: NDArray[np.floating], training: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return each benchmark prompt's largest cosine to a training prompt, shape (m,).

    Args:
        benchmark: Embeddings of any length, shape (m, dim).
        training: Shape (n, dim); by the same embedder.

    Raises:
        DataError: a side is empty, or the widths differ.
    """
    if benchmark.ndim != 2 or training.ndim != 2 or benchmark.shape[1] != training.shape[1]:
        raise DataError(f"expected embeddings (m, dim) and (n, dim), got {benchmark.shape} and {training.shape}")
    if not len(benchmark) or not len(training):
        raise DataError(f"S(B, D) needs prompts on both sides, got {len(benchmark)} and {len(training)}")
    known = unit(training).T
    block = max(1, _BLOCK_VALUES // len(training))
    starts = range(0, len(benchmark), block)
    found = [(unit(benchmark[start : start + block]) @ known).max(axis=1) for start in starts]
    return np.concatenate(found).astype(np.float64)


def benchmark_similarity(
    benchmark: NDArray[np.floating], training: NDArray[np.floating], *, seed: int, resamples: int = 1_000
) -> Interval:
    """Return S(B, D) with the 95 % interval of a percentile bootstrap over the benchmark's prompts.

    Args:
        benchmark: Embeddings of any length, shape (m, dim).
        training: Shape (n, dim); by the same embedder.
        seed: Of the bootstrap.
        resamples: Bootstrap samples of m prompts each.

    Raises:
        DataError: a side is empty, or the widths differ.
    """
    nearest = nearest_cosines(benchmark, training)
    rng = np.random.default_rng(seed)
    means = [nearest[rng.integers(0, len(nearest), len(nearest))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(value=float(nearest.mean()), low=float(low), high=float(high))
