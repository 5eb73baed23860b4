"""The bilinear router: a prompt's features meet one vector per model; learned from graded answers and battles.

RouteLLM's matrix factorization (arXiv 2406.18665, section 4.2) scores a model M on a query q by a bilinear form and
predicts sigmoid(delta(strong, q) - delta(weak, q)). Here the score is the logit of a graded answer,

    logit P(M right | q) = difficulty . x + vector_M . (W x) + ability_M + offset_(M, benchmark),

with x the features of q, and the router ranks by the expected gap P(strong right | q) - P(weak right | q). A
difference of logits is large where both models are sure to be right, and there the strong one gains nothing; the gap
is what PGR counts. The offsets soak up how hard a benchmark is for a model, so that x explains differences inside a
benchmark; at inference their mean over the benchmarks that both models of the pair were graded on stands in for them.
Rank 0 leaves one difficulty per prompt and one ability per model (a Rasch model).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from routing.errors import DataError
from routing.training.features import Features

Loss = Callable[[], Tensor]

_FREE_DECAY = 1e-6
"""Keeps abilities and offsets, which share a direction, unique."""


@dataclass(frozen=True, slots=True)
class MatrixFactorizationConfig:
    """Hyperparameters of the bilinear router."""

    rank: int
    """Dimensions of a model's vector; 0 leaves difficulty and ability."""
    query_decay: float
    """L2 penalty on the weights of the unit query vector."""
    shape_decay: float
    """L2 penalty on the weights of the standardised counts."""
    battle_weight: float
    """Weight of the battles' mean loss beside the graded answers'; it teaches a rank of at least 1 only."""
    iterations: int
    """L-BFGS iterations at most."""


@dataclass(frozen=True, slots=True)
class PairHeads:
    """The model for one pair, folded into one affine map of the raw features."""

    weight: NDArray[np.float32]
    """Shape (dim + counts, 2): features -> logits of P(strong right), P(weak right)."""
    bias: NDArray[np.float32]
    """Shape (2,)."""

    def gap(self, features: Features) -> NDArray[np.float64]:
        """Return P(strong right) - P(weak right), shape (n,), each in (-1, 1)."""
        logits = np.hstack([features.query, features.shape]) @ self.weight + self.bias
        chances = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
        return np.asarray(chances[:, 0] - chances[:, 1])


@dataclass(frozen=True, slots=True)
class BilinearModel:
    """The parameters of the formula above; float64, because L-BFGS compares losses closely."""

    difficulty: Tensor
    """Shape (features,)."""
    projection: Tensor
    """W, shape (features, rank)."""
    vector: Tensor
    """Shape (models, rank)."""
    ability: Tensor
    """Shape (models,)."""
    offset: Tensor
    """Shape (models, benchmarks)."""

    @classmethod
    def initial(cls, *, features: int, models: int, benchmarks: int, rank: int, seed: int) -> "BilinearModel":
        """Return the model before training: zeros, and small random vectors, whose symmetry must be broken."""
        generator = torch.Generator().manual_seed(seed)
        shapes = {"difficulty": (features,), "ability": (models,), "offset": (models, benchmarks)}
        drawn = {"projection": (features, rank), "vector": (models, rank)}
        zeros = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
        small = {
            name: 0.1 * torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in drawn.items()
        }
        return cls(**{name: tensor.requires_grad_() for name, tensor in (zeros | small).items()})

    def parameters(self) -> list[Tensor]:
        """Return everything that is trained."""
        return [self.difficulty, self.projection, self.vector, self.ability, self.offset]

    def logits(self, x: Tensor, row: Tensor, model: Tensor) -> Tensor:
        """Return logits without offsets, shape (n,), for prompts `x[row]` and models `model`."""
        projected = x @ self.projection
        return (x @ self.difficulty)[row] + (projected[row] * self.vector[model]).sum(1) + self.ability[model]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Puts the counts on one scale; the query vector has unit length already."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def apply(self, features: Features) -> Tensor:
        """Return the model's input, float64, shape (n, dim + counts)."""
        return torch.from_numpy(np.hstack([features.query, (features.shape - self.mean) / self.std]))


@dataclass(frozen=True, slots=True)
class MatrixFactorization:
    """A trained bilinear router over many models."""

    model: BilinearModel
    scaling: Scaling
    models: tuple[str, ...]
    graded: NDArray[np.bool_]
    """Whether a model has graded answers on a benchmark, shape (models, benchmarks)."""

    def heads(self, *, strong: str, weak: str) -> PairHeads:
        """Fold the model into the affine map of one pair.

        Raises:
            DataError: a model of the pair has no training rows.
        """
        unknown = sorted({strong, weak} - set(self.models))
        if unknown:
            raise DataError(f"no graded answers of {unknown} to train on; known models are {list(self.models)}")
        places = [self.models.index(strong), self.models.index(weak)]
        with torch.no_grad():
            vectors = self.model.vector[places]
            weight = (self.model.difficulty[:, None] + self.model.projection @ vectors.T).numpy()
            ability, offset = self.model.ability[places].numpy(), self.model.offset[places].numpy()
        shared = self.graded[places].all(axis=0)
        bias = ability + offset[:, shared].mean(axis=1) if shared.any() else ability
        dim = len(weight) - len(self.scaling.mean)
        weight = np.concatenate([weight[:dim], weight[dim:] / self.scaling.std[:, None]])
        bias = bias - self.scaling.mean @ weight[dim:]
        return PairHeads(weight=weight.astype(np.float32), bias=bias.astype(np.float32))


def make_deterministic(*, threads: int) -> None:
    """Fix torch's number of threads and its algorithms: same machine and inputs, same bits."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)


def fit(
    graded: pl.DataFrame,
    battles: pl.DataFrame,
    prompts: Sequence[str],
    features: Features,
    config: MatrixFactorizationConfig,
    *,
    seed: int,
) -> MatrixFactorization:
    """Fit the bilinear router by L-BFGS on all rows at once.

    Args:
        graded: CORRECTNESS.
        battles: BATTLES; may be empty, and is not read at a battle weight of 0. A tie counts as half a win for each.
        prompts: Distinct prompts; every prompt of the two tables is among them.
        features: Their features, in the same order.
        config: Hyperparameters.
        seed: Of the first vectors; without effect at rank 0.

    Raises:
        DataError: no graded rows, or the fit diverged.
    """
    if graded.is_empty():
        raise DataError("no graded answers are left to train on; check the filters and the split")
    used = battles if config.battle_weight else battles.clear()
    places = pl.DataFrame({"prompt": prompts}, schema={"prompt": pl.String})["prompt"]
    models = pl.concat([graded["model"], used["model_a"], used["model_b"]]).unique().sort()
    seen = np.unique(_place(pl.concat([graded["prompt"], used["prompt"]]), places))
    shape = features.shape[seen].astype(np.float64)
    scaling = Scaling(mean=shape.mean(axis=0), std=np.maximum(shape.std(axis=0), 1e-6))
    x = scaling.apply(features)
    benchmarks = graded["benchmark"].unique().sort()
    model = BilinearModel.initial(
        features=x.shape[1], models=len(models), benchmarks=len(benchmarks), rank=config.rank, seed=seed
    )
    losses = [_graded_loss(model, x, graded, places, models, benchmarks)]
    if not used.is_empty():
        battle_loss = _battle_loss(model, x, used, places, models)
        losses.append(lambda: config.battle_weight * battle_loss())
    losses.append(_penalty(model, config, dim=features.query.shape[1]))
    _minimise(model, losses, iterations=config.iterations)
    seen_on = np.zeros((len(models), len(benchmarks)), dtype=bool)
    seen_on[_place(graded["model"], models), _place(graded["benchmark"], benchmarks)] = True
    return MatrixFactorization(model=model, scaling=scaling, models=tuple(models), graded=seen_on)


def _place(values: pl.Series, domain: pl.Series) -> NDArray[np.int64]:
    """Return where each value stands in `domain`, whose values are distinct."""
    index = pl.DataFrame({"value": domain}).with_row_index("place")
    return (
        pl.DataFrame({"value": values})
        .join(index, on="value", maintain_order="left")["place"]
        .cast(pl.Int64)
        .to_numpy()
    )


def _tensor(values: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.array(values))


def _weighted(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return (functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight).sum() / weight.sum()


def _graded_loss(
    bilinear: BilinearModel,
    x: Tensor,
    graded: pl.DataFrame,
    prompts: pl.Series,
    models: pl.Series,
    benchmarks: pl.Series,
) -> Loss:
    row, model = _tensor(_place(graded["prompt"], prompts)), _tensor(_place(graded["model"], models))
    benchmark = _tensor(_place(graded["benchmark"], benchmarks))
    score, weight = _tensor(graded["score"].to_numpy()), _tensor(graded["weight"].to_numpy())
    return lambda: _weighted(bilinear.logits(x, row, model) + bilinear.offset[model, benchmark], score, weight)


def _battle_loss(
    bilinear: BilinearModel, x: Tensor, battles: pl.DataFrame, prompts: pl.Series, models: pl.Series
) -> Loss:
    row = _tensor(_place(battles["prompt"], prompts))
    model_a, model_b = (_tensor(_place(battles[side], models)) for side in ("model_a", "model_b"))
    wins = pl.when(pl.col("winner") == "tie").then(0.5).otherwise((pl.col("winner") == "model_a").cast(pl.Float64))
    target, weight = _tensor(battles.select(wins).to_series().to_numpy()), _tensor(battles["weight"].to_numpy())
    return lambda: _weighted(bilinear.logits(x, row, model_a) - bilinear.logits(x, row, model_b), target, weight)


def _penalty(bilinear: BilinearModel, config: MatrixFactorizationConfig, *, dim: int) -> Loss:
    decay = torch.full_like(bilinear.difficulty, config.shape_decay)
    decay[:dim] = config.query_decay
    return lambda: (
        (decay * bilinear.difficulty.square()).sum()
        + (decay[:, None] * bilinear.projection.square()).sum()
        + config.query_decay * bilinear.vector.square().sum()
        + _FREE_DECAY * (bilinear.ability.square().sum() + bilinear.offset.square().sum())
    )


def _minimise(bilinear: BilinearModel, losses: Sequence[Loss], *, iterations: int) -> None:
    # Any: torch leaves its optimisers untyped.
    optimiser: Any = torch.optim.LBFGS(
        bilinear.parameters(),
        max_iter=iterations,
        history_size=10,
        tolerance_change=1e-10,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = torch.stack([part() for part in losses]).sum()
        torch.autograd.backward(loss)
        return loss

    optimiser.step(closure)
    if not all(torch.isfinite(parameter).all() for parameter in bilinear.parameters()):
        raise DataError("the fit diverged: a weight is not finite; raise the decays")
