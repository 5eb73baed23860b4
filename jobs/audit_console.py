"""What people see of an audit: can the log be trusted, what was paid, what routing would have saved."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.table import Table

from jobs.console import STDERR, say, usd
from jobs.report.phrases import plural
from routing.pricing import UNKNOWN_TOKENS
from schemas.audit import AuditReport, Reconciliation, Waste, WhatIf
from schemas.sweep import Estimate

SHOWN = 12
"""Models that are listed; the page has them all."""


def show(report: AuditReport, broken: Sequence[str], timings_s: Mapping[str, float], folder: Path) -> None:
    """Print the summary of an audit."""
    _show_models(report)
    for line in (
        *_trust(report.reconciliation),
        *_failed(report.paid.waste),
        *(f"NOTE: {note}" for note in report.notes),
    ):
        say(line)
    if report.what_if is not None:
        for line in _what_if(report.what_if):
            say(line)
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in timings_s.items())
    say(f"wrote {folder} ({stages}); read {folder / 'report.html'}")
    for gate in broken:
        say(f"GATE: {gate}")


def record(
    report: AuditReport,
    broken: Sequence[str],
    timings_s: Mapping[str, float],
    folder: Path,
    paths: Mapping[str, Path],
) -> dict[str, Any]:
    """Return the JSON summary."""
    found = report.what_if
    point = None
    if found is not None and found.recommended is not None and found.alone is None:
        point = found.sweep.points[found.recommended]
    total = report.paid.total
    return {
        "job": "audit",
        "status": "gate" if broken else "audited",
        "exit_code": 1 if broken else 0,
        "folder": str(folder),
        **{name: str(path) for name, path in paths.items()},
        "rows": report.reconciliation.rows.model_dump(mode="json"),
        "cost_usd": str(total.cost_usd),
        "logged_usd": str(total.logged_usd),
        "recommended": None if point is None else point.model_dump(mode="json"),
        "alone": None if found is None else found.alone,
        "advice": None if found is None else found.advice,
        "broken_gates": list(broken),
        "timings_s": {stage: round(seconds, 1) for stage, seconds in timings_s.items()},
    }


def _show_models(report: AuditReport) -> None:
    table = Table(title=f"audit {report.name}: what was paid", title_justify="left")
    for name in ("model", "calls", "tokens", "cost", "logged"):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    for spend in report.paid.models[:SHOWN]:
        cost = "unpriced" if spend.unpriced_calls == spend.calls else usd(spend.cost_usd)
        tokens = spend.input_tokens + spend.output_tokens
        table.add_row(spend.key or "(no model)", f"{spend.calls:,}", f"{tokens:,}", cost, usd(spend.logged_usd))
    table.add_section()
    # What is logged for calls without a price stands beside no cost: the two have to be about the same calls.
    total, unpriced = report.paid.total, report.reconciliation.unpriced
    calls = sum(item.calls for item in unpriced)
    tokens = sum(item.input_tokens + item.output_tokens for item in unpriced)
    logged = sum((item.logged_usd or Decimal(0) for item in unpriced), Decimal(0))
    priced = f"{total.calls - calls:,}", f"{total.input_tokens + total.output_tokens - tokens:,}"
    table.add_row(
        "all with a price" if calls else "total", *priced, usd(total.cost_usd), usd(total.logged_usd - logged)
    )
    if calls:
        table.add_row("without a price", f"{calls:,}", f"{tokens:,}", "unpriced", usd(logged))
    if not _logs(report.reconciliation):
        table.columns.pop()
    STDERR.print(table)


def _logs(found: Reconciliation) -> bool:
    """Whether the log says of any call what it cost: where it does not, $0 would be wrong."""
    return any(model.compared_calls for model in found.models) or any(item.logged_usd for item in found.unpriced)


def _trust(found: Reconciliation) -> list[str]:
    rows = found.rows
    lines = [
        f"rows: {rows.read:,} read, {rows.rejected:,} rejected, {rows.duplicated:,} duplicated, {rows.kept:,} kept; "
        f"{rows.failed:,} failed, {rows.null_ids:,} without an id"
        + (f" ({rows.identical_null_ids:,} like an earlier one)" if rows.identical_null_ids else "")
        + f", {rows.reused_ids:,} under an id of another call"
        + (f"; {rows.left_out:,} more are no calls" if rows.left_out else "")
    ]
    lines += [
        f"UNPRICED: {item.calls:,} calls ({item.reason}) are in no sum; "
        + ("let the log hold them" if item.reason == UNKNOWN_TOKENS else "add [[prices]]")
        for item in found.unpriced[:3]
    ]
    if found.gaps:
        hours = sum(gap.hours for gap in found.gaps)
        lines.append(
            f"GAPS: {hours:,} {plural(hours, 'hour')} without a call where there should have been some, in "
            f"{len(found.gaps):,} {plural(len(found.gaps), 'gap')}"
        )
    differing = sum(model.differing_calls for model in found.models)
    if differing:
        difference = sum((model.difference_usd for model in found.models), Decimal(0))
        lines.append(
            f"SPEND: the log's own spend differs from tokens times prices on {differing:,} calls, "
            f"by {usd(difference)} in all"
        )
    lines += [
        f"PRICE: {change.model} changed its price at {change.changed_at:%Y-%m-%d %H:%M} UTC"
        + (f"; the log kept the old one on {change.stale_calls:,} calls" if change.stale_calls else "")
        for change in found.price_changes
    ]
    lines += [
        f"MODEL: {change.before} became {change.after} at {change.changed_at:%Y-%m-%d %H:%M} UTC"
        for change in found.model_changes
    ]
    if found.control_keys == 0:
        lines.append("CONTROL: the totals are of other days than the log; nothing was compared")
    if found.control:
        lines.append(
            f"CONTROL: {len(found.control):,} differences in {found.control_keys:,} keys of the control totals"
        )
    return lines


def _failed(waste: Waste) -> list[str]:
    if not waste.failed_usd:
        return []
    return [
        f"FAILED: {usd(waste.failed_usd)} of the total is for failed calls, whose tokens are in the log; map billed "
        "under log.columns if they were not charged"
    ]


def _what_if(found: WhatIf) -> list[str]:
    sweep = found.sweep
    if not sweep.points:
        return [f"what if: {found.advice}"]
    told = (
        f"what if: {found.routed_calls:,} calls routed by {found.router}; they did cost {usd(found.routed_paid_usd)}, "
        f"all {sweep.strong.model} {_money(sweep.strong.cost_usd)}, "
        f"all {sweep.weak.model} {_money(sweep.weak.cost_usd)}"
    )
    return [told, found.advice]


def _money(found: Estimate) -> str:
    return f"{_usd(found.value)} ({_usd(found.low)} to {_usd(found.high)})"


def _usd(value: float) -> str:
    return usd(Decimal(repr(value)))
