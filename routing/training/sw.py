"""The router `sw` from battles: ratings, tiers, prototypes; merged without loss, thinned at a stated error.

See `routing.training.similarity_weighted` for the model.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx
import polars as pl
from numpy.typing import NDArray

from routing.bradley_terry import ratings, tiers, win_matrix
from routing.errors import ConfigError, DataError
from routing.training.dataset import TrainingSet
from routing.training.fuse import EmbeddingRouter
from routing.training.prompt_embeddings import PromptEmbeddings
from routing.training.router import Run
from routing.training.similarity_graph import similarity_graph
from routing.training.similarity_weighted import SameTier, SimilarityWeighted, similarity_weighted

_BLOCK_VALUES = 1 << 24
_DTYPES = {"float32": np.float32, "float16": np.float16}


@dataclass(frozen=True, slots=True)
class SwConfig:
    """Hyperparameters of the router `sw`."""

    tiers: int = 10
    same_tier: SameTier = "ignored"
    """What a battle inside one tier does; see `routing.training.similarity_weighted`."""
    dtype: Literal["float32", "float16"] = "float16"
    """How prototypes are stored."""
    max_prototypes: int | None = None
    """Prototypes kept at most; null keeps all."""
    min_battles: int = 1
    """Models with fewer battles are left out: their ratings are guesses, and would shape the tiers."""


@dataclass(frozen=True, slots=True)
class SwHead:
    """A `routing.training.fuse.Head`."""

    router: SimilarityWeighted

    def win_rates(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return win rates of embeddings (n, dim), shape (n,)."""
        return self.router.win_rates(embeddings)

    def graph(self) -> onnx.ModelProto:
        """Return `embedding` float32 [batch, dim] -> `win_rate` float32 [batch]."""
        return similarity_graph(self.router)


def fit_sw(dataset: TrainingSet, embed: PromptEmbeddings, config: SwConfig, run: Run) -> EmbeddingRouter:
    """Rate the models, group them into tiers, and store each distinct prompt once.

    The notes of the router say what was left out, and how far storing (float16, thinning) moves the win rates of the
    held-out prompts from those of all prototypes in float32: `storage_max_error`, `storage_mean_error`.

    Args:
        dataset: Its training battles are fitted on.
        embed: Embeds the prompts; counts are not read.
        config: Hyperparameters.
        run: Its seed draws the prototypes that stay.

    Raises:
        ConfigError: `max_prototypes` is below 1.
        DataError: the pair is not rated or shares a tier, there are fewer models than tiers, or the tiers' strengths
            are not finite.
    """
    if config.max_prototypes is not None and config.max_prototypes < 1:
        raise ConfigError(f"sw: max_prototypes must be at least 1, got {config.max_prototypes}")
    battles = rated_battles(dataset.battles, dataset.strong, dataset.weak, min_battles=config.min_battles)
    rated = ratings(battles)
    whole = merged(
        similarity_weighted(
            battles,
            embed.directions(battles["prompt"]),
            tiers(rated, config.tiers),
            strong=dataset.strong,
            weak=dataset.weak,
            same_tier=config.same_tier,
        )
    )
    stored = whole if config.max_prototypes is None else thinned(whole, config.max_prototypes, seed=run.seed)
    stored = replace(stored, prototypes=stored.prototypes.astype(_DTYPES[config.dtype]))
    held_out = embed.directions(dataset.held_out_labels["prompt"].unique(maintain_order=True))
    error = np.abs(stored.win_rates(held_out) - whole.win_rates(held_out))
    notes = {
        "models": float(rated.height),
        "models_left_out": float(len(_models(dataset.battles)) - rated.height),
        "battles": float(battles.height),
        "prototypes_before_thinning": float(len(whole.prototypes)),
        "prototypes": float(len(stored.prototypes)),
        "storage_max_error": float(error.max()),
        "storage_mean_error": float(error.mean()),
    }
    return EmbeddingRouter("sw", embed.embedder.directions(), SwHead(stored), notes)


def rated_battles(battles: pl.DataFrame, strong: str, weak: str, *, min_battles: int) -> pl.DataFrame:
    """Keep the battles of models that can be rated together with the pair.

    A model needs `min_battles` battles and, among the models that have them, a chain of wins (or ties) to the strong
    model and one from it: ratings without that are infinite (`routing.bradley_terry.require_finite`).

    Raises:
        DataError: the weak or the strong model is not among them.
    """
    fought = pl.concat([battles["model_a"], battles["model_b"]]).cast(pl.String).value_counts(name="battles")
    many = fought.filter(pl.col("battles") >= min_battles).to_series(0)
    battles = _between(battles, many)
    models, wins = win_matrix(battles)
    missing = sorted({strong, weak} - set(models))
    if missing:
        raise DataError(
            f"models {missing} have fewer than {min_battles} battles with others that have as many; "
            "name other models in [pair], lower min_battles, or add battles"
        )
    beats = wins > 0
    place = models.index(strong)
    linked = _reached(beats, place) & _reached(beats.T, place)
    kept = pl.Series(models, dtype=pl.String).filter(pl.Series(linked))
    if weak not in kept:
        raise DataError(
            f"no chain of wins leads from {strong!r} to {weak!r} and back, so their distance has no finite estimate; "
            "add battles between them or with third models"
        )
    return _between(battles, kept)


def merged(router: SimilarityWeighted) -> SimilarityWeighted:
    """Give battles with one embedding and one weight a single prototype with summed half wins; no win rate changes."""
    first, place = _distinct(router.prototypes, router.log_weight[:, None])
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(first)))
    half_wins = np.add.reduceat(router.half_wins[order], starts, axis=0, dtype=np.int64)
    return replace(
        router,
        prototypes=router.prototypes[first],
        half_wins=half_wins.astype(np.min_scalar_type(int(half_wins.max()))),
        log_weight=router.log_weight[first],
    )


def thinned(router: SimilarityWeighted, n: int, *, seed: int) -> SimilarityWeighted:
    """Keep n prototypes and give each of the others' battles to the nearest kept one.

    Which stay is drawn without replacement, by the weight of their battles. No battle is lost, so the win rate of the
    zero vector stays as it is, and a query's changes as far as its cosine to the one differs from that to the other.
    The weights are counted in, so half wins become float32. A router of at most n prototypes stays as it is.

    Args:
        router: With float32 prototypes.
        n: Prototypes to keep, at least 1.
        seed: Of the draw.
    """
    first, place = _distinct(router.prototypes)
    if len(first) <= n:
        return router
    directions = router.prototypes[first]
    wins = np.zeros((len(directions), router.half_wins.shape[1]))
    np.add.at(wins, place, np.exp(router.log_weight.astype(np.float64))[:, None] * router.half_wins)
    # The n largest u^(1/weight) are such a draw (Efraimidis and Spirakis 2006).
    keys = np.log(np.random.default_rng(seed).uniform(size=len(directions))) / wins.sum(axis=1)
    kept = np.sort(np.argsort(-keys, kind="stable")[:n])
    nearest = _nearest(directions, directions[kept])
    nearest[kept] = np.arange(n)
    gathered = np.zeros((n, wins.shape[1]))
    np.add.at(gathered, nearest, wins)
    return replace(
        router,
        prototypes=directions[kept],
        half_wins=gathered.astype(np.float32),
        log_weight=np.zeros(n, np.float32),
    )


def _distinct(*parts: NDArray[np.floating]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where each distinct row of bytes stands first, rising, and which of these each row is, shape (n,)."""
    joined = np.hstack([np.ascontiguousarray(part).view(np.uint8) for part in parts])
    _, first, place = np.unique(joined.view(f"V{joined.shape[1]}"), return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[place.ravel()]


def _nearest(rows: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.intp]:
    block = max(1, _BLOCK_VALUES // len(others))
    return np.concatenate(
        [(rows[start : start + block] @ others.T).argmax(axis=1) for start in range(0, len(rows), block)]
    )


def _between(battles: pl.DataFrame, models: pl.Series) -> pl.DataFrame:
    sides = (pl.col(side).cast(pl.String).is_in(models.implode()) for side in ("model_a", "model_b"))
    return battles.filter(*sides)


def _models(battles: pl.DataFrame) -> pl.Series:
    return pl.concat([battles["model_a"], battles["model_b"]]).unique()


def _reached(edges: NDArray[np.bool_], start: int) -> NDArray[np.bool_]:
    """Return which nodes a path from `start` leads to, itself included."""
    reached = np.zeros(len(edges), bool)
    reached[start] = True
    while True:
        wider = reached | edges[reached].any(axis=0)
        if (wider == reached).all():
            return reached
        reached = wider
