"""The router `sw`: Bradley-Terry among tiers of models, with battles on similar prompts weighing more.

RouteLLM fits a logistic regression over all battles for every query (arXiv 2406.18665, section 4.2; 2.9 queries/s).
Its likelihood depends on the battles only through the weighted wins of each tier over each other one, so here a whole
block of queries takes two matrix products, queries x prototypes and prototypes x pairs of tiers, and a few Newton steps
on all the small systems at once. Nothing is approximated.

The weight of a battle is that of RouteLLM's code (`SWRankingRouter.get_weightings`, routellm 0.2.0),
10^(1 + S / max S) with S the cosines of the query to all prototypes. The paper's formula divides the cosine to a
prototype by that prototype's own largest cosine instead. The common factor 10 cancels and is left out.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.bradley_terry import Floats, a_wins, require_finite, strengths
from routing.errors import DataError

SameTier = Literal["ignored", "as_routellm"]
"""What a battle inside one tier does.

`ignored`: nothing, it says nothing about the distance between tiers. `as_routellm`: RouteLLM's design matrix writes
-1 over the +1 of such a row, which makes it a battle between the tier (as model_b) and a reference of rating 1000 (as
model_a), and so pulls every tier towards one rating.
"""

SMALLEST_NORM = 1e-6
"""Keeps the zero vector at zero instead of 0/0."""

SMALLEST_SCALE = 0.2
"""Smallest max S that is divided by, the one departure from RouteLLM's code: for a query without any neighbour a tiny
maximum would blow noise up to weights of 10^100, and a negative one would let the farthest battles weigh most."""

_BLOCK_VALUES = 1 << 24
_REFERENCE = "the reference of battles inside a tier"


@dataclass(frozen=True, slots=True)
class SimilarityWeighted:
    """A trained `sw` router for one pair of tiers."""

    prototypes: NDArray[np.floating]
    """Unit embeddings of the battles' prompts, float32 or float16, shape (n, dim)."""
    half_wins: NDArray[np.number]
    """Half wins of player i over player j at column i * players + j, shape (n, players^2); a row sums to twice the
    battles that share its prototype. Whole numbers, unless weights are counted in (`routing.training.sw.thinned`)."""
    log_weight: NDArray[np.float32]
    """Natural logarithm of the own weight of each of these battles, shape (n,)."""
    start: Floats
    """Strengths of the players if all queries were alike, shape (players,); Newton's method begins here."""
    strong: int
    """The strong model's tier."""
    weak: int
    """The weak model's tier."""

    def win_rates(self, embeddings: NDArray[np.floating]) -> Floats:
        """Return P(the strong tier beats the weak one) for embeddings of any length, (n, dim) -> (n,)."""
        if embeddings.ndim != 2 or embeddings.shape[1] != self.prototypes.shape[1]:
            raise DataError(
                f"embeddings must have shape (n, {self.prototypes.shape[1]}), got {embeddings.shape}; "
                "use the encoder that the prototypes were made with"
            )
        prototypes, half_wins = self.prototypes.astype(np.float32), self.half_wins.astype(np.float32)
        block = max(1, _BLOCK_VALUES // len(prototypes))
        out = np.empty(len(embeddings), np.float64)
        for first in range(0, len(embeddings), block):
            rows = slice(first, first + block)
            weights = self._weights(unit(embeddings[rows]) @ prototypes.T)
            wins = (weights @ half_wins).astype(np.float64).reshape(-1, len(self.start), len(self.start))
            found = strengths(wins, start=self.start)
            out[rows] = 1.0 / (1.0 + np.exp(found[:, self.weak] - found[:, self.strong]))
        return out

    def _weights(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        scale = np.maximum(cosines.max(axis=1, keepdims=True), np.float32(SMALLEST_SCALE))
        return np.asarray(np.exp(cosines / scale * np.float32(np.log(10.0)) + self.log_weight))


def similarity_weighted(
    battles: pl.DataFrame,
    embeddings: NDArray[np.floating],
    tiers: pl.DataFrame,
    *,
    strong: str,
    weak: str,
    same_tier: SameTier = "ignored",
    dtype: type[np.floating] = np.float32,
) -> SimilarityWeighted:
    """BATTLES with their prompts' embeddings, and (model, tier) -> the router.

    Args:
        battles: A battle of weight 0 is left out.
        embeddings: Of the prompts, shape (battles.height, dim); any length but zero.
        tiers: From `routing.bradley_terry.tiers`.
        strong: The strong model; its tier stands for it.
        weak: The weak model.
        same_tier: What a battle inside one tier does.
        dtype: Of the stored prototypes, float32 or float16; arithmetic is float32.

    Raises:
        DataError: the shapes differ, a model has no tier, the pair is in one tier, a winner is unknown, or the tiers'
            strengths are not finite.
    """
    if embeddings.ndim != 2 or len(embeddings) != battles.height:
        raise DataError(f"expected embeddings of shape ({battles.height}, dim), one a battle, got {embeddings.shape}")
    pair = _tier(pl.Series([strong, weak]), tiers)
    if pair[0] == pair[1]:
        raise DataError(f"{strong!r} and {weak!r} share tier {pair[0]}, so no query tells them apart; use more tiers")
    a, b = (_tier(battles[side], tiers) for side in ("model_a", "model_b"))
    half = (2.0 * a_wins(battles)).astype(np.uint8)
    n_players = int(tiers["tier"].n_unique())
    weight = battles["weight"].to_numpy()
    kept = weight > 0
    if same_tier == "ignored":
        kept &= a != b
    elif (a == b)[kept].any():
        a = np.where(a == b, n_players, a)
        n_players += 1
    a, b, half, weight = a[kept], b[kept], half[kept], weight[kept]
    if not len(weight):
        raise DataError("no battle between two tiers has a weight; add battles, or use more tiers")

    half_wins = np.zeros((len(a), n_players * n_players), np.uint8)
    rows = np.arange(len(a))
    half_wins[rows, a * n_players + b] = half
    half_wins[rows, b * n_players + a] = 2 - half
    wins = np.asarray(weight @ half_wins, np.float64).reshape(n_players, n_players)
    names = [f"tier {place}" for place in range(tiers["tier"].n_unique())] + [_REFERENCE]
    require_finite(wins, names[:n_players])
    return SimilarityWeighted(
        prototypes=unit(embeddings[kept]).astype(dtype),
        half_wins=half_wins,
        log_weight=np.log(weight).astype(np.float32),
        start=strengths(wins),
        strong=int(pair[0]),
        weak=int(pair[1]),
    )


def unit(embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return embeddings of length 1, float32; the zero vector stays zero."""
    values = embeddings.astype(np.float32)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.float32(SMALLEST_NORM)))


def _tier(models: pl.Series, tiers: pl.DataFrame) -> NDArray[np.int64]:
    found = models.cast(pl.String).replace_strict(tiers["model"], tiers["tier"], default=None, return_dtype=pl.Int64)
    if found.null_count():
        unknown = models.filter(found.is_null()).unique().sort().to_list()
        raise DataError(f"models {unknown} have no tier; rate them first, or drop their battles")
    return np.asarray(found.to_numpy())
