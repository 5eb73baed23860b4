"""Calibration: monotone maps that turn a router's score into a win rate that means what it says.

The outcome of a labelled prompt is (1 + strong - weak) / 2 for scores in 0..1: 1 where the strong model won outright, 0
where the weak one did, one half for a tie. With a win rate that is calibrated against it, the expected gain of sending
a query to the strong model is 2 win_rate - 1, in units of score.

No map here ties two different win rates, so every split by rank stays as it was, up to the sixth decimal: win rates
have no more, so where a map is flatter than 1, neighbours can come out equal.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from scipy.optimize import isotonic_regression

from routing.errors import DataError
from routing.metrics import Floats
from routing.reliability import expected_calibration_error, outcomes, reliability

Method = Literal["platt", "isotonic"]

EDGE = 1e-6
"""Win rates are kept this far from 0 and 1 before their logit is taken: they have six decimals."""

_STEPS = 50
_LARGEST_EXPONENT = 700.0
"""Of exp in float64; a chance below exp(-700) is none."""
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
        return _sigmoid(self.slope * score + self.intercept)


@dataclass(frozen=True, slots=True)
class PlattMap:
    """Platt scaling of the logit of a win rate; slope 1 and intercept 0 change nothing."""

    platt: Platt

    def apply(self, win_rates: Floats) -> Floats:
        """Return calibrated win rates, same shape."""
        return self.platt.apply(_logit(win_rates))


@dataclass(frozen=True, slots=True)
class IsotonicMap:
    """Straight lines between the centres of isotonic regression's steps, and on to both ends.

    The ends are (0, 0) and (1, 1) where no label lies there; where labels do, they say how far from certain they are.
    """

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
        DataError: the win rates rank the labels the wrong way round, or do not tell them apart; for `platt`, also where
            they separate won from lost without a fault, which no sigmoid can say.
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
        DataError: the scores rank the rows the wrong way round, do not tell them apart, or separate them.
    """
    centre, spread = score.mean(), score.std()
    if not np.ptp(score) > 0:  # the standard deviation of equal floats need not be zero
        raise DataError(
            f"the router says the same of all {len(score)} labelled prompts; there is nothing to calibrate: "
            "take another router"
        )
    inputs = np.stack([(score - centre) / spread, np.ones_like(score)], axis=1)
    target = outcomes(strong, weak)
    # Where all that was not won lies below all that was not lost, a steeper slope is always likelier.
    if score[target < 1.0].max(initial=-np.inf) <= score[target > 0.0].min(initial=np.inf):
        raise DataError(
            f"the router separates the {len(score)} labelled prompts into won and lost without a fault (or all are "
            "one of these), for which no sigmoid is steep enough; use more labels, or the method isotonic"
        )
    weights = np.zeros(2)
    for _ in range(_STEPS):
        chance = _sigmoid(inputs @ weights)
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
        DataError: as `fit`; or fewer than two rows a fold.
    """
    if len(win_rates) < 2 * folds:
        raise DataError(
            f"calibration is checked in {folds} folds, got {len(win_rates)} labels, expected {2 * folds} or more; use "
            "more labels"
        )
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
    # A step of plain wins or losses is as far from certain as n labels allow; steps that are now level are one.
    levels = np.clip(steps.x[steps.blocks[:-1]], 0.5 / n, 1.0 - 0.5 / n)
    heights, first = np.unique(levels, return_index=True)
    total, weights = (np.add.reduceat(np.bincount(bin_of_row, of), steps.blocks[first]) for of in (win_rates, None))
    centres = total / weights
    inside = (centres > 0.0) & (centres < 1.0)
    # An end is certain, but for the labels there, which have the height of their step: a router that says 1 too often
    # does not get its 1 back. Certainty counts as one label, so that the map still rises.
    at_zero, at_one = int((win_rates == 0.0).sum()), int((win_rates == 1.0).sum())
    low, high = heights[0] * at_zero / (at_zero + 1), (heights[-1] * at_one + 1.0) / (at_one + 1)
    return IsotonicMap(np.r_[0.0, centres[inside], 1.0], np.r_[low, heights[inside], high])


def _sigmoid(logit: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(np.minimum(-logit, _LARGEST_EXPONENT))))


def _logit(win_rates: Floats) -> Floats:
    inner = np.clip(win_rates, EDGE, 1.0 - EDGE)
    return np.asarray(np.log(inner) - np.log1p(-inner))


def _backwards(n: int, found: str) -> DataError:
    return DataError(
        f"on {n} labelled prompts a higher prediction goes with a smaller gap in truth, or with none ({found}); such a "
        "router must not be used: train it on labels like these"
    )
