"""The router `mf` over given prompt embeddings: RouteLLM's matrix factorization (arXiv 2406.18665, section 4.2).

A model M scores a prompt with embedding q by

    delta(M, q) = w . (v_M * (W q + b)),

v_M of unit length, * elementwise, and P(A beats B | q) = sigmoid(delta(A, q) - delta(B, q)). As in their code, b is
left out by default, training adds Gaussian noise to q, and ties can be dropped; unlike there, the noise is in the
training step only.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from routing.bradley_terry import a_wins
from routing.errors import ConfigError, DataError
from routing.training.dataset import TrainingSet
from routing.training.loop import LoopConfig, Objective, Validation, held_out_apgr, pick_device, train
from routing.training.router import Run

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Prompts -> embeddings, shape (n, dim)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MfConfig:
    """Hyperparameters of the router `mf`."""

    rank: int = 128
    """Dimensions of a model's vector."""
    bias: bool = False
    """Whether the projection has the paper's b; the published code has none."""
    noise: float = 0.05
    """Standard deviation of the Gaussian noise on each coordinate of an embedding, in training."""
    drop_ties: bool = False
    """RouteLLM drops ties; else a tie is half a win."""
    loop: LoopConfig

    def __post_init__(self) -> None:
        if self.rank < 1 or self.noise < 0:
            raise ConfigError(f"mf needs a rank of at least 1 and no negative noise, got {self.rank} and {self.noise}")


class PairVector(NamedTuple):
    """The bilinear model for one pair: win_rate = sigmoid(q . weight + bias)."""

    weight: NDArray[np.float32]
    """Shape (dim,)."""
    bias: float


@dataclass(frozen=True, slots=True)
class MfModel:
    """The parameters of the formula above as plain arrays, trained here or read from RouteLLM's files."""

    models: tuple[str, ...]
    vectors: NDArray[np.float32]
    """v before it is brought to unit length (`P.weight`), shape (models, rank)."""
    projection: NDArray[np.float32]
    """W (`text_proj.0.weight`), shape (rank, dim)."""
    classifier: NDArray[np.float32]
    """w (`classifier.0.weight`), shape (rank,)."""
    projection_bias: NDArray[np.float32] | None = None
    """b, shape (rank,)."""

    def pair(self, *, strong: str, weak: str) -> "MfHead":
        """Return the model for one pair.

        Raises:
            DataError: it knows no such model.
        """
        for model in (strong, weak):
            _check_known(model, self.models)
        return MfHead(self, strong=strong, weak=weak)


@dataclass(frozen=True, slots=True)
class MfHead:
    """What reads prompt embeddings and answers for one pair."""

    model: MfModel
    strong: str
    weak: str

    def win_rates(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return P(strong beats weak) by the formula above, shape (n,).

        Args:
            embeddings: Shape (n, dim).
        """
        projected = embeddings.astype(np.float64) @ self.model.projection.T
        if self.model.projection_bias is not None:
            projected = projected + self.model.projection_bias
        strong, weak = ((self._unit(name) * projected) @ self.model.classifier for name in (self.strong, self.weak))
        return np.asarray(1.0 / (1.0 + np.exp(weak - strong)))

    def pair_vector(self) -> PairVector:
        """Return the same as one vector and one number, for a graph.

        With d = w * (v_strong - v_weak), the difference of the scores is

            delta(strong, q) - delta(weak, q) = sum_k w_k (v_strong,k - v_weak,k) (W q + b)_k = d . (W q + b)
                                              = (W^T d) . q + d . b,

        so that weight = W^T d and bias = d . b: exact, not an approximation.
        """
        lead = self.model.classifier * (self._unit(self.strong) - self._unit(self.weak))
        bias = 0.0 if self.model.projection_bias is None else float(lead @ self.model.projection_bias)
        return PairVector((self.model.projection.T @ lead).astype(np.float32), bias)

    def _unit(self, name: str) -> NDArray[np.float64]:
        vector = self.model.vectors[self.model.models.index(name)].astype(np.float64)
        # torch's normalize, which their code calls, divides by at least 1e-12.
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12))


class _Bilinear(nn.Module):
    """The formula above in torch."""

    def __init__(self, models: int, dim: int, config: MfConfig) -> None:
        super().__init__()
        self.vectors = nn.Embedding(models, config.rank)
        self.projection = nn.Linear(dim, config.rank, bias=config.bias)
        self.classifier = nn.Linear(config.rank, 1, bias=False)

    def forward(self, query: Tensor, model_a: Tensor, model_b: Tensor) -> Tensor:
        """Return delta(A, q) - delta(B, q), shape (n,)."""
        first, second = (functional.normalize(self.vectors(model), dim=1) for model in (model_a, model_b))
        lead: Tensor = self.classifier((first - second) * self.projection(query))
        return lead.squeeze(1)


class _Rows(NamedTuple):
    """Battles as tensors."""

    query: Tensor
    """Row of the embedding, shape (n,)."""
    model_a: Tensor
    model_b: Tensor
    won: Tensor
    """1 where A won, one half for a tie."""


def fit_mf(dataset: TrainingSet, embed: Embed, config: MfConfig, run: Run) -> MfHead:
    """Fit the model on all battles, and return it for the pair of the data set.

    Args:
        dataset: Its battles are trained on; held-out battles give the validation loss, held-out labels the APGR.
        embed: The embedder; it is given each prompt once.
        config: Hyperparameters.
        run: Seed, device, reports, checkpoints.

    Raises:
        DataError: a model of the pair has no battle, or no battle is left.
        ConfigError: see `routing.training.loop.train`.
    """
    battles, held_out = dataset.battles, dataset.held_out_battles
    if config.drop_ties:
        battles, held_out = (rows.filter(pl.col("winner") != "tie") for rows in (battles, held_out))
    models = pl.concat([battles["model_a"], battles["model_b"]]).unique().sort()
    for model in (dataset.strong, dataset.weak):
        _check_known(model, tuple(models))
    # A model without a battle in training has no vector to validate.
    held_out = held_out.filter(pl.col("model_a").is_in(models.implode()), pl.col("model_b").is_in(models.implode()))
    labels = dataset.held_out_labels
    prompts = pl.concat([battles["prompt"], held_out["prompt"], labels["prompt"]]).unique(maintain_order=True)
    embeddings = embed(prompts.to_list())
    device = pick_device(run.device)
    queries = torch.from_numpy(embeddings).to(device)
    rows, held_out_rows = (_rows(table, prompts, models, device) for table in (battles, held_out))
    weight = _tensor(held_out["weight"], device)
    label_queries = embeddings[_place(labels["prompt"], prompts)]
    label_target = labels["target"].to_numpy()
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        module = _Bilinear(len(models), embeddings.shape[1], config).to(device)

    def losses(index: NDArray[np.intp]) -> Tensor:
        place = torch.from_numpy(index).to(device)
        query = queries[rows.query[place]]
        query = query + config.noise * torch.randn_like(query)
        return _loss(module(query, rows.model_a[place], rows.model_b[place]), rows.won[place])

    def validate() -> Validation:
        lead = module(queries[held_out_rows.query], held_out_rows.model_a, held_out_rows.model_b)
        loss = float((_loss(lead, held_out_rows.won) * weight).sum() / weight.sum())
        rates = _arrays(module, models).pair(strong=dataset.strong, weak=dataset.weak).win_rates(label_queries)
        return Validation(loss=loss, apgr=held_out_apgr(rates, label_target))

    train(
        Objective(
            module=module,
            losses=losses,
            lengths=np.ones(len(battles), np.int64),
            weights=battles["weight"].to_numpy(),
            validate=validate,
            identity=f"mf {config} {list(models)} {_digest(embeddings, rows)} {_digest(embeddings, held_out_rows)}",
        ),
        config.loop,
        run,
    )
    return _arrays(module, models).pair(strong=dataset.strong, weak=dataset.weak)


def _check_known(model: str, known: Sequence[str]) -> None:
    if model in known:
        return
    near = get_close_matches(model, known, n=3, cutoff=0.0)
    raise DataError(
        f"model {model!r} is not among the {len(known)} models with battles to learn from; nearest are {near}: "
        "name one of them in [pair], or add battles of it"
    )


def _arrays(module: _Bilinear, models: pl.Series) -> MfModel:
    bias = module.projection.bias
    return MfModel(
        models=tuple(models),
        vectors=_array(module.vectors.weight),
        projection=_array(module.projection.weight),
        classifier=_array(module.classifier.weight)[0],
        projection_bias=None if bias is None else _array(bias),
    )


def _array(weight: Tensor) -> NDArray[np.float32]:
    # A copy: a CPU tensor's numpy view would go on changing with training.
    return np.array(weight.detach().cpu().numpy(), np.float32)


def _rows(battles: pl.DataFrame, prompts: pl.Series, models: pl.Series, device: torch.device) -> _Rows:
    domains = (("prompt", prompts), ("model_a", models), ("model_b", models))
    places = [_place(battles[name], domain) for name, domain in domains]
    query, model_a, model_b = (torch.from_numpy(place).to(device) for place in places)
    won = torch.from_numpy(np.array(a_wins(battles), np.float32)).to(device)
    return _Rows(query, model_a, model_b, won)


def _place(values: pl.Series, domain: pl.Series) -> NDArray[np.int64]:
    """Return where each value stands in `domain`, whose values are distinct."""
    index = pl.DataFrame({"value": domain}).with_row_index("place")
    found = pl.DataFrame({"value": values}).join(index, on="value", maintain_order="left")
    return found["place"].cast(pl.Int64).to_numpy(writable=True)


def _tensor(values: pl.Series, device: torch.device) -> Tensor:
    return torch.from_numpy(values.to_numpy(writable=True)).to(device)


def _loss(lead: Tensor, won: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(lead.float(), won, reduction="none")


def _digest(embeddings: NDArray[np.float32], rows: _Rows) -> str:
    digest = hashlib.sha256(embeddings.tobytes())
    for part in rows:
        digest.update(part.cpu().numpy().tobytes())
    return digest.hexdigest()
