"""The router `linear`: ridge or logistic regression on the embedding and, with counts, on the form of the prompt.

Not in the paper. It is the label-efficient baseline: on benchmarks with in-domain labels a linear model on a decent
embedding with the prompt's length is among the strongest simple methods (arXiv 2505.12601, 2601.07206). Both losses end
as one affine map in front of a sigmoid, with the standardisation of the features folded in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from routing.errors import ConfigError, DataError
from routing.training.dataset import TrainingSet
from routing.training.fuse import EmbeddingRouter, LinearHead
from routing.training.logistic import Floats, by_prompt, log_loss, logistic, platt
from routing.training.prompt_embeddings import PromptEmbeddings
from routing.training.router import Progress, Run

_CONSTANT = 1e-6
"""A feature that spreads less than this is a constant with noise, and gets no weight."""


@dataclass(frozen=True, slots=True)
class LinearConfig:
    """Hyperparameters of the router `linear`."""

    loss: Literal["logistic", "ridge"] = "logistic"
    decay: float | None = None
    """L2 penalty on the coefficients of standardised features, beside a mean loss; null: cross-validation chooses."""
    decays: tuple[float, ...] = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
    """What it chooses from; of equally good ones the first."""
    folds: int = 5


@dataclass(frozen=True, slots=True)
class _Rows:
    """Features and labels, one row a prompt."""

    x: Floats
    target: Floats
    weight: Floats

    def take(self, rows: np.ndarray) -> "_Rows":
        return _Rows(self.x[rows], self.target[rows], self.weight[rows])


_Path = Callable[[_Rows, tuple[float, ...]], Floats]
"""Rows and k decays -> intercepts and coefficients, shape (k, 1 + features)."""


def fit_linear(dataset: TrainingSet, embed: PromptEmbeddings, config: LinearConfig, run: Run) -> EmbeddingRouter:
    """Fit on the labels of the training side.

    The penalty is the one with the smallest log loss in cross-validation by prompt. A ridge regression predicts
    targets, not chances: its out-of-fold predictions calibrate it to a win rate, by Platt scaling.

    Args:
        dataset: Of which `labels` is read.
        embed: Embeds the prompts.
        config: Hyperparameters.
        run: Its seed draws the folds.

    Raises:
        ConfigError: a penalty is not above zero, or fewer than two folds are asked for.
        DataError: fewer prompts than folds, or the features do not rank the targets at all.
    """
    decays = config.decays if config.decay is None else (config.decay,)
    if config.folds < 2 or not decays or min(decays) <= 0:
        raise ConfigError(
            f"linear: folds must be at least 2 and every decay above 0, got folds = {config.folds}, decays = {decays}"
        )
    labels = by_prompt(dataset.labels)
    if labels.height < config.folds:
        raise DataError(f"{config.folds} folds of {labels.height} labelled prompts; use fewer folds or more labels")
    rows = _Rows(embed(labels["prompt"]).astype(np.float64), labels["target"].to_numpy(), labels["weight"].to_numpy())
    share = rows.weight / rows.weight.sum()
    mean = share @ rows.x
    spread = np.sqrt(share @ (rows.x - mean) ** 2)
    scale = np.where(spread > _CONSTANT, 1.0 / np.maximum(spread, _CONSTANT), 0.0)
    rows = _Rows((rows.x - mean) * scale, rows.target, rows.weight)

    path = _ridge_path if config.loss == "ridge" else _logistic_path
    predicted = _out_of_fold(rows, decays, path, folds=config.folds, seed=run.seed)
    calibrations = [
        platt(one, rows.target, rows.weight) if config.loss == "ridge" else np.array([0.0, 1.0]) for one in predicted
    ]
    losses = []
    for place, (one, (intercept, slope)) in enumerate(zip(predicted, calibrations, strict=True)):
        losses.append(log_loss(intercept + slope * one, rows.target, rows.weight))
        run.report(Progress(step=place + 1, steps=len(decays), loss=losses[-1]))
    best = int(np.argmin(losses))
    intercept, slope = calibrations[best]
    if not slope > 0:
        raise DataError(
            f"in cross-validation on {labels.height} prompts a larger prediction goes with a smaller target (slope "
            f"{slope:.3f}): nothing was learned; use more labels or another embedder"
        )
    fitted = path(rows, (decays[best],))[0]
    weight = slope * fitted[1:] * scale
    head = LinearHead(weight.astype(np.float32), float(intercept + slope * fitted[0] - mean @ weight))
    notes = {"decay": decays[best], "cross_validation_log_loss": losses[best], "prompts": float(labels.height)}
    return EmbeddingRouter("linear", embed.embedder, head, notes)


def _out_of_fold(rows: _Rows, decays: tuple[float, ...], path: _Path, *, folds: int, seed: int) -> Floats:
    """Return predictions by fits that did not see the row, shape (k, n)."""
    n = len(rows.target)
    fold = np.random.default_rng(seed).permutation(n) % folds
    predicted = np.empty((len(decays), n))
    for place in range(folds):
        inside = fold == place
        fitted = path(rows.take(~inside), decays)
        predicted[:, inside] = fitted[:, :1] + fitted[:, 1:] @ rows.x[inside].T
    return predicted


def _logistic_path(rows: _Rows, decays: tuple[float, ...]) -> Floats:
    found: list[Floats] = []
    for decay in decays:
        start = found[-1] if found else None
        found.append(logistic(rows.x, rows.target, rows.weight, decay=decay, start=start))
    return np.stack(found)


def _ridge_path(rows: _Rows, decays: tuple[float, ...]) -> Floats:
    """One eigendecomposition serves every penalty."""
    share = rows.weight / rows.weight.sum()
    mean, level = share @ rows.x, share @ rows.target
    centred = rows.x - mean
    values, vectors = np.linalg.eigh((centred * share[:, None]).T @ centred)
    rotated = vectors.T @ (centred.T @ (share * (rows.target - level)))
    coefficients = (rotated / (np.maximum(values, 0.0) + np.array(decays)[:, None])) @ vectors.T
    return np.hstack([level - coefficients @ mean[:, None], coefficients])
