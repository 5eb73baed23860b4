"""Make a log with known faults, audit it, and check that each is found with its count: `make audit`.

Writes the log into out/audit-log and the audit into out/audit. Exits 1 where a count differs.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.table import Table

from examples.log_traffic import MODELS, STRONG
from examples.make_log import ROWS, SEED, make_log
from jobs.audit import audit
from jobs.audit_config import AuditJob, load_audit
from jobs.audit_results import REPORT
from jobs.console import STDERR, say
from schemas.audit import AuditReport, ControlDifference, LoggedSpend, Reconciliation

CONFIG = Path(__file__).resolve().parent / "audit.toml"
OUT = CONFIG.parent.parent / "out"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: what was put in, what the audit says."""

    fault: str
    injected: str
    found: str

    @property
    def ok(self) -> bool:
        """Whether the audit is right."""
        return self.injected == self.found


def audit_of(log: Path, output: Path) -> AuditJob:
    """The example audit over another log, into another folder."""
    paths = {
        "output": output,
        "log.path": log / "spend_logs" / "*.parquet",
        "control.path": log / "usage.csv",
        "what_if.labels.path": log / "labels.parquet",
    }
    return load_audit(CONFIG, overrides=[f"{key}={path}" for key, path in paths.items()])


def findings(report: AuditReport, faults: Mapping[str, Any]) -> list[Finding]:
    """Hold an audit against the content of `faults.json`."""
    trust, rows, waste = report.reconciliation, report.reconciliation.rows, report.paid.waste
    counts = {
        "rows read": ("read", rows.read),
        "repeated rows": ("duplicated", rows.duplicated),
        "rows without a time": ("rejected", rows.rejected),
        "calls": ("kept", rows.kept),
        "null ids": ("null_ids", rows.null_ids),
        "calls under a reused id": ("reused_ids", rows.reused_ids),
        "calls without a prompt": ("missing_prompts", rows.missing_prompts),
        "failed calls": ("failed", rows.failed),
        "retried calls": ("retried", waste.retried_calls),
        "attempts beyond the first": ("extra_attempts", waste.extra_attempts),
        "answers of the proxy's cache": ("unbilled", rows.unbilled),
        "calls without a price": ("unpriced", rows.unpriced),
    }
    return [
        *(Finding(fault, f"{faults[key]:,}", f"{found:,}") for fault, (key, found) in counts.items()),
        Finding("paid", _usd(faults["cost_usd"]), _usd(report.paid.total.cost_usd)),
        Finding("paid twice by a plain sum", _usd(faults["duplicated_usd"]), _usd(waste.duplicated_logged_usd)),
        Finding("hours without a call", _outage(faults["outage"]), "; ".join(_gaps(trust))),
        *_changes(trust, faults),
        *_lost(trust.control, faults["lost"]),
    ]


def _gaps(trust: Reconciliation) -> Iterator[str]:
    for gap in trust.gaps:
        yield f"{gap.start:%Y-%m-%d %H:%M} to {gap.end:%Y-%m-%d %H:%M}"


def _outage(moments: list[str]) -> str:
    return " to ".join(f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M}" for moment in moments)


def _changes(trust: Reconciliation, faults: Mapping[str, Any]) -> Iterator[Finding]:
    rename, price = faults["rename"], faults["price_change"]
    yield Finding(
        "model renamed",
        f"{rename['before']} -> {rename['after']}, {rename['changed_at'][:19]}, "
        f"{rename['calls_before']:,} + {rename['calls_after']:,} calls",
        "; ".join(
            f"{change.before} -> {change.after}, {change.changed_at:%Y-%m-%dT%H:%M:%S}, "
            f"{change.calls_before:,} + {change.calls_after:,} calls"
            for change in trust.model_changes
        ),
    )
    yield Finding(
        "price changed",
        f"{price['model']}, {price['changed_at'][:10]}, {price['calls_before']:,} + {price['calls_after']:,} calls, "
        f"{price['stale_calls']:,} at the old price",
        "; ".join(
            f"{change.model}, {change.changed_at:%Y-%m-%d}, {change.calls_before:,} + {change.calls_after:,} calls, "
            f"{change.stale_calls:,} at the old price"
            for change in trust.price_changes
        ),
    )
    stale = [model for model in trust.models if model.model == MODELS[STRONG]]
    yield Finding("logged too high for it", _usd(price["overstated_usd"]), _usd(_difference(stale)))
    others = [model for model in trust.models if model.model != MODELS[STRONG]]
    yield Finding("logged wrongly elsewhere", _usd(0), _usd(_difference(others)))


def _difference(models: list[LoggedSpend]) -> Decimal:
    return sum((model.difference_usd for model in models), Decimal(0))


def _lost(control: list[ControlDifference], lost: Mapping[str, Any]) -> Iterator[Finding]:
    found = sorted({difference.key for difference in control})
    yield Finding("calls lost on", "; ".join(lost["keys"]), "; ".join(found))
    for measure in ("calls", "input_tokens", "output_tokens"):
        missing = -sum(difference.difference for difference in control if difference.measure == measure)
        yield Finding(f"{measure.replace('_', ' ')} lost", f"{lost[measure]:,}", f"{missing:,}")


def _usd(amount: float | Decimal) -> str:
    """Money to a hundredth of a cent: the log holds it as floats."""
    return f"${round(Decimal(amount), 4) + 0:,.4f}"


def show(found: list[Finding]) -> None:
    """Print the faults."""
    table = Table(title="faults of the log", title_justify="left")
    for name in ("fault", "injected", "found", "ok"):
        table.add_column(name, overflow="fold")
    for finding in found:
        table.add_row(finding.fault, finding.injected, finding.found, "yes" if finding.ok else "NO")
    STDERR.print(table)


def main() -> int:
    """Returns 0 where every fault was found, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="calls in the log")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of both results")
    given = parser.parse_args()
    log, output = given.out / "audit-log", given.out / "audit"
    shutil.rmtree(output, ignore_errors=True)
    say(f"making a log of {given.rows:,} calls in {log}")
    faults = make_log(log, rows=given.rows, seed=given.seed)
    audit(audit_of(log, output))
    found = findings(AuditReport.model_validate_json((output / REPORT).read_bytes()), faults)
    show(found)
    wrong = sum(not finding.ok for finding in found)
    say(f"{len(found) - wrong} of {len(found)} as put in" + (f", {wrong} NOT" if wrong else ""))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
