"""Calibration: monotone maps that turn a router's score into a win rate that means what it says.

The outcome of a labelled prompt is (1 + strong - weak) / 2 for scores in 0..1: 1 where the strong model won outright, 0
where the weak one did, one half for a tie. With a win rate that is calibrated against it, the expected gain of sending
a query to the strong model is 2 win_rate - 1, in units of score.

No map here ties two different win rates, so every split by rank stays as it was.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from scipy.optimize import isotonic_regression

from routing.errors import DataError
from routing.metrics import Floats
from routing.reliability import expected_calibration_error, reliability

Method = Literal["platt", "isotonic"]

EDGE = 1e-6
"""Win rates are kept this far from 0 and 1 before their logit is taken: they have six decimals."""

_STEPS = 50
_SMALLEST_STEP = 1e-10


class WinRateMap(Protocol):
    """A strictly rising function from win rates to win rates."""

    def apply(self, win_rates: Floats) -> Floats:
        """Return calibrated win rates, same shape."""


@dataclass(frozen=True, slots=True)
class Platt:
    """win_rate = sigmoid(slope * score + intercept)."""

    slope: float
    intercept: float

    def apply(self, score: Floats) -> Floats:
        """Return win rates, shape (n,), rising with the score."""
        return np.asarray(1.0 / (1.0 + np.exp(-(self.slope * score + self.intercept))))


@dataclass(frozen=True, slots=True)
class PlattMap:
    """Platt scaling of the logit of a win rate; slope 1 and intercept 0 change nothing."""

    platt: Platt

    def apply(self, win_rates: Floats) -> Floats:
        """Return calibrated win rates, same shape."""
        return self.platt.apply(_logit(win_rates))


@dataclass(frozen=True, slots=True)
class IsotonicMap:
    """Straight lines between the centres of isotonic regression's steps, and on to (0, 0) and (1, 1)."""

    knots: Floats
    """Win rates before, shape (k,), strictly rising from 0 to 1."""
    values: Floats
    """Win rates after, same shape, strictly rising."""

    def apply(self, win_rates: Floats) -> Floats:
        """Return calibrated win rates, same shape."""
        return np.interp(win_rates, self.knots, self.values)


@dataclass(frozen=True, slots=True)
class Fitness:
    """How calibrated win rates are on labels."""

    ece: float
    log_loss: float


def fit(win_rates: Floats, strong: Floats, weak: Floats, method: Method) -> WinRateMap:
    """Fit a map on labelled prompts.

    Args:
        win_rates: What the router says, shape (n,).
        strong: Score of the strong model's answer in 0..1, same shape.
        weak: Score of the weak model's answer in 0..1, same shape.
        method: `platt` has two parameters and wants a few hundred labels; `isotonic` takes any rising shape and wants
            a few thousand.

    Raises:
        DataError: the win rates rank the labels the wrong way round, or do not tell them apart.
    """
    if method == "platt":
        return PlattMap(fit_platt(_logit(win_rates), strong, weak))
    return _fit_isotonic(win_rates, outcomes(strong, weak))


def fit_platt(score: Floats, strong: Floats, weak: Floats) -> Platt:
    """Fit the win rate of a score by Newton steps (Platt 1999, without its smoothing of targets).

    Args:
        score: Anything that should rise with the gap, shape (n,).
        strong: Score of the strong model's answer in 0..1, shape (n,).
        weak: Score of the weak model's answer in 0..1, shape (n,).

    Raises:
        DataError: the rows rank the router's scores the wrong way round, or do not tell them apart.
    """
    centre, spread = score.mean(), score.std()
    if not np.ptp(score) > 0:  # the standard deviation of equal floats need not be zero
        raise DataError(
            f"the router says the same of all {len(score)} labelled prompts; there is nothing to calibrate: "
            "take another router"
        )
    inputs = np.stack([(score - centre) / spread, np.ones_like(score)], axis=1)
    target = outcomes(strong, weak)
    weights = np.zeros(2)
    for _ in range(_STEPS):
        chance = 1.0 / (1.0 + np.exp(-inputs @ weights))
        hessian = (inputs * (chance * (1.0 - chance))[:, None]).T @ inputs
        step = np.linalg.solve(hessian + 1e-9 * np.eye(2), inputs.T @ (target - chance))
        weights += step
        if np.abs(step).max() < _SMALLEST_STEP:
            break
    if not weights[0] > 0:
        raise _backwards(len(score), f"slope {weights[0] / spread:.3f}")
    slope = weights[0] / spread
    return Platt(slope=float(slope), intercept=float(weights[1] - slope * centre))


def cross_fitted(
    win_rates: Floats, strong: Floats, weak: Floats, method: Method, *, folds: int = 5, seed: int
) -> Floats:
    """Return calibrated win rates, shape (n,), each by a map that was fitted without its row.

    Args:
        win_rates: Shape (n,).
        strong: Shape (n,).
        weak: Shape (n,).
        method: As `fit`.
        folds: Random parts of equal size, at least 2.
        seed: Draws them.

    Raises:
        DataError: as `fit`; or fewer rows than folds.
    """
    if len(win_rates) < 2 * folds:
        raise DataError(f"calibration is checked in {folds} folds, got {len(win_rates)} labels; use more labels")
    fold = np.random.default_rng(seed).permutation(len(win_rates)) % folds
    found = np.empty(len(win_rates))
    for part in range(folds):
        inside = fold == part
        fitted = fit(win_rates[~inside], strong[~inside], weak[~inside], method)
        found[inside] = fitted.apply(win_rates[inside])
    return found


def fitness(win_rates: Floats, strong: Floats, weak: Floats) -> Fitness:
    """Return how well win rates, shape (n,), say what happened: ECE in ten bins of equal mass, and mean log loss."""
    outcome = outcomes(strong, weak)
    chance = np.clip(win_rates, EDGE, 1.0 - EDGE)
    loss = -(outcome * np.log(chance) + (1.0 - outcome) * np.log1p(-chance)).mean()
    return Fitness(expected_calibration_error(reliability(win_rates, outcome)), float(loss))


def outcomes(strong: Floats, weak: Floats) -> Floats:
    """Return (1 + strong - weak) / 2 of scores in 0..1, shape (n,)."""
    return (1.0 + strong - weak) / 2.0


def _fit_isotonic(win_rates: Floats, outcome: Floats) -> IsotonicMap:
    """Isotonic regression on about sqrt(n) groups of equal mass: no single label at an end becomes a 0 or a 1."""
    n = len(win_rates)
    known, group, sizes = np.unique(win_rates, return_inverse=True, return_counts=True)
    if len(known) < 2:
        raise DataError(
            f"the router says the same of all {n} labelled prompts; there is nothing to calibrate: take another router"
        )
    middle = np.cumsum(sizes) - (sizes + 1) / 2
    bin_of_row = np.unique((middle * round(np.sqrt(n)) / n).astype(np.intp), return_inverse=True)[1][group]
    mass = np.bincount(bin_of_row).astype(np.float64)
    observed = np.bincount(bin_of_row, outcome) / mass
    steps = isotonic_regression(observed, weights=mass)
    if len(steps.weights) < 2:
        raise _backwards(n, "isotonic regression finds one level")
    starts = steps.blocks[:-1]
    centres = np.add.reduceat(np.bincount(bin_of_row, win_rates), starts) / steps.weights
    # A step of plain wins or losses is as far from certain as its size allows.
    values = np.clip(steps.x[starts], 0.5 / n, 1.0 - 0.5 / n)
    inside = (centres > 0.0) & (centres < 1.0)
    ends = np.array([0.0]), np.array([1.0])
    knots, heights = (np.concatenate([ends[0], part[inside], ends[1]]) for part in (centres, values))
    return IsotonicMap(knots, heights)


def _logit(win_rates: Floats) -> Floats:
    inner = np.clip(win_rates, EDGE, 1.0 - EDGE)
    return np.asarray(np.log(inner) - np.log1p(-inner))


def _backwards(n: int, found: str) -> DataError:
    return DataError(
        f"on {n} labelled prompts a higher prediction goes with a smaller gap in truth, or with none ({found}); such a "
        "router must not be used: train it on labels like these"
    )
