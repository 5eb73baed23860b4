"""Which rows are trained on together: seeded, rows of similar length in one step, passes bounded in padded tokens.

A row's weight decides how often it is drawn, not how loud it is in its step: steps are averaged and clipped one by one,
so a loud row would only drown its neighbours, and a step of quiet rows would count as much as any.
"""

import numpy as np
from numpy.typing import NDArray

Step = list[NDArray[np.intp]]
"""The rows of one step, in the passes that they are run in."""

_POOL_STEPS = 50
"""Steps whose rows are sorted by length together: enough to save padding, few enough to keep steps mixed."""


def steps_per_epoch(lengths: NDArray[np.int64], rows: int) -> int:
    """Return how many steps of `rows` rows an epoch has; the last may be smaller."""
    return -(-len(lengths) // rows)


def epoch_steps(
    lengths: NDArray[np.int64], weights: NDArray[np.float64], *, rows: int, tokens: int, seed: int
) -> list[Step]:
    """Return the steps of one epoch: n rows drawn by weight, in an order that the seed alone decides.

    Systematic sampling: a row of weight w comes n w / sum(w) times, rounded up or down; with equal weights, once.

    Args:
        lengths: Tokens of each row, shape (n,).
        weights: Share of each row in the loss, shape (n,), not all zero.
        rows: Rows of a step.
        tokens: Padded tokens of a pass at most; a single longer row is a pass of its own.
        seed: Another one for each epoch.
    """
    rng = np.random.default_rng(seed)
    n = len(lengths)
    edges = np.cumsum(weights) / weights.sum()
    drawn = np.searchsorted(edges, (np.arange(n) + rng.random()) / n, side="right")
    order = rng.permutation(np.minimum(drawn, n - 1))
    pools = np.split(order, range(rows * _POOL_STEPS, len(order), rows * _POOL_STEPS))
    by_length = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    steps = np.split(by_length, range(rows, len(order), rows))
    return [_passes(steps[place], lengths, tokens) for place in rng.permutation(len(steps))]


def _passes(rows: NDArray[np.intp], lengths: NDArray[np.int64], tokens: int) -> Step:
    """Cut rows of rising length into passes of at most `tokens` padded tokens."""
    passes, start = [], 0
    while start < len(rows):
        # With the longest row last, a pass of k rows has k times its length; the first row always fits.
        padded = lengths[rows[start:]] * np.arange(1, len(rows) - start + 1)
        size = max(1, int(np.searchsorted(padded, tokens, side="right")))
        passes.append(rows[start : start + size])
        start += size
    return passes
