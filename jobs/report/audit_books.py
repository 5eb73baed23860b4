"""What an audit says of the log itself: what became of its rows, and what it was held against."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from jobs.report.numbers import Unit, modelled, observed
from jobs.report.phrases import moment, share
from jobs.report.time_charts import share_bar
from jobs.report.views import BAR, Cell, Column, Table, most
from schemas.audit import AuditReport, ControlDifference, Reconciliation

NO_NAME = "(not named)"

ROWS: Final = {
    "read": ("read", "all calls of the log"),
    "left_out": ("that are no calls", "spans around calls, queries that were never sent; in no other number"),
    "rejected": ("rejected", "they broke a rule of the format; in no number below"),
    "duplicated": ("duplicated", "same id, time, model and tokens as an earlier row; counted once"),
    "kept": ("kept", "every number of this page is about these"),
    "null_ids": ("without an id", "cannot be checked for duplicates"),
    "identical_null_ids": ("without an id and like an earlier one", "twice in the log, or two equal calls; counted"),
    "reused_ids": ("under the id of another call", "gateways write static ids; counted"),
    "unpriced": ("without a price", "in no sum of dollars"),
    "unbilled": ("answered by a gateway's cache", "cost $0"),
    "failed": ("failed", "see waste and errors"),
    "missing_prompts": ("without prompt text", "cannot be routed"),
}
"""Field of RowCounts -> what it counts, what that means."""
_WHOLE = ("read", "left_out")
_OF_READ = (*_WHOLE, "rejected", "duplicated", "kept")


def absent(report: AuditReport, tables: Sequence[Table]) -> list[str]:
    """Return what was looked for and not found: rows that are none, tables without rows."""
    found = report.reconciliation
    rows = [f"rows {label}" for name, (label, _) in ROWS.items() if not getattr(found.rows, name)]
    missing = [table.title.lower() for table in tables if not table.rows]
    if not found.control_keys:
        missing.remove("differences from the control totals")
    return list(dict.fromkeys([*rows, *missing]))


def trust_tables(report: AuditReport) -> list[Table]:
    """Return everything that was looked for in the log and found; a table without rows was not."""
    found = report.reconciliation
    return [
        _rejected(found), _unpriced(found), _gaps(found), _models(found), _model_changes(found), _price_changes(found),
        _control(found),
    ]  # fmt: skip


def rows_table(found: Reconciliation) -> Table:
    """Return what became of the rows."""
    counts = found.rows
    rows: list[list[Cell]] = []
    for name, (label, about) in ROWS.items():
        value = getattr(counts, name)
        if not value and name not in ("read", "kept"):
            continue
        whole = counts.read if name in _OF_READ else counts.kept
        shown = "" if name in _WHOLE else "of rows read" if name in _OF_READ else "of rows kept"
        part: list[Cell] = ["", ""] if name in _WHOLE else [share(value, whole), share_bar(value / (whole or 1))]
        rows.append([label, observed(value, "count", "reconciliation", "rows", name), *part, shown, about])
    columns = [
        Column("rows", numeric=False), Column("count"), Column("share"), BAR,
        Column("of", numeric=False), Column("what it means", numeric=False),
    ]  # fmt: skip
    return Table("What became of the rows.", columns, rows, "Rows", basis="observed")


def _rejected(found: Reconciliation) -> Table:
    rows: list[list[Cell]] = [
        [r.rule, observed(r.rows, "count", "reconciliation", "rejected", k, "rows"), share(r.rows, found.rows.read)]
        for k, r in enumerate(found.rejected)
    ]
    columns = [Column("rule", numeric=False), Column("rows"), Column("of rows read")]
    return most(Table("Rows that broke a rule; one row may break several.", columns, rows, "Rows rejected", "observed"))


def _unpriced(found: Reconciliation) -> Table:
    rows: list[list[Cell]] = []
    for k, u in enumerate(found.unpriced):
        path = ("reconciliation", "unpriced", k)
        rows.append([
            u.reason, observed(u.calls, "count", *path, "calls"), share(u.calls, found.rows.kept),
            observed(u.input_tokens, "tokens", *path, "input_tokens"),
            observed(u.output_tokens, "tokens", *path, "output_tokens"),
            observed(u.logged_usd, "money", *path, "logged_usd"),
        ])  # fmt: skip
    columns = [
        Column("reason", numeric=False), Column("calls"), Column("of calls"), Column("input tokens"),
        Column("output tokens"), Column("logged", about="What the log says they cost, where it does"),
    ]  # fmt: skip
    caption = "Calls without a price: their cost is unknown, which is not $0, and in no sum of this page."
    return most(Table(caption, columns, rows, "Rows without a price", "observed"))


def _gaps(found: Reconciliation) -> Table:
    rows: list[list[Cell]] = []
    for k, gap in enumerate(found.gaps):
        path = ("reconciliation", "gaps", k)
        hours = observed(gap.hours, "count", *path, "hours")
        expected = modelled(gap.expected_calls, "count", *path, "expected_calls")
        rows.append([moment(gap.start), moment(gap.end), hours, expected])
    columns = [
        Column("from", numeric=False, whole=True), Column("to", numeric=False, whole=True), Column("hours", "observed"),
        Column("calls expected", "modelled", "By the same hours of other weeks"),
    ]  # fmt: skip
    return most(Table("Hours without a call where there should have been some.", columns, rows, "Gaps"))


def _models(found: Reconciliation) -> Table:
    rows: list[list[Cell]] = []
    for k, m in enumerate(found.models):
        path = ("reconciliation", "models", k)
        rows.append([
            m.model or NO_NAME, m.provider or NO_NAME, observed(m.calls, "count", *path, "calls"),
            observed(m.compared_calls, "count", *path, "compared_calls"),
            observed(m.logged_usd, "money", *path, "logged_usd"),
            observed(m.recomputed_usd, "money", *path, "recomputed_usd"),
            observed(m.difference_usd, "balance", *path, "difference_usd"),
            share(m.difference_usd, m.recomputed_usd),
            observed(m.differing_calls, "count", *path, "differing_calls"),
            f"{m.first_called_at:%Y-%m-%d}", f"{m.last_called_at:%Y-%m-%d}",
        ])  # fmt: skip
    spend = "spend of the calls that have both"
    columns = [
        Column("model", numeric=False), Column("provider", numeric=False), Column("all", "calls"),
        Column("compared", "calls"), Column("logged", spend), Column("recomputed", spend),
        Column("difference", spend, "Logged minus recomputed"), Column("share", spend),
        Column("calls that differ", spend, "By more than a ten-thousandth of a cent and one part in a thousand"),
        Column("first", "seen", numeric=False, whole=True), Column("last", "seen", numeric=False, whole=True),
    ]  # fmt: skip
    caption = "Logged spend against spend recomputed from tokens and dated prices. This page counts the recomputed one."
    return most(Table(caption, columns, rows, "Logged spend against recomputed", "observed"))


def _model_changes(found: Reconciliation) -> Table:
    rows: list[list[Cell]] = []
    for k, change in enumerate(found.model_changes):
        path = ("reconciliation", "model_changes", k)
        rows.append([
            change.before, change.after, change.provider or NO_NAME, moment(change.changed_at),
            observed(change.calls_before, "count", *path, "calls_before"),
            observed(change.calls_after, "count", *path, "calls_after"),
            "the same" if change.same_price else "another",
        ])  # fmt: skip
    columns = [
        Column("before", numeric=False), Column("after", numeric=False), Column("provider", numeric=False),
        Column("first call of the new name", numeric=False, whole=True), Column("before", "calls"),
        Column("after", "calls"), Column("price", numeric=False),
    ]  # fmt: skip
    caption = "Models that ended where another one of the same provider began: renamed, or replaced."
    return most(Table(caption, columns, rows, "Model changes", "observed"))


def _price_changes(found: Reconciliation) -> Table:
    rows: list[list[Cell]] = []
    for k, change in enumerate(found.price_changes):
        path = ("reconciliation", "price_changes", k)
        rows.append([
            change.model, change.provider or NO_NAME, change.processing, moment(change.changed_at),
            observed(change.calls_before, "count", *path, "calls_before"),
            observed(change.calls_after, "count", *path, "calls_after"),
            observed(change.stale_calls, "count", *path, "stale_calls"),
            observed(change.stale_usd, "balance", *path, "stale_usd"),
            f"{change.before_price_id}, then {change.after_price_id}",
        ])  # fmt: skip
    columns = [
        Column("model", numeric=False), Column("provider", numeric=False), Column("tier", numeric=False),
        Column("new price from", numeric=False, whole=True), Column("before", "calls"), Column("after", "calls"),
        Column("at the old price", "calls", "Calls after the change that the log books at the price before it"),
        Column("off by", about="Logged minus recomputed, of the calls at the old price"),
        Column("prices", numeric=False),
    ]  # fmt: skip
    return most(Table("Prices that changed while the log ran.", columns, rows, "Price changes", "observed"))


def _control(found: Reconciliation) -> Table:
    def off(at: int) -> Decimal:
        control = found.control[at]
        return abs(control.difference) / (abs(control.control) or 1)

    rows = [_control_row(k, found.control[k]) for k in sorted(range(len(found.control)), key=lambda k: -off(k))]
    columns = [
        Column("key", numeric=False), Column("measure", numeric=False), Column("log"), Column("control"),
        Column("difference", about="Log minus control: negative where the log lacks something"), Column("share"),
    ]  # fmt: skip
    caption = "Where the log is not what the control totals say, largest differences first."
    return most(Table(caption, columns, rows, "Differences from the control totals", "observed"))


def _control_row(k: int, found: ControlDifference) -> Sequence[Cell]:
    path = ("reconciliation", "control", k)
    unit: tuple[Unit, Unit] = ("money", "balance") if found.measure == "usd" else ("count", "count")
    return [
        found.key, found.measure.replace("_", " "), observed(found.logged, unit[0], *path, "logged"),
        observed(found.control, unit[0], *path, "control"), observed(found.difference, unit[1], *path, "difference"),
        share(found.difference, found.control),
    ]  # fmt: skip
