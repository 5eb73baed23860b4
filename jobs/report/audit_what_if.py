"""What an audit says of routing: the curve with its slider, per tenant, and what was assumed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobs.report.audit_paid import NO_TENANT
from jobs.report.dial import Dial, Stop
from jobs.report.numbers import Estimate, Number, modelled, number, observed
from jobs.report.phrases import share, unless_unpriced
from jobs.report.sweep_dial import make_dial
from jobs.report.sweep_view import (
    SweepView,
    cost_plate,
    curve_tables,
    exchange_plate,
    group_table,
    quality_plate,
    score_plate,
)
from jobs.report.time_charts import share_bar
from jobs.report.views import BAR, Cell, Column, Plate, Table, Words, most
from routing.audit.what_if_advised import Side, advised
from schemas.audit import AuditReport, WhatIf
from schemas.sweep import Estimate as Interval

RECOMMENDED = "recommended"
_PATH = ("what_if", "sweep")


@dataclass(frozen=True, slots=True)
class WhatIfSection:
    """The what-if as the page shows it."""

    found: WhatIf
    intro: Words
    dial: Dial
    plates: Sequence[Plate]
    tenants: Table | None
    short: Table
    all_points: Table
    tables: Sequence[Table]
    """What it rests on."""

    @property
    def graded(self) -> bool:
        """Whether the quality is known."""
        return all(point.quality is not None for point in self.found.sweep.points)


def what_if_section(report: AuditReport) -> WhatIfSection | None:
    """Return the what-if of an audit; None where none was asked, or no call could be routed."""
    found = report.what_if
    if found is None or not found.sweep.points:
        return None
    view = SweepView(found.sweep, _PATH, opening_point(found))
    stops = _stops(found)
    short, everything = curve_tables(view, [stop for stop in stops if stop.name == RECOMMENDED])
    paid = float(found.routed_paid_usd)
    plates = [
        cost_plate(view, paid=paid, stops=stops), quality_plate(view, floor=found.quality_floor, stops=stops),
        score_plate(view), exchange_plate(view, stops=stops),
    ]  # fmt: skip
    tables = (_singles_table(view), unrouted_table(report, found), _lengths_table(found))
    return WhatIfSection(
        found=found,
        intro=_intro(report, found),
        dial=make_dial(
            view, stops, observed(found.routed_paid_usd, "money", "what_if", "routed_paid_usd"), calls="calls"
        ),
        plates=[plate for plate in plates if plate is not None],
        tenants=group_table(view, label="tenant", none=NO_TENANT, calls="calls"),
        short=short,
        all_points=everything,
        tables=[table for table in tables if table.rows],
    )


def opening_point(found: WhatIf) -> int:
    """Return the recommended point, else the one whose strong share is nearest to a half."""
    points = found.sweep.points
    if found.recommended is not None and found.recommended < len(points):
        return found.recommended
    return min(range(len(points)), key=lambda k: abs(points[k].strong_share - 0.5))


def saved_against_paid(found: WhatIf, cost: Interval) -> Estimate:
    """Return what the routed calls did cost minus what they would have cost, with its interval."""
    paid = float(found.routed_paid_usd)
    value, low, high = (modelled(paid - usd, "about") for usd in (cost.value, cost.high, cost.low))
    return Estimate(value, low, high)


def _stops(found: WhatIf) -> list[Stop]:
    last = len(found.sweep.points) - 1
    ends = [Stop("all weak, routed", 0), Stop("all strong, routed", last)]
    if found.recommended is None or found.alone is not None:
        return ends
    return [Stop(RECOMMENDED, min(found.recommended, last)), *ends]


def _intro(report: AuditReport, found: WhatIf) -> Words:
    kept = report.reconciliation.rows.kept
    return [
        "Of ", observed(kept, "count", "reconciliation", "rows", "kept"), " calls, ",
        observed(found.routed_calls, "count", "what_if", "routed_calls"), " (", share(found.routed_calls, kept),
        ") could have been routed; they cost ", observed(found.routed_paid_usd, "money", "what_if", "routed_paid_usd"),
        f". The router {found.router} decides between {found.sweep.strong.model} (strong) and "
        f"{found.sweep.weak.model} (weak).",
    ]  # fmt: skip


def _singles_table(view: SweepView) -> Table:
    sweep = view.sweep
    rows: list[list[Cell]] = []
    for side in ("strong", "weak"):
        model = sweep.strong if side == "strong" else sweep.weak
        cost = view.single("strong" if side == "strong" else "weak", "about", "cost_usd")
        quality = view.single("strong" if side == "strong" else "weak", "ratio", "quality")
        saving = view.single("strong" if side == "strong" else "weak", "percent", "saving_share")
        best = "best single model" if model.model == sweep.best_single else ""
        rows.append([model.model, side, cost, saving, quality, best])
    columns = [
        Column("model", numeric=False), BAR, Column("cost"), Column("saving", about="Against all strong"),
        Column("grade"), BAR,
    ]  # fmt: skip
    caption = (
        "All routed calls on one model, its cache warm: the baselines of the savings. Brackets are 95 % intervals."
    )
    return Table(caption, columns, rows, "One model for all", "modelled")


def unrouted_table(report: AuditReport, found: WhatIf) -> Table:
    """Return the calls that could not be routed, by reason."""
    total = report.paid.total.cost_usd
    rows: list[list[Cell]] = []
    for k, unrouted in enumerate(found.unrouted):
        path = ("what_if", "unrouted", k)
        unpriced = unrouted.calls if unrouted.reason == "unpriced" else 0
        cost = observed(unrouted.cost_usd, "money", *path, "cost_usd")
        rows.append([
            unrouted.reason, observed(unrouted.calls, "count", *path, "calls"),
            share(unrouted.calls, report.reconciliation.rows.kept),
            unless_unpriced(cost, unrouted.calls, unpriced), share(unrouted.cost_usd, total),
            share_bar(float(unrouted.cost_usd / (total or 1))),
        ])  # fmt: skip
    columns = [
        Column("why", numeric=False), Column("calls"), Column("of all calls"), Column("paid"), Column("of all paid"),
        BAR,
    ]  # fmt: skip
    caption = "Calls that stay as they were; they are in no number of the curve."
    return most(Table(caption, columns, rows, "Not routed", "observed"))


def _lengths_table(found: WhatIf) -> Table:
    rows: list[list[Cell]] = []
    for k, lengths in enumerate(found.answer_lengths):
        path = ("what_if", "answer_lengths", k)
        mean = Number(
            f"{lengths.mean_output_tokens:,.1f}",
            lengths.mean_output_tokens,
            f"/what_if/answer_lengths/{k}/mean_output_tokens",
        )
        rows.append([
            lengths.model, replace(mean, basis="modelled"), observed(lengths.calls, "count", *path, "calls"),
            "assumed: the log holds no answer of it" if lengths.assumed else "fitted on its own answers",
        ])  # fmt: skip
    columns = [
        Column("model", numeric=False), Column("mean output tokens", "modelled"), Column("answers", "observed"),
        Column("how", numeric=False),
    ]  # fmt: skip
    return most(Table("How long the answers of calls that move would be.", columns, rows, "Answer lengths"))


def verdict_saving(found: WhatIf) -> tuple[Words, Words] | None:
    """Return what the advice saves against what was paid, and the rest in words; None where nothing is advised."""
    follow = advised(found)
    if follow is None:
        return None
    if follow.single is not None:
        return ["nothing"], _no_routing(found, follow.single)
    point = follow.point
    saved = saved_against_paid(found, point.cost_usd)
    part = number(follow.saving_vs_paid_share, "percent")
    path = (*_PATH, "points", follow.index)
    strong = modelled(point.saving_share.value, "percent", *path, "saving_share", "value")
    best = modelled(point.saving_vs_best_share.value, "percent", *path, "saving_vs_best_share", "value")
    alike = found.sweep.best_single == found.sweep.strong.model
    beside: Words = [] if alike else [", ", best, f" against {found.sweep.best_single} alone"]
    return [saved], [
        part, " of what the routed calls cost; ", strong, " against all strong",
        *beside, ". Alpha ",
        modelled(point.alpha, "alpha", *path, "alpha"), ", strong share ",
        modelled(point.strong_share, "share", *path, "strong_share"), ".",
    ]  # fmt: skip


def _no_routing(found: WhatIf, side: Side) -> Words:
    """What a single model would have cost, where it is the cheapest thing that holds the floor."""
    model = found.sweep.strong if side == "strong" else found.sweep.weak
    cost = modelled(model.cost_usd.value, "about", *_PATH, side, "cost_usd", "value")
    saving = modelled(model.saving_share.value, "percent", *_PATH, side, "saving_share", "value")
    paid = observed(found.routed_paid_usd, "money", "what_if", "routed_paid_usd")
    beside: Words = [] if side == "strong" else [", a saving of ", saving, " against all strong"]
    return [
        f"{model.model} alone is the cheapest that is shown to hold the floor: ", cost, " instead of the ", paid,
        " that was paid", *beside, ".",
    ]  # fmt: skip


def verdict_quality(found: WhatIf) -> Estimate | None:
    """Return the share of the strong model's quality that the recommended point keeps; None where it is not known."""
    if found.recommended is None:
        return None
    kept = SweepView(found.sweep, _PATH, found.recommended).at(found.recommended, "percent", "quality_share")
    return kept if isinstance(kept, Estimate) else None
