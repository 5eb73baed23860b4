"""Bradley-Terry ratings of models from battles, and tiers of models with like ratings.

    P(i beats j) = 1 / (1 + 10^((rating_j - rating_i) / 400)) = sigmoid(strength_i - strength_j)

A tie counts as half a win for each side, which is what RouteLLM's list with every battle twice comes to (arXiv
2406.18665, appendix A; `similarity_weighted/utils.py` of routellm 0.2.0). The likelihood depends on the battles only
through the weighted number of wins of each model over each other, so the fit costs n_models^3 a step, whatever the
number of rows.
"""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.errors import DataError
from schemas.preferences import WINNERS

Floats = NDArray[np.float64]

POINTS_PER_STRENGTH = 400.0 / math.log(10.0)
"""Rating points in one unit of strength, the natural logarithm of the odds."""

_MAX_STEPS = 200
_CONVERGED = 1e-9


@dataclass(frozen=True, slots=True)
class Anchor:
    """What fixes the zero of the scale; battles determine differences only."""

    rating: float = 1000.0
    model: str | None = None
    """The model that has this rating; without one it is the mean of all models."""


def ratings(battles: pl.DataFrame, *, anchor: Anchor | None = None) -> pl.DataFrame:
    """Battles -> (model, rating), the highest rating first: weighted maximum likelihood, no prior.

    Args:
        battles: `model_a`, `model_b`, `winner` and `weight` of BATTLES; a battle of a model with itself says nothing.
        anchor: Zero of the scale; a mean of 1000 when omitted.

    Raises:
        DataError: a winner or the anchor is unknown, fewer than two models have battles, or no finite ratings exist
            because some models are never compared with the others or never lose to them.
    """
    anchor = anchor or Anchor()
    models, wins = win_matrix(battles)
    if len(models) < 2:
        raise DataError(f"ratings compare models, got battles of {models}; at least two models are needed")
    if anchor.model is not None and anchor.model not in models:
        raise DataError(f"the anchor {anchor.model!r} has no battles; choose one of {models}")
    require_finite(wins, models)
    points = POINTS_PER_STRENGTH * strengths(wins)
    origin = points.mean() if anchor.model is None else points[models.index(anchor.model)]
    table = pl.DataFrame({"model": models, "rating": points - origin + anchor.rating})
    return table.sort("rating", "model", descending=[True, False])


def tiers(ratings: pl.DataFrame, n_tiers: int) -> pl.DataFrame:
    """(model, rating) -> (model, tier), tier 0 with the highest ratings, exactly `n_tiers` of them.

    The tiers are the split of the sorted ratings that minimises the sum over tiers of the variance within each, every
    tier counting once whatever its size, as RouteLLM does; exact, by dynamic programming in O(n_models^2 n_tiers). Of
    equally good splits, up to rounding, it takes the one whose last tiers start at the highest ratings.

    Raises:
        DataError: a rating is not finite, or there are fewer models than tiers.
    """
    if not 1 <= n_tiers <= ratings.height:
        raise DataError(f"{n_tiers} tiers of {ratings.height} models: ask for 1 to {ratings.height} tiers")
    ordered = ratings.select("model", "rating").sort("rating", "model", descending=[True, False])
    values = ordered["rating"].cast(pl.Float64).to_numpy()
    if not np.isfinite(values).all():
        raise DataError(f"ratings must be finite, got {ratings.filter(~pl.col('rating').is_finite()).to_dicts()}")
    variance = _segment_variances(values)
    best = variance[0]
    starts = []
    for _ in range(n_tiers - 1):
        candidates = best[:-1, None] + variance[1:]
        starts.append(candidates.argmin(axis=0) + 1)
        best = candidates.min(axis=0)
    tier = np.zeros(ratings.height, np.int64)
    end = ratings.height
    for start in reversed(starts):
        end = start[end - 1]
        tier[end:] += 1
    return ordered.select("model", tier=pl.Series(tier))


def win_matrix(battles: pl.DataFrame) -> tuple[list[str], Floats]:
    """Return the models by name and the weighted wins of each over each, shape (n_models, n_models).

    Raises:
        DataError: a winner is none of `WINNERS`.
    """
    models = pl.concat([battles["model_a"], battles["model_b"]]).cast(pl.String).unique().sort()
    names = pl.Enum(models)
    sides = [battles[side].cast(pl.String).cast(names).to_physical().to_numpy() for side in ("model_a", "model_b")]
    a, b = (side.astype(np.int64) for side in sides)
    wins = np.zeros((len(models), len(models)))
    won, weight = a_wins(battles), battles["weight"].to_numpy()
    np.add.at(wins, (a, b), weight * won)
    np.add.at(wins, (b, a), weight * (1.0 - won))
    return models.to_list(), wins


def a_wins(battles: pl.DataFrame) -> Floats:
    """Return 1 where model_a won, 0 where model_b won, 0.5 for a tie.

    Raises:
        DataError: a winner is none of `WINNERS`.
    """
    winner = battles["winner"].cast(pl.String)
    unknown = winner.filter(~winner.is_in(WINNERS) | winner.is_null()).unique().sort()
    if len(unknown):
        raise DataError(f"winner must be one of {list(WINNERS)}, got {unknown.to_list()}; map these, or drop the rows")
    won = winner.replace_strict({"model_a": 1.0, "model_b": 0.0, "tie": 0.5}, return_dtype=pl.Float64)
    return np.asarray(won.to_numpy())


def require_finite(wins: Floats, names: list[str]) -> None:
    """Check that maximum-likelihood strengths exist: a chain of wins leads from each player to each other one.

    Args:
        wins: Wins of each over each, shape (n, n).
        names: Of the players, for the message.

    Raises:
        DataError: some players are never compared with the others, or never lose to them.
    """
    compared = _reachable(wins + wins.T > 0)
    if not compared.all():
        groups = sorted({tuple(np.flatnonzero(row)) for row in compared}, key=len)
        listed = "; ".join(str([names[place] for place in group]) for group in groups[:-1])
        raise DataError(
            f"the battles fall apart into {len(groups)} groups that are never compared: {listed} and the other models; "
            "drop the small groups, or add battles between them"
        )
    beats = _reachable(wins > 0)
    if not beats.all():
        above = beats[:, beats.sum(axis=0).argmin()]
        top, bottom = ([name for name, inside in zip(names, side, strict=True) if inside] for side in (above, ~above))
        few = f"{top} never lose to the others" if len(top) <= len(bottom) else f"{bottom} never win from the others"
        raise DataError(f"{few}, so their distance has no finite estimate; drop these models, or add battles")


def strengths(wins: Floats, *, start: Floats | None = None) -> Floats:
    """Return the maximum-likelihood strengths, the last one being zero; many tables at once.

    Newton's method. A step that moves any difference of strengths by more than 1 is shortened to 1; then every step
    lowers the loss, because the logistic loss is self-concordant in Bach's sense (arXiv 0910.4627): a step of range r
    and length t changes it by at most -decrement^2 t (1 - t (exp(r t) - r t - 1) / (r t)^2) < 0 for r t <= 1.

    Args:
        wins: Wins of each over each, shape (..., n, n), each table one that passes `require_finite`; diagonals cancel.
        start: Where to begin, shape (n,); zeros when omitted.

    Raises:
        DataError: no convergence: the table is separated by all but a vanishing weight.
    """
    n = wins.shape[-1]
    share = wins / wins.sum(axis=(-2, -1), keepdims=True)
    games = share + share.swapaxes(-2, -1)
    # The gradient sums to zero, so grounding the last player leaves it where it is and makes the system definite.
    ground = np.zeros((n, n))
    ground[-1, -1] = 1.0
    found = np.zeros(wins.shape[:-1]) if start is None else np.broadcast_to(start - start[-1], wins.shape[:-1]).copy()
    for _ in range(_MAX_STEPS):
        chance = 1.0 / (1.0 + np.exp(found[..., None, :] - found[..., :, None]))
        gradient = (share - games * chance).sum(axis=-1)
        curvature = games * chance * (1.0 - chance)
        system = ground - curvature + curvature.sum(axis=-1)[..., None] * np.eye(n)
        step = np.linalg.solve(system, gradient[..., None])[..., 0]
        step /= np.maximum(1.0, np.ptp(step, axis=-1))[..., None]
        found += step
        if np.abs(step).max() <= _CONVERGED:
            return found - found[..., -1:]
    raise DataError(f"strengths did not converge in {_MAX_STEPS} steps: some models almost never lose; drop them")


def _reachable(edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether a path leads from i to j, shape (n, n); every node reaches itself."""
    closed = edges | np.eye(len(edges), dtype=bool)
    for _ in range(max(1, len(edges)).bit_length()):
        closed = closed @ closed
    return closed


def _segment_variances(values: Floats) -> Floats:
    """Return the variance of values[start..end] at [start, end], infinite where start > end; Welford's recurrence."""
    n = len(values)
    variance = np.full((n, n), np.inf)
    mean, squares = np.zeros(n), np.zeros(n)
    for end in range(n):
        count = np.arange(end + 1, 0, -1)
        delta = values[end] - mean[: end + 1]
        mean[: end + 1] += delta / count
        squares[: end + 1] += delta * (values[end] - mean[: end + 1])
        variance[: end + 1, end] = squares[: end + 1] / count
    return variance
