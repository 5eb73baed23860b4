"""The curve over alpha of a run: what its queries would have cost, had the table been cut elsewhere.

A query that stays on its model costs what it did cost. One that moves costs what COSTED says of the other model: the
same input, and as many output tokens as that model's mean answer in this run (docs/cost.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routing.audit.what_if_points import Points, points_of, remaining, running
from routing.estimate import LENGTH_SPREAD
from routing.metrics import Floats
from schemas.sweep import Estimate, GroupSweep, Histogram, SingleModel, Sweep, SweepPoint

POINTS: Final = 101
BINS: Final = 50
_Z: Final = 1.96
"""Standard deviations to the ends of a 95 % interval."""
_USD_DIGITS, _SHARE_DIGITS = 9, 9


@dataclass(frozen=True, slots=True)
class Compared:
    """Queries whose cost is known on both models, shape (n,) each."""

    win_rate: Floats
    to_strong: NDArray[np.bool_]
    strong_usd: Floats
    """Observed where the query went there, else modelled."""
    weak_usd: Floats
    group: NDArray[np.intp] | None = None
    """Index into the groups."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """How far a modelled cost on one model may be off. USD."""

    scatter_usd: float
    """Standard deviation of a single answer around the mean."""
    error_usd: float
    """Standard error of that mean, shared by all modelled answers."""


@dataclass(frozen=True, slots=True)
class GroupOf:
    """A group with what is known of all its queries, the ones that are not compared included."""

    name: str | None
    queries: int
    paid_usd: float


def doubt(output_tokens: Floats, usd_per_mtok: float, *, assumed_tokens: int) -> Doubt:
    """Return the doubt about a model's answers, from the lengths of those that it gave in this run.

    With fewer than two of them the length is an assumption: the interval reaches to its `LENGTH_SPREAD`-fold.

    Args:
        output_tokens: Of its answers, shape (n,).
        usd_per_mtok: Its output rate.
        assumed_tokens: `expected_output_tokens` of the config.
    """
    rate = usd_per_mtok / 1e6
    if len(output_tokens) < 2:
        mean = float(output_tokens.mean()) if len(output_tokens) else float(assumed_tokens)
        return Doubt(0.0, mean * rate * (LENGTH_SPREAD - 1) / _Z)
    spread = float(output_tokens.std(ddof=1)) * rate
    return Doubt(spread, spread / len(output_tokens) ** 0.5)


def sweep_run(
    compared: Compared,
    doubts: tuple[Doubt, Doubt],
    *,
    models: tuple[str, str],
    alpha: float | None,
    groups: Sequence[GroupOf] = (),
    wanted: int = POINTS,
) -> tuple[Sweep, int | None]:
    """Return the curve, and the index of the point at a given alpha.

    Args:
        compared: The queries, at least one.
        doubts: Of the strong and of the weak model.
        models: Their names.
        alpha: Where the run was cut; null where no alpha cuts the table so.
        groups: In the order of `Compared.group`.
        wanted: Points at most, about.
    """
    points, at_run = _with_alpha(points_of(compared.win_rate, wanted), compared.win_rate, alpha)
    cells = _Cells.of(compared, points)
    n, strong_usd = len(compared.win_rate), float(compared.strong_usd.sum())
    cost = running(cells.strong) + remaining(cells.weak)
    kept = running(cells.strong_kept) + remaining(cells.weak_kept)
    half, half_saving, half_share = _half_widths(cells, cost, strong_usd, doubts)
    wins = (running(cells.wins) + remaining(cells.n - cells.wins)) / n
    saving = strong_usd - cost
    curve = [
        SweepPoint(
            alpha=points.alpha[k],
            strong_share=round(float(points.n_strong[k]) / n, _SHARE_DIGITS),
            n_strong=int(points.n_strong[k]),
            cost_usd=_estimate(cost[k], half[k], _USD_DIGITS, least=kept[k]),
            observed_usd=round(float(kept[k]), _USD_DIGITS),
            saving_usd=_estimate(saving[k], half_saving[k], _USD_DIGITS),
            saving_share=_estimate(_share(saving[k], strong_usd), half_share[k], _SHARE_DIGITS),
            saving_vs_best_share=_estimate(_share(saving[k], strong_usd), half_share[k], _SHARE_DIGITS),
            expected_wins=round(float(wins[k]), _SHARE_DIGITS),
        )
        for k in range(len(points.n_strong))
    ]
    found = Sweep(
        strong=SingleModel(model=models[0], cost_usd=curve[-1].cost_usd, saving_share=curve[-1].saving_share),
        weak=SingleModel(model=models[1], cost_usd=curve[0].cost_usd, saving_share=curve[0].saving_share),
        best_single=models[0],
        points=curve,
        groups=_groups(compared, points, groups),
        histogram=histogram(compared.win_rate),
    )
    return found, at_run


def histogram(win_rates: Floats) -> Histogram:
    """Return queries by win rate."""
    return Histogram(counts=np.histogram(win_rates, bins=BINS, range=(0.0, 1.0))[0].tolist())


@dataclass(frozen=True, slots=True)
class _Cells:
    """Sums over the queries between two neighbouring points, shape (cells,) each."""

    n: Floats
    strong: Floats
    weak: Floats
    strong_kept: Floats
    """Of those that went to the strong model, as paid."""
    weak_kept: Floats
    to_strong: Floats
    """How many went there."""
    wins: Floats

    @classmethod
    def of(cls, compared: Compared, points: Points) -> "_Cells":
        cell = points.cell(compared.win_rate)
        went = compared.to_strong.astype(np.float64)

        def add(weights: Floats) -> Floats:
            return np.bincount(cell, weights, minlength=points.cells).astype(np.float64)

        return cls(
            n=add(np.ones_like(went)), strong=add(compared.strong_usd), weak=add(compared.weak_usd),
            strong_kept=add(compared.strong_usd * went), weak_kept=add(compared.weak_usd * (1 - went)),
            to_strong=add(went), wins=add(compared.win_rate),
        )  # fmt: skip


def _with_alpha(points: Points, win_rates: Floats, alpha: float | None) -> tuple[Points, int | None]:
    """Put the alpha of a run among the points, so that the curve passes through the run."""
    if alpha is None:
        return points, None
    n_strong = int((win_rates >= alpha).sum())
    at = int(np.searchsorted(points.n_strong, n_strong))
    if points.n_strong[at] == n_strong:
        if at == 0:
            return points, 0
        alphas = points.alphas.copy()
        alphas[at - 1] = alpha
        return Points(alphas, points.n_strong), at
    return Points(np.insert(points.alphas, at - 1, alpha), np.insert(points.n_strong, at, n_strong)), at


def _half_widths(
    cells: _Cells, cost: Floats, strong_usd: float, doubts: tuple[Doubt, Doubt]
) -> tuple[Floats, Floats, Floats]:
    """Half widths of cost, saving against all strong, and its share, at every point.

    All strong is modelled as well, by the same mean: what the two have in common cancels out of their difference.
    """
    strong, weak = doubts
    to_weak = cells.n - cells.to_strong
    moved_up, moved_down = running(to_weak), remaining(cells.to_strong)
    left = remaining(to_weak)  # modelled in all strong only
    total = strong_usd or 1.0

    def half(shared_strong: Floats, shared_weak: Floats, own_up: Floats, own_left: Floats, own_down: Floats) -> Floats:
        variance = (shared_strong * strong.error_usd) ** 2 + (shared_weak * weak.error_usd) ** 2
        variance += (own_up**2 * moved_up + own_left**2 * left) * strong.scatter_usd**2
        variance += own_down**2 * moved_down * weak.scatter_usd**2
        return _Z * np.sqrt(variance)

    none, one = np.zeros_like(cost), np.ones_like(cost)
    ratio = cost / total
    return (
        half(moved_up, moved_down, one, none, one),
        half(left, moved_down, none, one, one),
        half((moved_up - ratio * (moved_up + left)) / total, moved_down / total, (1 - ratio) / total, ratio / total,
             one / total),
    )  # fmt: skip


def _groups(compared: Compared, points: Points, groups: Sequence[GroupOf]) -> list[GroupSweep]:
    if compared.group is None or not groups:
        return []
    flat = compared.group * points.cells + points.cell(compared.win_rate)

    def add(weights: Floats) -> Floats:
        sums = np.bincount(flat, weights, minlength=len(groups) * points.cells).astype(np.float64)
        return sums.reshape(len(groups), points.cells)

    n, strong, weak = add(np.ones_like(compared.win_rate)), add(compared.strong_usd), add(compared.weak_usd)
    paid = add(np.where(compared.to_strong, compared.strong_usd, compared.weak_usd)).sum(axis=1)
    cost, went, routed = running(strong) + remaining(weak), running(n), n.sum(axis=1)
    return [
        GroupSweep(
            group=group.name,
            calls=group.queries,
            routed_calls=int(routed[k]),
            paid_usd=group.paid_usd,
            routed_paid_usd=round(float(paid[k]), _USD_DIGITS),
            all_strong_usd=round(float(strong[k].sum()), _USD_DIGITS),
            strong_share=[round(float(w), _SHARE_DIGITS) for w in went[k] / max(routed[k], 1.0)],
            cost_usd=[round(float(c), _USD_DIGITS) for c in cost[k]],
        )
        for k, group in enumerate(groups)
    ]


def _estimate(value: float, half: float, digits: int, *, least: float = -np.inf) -> Estimate:
    middle = round(float(value), digits) + 0.0  # no negative zero
    low = middle if half == 0 else round(float(max(value - half, least)), digits)
    return Estimate(
        value=middle, low=min(low, middle), high=middle if half == 0 else round(float(value + half), digits)
    )


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
