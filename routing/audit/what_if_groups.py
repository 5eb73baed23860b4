"""The curve for each tenant, and by day for tables that others draw from."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from routing.audit.what_if_points import Indices, remaining, running
from routing.audit.what_if_sums import EVERY, Sums, cell_table, merged
from routing.metrics import Floats
from schemas.sweep import GroupSweep

MAX_GROUPS = 1_000
"""Dearest tenants that are shown on their own; the others are one group."""

BY_DAY = {
    "point": pl.Int64(),
    "alpha": pl.Float64(),
    "strong_share": pl.Float64(),
    "day": pl.Date(),
    "tenant": pl.String(),
    "calls": pl.Int64(),
    "n_strong": pl.Int64(),
    "cost_usd": pl.Float64(),
}
"""Columns of `by_day`."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Tenants as they are shown."""

    table: pl.DataFrame
    """`tenant` (name), `calls` and `cost_usd` of all its calls; dearest first."""
    shown_as: Indices
    """Row of `table` for each tenant by number, shape (tenants,)."""

    def numbered(self, rows: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
        """Sums by tenant number and `keys` -> sums by `group`, the row of `table`, and `keys`."""
        group = pl.Series("group", self.shown_as[rows["tenant"].to_numpy()])
        return merged([rows.drop("tenant").with_columns(group)], (*keys, "group"))


def groups_of(tenants: pl.DataFrame) -> Groups:
    """Return how tenants are shown.

    Args:
        tenants: `tenant` (name), `calls`, `cost_usd`: one row each, in the order of their numbers.
    """
    ranked = tenants.with_row_index("number").sort(
        ["cost_usd", "tenant"], descending=[True, False], nulls_last=True, maintain_order=True
    )
    shown_as = np.empty(len(tenants), np.intp)
    shown_as[ranked["number"].to_numpy()] = np.minimum(np.arange(len(tenants)), MAX_GROUPS)
    table, rest = ranked.drop("number")[:MAX_GROUPS], ranked[MAX_GROUPS:]
    if not rest.is_empty():
        name = pl.lit(f"({len(rest):,} others)").alias("tenant")
        table = pl.concat([table, rest.select(name, pl.col("calls", "cost_usd").sum())])
    return Groups(table, shown_as)


def group_sweeps(sums: Sums, groups: Groups, correction: Floats | None) -> list[GroupSweep]:
    """SUMS -> the curve of each group.

    Args:
        sums: Over all routed calls.
        groups: Who is shown.
        correction: What labels add to the expected quality at each point; null without labels.
    """
    rows = groups.numbered(merged(sums.groups, ("tenant", "cell")), ("cell",))
    shape = len(groups.table), sums.points.cells

    def cells(column: str) -> Floats:
        return cell_table(rows, "group", column, shape)

    calls = cells("calls")
    routed = calls.sum(axis=1)
    some = np.maximum(routed, 1.0)[:, None]
    share, cost = running(calls) / some, running(cells("strong_usd")) + remaining(cells("weak_usd"))
    quality = None
    if correction is not None:
        expected = cells("weak_quality").sum(axis=1)[:, None] + running(cells("gain"))
        quality = np.clip(expected / some + correction, 0.0, 1.0)
    paid, all_strong = cells("cost_usd").sum(axis=1), cells("all_strong_usd").sum(axis=1)
    return [
        GroupSweep(
            group=name,
            calls=count,
            routed_calls=int(routed[i]),
            paid_usd=float(usd),
            routed_paid_usd=float(paid[i]),
            all_strong_usd=float(all_strong[i]),
            strong_share=share[i].tolist(),
            cost_usd=cost[i].tolist(),
            quality=quality[i].tolist() if quality is not None and routed[i] else None,
        )
        for i, (name, count, usd) in enumerate(groups.table.select("tenant", "calls", "cost_usd").iter_rows())
    ]


def by_day(sums: Sums, groups: Groups) -> pl.DataFrame:
    """SUMS -> one row a point, day and tenant, for every `EVERY`th point: what the routed calls would cost.

    Columns: `point`, `alpha`, `strong_share` (of all routed calls), `day`, `tenant`, `calls`, `n_strong`, `cost_usd`
    (modelled).
    """
    points = sums.points
    shown = [*range(0, points.cells, EVERY), points.cells]
    keys = ("day", "group")
    rows = groups.numbered(merged(sums.days, ("day", "tenant", "cell")), ("day", "cell"))
    places = rows.select(keys).unique().sort(keys).with_row_index("place")
    rows = rows.join(places, on=keys, maintain_order="left")
    shape = len(places), len(shown) - 1
    calls, strong, weak = (cell_table(rows, "place", column, shape) for column in ("calls", "strong_usd", "weak_usd"))
    cost = running(strong) + remaining(weak)
    about = pl.DataFrame(
        {
            "point": shown,
            "alpha": pl.Series([points.alpha[point] for point in shown], dtype=pl.Float64),
            "strong_share": points.n_strong[shown] / points.n_strong[-1],
        }
    )
    names = places.select("day", tenant=groups.table["tenant"].gather(places["group"]))
    return about.join(names, how="cross", maintain_order="left_right").with_columns(
        calls=pl.Series(np.tile(calls.sum(axis=1), len(shown)).astype(np.int64)),
        n_strong=pl.Series(running(calls).T.ravel().astype(np.int64)),
        cost_usd=pl.Series(cost.T.ravel()),
    )
