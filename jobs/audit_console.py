"""What people see of an audit: can the log be trusted, what was paid, what routing would have saved."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.table import Table

from jobs.console import STDERR, say, usd
from schemas.audit import AuditReport, Reconciliation, WhatIf
from schemas.sweep import Estimate, SweepPoint

SHOWN = 12
"""Models that are listed; the page has them all."""


def show(report: AuditReport, broken: Sequence[str], timings_s: Mapping[str, float], folder: Path) -> None:
    """Print the summary of an audit."""
    _show_models(report)
    for line in _trust(report.reconciliation):
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
    point = None if found is None or found.recommended is None else found.sweep.points[found.recommended]
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
        "advice": None if found is None else found.advice,
        "broken_gates": list(broken),
        "timings_s": {stage: round(seconds, 1) for stage, seconds in timings_s.items()},
    }


def _show_models(report: AuditReport) -> None:
    table = Table(title=f"audit {report.name}: what was paid", title_justify="left")
    for name in ("model", "calls", "tokens", "cost", "logged"):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    for spend in [*report.paid.models[:SHOWN], report.paid.total]:
        if spend is report.paid.total:
            table.add_section()
        cost = "unpriced" if spend.unpriced_calls == spend.calls else usd(spend.cost_usd)
        name = "total" if spend is report.paid.total else spend.key or "(no model)"
        tokens = spend.input_tokens + spend.output_tokens
        table.add_row(name, f"{spend.calls:,}", f"{tokens:,}", cost, usd(spend.logged_usd))
    STDERR.print(table)


def _trust(found: Reconciliation) -> list[str]:
    rows = found.rows
    lines = [
        f"rows: {rows.read:,} read, {rows.rejected:,} rejected, {rows.duplicated:,} duplicated, {rows.kept:,} kept; "
        f"{rows.failed:,} failed, {rows.null_ids:,} without an id, {rows.reused_ids:,} under an id of another call"
    ]
    lines += [
        f"UNPRICED: {item.calls:,} calls ({item.reason}) are in no sum; add [[prices]]" for item in found.unpriced[:3]
    ]
    if found.gaps:
        hours = sum(gap.hours for gap in found.gaps)
        lines.append(
            f"GAPS: {hours:,} hours without a call where there should have been some, in {len(found.gaps)} gaps"
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
    if found.control:
        lines.append(
            f"CONTROL: {len(found.control):,} differences in {found.control_keys:,} keys of the control totals"
        )
    return lines


def _what_if(found: WhatIf) -> list[str]:
    sweep = found.sweep
    lines = [
        f"what if: {found.routed_calls:,} calls routed by {found.router}; they did cost {usd(found.routed_paid_usd)}, "
        f"all {sweep.strong.model} {_money(sweep.strong.cost_usd)}, "
        f"all {sweep.weak.model} {_money(sweep.weak.cost_usd)}"
    ]
    if found.recommended is not None:
        lines.append(_told(sweep.points[found.recommended]))
    lines.append(found.advice)
    return lines


def _told(point: SweepPoint) -> str:
    alpha = "above every win rate" if point.alpha is None else f"{point.alpha:.6f}"
    quality = "" if point.quality_share is None else f", {_span(point.quality_share)} of the strong model's quality"
    return (
        f"  at alpha {alpha}: strong share {point.strong_share:.3f}, cost {_money(point.cost_usd)}, "
        f"{_span(point.saving_share)} saved against all strong{quality}"
    )


def _money(found: Estimate) -> str:
    return f"{_usd(found.value)} ({_usd(found.low)} to {_usd(found.high)})"


def _usd(value: float) -> str:
    return usd(Decimal(repr(value)))


def _span(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
