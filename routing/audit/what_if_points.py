"""The points of the curve over alpha: whole groups of equal win rates, from all weak to all strong."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.metrics import Floats

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Points:
    """Alphas, the first above every win rate."""

    alphas: Floats
    """Falling, shape (k - 1,): of all points but the first, at which nothing goes strong."""
    n_strong: Indices
    """Calls that go strong at each point, rising from 0 to all, shape (k,)."""

    @property
    def alpha(self) -> list[float | None]:
        """Alpha of each point; null for the first."""
        return [None, *self.alphas.tolist()]

    @property
    def cells(self) -> int:
        """Numbers of groups of calls that change sides together."""
        return len(self.alphas)

    def cell(self, win_rates: Floats) -> Indices:
        """Return the cell of each call, shape (n,): it goes strong at the points behind it, `cell + 1` and later."""
        found = np.searchsorted(-self.alphas, -win_rates, side="left")
        return np.minimum(found, self.cells - 1)  # a label may lie below the last alpha: all strong means it as well


def points_of(win_rates: Floats, wanted: int) -> Points:
    """Return the points whose strong shares are nearest to equally spaced ones; fewer where win rates are tied.

    Args:
        win_rates: Of the routed calls, shape (n,), n >= 1.
        wanted: Points at most, 2 or more.
    """
    known, sizes = np.unique(win_rates, return_counts=True)
    n_strong = np.concatenate([[0], np.cumsum(sizes[::-1])])
    targets = np.linspace(0.0, len(win_rates), wanted)
    above = np.searchsorted(n_strong, targets)
    below = np.maximum(above - 1, 0)
    nearest = np.where(n_strong[above] - targets < targets - n_strong[below], above, below)
    nearest[0], nearest[-1] = 0, len(known)
    cuts = np.unique(nearest)
    return Points(known[::-1][cuts[1:] - 1], n_strong[cuts])


def running(values: Floats) -> Floats:
    """Cells -> points: the sum over the cells that go strong at each point, (..., cells) -> (..., cells + 1)."""
    start = np.zeros((*values.shape[:-1], 1))
    return np.concatenate([start, np.cumsum(values, axis=-1)], axis=-1)


def remaining(values: Floats) -> Floats:
    """Cells -> points: the sum over the cells that stay weak at each point, (..., cells) -> (..., cells + 1)."""
    return running(values[..., ::-1])[..., ::-1]
