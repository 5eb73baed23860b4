"""Weighted logistic regression on soft targets, and labels brought down to one row a prompt."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.errors import DataError

Floats = NDArray[np.float64]

_STEPS = 100
_SMALLEST_STEP = 1e-9
_SMALLEST_FRACTION = 2.0**-20
_ROUNDING = 1e-12
_SMALLEST_SPREAD = 1e-6
_RIDGE = 1e-9
"""Keeps the Newton system solvable where the data leave a direction open."""


def by_prompt(labels: pl.DataFrame) -> pl.DataFrame:
    """LABELS -> (prompt, target, weight), one row a prompt in order of first appearance; weights above zero.

    Logistic and squared loss are changed by a constant only: they depend on a prompt's labels through the sum of the
    weights and the weighted mean of the targets.

    Raises:
        DataError: no label has a weight.
    """
    weight = pl.col("weight")
    rows = (
        labels.filter(weight > 0)
        .group_by("prompt", maintain_order=True)
        .agg(target=((pl.col("target") * weight).sum() / weight.sum()).clip(0.0, 1.0), weight=weight.sum())
    )
    if rows.is_empty():
        raise DataError("no label has a weight above zero; check the weights of the sources")
    return rows


def logistic(x: Floats, target: Floats, weight: Floats, *, decay: float, start: Floats | None = None) -> Floats:
    """Return intercept and coefficients, shape (1 + k,), that minimise the weighted mean log loss + decay/2 |b|^2.

    Newton's method with halved steps; the intercept is not penalised.

    Args:
        x: Shape (n, k).
        target: In [0, 1], shape (n,).
        weight: Above zero, shape (n,).
        decay: L2 penalty; with 0 the labels must not be separable.
        start: Where to begin, shape (1 + k,); zeros when omitted.
    """
    inputs = np.hstack([np.ones((len(x), 1)), x])
    share = weight / weight.sum()
    penalty = np.full(inputs.shape[1], decay)
    penalty[0] = 0.0

    def loss(at: Floats) -> float:
        return log_loss(inputs @ at, target, share) + 0.5 * float(penalty @ at**2)

    found = np.zeros(inputs.shape[1]) if start is None else start.copy()
    current = loss(found)
    for _ in range(_STEPS):
        chance = sigmoid(inputs @ found)
        gradient = inputs.T @ (share * (target - chance)) - penalty * found
        curvature = (inputs * (share * chance * (1.0 - chance))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + np.diag(penalty + _RIDGE), gradient)
        fraction = 1.0
        # Rounding alone may raise the loss of the last steps.
        while (reached := loss(found + fraction * step)) > current + _ROUNDING and fraction > _SMALLEST_FRACTION:
            fraction /= 2.0
        found, current = found + fraction * step, reached
        if np.abs(step).max() < _SMALLEST_STEP or fraction <= _SMALLEST_FRACTION:
            break
    return found


def platt(predicted: Floats, target: Floats, weight: Floats) -> Floats:
    """Return intercept and slope that turn predictions into logits of win rates; a slope of 0 where all are alike.

    Args:
        predicted: Out-of-fold predictions of the targets, on any scale, shape (n,).
        target: In [0, 1], shape (n,).
        weight: Above zero, shape (n,).
    """
    spread = float(predicted.std())
    if not spread > _SMALLEST_SPREAD:
        return np.zeros(2)
    intercept, slope = logistic((predicted / spread)[:, None], target, weight, decay=1e-6)
    return np.array([intercept, slope / spread])


def log_loss(logits: Floats, target: Floats, weight: Floats) -> float:
    """Return the weighted mean log loss of soft targets; all of shape (n,)."""
    return float(weight @ (np.logaddexp(0.0, logits) - target * logits) / weight.sum())


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-logits)) without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))
