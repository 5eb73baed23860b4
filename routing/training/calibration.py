"""Platt scaling: turns the gap that a router predicts into a win rate that means what it says."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.errors import DataError

_STEPS = 50
_SMALLEST_STEP = 1e-10


@dataclass(frozen=True, slots=True)
class Calibration:
    """win_rate = sigmoid(slope * gap + intercept)."""

    slope: float
    intercept: float

    def apply(self, gap: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return win rates, shape (n,), rising with the gap."""
        return np.asarray(1.0 / (1.0 + np.exp(-(self.slope * gap + self.intercept))))


def calibrate(gap: NDArray[np.float64], strong: NDArray[np.float64], weak: NDArray[np.float64]) -> Calibration:
    """Fit the win rate on held-out golden rows by Newton steps (Platt 1999, without its smoothing of targets).

    The target is (1 + strong - weak) / 2: a win of the strong model is 1, a tie one half, a loss 0.

    Args:
        gap: Predicted gap, shape (n,).
        strong: Score of the strong model's answer in 0..1, shape (n,).
        weak: Score of the weak model's answer in 0..1, shape (n,).

    Raises:
        DataError: the rows rank the router's gaps the wrong way round, or do not tell them apart.
    """
    centre, spread = gap.mean(), gap.std()
    if not spread > 0:
        raise DataError("the router predicts the same gap for every held-out prompt; there is nothing to calibrate")
    inputs = np.stack([(gap - centre) / spread, np.ones_like(gap)], axis=1)
    target = (1.0 + strong - weak) / 2.0
    weights = np.zeros(2)
    for _ in range(_STEPS):
        chance = 1.0 / (1.0 + np.exp(-inputs @ weights))
        hessian = (inputs * (chance * (1.0 - chance))[:, None]).T @ inputs
        step = np.linalg.solve(hessian + 1e-9 * np.eye(2), inputs.T @ (target - chance))
        weights += step
        if np.abs(step).max() < _SMALLEST_STEP:
            break
    if not weights[0] > 0:
        raise DataError(
            f"on {len(gap)} held-out golden prompts a larger predicted gap goes with a smaller one in truth (slope "
            f"{weights[0] / spread:.3f}); such a router must not be shipped: change [train] or the data"
        )
    slope = weights[0] / spread
    return Calibration(slope=float(slope), intercept=float(weights[1] - slope * centre))
