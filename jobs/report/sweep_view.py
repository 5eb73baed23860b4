"""A curve over alpha on a page: the numbers that a slider moves, and the charts and tables that they stand in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isclose
from typing import Final, Literal

from jobs.report.charts import Area, Line, Point, Track, Word, line_chart, score_chart, shortened
from jobs.report.dial import Stop
from jobs.report.marks import Axis, padded
from jobs.report.numbers import NONE, Estimate, Moves, Number, Unit, modelled, observed, pointer, written
from jobs.report.palette import Look
from jobs.report.views import Cell, Column, Panel, Plate, Table, most
from schemas.sweep import Basis, GroupSweep, Histogram, Sweep, SweepPoint
from schemas.sweep import Estimate as Interval

CURVE: Final = Look("var(--s0)", "", "circle")
ADVISED: Final = Look("var(--s2)", "", "diamond")
RAN: Final = Look("var(--s3)", "", "square")
_AT_A_GLANCE: Final = 11
"""Points of the short table."""

Measured = Literal["cost_usd", "saving_usd", "saving_share", "saving_vs_best_share", "quality", "quality_share"]


@dataclass(frozen=True, slots=True)
class SweepView:
    """A sweep, where it stands in the report, and the point that the page opens at."""

    sweep: Sweep
    path: tuple[str | int, ...]
    index: int

    @property
    def point(self) -> SweepPoint:
        """The point that the page opens at."""
        return self.sweep.points[self.index]

    @property
    def ends_alone(self) -> bool:
        """Whether all weak and all strong by the router cost what one model alone does."""
        points, sweep = self.sweep.points, self.sweep
        ends = ((points[0], sweep.weak), (points[-1], sweep.strong))
        return all(isclose(end.cost_usd.value, one.cost_usd.value, rel_tol=1e-6, abs_tol=1e-9) for end, one in ends)

    def moving(
        self, value: float | None, unit: Unit, *steps: str | int, basis: Basis = "modelled", none: str = NONE
    ) -> Number:
        """Return a number of the current point; `*` in its way stands for the index."""
        moves = Moves(pointer(*self.path, *steps), unit, none=none)
        return Number(
            none if value is None else written(value, unit), value, moves.at.replace("*", str(self.index)), basis, moves
        )

    def estimate(self, unit: Unit, name: Measured) -> Estimate | None:
        """Return an estimate of the current point; None where the curve has none."""
        found: Interval | None = getattr(self.point, name)
        if found is None:
            return None
        low, high = (self.moving(getattr(found, end), unit, "points", "*", name, end) for end in ("low", "high"))
        return Estimate(self.moving(found.value, unit, "points", "*", name, "value"), low, high)

    def alpha(self) -> Number:
        """Return the current alpha."""
        return self.moving(self.point.alpha, "alpha", "points", "*", "alpha", none="above every win rate")

    def worked(self, number: Number, how: Literal["less", "saved"], unit: Unit, base: float, of: str) -> Number:
        """Return what a moving number leaves of another one (`less`), or the share that it saves of it (`saved`)."""
        value: float | None = None
        if number.value is not None and (how == "less" or base):
            value = base - number.value if how == "less" else 1 - number.value / base
        assert number.moves is not None
        moves = replace(number.moves, how=how, of=of, unit=unit)
        return Number(written(value, unit), value, "", "modelled", moves)

    def at(self, k: int, unit: Unit, name: Measured) -> Cell:
        """Return an estimate of any point, which stays where it is."""
        found: Interval | None = getattr(self.sweep.points[k], name)
        if found is None:
            return modelled(None, unit)
        return _estimate(found, unit, *self.path, "points", k, name)

    def single(
        self, side: Literal["strong", "weak"], unit: Unit, name: Literal["cost_usd", "saving_share", "quality"]
    ) -> Cell:
        """Return what all calls on one model cost or are worth."""
        found: Interval | None = getattr(getattr(self.sweep, side), name)
        if found is None:
            return modelled(None, unit)
        return _estimate(found, unit, *self.path, side, name)


def cost_plate(view: SweepView, *, paid: float | None, stops: Sequence[Stop], ran: Point | None = None) -> Plate:
    """Return cost over the strong share: what was paid just so below, what is modelled above it.

    Args:
        view: The curve.
        paid: What these calls did cost, as a level.
        stops: Named points.
        ran: The point where a run was really cut, where it is not on the curve.
    """
    points = view.sweep.points
    x, cost = [p.strong_share for p in points], [p.cost_usd for p in points]
    kept = [p.observed_usd for p in points]
    values = [c.value for c in cost]
    levels = [] if paid is None else [paid]
    highest = max([*(c.high for c in cost), *levels, 0.0]) * 1.06
    chart = line_chart(
        [Line(CURVE, x, values, "cost")],
        Axis("strong share: calls sent to the strong model", (0.0, 1.0)),
        Axis("dollars", (min(0.0, *values, *(c.low for c in cost)), highest or 1.0), "money"),
        areas=[
            Area(x, [0.0] * len(x), kept, "observed", "observed: calls that stay on their model"),
            Area(x, [c.low for c in cost], [c.high for c in cost], "area", "95 % interval"),
        ],
        points=[*_named(points, stops, "cost_usd"), *([] if ran is None else [ran])],
        rules=levels,
        words=[] if paid is None else [Word(0.01, paid, "paid for these calls")],
        track=Track(x, values, view.index),
    )
    return Plate(
        "Cost",
        "The line is what the calls would cost at each strong share, the band its 95 % interval. Shaded from below: "
        "what was paid just so, since those calls stay on the model that answered them.",
        [Panel(chart)],
        [],
    )


def quality_plate(view: SweepView, *, floor: float | None, stops: Sequence[Stop]) -> Plate | None:
    """Return the share of the strong model's quality that is kept, over the strong share; None without labels."""
    points = view.sweep.points
    kept = [p.quality_share for p in points]
    shares = [share for share in kept if share is not None]
    if len(shares) < len(points):
        return None
    x = [p.strong_share for p in points]
    ends = [end for share in shares for end in (share.low, share.high)]
    values = [share.value for share in shares]
    chart = line_chart(
        [Line(CURVE, x, values, "quality kept")],
        Axis("strong share: calls sent to the strong model", (0.0, 1.0)),
        Axis("share of the strong model's quality", padded(ends, include=[] if floor is None else [floor]), "percent"),
        areas=[Area(x, [share.low for share in shares], [share.high for share in shares], "area", "95 % interval")],
        points=_named(points, stops, "quality_share"),
        rules=[] if floor is None else [floor],
        words=[] if floor is None else [Word(0.99, floor, "floor", "end")],
        track=Track(x, values, view.index),
    )
    told = "" if floor is None else " The level is the floor that has to be kept, at the lower end of the band."
    return Plate(
        "Quality kept",
        "Mean grade of the answers over that of the strong model alone, with its 95 % interval." + told,
        [Panel(chart)],
        [],
    )


def score_plate(view: SweepView) -> Plate:
    """Return the calls by win rate with the current alpha."""
    alphas = [p.alpha for p in view.sweep.points]
    return win_rate_plate(view.sweep.histogram, (*view.path, "histogram"), alphas=alphas, index=view.index)


def win_rate_plate(
    found: Histogram, path: Sequence[str | int], *, alphas: Sequence[float | None] = (), index: int = 0
) -> Plate:
    """Return calls by win rate.

    Args:
        found: Bins over [0, 1].
        path: Their place in the report.
        alphas: Where a slider may cut them; none: no cut is drawn.
        index: Where the slider stands.
    """
    counts, width = found.counts, 1 / len(found.counts)
    rows: list[list[Cell]] = [
        [
            f"{written(k * width, 'ratio')} to {written((k + 1) * width, 'ratio')}",
            observed(count, "count", *path, "counts", k),
        ]
        for k, count in enumerate(counts)
        if count
    ]  # fmt: skip
    columns = [Column("win rate", numeric=False), Column("calls")]
    cut = " From alpha on a call goes to the strong model." if alphas else ""
    return Plate(
        "Where the win rates lie",
        f"By win rate, the router's guess that the strong model's answer is the better one.{cut}",
        [Panel(score_chart(counts, alphas, index, Axis("win rate", (0.0, 1.0), "ratio")))],
        [most(Table("By win rate; empty bins are left out.", columns, rows, basis="observed"))],
    )


def exchange_plate(view: SweepView, *, stops: Sequence[Stop]) -> Plate:
    """Return what a dollar buys: quality over cost, or without labels the router's own claim over cost."""
    points = view.sweep.points
    graded = all(p.quality is not None for p in points)
    y = [p.quality.value if p.quality is not None and graded else p.expected_wins for p in points]
    x = [p.cost_usd.value for p in points]
    ends = [end for p in points if p.quality is not None and graded for end in (p.quality.low, p.quality.high)]
    what = "mean grade of the answers" if graded else "expected wins"
    named = [Point(look, x[k], y[k], y[k], y[k], name) for look, k, name in _looks(stops)]
    chart = line_chart(
        [Line(CURVE, x, y, what)],
        Axis("dollars for the routed calls", padded(x), "money"),
        Axis(what, padded([*y, *ends]), "ratio"),
        points=named,
        words=[
            Word(x[0], y[0], f"all {shortened(view.sweep.weak.model, 22)}"),
            Word(x[-1], y[-1], f"all {shortened(view.sweep.strong.model, 22)}", "end"),
        ],
        track=Track(x, y, view.index),
    )
    caption = (
        "Where the line is steep, a dollar buys much."
        if graded
        else "Without grades this is the router's own claim, not quality: the mean probability that a call went to the "
        "model whose answer is the better one."
    )
    ends_at = (
        "Both ends are one model alone."
        if view.ends_alone
        else "Both ends go through the router, with cold caches; one model alone keeps its cache warm and costs less."
    )
    caption = f"{caption} {ends_at}"
    return Plate("Quality over cost" if graded else "The router's claim over cost", caption, [Panel(chart)], [])


def curve_tables(view: SweepView, stops: Sequence[Stop]) -> tuple[Table, Table]:
    """Return the curve at a glance, and all of its points."""
    last = len(view.sweep.points) - 1
    few = {round(last * k / (_AT_A_GLANCE - 1)) for k in range(_AT_A_GLANCE)} | {stop.index for stop in stops}
    caption = f"{len(few)} of {last + 1} points; brackets are 95 % intervals."
    short = _curve_table(view, sorted(few), stops, caption)
    return short, _curve_table(view, range(last + 1), stops, "All points of the curve; brackets are 95 % intervals.")


def _curve_table(view: SweepView, which: Sequence[int], stops: Sequence[Stop], caption: str) -> Table:
    points = view.sweep.points
    graded = any(p.quality is not None for p in points)
    best_apart = view.sweep.best_single != view.sweep.strong.model
    names = {stop.index: stop.name for stop in stops}
    wins = "Mean probability that a call goes to the model whose answer is the better one: the router's own claim"
    columns = [
        Column("alpha"), Column("strong share"), Column("calls to it"), Column("cost", "modelled"),
        Column("of it as paid", "observed", "Cost of the calls that stay on the model that answered them"),
        Column("saving", "modelled", "Against all strong"), Column("share", "modelled", "Of all strong"),
        *([Column("of best single", "modelled", "Saving against the best single model")] if best_apart else []),
        *([Column("grade", "modelled"), Column("quality kept", "modelled")] if graded else []),
        *([] if graded else [Column("expected wins", "modelled", wins)]),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for k in which:
        p, path = points[k], (*view.path, "points", k)
        rows.append([
            modelled(p.alpha, "alpha", *path, "alpha"), modelled(p.strong_share, "share", *path, "strong_share"),
            modelled(p.n_strong, "count", *path, "n_strong"),
            view.at(k, "about", "cost_usd"), observed(p.observed_usd, "money", *path, "observed_usd"),
            view.at(k, "about", "saving_usd"),
            view.at(k, "percent", "saving_share"),
            *([view.at(k, "percent", "saving_vs_best_share")] if best_apart else []),
            *([view.at(k, "ratio", "quality"), view.at(k, "percent", "quality_share")] if graded else []),
            *([] if graded else [modelled(p.expected_wins, "ratio", *path, "expected_wins")]),
        ])  # fmt: skip
    return Table(caption, columns, rows, marked={row: names[k] for row, k in enumerate(which) if k in names})


def group_table(view: SweepView, *, label: str, none: str, calls: str) -> Table | None:
    """Return the groups at the current point; None where there are none.

    Args:
        view: The curve.
        label: What a group is.
        none: Name of the group that has none.
        calls: What is counted: calls, queries.
    """
    groups = view.sweep.groups
    if not groups:
        return None
    graded = any(group.quality is not None for group in groups)
    here = "modelled, at this alpha"
    columns = [
        Column(label, numeric=False), Column(calls, "observed"), Column("routed", "observed"),
        Column("paid", "observed"), Column("of it routed", "observed"), Column("all strong", "modelled"),
        Column("strong share", here), Column("cost", here), Column("saved", here, "Against what was paid"),
        Column("saving", here, "Against all strong"), *([Column("grade", here)] if graded else []),
    ]  # fmt: skip
    rows = [_group_row(view, k, group, none, graded=graded) for k, group in enumerate(groups)]
    caption = f"By {label}, dearest first. Strong share, cost and saving are of the routed {calls}, at the alpha above."
    return most(Table(caption, columns, rows))


def _group_row(view: SweepView, k: int, group: GroupSweep, none: str, *, graded: bool) -> list[Cell]:
    path = (*view.path, "groups", k)
    steps = ("groups", k)
    cost = view.moving(group.cost_usd[view.index], "about", *steps, "cost_usd", "*")
    paid = observed(group.routed_paid_usd, "money", *path, "routed_paid_usd")
    strong = modelled(group.all_strong_usd, "about", *path, "all_strong_usd")
    row: list[Cell] = [
        none if group.group is None else group.group,
        observed(group.calls, "count", *path, "calls"), observed(group.routed_calls, "count", *path, "routed_calls"),
        observed(group.paid_usd, "money", *path, "paid_usd"), paid, strong,
        view.moving(group.strong_share[view.index], "share", *steps, "strong_share", "*"), cost,
        view.worked(cost, "less", "about", group.routed_paid_usd, paid.path),
        view.worked(cost, "saved", "percent", group.all_strong_usd, strong.path),
    ]  # fmt: skip
    if graded:
        value = None if group.quality is None else group.quality[view.index]
        row.append(view.moving(value, "ratio", *steps, "quality", "*"))
    return row


def _estimate(found: Interval, unit: Unit, *path: str | int) -> Cell:
    """An estimate that stays where it is; equal ends mean that it was observed, and are not repeated."""
    if found.low == found.value == found.high:
        return observed(found.value, unit, *path, "value")
    value, low, high = (modelled(getattr(found, end), unit, *path, end) for end in ("value", "low", "high"))
    return Estimate(value, low, high)


def _looks(stops: Sequence[Stop]) -> list[tuple[Look, int, str]]:
    looks = {"recommended": ADVISED, "as it ran": RAN}
    return [(looks[stop.name], stop.index, stop.name) for stop in stops if stop.name in looks]


def _named(points: Sequence[SweepPoint], stops: Sequence[Stop], name: Measured) -> list[Point]:
    found = []
    for look, k, told in _looks(stops):
        value: Interval | None = getattr(points[k], name)
        if value is not None:
            found.append(Point(look, points[k].strong_share, value.value, value.low, value.high, told))
    return found
