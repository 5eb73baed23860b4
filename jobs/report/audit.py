"""The page of an audit: can the log be trusted, what was paid, what would routing have cost and been worth."""

from jobs.report.audit_books import absent, rows_table, trust_tables
from jobs.report.audit_paid import alone, days_plate, errors_table, paid_cell, prompts_table, spend_tables
from jobs.report.audit_trust import TOLERATED, Trust, trust
from jobs.report.audit_what_if import unrouted_table, verdict_quality, verdict_saving, what_if_section
from jobs.report.dial import Tile
from jobs.report.environment import render, script
from jobs.report.numbers import modelled, number, observed
from jobs.report.palette import DARK, LIGHT, css
from jobs.report.phrases import moment, plural
from jobs.report.views import Cell, Column, Emphasis, Table, Words, most
from schemas.audit import AuditReport, WhatIf

_LEVELS = {
    "holds": Emphasis("yes", "good"),
    "holds with remarks": Emphasis("yes, with remarks", "good"),
    "does not hold": Emphasis("no", "bad"),
}


def audit_page(report: AuditReport) -> str:
    """Return the self-contained HTML page of an audit.

    The same report gives the same page. It holds the report itself as JSON (`#report`), which its one script reads when
    the slider moves; every number of the report that is shown carries its JSON pointer in `data-json`. All text of the
    report is untrusted.
    """
    found = trust(report)
    what_if = what_if_section(report)
    tables = trust_tables(report)
    waste = report.paid.waste
    return render(
        "audit.html.j2",
        report=report,
        report_json=report.model_dump(mode="json"),
        script=script("numbers.js", "slider.js") if what_if is not None else None,
        created=moment(report.created_at),
        begin=moment(report.first_called_at),
        end=moment(report.last_called_at),
        colours={"light": css(LIGHT), "dark": css(DARK)},
        verdict=_verdict(report, found),
        trust=found,
        tolerated=TOLERATED,
        rows=rows_table(report.reconciliation),
        trust_tables=[table for table in tables if table.rows],
        absent=absent(report, tables),
        days=days_plate(report),
        spends=spend_tables(report.paid),
        alone=alone(report.paid),
        prompts=prompts_table(report.paid),
        errors=errors_table(report.paid),
        waste=_waste(report),
        wasted=bool(waste.failed_calls or waste.retried_calls or waste.extra_attempts or waste.duplicated_logged_usd),
        what_if=what_if,
        unrouted=None if what_if is not None or report.what_if is None else unrouted_table(report, report.what_if),
        graded=what_if is not None and what_if.graded,
        files=_files(report),
        number=number,
    )


def _verdict(report: AuditReport, found: Trust) -> list[Tile]:
    total = report.paid.total
    unpriced: Words = (
        [observed(total.unpriced_calls, "count", "paid", "total", "unpriced_calls"), " calls without a price not in it"]
        if total.unpriced_calls
        else ["every call has a price"]
    )
    about = len(found.findings)
    told = f"{about} {plural(about, 'thing')} to know" if about else "nothing speaks against it"
    if found.breaking:
        told = f"{found.breaking} of {told} {plural(found.breaking, 'makes', 'make')} its totals unreliable"
    return [
        Tile(
            "was paid", [paid_cell(total, "paid", "total")],
            ["for ", observed(total.calls, "count", "paid", "total", "calls"), " calls; ", *unpriced], "observed",
        ),
        *_verdict_what_if(report),
        Tile("can the log be trusted?", [_LEVELS[found.level]], [told]),
    ]  # fmt: skip


def _verdict_what_if(report: AuditReport) -> list[Tile]:
    what_if = report.what_if
    nothing: Words = [number(None, "money")]
    saves, keeps = "routing would have saved", "quality kept"
    if what_if is None:
        return [Tile(saves, nothing, ["no what-if was asked for: add [what_if] to the config"])]
    saving, quality = verdict_saving(what_if), verdict_quality(what_if)
    return [
        Tile(saves, nothing, [*_range(what_if), what_if.advice])
        if saving is None
        else Tile(saves, *saving, "modelled"),
        Tile(keeps, nothing, [f"not known: {what_if.calibration}"])
        if quality is None
        else Tile(keeps, [quality], ["of the strong model's quality, as the labels grade it"], "modelled"),
    ]


def _range(what_if: WhatIf) -> Words:
    """What one model alone would have cost, where no alpha is recommended."""
    if not what_if.sweep.points:
        return []
    weak, strong = (
        modelled(getattr(what_if.sweep, side).cost_usd.value, "about", "what_if", "sweep", side, "cost_usd", "value")
        for side in ("weak", "strong")
    )
    paid = observed(what_if.routed_paid_usd, "money", "what_if", "routed_paid_usd")
    return ["From ", weak, " (all weak) to ", strong, " (all strong) instead of ", paid, ", as modelled. "]


def _waste(report: AuditReport) -> Words:
    waste, path = report.paid.waste, ("paid", "waste")
    return [
        observed(waste.failed_calls, "count", *path, "failed_calls"), " calls failed; those whose tokens are in the "
        "log are counted as charged: ", observed(waste.failed_usd, "money", *path, "failed_usd"), ". ",
        observed(waste.retried_calls, "count", *path, "retried_calls"), " calls took more than one attempt, ",
        observed(waste.extra_attempts, "count", *path, "extra_attempts"), " attempts beyond the first; what those "
        "cost, no log says. A plain sum over the log counts duplicated rows twice: ",
        observed(waste.duplicated_logged_usd, "money", *path, "duplicated_logged_usd"), " of logged spend.",
    ]  # fmt: skip


def _files(report: AuditReport) -> Table:
    rows: list[list[Cell]] = [
        [file.path, observed(file.rows, "count", "files", k, "rows"), file.sha256]
        for k, file in enumerate(report.files)
    ]
    columns = [Column("file", numeric=False), Column("rows"), Column("sha256", numeric=False)]
    return most(Table("Files of the log.", columns, rows, basis="observed"))
