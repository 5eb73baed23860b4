"""The router `ngram`: ridge regression on which word-piece n-grams a prompt holds, and on four counts of its form.

Not in the paper. With a thousand labels of one's own traffic it ranked better than every router on embeddings that was
tried (docs/decisions/0025), and it needs no encoder at night: a table of two numbers a bucket.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from routing.errors import ConfigError, DataError
from routing.training.dataset import TrainingSet
from routing.training.features import token_flags
from routing.training.logistic import Floats, by_prompt, log_loss, platt
from routing.training.ngram_graph import NgramRouter, grams, log_counts
from routing.training.router import Progress, Run
from routing.training.text_input import TextInput
from schemas.artifact import Truncation

_STEPS = 200
_TOLERANCE = 1e-5
_CONSTANT = 1e-6
"""A count that spreads less than this says nothing, and gets no weight."""
_FEWEST_BUCKETS = 1_024


@dataclass(frozen=True, slots=True)
class NgramConfig:
    """Hyperparameters of the router `ngram`."""

    order: int = 3
    """Longest n-gram, in word pieces."""
    buckets: int = 524_288
    """Hash buckets that n-grams of all lengths share; four bytes each in the graph."""
    counts: float = 0.1
    """Mean squared length of the four standardised counts beside that of the n-grams, which is 1; 0: no counts."""
    decay: float | None = None
    """Ridge penalty beside a sum of squares over labels of mean weight 1; null: cross-validation chooses."""
    decays: tuple[float, ...] = (10.0, 3.0, 1.0, 0.3)
    """What it chooses from; of equally good ones the first."""
    folds: int = 5
    repeats: int = 4
    """Rounds of folds, differently drawn: with one, the best penalty of 1,500 labels jumps with the seed."""
    head_tokens: int = 384
    """Tokens read from the start of a prompt."""
    tail_tokens: int = 128


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is known of n labelled prompts."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    """With `row`: which of the buckets that any prompt fills each prompt fills."""
    columns: int
    counts: Floats
    target: Floats
    weight: Floats


@dataclass(frozen=True, slots=True)
class _Features:
    """Features of all rows, by the document frequencies and the spread of some of them."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    value: Floats
    """Of `column` in `row`; the vector of a row has length 1, or 0 where it holds nothing known."""
    counts: Floats
    """Standardised, shape (n, counts)."""
    idf: Floats
    mean: Floats
    scale: Floats
    """counts = (log counts - mean) * scale."""

    def times(self, grams_weight: Floats, count_weight: Floats) -> Floats:
        """Return the product with a vector of coefficients, shape (n,)."""
        said = self.value * grams_weight[self.column]
        return np.bincount(self.row, said, minlength=len(self.counts)) + self.counts @ count_weight

    def transposed(self, vector: Floats) -> tuple[Floats, Floats]:
        """Return the coefficients that a vector over the rows makes."""
        said = np.asarray(np.bincount(self.column, self.value * vector[self.row], minlength=len(self.idf)), np.float64)
        return said, self.counts.T @ vector


@dataclass(frozen=True, slots=True)
class _Fit:
    mean: float
    grams: Floats
    counts: Floats


def fit_ngram(dataset: TrainingSet, tokenizer: Tokenizer, config: NgramConfig, run: Run) -> NgramRouter:
    """Fit on the labels of the training side.

    The penalty is the one with the smallest log loss in repeated cross-validation by prompt, after Platt scaling; the
    same out-of-fold predictions calibrate the win rate.

    Args:
        dataset: Of which `labels` is read.
        tokenizer: Without truncation and padding.
        config: Hyperparameters.
        run: Its seed draws the folds.

    Raises:
        ConfigError: a hyperparameter is out of range.
        DataError: fewer prompts than folds, or the n-grams do not rank the targets at all.
    """
    decays = _checked(config)
    labels = by_prompt(dataset.labels)
    if labels.height < config.folds:
        raise DataError(f"{config.folds} folds of {labels.height} labelled prompts; use fewer folds or more labels")
    text = TextInput(tokenizer, Truncation(head=config.head_tokens, tail=config.tail_tokens))
    tokens = text.tokens(labels["prompt"].to_list())
    flags = token_flags(dict(tokenizer.get_vocab(with_added_tokens=True)))
    held = grams(tokens, order=config.order, buckets=config.buckets)
    known, column = np.unique(held.bucket, return_inverse=True)
    rows = _Rows(
        row=held.row,
        column=column,
        columns=len(known),
        counts=log_counts(tokens, flags),
        target=labels["target"].to_numpy(),
        weight=labels["weight"].to_numpy() / float(labels["weight"].mean()),  # type: ignore[arg-type]
    )

    calibrations, losses = np.empty((config.repeats, len(decays), 2)), np.empty((config.repeats, len(decays)))
    rng = np.random.default_rng(run.seed)
    for repeat in range(config.repeats):
        for place, predicted in enumerate(_out_of_fold(rows, decays, config, rng)):
            intercept, slope = calibrations[repeat, place] = platt(predicted, rows.target, rows.weight)
            losses[repeat, place] = log_loss(intercept + slope * predicted, rows.target, rows.weight)
        run.report(Progress(step=repeat + 1, steps=config.repeats, loss=float(losses[: repeat + 1].mean(axis=0).min())))
    best = int(np.argmin(losses.mean(axis=0)))
    intercept, slope = calibrations[:, best].mean(axis=0)
    if not slope > 0:
        raise DataError(
            f"in cross-validation on {labels.height} prompts a larger prediction goes with a smaller target (slope "
            f"{slope:.3f}): nothing was learned; use more labels or another kind of router"
        )
    seen = _features(rows, np.ones(len(rows.target), bool), config.counts)
    fitted = _ridge(seen, rows, np.ones(len(rows.target), bool), decays[best])
    weights = slope * fitted.grams * seen.idf
    scale = float(np.abs(weights).max(initial=_CONSTANT))
    table = np.zeros((config.buckets + 1, 2), np.float16)
    table[known] = np.stack([weights / scale, seen.idf**2], axis=1)
    count_weights = slope * fitted.counts * seen.scale
    return NgramRouter(
        text=text,
        order=config.order,
        table=table,
        scale=scale,
        flags=flags,
        count_weights=count_weights.astype(np.float32),
        bias=float(intercept + slope * fitted.mean - seen.mean @ count_weights),
        notes={
            "decay": decays[best],
            "cross_validation_log_loss": float(losses[:, best].mean()),
            "prompts": float(labels.height),
            "filled_buckets": float(len(known)),
        },
    )


def _checked(config: NgramConfig) -> tuple[float, ...]:
    decays = config.decays if config.decay is None else (config.decay,)
    if config.folds < 2 or config.repeats < 1 or not decays or min(decays) <= 0:
        raise ConfigError(
            f"ngram: folds must be at least 2, repeats at least 1 and every decay above 0, got folds = {config.folds}, "
            f"repeats = {config.repeats}, decays = {decays}"
        )
    if config.order < 1 or config.buckets < _FEWEST_BUCKETS or config.counts < 0:
        raise ConfigError(
            f"ngram: expected order >= 1, buckets >= {_FEWEST_BUCKETS} and counts >= 0, got order = {config.order}, "
            f"buckets = {config.buckets}, counts = {config.counts}"
        )
    return decays


def _out_of_fold(rows: _Rows, decays: tuple[float, ...], config: NgramConfig, rng: np.random.Generator) -> Floats:
    """Return predictions by fits that did not see the row, shape (decays, n)."""
    n = len(rows.target)
    fold = rng.permutation(n) % config.folds
    predicted = np.empty((len(decays), n))
    for place in range(config.folds):
        inside = fold == place
        seen = _features(rows, ~inside, config.counts)
        for step, decay in enumerate(decays):
            fitted = _ridge(seen, rows, ~inside, decay)
            predicted[step, inside] = fitted.mean + seen.times(fitted.grams, fitted.counts)[inside]
    return predicted


def _features(rows: _Rows, fitted: NDArray[np.bool_], counts: float) -> _Features:
    """Return the features of all rows as the fitted ones define them: a bucket that these do not fill is unknown."""
    frequency = np.bincount(rows.column[fitted[rows.row]], minlength=rows.columns)
    idf = np.where(frequency > 0, np.log((1 + fitted.sum()) / (1 + frequency)) + 1.0, 0.0)
    value = idf[rows.column]
    length = np.sqrt(np.bincount(rows.row, value**2, minlength=len(rows.target)))
    share = np.where(fitted, rows.weight, 0.0) / rows.weight[fitted].sum()
    mean = share @ rows.counts
    spread = np.sqrt(share @ (rows.counts - mean) ** 2)
    scale = np.where(spread > _CONSTANT, np.sqrt(counts / len(mean)) / np.maximum(spread, _CONSTANT), 0.0)
    normed = value / np.where(length > 0, length, 1.0)[rows.row]
    return _Features(rows.row, rows.column, normed, (rows.counts - mean) * scale, idf, mean, scale)


def _ridge(seen: _Features, rows: _Rows, fitted: NDArray[np.bool_], decay: float) -> _Fit:
    """Minimise sum weight (target - mean - x . b)^2 + decay |b|^2 over b, with the weighted mean of the targets.

    With b = X^T a this is (X X^T + decay / weight) a = target - mean: as many unknowns as prompts, solved by conjugate
    gradients on the system scaled by sqrt(weight / decay), whose smallest eigenvalue is 1.
    """
    weight = np.where(fitted, rows.weight, 0.0)
    mean = float(weight @ rows.target / weight.sum())
    scale = np.sqrt(weight / decay)

    def applied(vector: Floats) -> Floats:
        return np.asarray(scale * seen.times(*seen.transposed(scale * vector)) + vector)

    solution = np.zeros(len(weight))
    residual = scale * (rows.target - mean)
    direction, square = residual, float(residual @ residual)
    enough = _TOLERANCE**2 * square
    for _ in range(_STEPS):
        if square <= enough:
            break
        image = applied(direction)
        step = square / float(direction @ image)
        solution = solution + step * direction
        residual = residual - step * image
        before, square = square, float(residual @ residual)
        direction = residual + (square / before) * direction
    return _Fit(mean, *seen.transposed(scale * solution))
