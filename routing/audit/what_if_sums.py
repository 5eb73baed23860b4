"""Sums over the routed calls, part by part, from which every point of the curve is read: cells, groups and days.

A cell holds the calls that change sides between two neighbouring points. What a point costs is the sum of the cells
that go strong on the strong model and of the others on the weak one; so memory is bounded by cells, never by calls.
"""

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.audit.what_if_points import Indices, Points
from routing.audit.what_if_prices import OnModel
from routing.audit.what_if_routed import Side
from routing.audit.what_if_tenants import Lengths
from routing.metrics import Floats

EVERY = 10
"""Points between two rows of the table by day."""


@dataclass(slots=True)
class ModelSums:
    """Cost of every routed call on one model of the pair, by cell."""

    observed_usd: Floats
    """Of calls that it answered itself, as paid. Shape (c,), as all but `gradient`."""
    input_usd: Floats
    """Input of the others, under the cache policy of a move."""
    warm_usd: Floats
    """The same with a warm cache: for this model on its own."""
    output_usd: Floats
    """Modelled output of the others."""
    gradient: Floats
    """Its derivative in the coefficients of the length model, shape (c, p)."""
    variance: Floats
    """Of `output_usd`, from the scatter of single answers, USD squared."""

    @classmethod
    def empty(cls, cells: int, lengths: Lengths) -> "ModelSums":
        """Return zeros."""
        columns = (np.zeros(cells) for _ in range(5))
        observed, moved, warm, output, variance = columns
        return cls(observed, moved, warm, output, np.zeros((cells, len(lengths.model.coefficients))), variance)

    @property
    def expected_usd(self) -> Floats:
        """All calls of a cell on this model, where routing sends them to it, shape (c,)."""
        return self.observed_usd + self.input_usd + self.output_usd

    @property
    def alone_usd(self) -> Floats:
        """All calls of a cell on this model, were it the only one, shape (c,)."""
        return self.observed_usd + self.warm_usd + self.output_usd


@dataclass(slots=True)
class Sums:
    """What was summed so far."""

    points: Points
    strong: ModelSums
    weak: ModelSums
    warm: bool
    """Whether a call that moves finds its cached tokens cached."""
    win_rates: Floats
    """Sum over the calls of each cell, shape (c,)."""
    gains: Floats
    """Sum of expected gains (quality of the strong model minus that of the weak one), shape (c,)."""
    at_standard: int = 0
    """Calls priced as standard, because the other model has no price for their tier."""
    groups: list[pl.DataFrame] = field(default_factory=list)
    """By `tenant` (its number) and `cell`."""
    days: list[pl.DataFrame] = field(default_factory=list)
    """By `day`, `tenant` and every `EVERY` cells."""

    @classmethod
    def empty(cls, points: Points, lengths: tuple[Lengths, Lengths], *, warm: bool) -> "Sums":
        """Return zeros for the points of a curve and the length models of the strong and the weak model."""
        strong, weak = (ModelSums.empty(points.cells, one) for one in lengths)
        return cls(points, strong, weak, warm, np.zeros(points.cells), np.zeros(points.cells))


@dataclass(frozen=True, slots=True)
class RoutedPart:
    """Routed calls of one part, with everything that is known of them."""

    calls: pl.DataFrame
    """`called_at` and `cost_usd` of CALL_LOG + COSTS."""
    tenant: Indices
    """Number of each call's tenant, shape (n,)."""
    side: NDArray[np.int8]
    """`Side` of each call, shape (n,)."""
    win_rates: Floats
    design: Floats
    """Covariates of the answer lengths, shape (n, p)."""
    weak_quality: Floats
    """Expected quality on the weak model, shape (n,)."""
    gain: Floats
    """Expected gain on the strong one, shape (n,)."""


def add(sums: Sums, part: RoutedPart, on: tuple[OnModel, OnModel], lengths: tuple[Lengths, Lengths]) -> None:
    """Add a part.

    Args:
        sums: Changed in place.
        part: Its routed calls.
        on: What they cost on the strong and on the weak model.
        lengths: Of the strong and of the weak model.
    """
    cell = sums.points.cell(part.win_rates)
    paid = part.calls["cost_usd"].cast(pl.Float64).to_numpy()
    expected, alone, modelled = {}, {}, {}
    for side, into, costs, known in zip((Side.STRONG, Side.WEAK), (sums.strong, sums.weak), on, lengths, strict=True):
        stays = part.side == side
        moves = np.where(stays, 0.0, 1.0)
        mean, rate = known.mean(part.design, part.tenant), moves * costs.usd_per_output_token
        output = rate * mean
        moved = moves * (costs.warm_usd if sums.warm else costs.cold_usd)
        observed, warm = paid * (1.0 - moves), moves * costs.warm_usd
        c = sums.points.cells
        for total, values in (
            (into.observed_usd, observed),
            (into.input_usd, moved),
            (into.warm_usd, warm),
            (into.output_usd, output),
            (into.variance, rate**2 * known.model.variance(mean, part.design)),
        ):
            total += np.bincount(cell, values, minlength=c)
        for column in range(into.gradient.shape[1]):
            into.gradient[:, column] += np.bincount(cell, output * part.design[:, column], minlength=c)
        expected[side], alone[side], modelled[side] = observed + moved + output, observed + warm + output, output
        sums.at_standard += costs.at_standard
    sums.win_rates += np.bincount(cell, part.win_rates, minlength=sums.points.cells)
    sums.gains += np.bincount(cell, part.gain, minlength=sums.points.cells)
    frame = part.calls.select(pl.col("called_at").dt.date().alias("day"), "cost_usd").with_columns(
        tenant=part.tenant,
        cell=cell,
        strong_usd=expected[Side.STRONG],
        weak_usd=expected[Side.WEAK],
        all_strong_usd=alone[Side.STRONG],
        strong_output_usd=modelled[Side.STRONG],
        weak_output_usd=modelled[Side.WEAK],
        weak_quality=part.weak_quality,
        gain=part.gain,
    )
    count, usd = pl.len().cast(pl.Int64).alias("calls"), pl.col("strong_usd", "weak_usd")
    totals = pl.exclude("tenant", "cell", "day").sum()
    sums.groups.append(frame.group_by("tenant", "cell").agg(count, totals))
    sums.days.append(frame.group_by("day", "tenant", pl.col("cell") // EVERY).agg(count, usd.sum()))


def merged(tables: list[pl.DataFrame], keys: tuple[str, ...]) -> pl.DataFrame:
    """Return the sums of several parts as one table, in the order of their keys."""
    table = pl.concat(tables)
    return table.group_by(keys).agg(pl.exclude(*keys).sum()).sort(keys)


def cell_table(rows: pl.DataFrame, key: str, column: str, shape: tuple[int, int]) -> Floats:
    """Return sums by key (a number) and cell as an array of this shape."""
    table = np.zeros(shape)
    table[rows[key].to_numpy(), rows["cell"].to_numpy()] = rows[column].cast(pl.Float64).to_numpy()
    return table
