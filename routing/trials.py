"""Which prompts of a benchmark lend their labels, and which are evaluated: seeded samples and folds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.errors import DataError

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Trial:
    """Places of a benchmark's prompts, both rising; none is on both sides."""

    labelled: Rows
    evaluated: Rows


def samples(n: int, sizes: Sequence[int], *, seed: int, draw: int) -> dict[int, Trial]:
    """Draw labelled prompts, the smaller samples inside the larger ones, all evaluated on what the largest leaves.

    Args:
        n: Prompts of the benchmark.
        sizes: Labelled prompts.
        seed: Of all draws.
        draw: Number of this draw.

    Returns:
        Size -> trial.

    Raises:
        DataError: nothing would be left to evaluate on.
    """
    if max(sizes) >= n:
        raise DataError(f"{max(sizes)} labelled prompts of {n} leave none to evaluate on; use smaller sizes")
    order = np.random.default_rng([seed, draw]).permutation(n)
    rest = np.sort(order[max(sizes) :])
    return {size: Trial(np.sort(order[:size]), rest) for size in sizes}


def folds(n: int, k: int, *, seed: int, draw: int) -> list[Trial]:
    """Cut the prompts into k folds of like size; each is evaluated once, with the labels of the others.

    Args:
        n: Prompts of the benchmark.
        k: Folds.
        seed: Of all draws.
        draw: Number of this draw.

    Raises:
        DataError: fewer prompts than folds.
    """
    if not 2 <= k <= n:
        raise DataError(f"{k} folds of {n} prompts; expected at least 2 and at most as many as prompts")
    fold = np.random.default_rng([seed, draw]).permutation(n) % k
    return [Trial(np.flatnonzero(fold != place), np.flatnonzero(fold == place)) for place in range(k)]
