"""`nightroute audit --config audit.toml`: what did these calls cost, can the log be trusted, what if they were routed?

open -> store -> books -> what if -> write. Nothing is sent, no key is needed. Memory is bounded by `log.part_rows`,
never by the log.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from jobs.audit_books import Books, keep_books
from jobs.audit_calls import StoredCalls, store_calls
from jobs.audit_config import AuditJob
from jobs.audit_console import record, show
from jobs.audit_exports import write_exports
from jobs.audit_log import OpenedLog, open_log
from jobs.audit_what_if import WhatIfResult, what_if
from jobs.console import emit, say
from jobs.night import package_version
from jobs.report.audit import audit_page
from jobs.rundir import RunDir, locked, move, storing, write_json, write_text
from jobs.stopwatch import Stopwatch
from jobs.training import read_table, versions
from routing.audit.gates import broken_gates, check_gates, figures
from routing.errors import DataError, NothingToDoError
from routing.prices import SOURCE, price_snapshot, snapshot_sha256
from schemas.audit import AuditReport

REPORT, PAGE, CACHE = "report.json", "report.html", "cache"
VERSIONED = ("polars", "pyarrow", "numpy", "onnxruntime", "tokenizers", "genai-prices")


def audit(
    job: AuditJob,
    *,
    fail_if: Sequence[str] = (),
    now: datetime | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Audit a log, write report, page and tables; returns the exit code.

    Args:
        job: The audit.
        fail_if: Gates: everything is written all the same, but the exit code is 1 where one of them holds.
        now: Moment of the report; else that of the system's clock.
        clock: Seconds, for the stages.

    Raises:
        NightrouteError: with the exit code of DESIGN section 9.
    """
    check_gates(fail_if)
    folder = RunDir(job.path(job.config.output))
    with storing(folder.root):
        folder.root.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        shutil.rmtree(folder.staging, ignore_errors=True)
        try:
            return _audit(job, folder, fail_if=fail_if, created_at=now or datetime.now(UTC), watch=Stopwatch(clock))
        finally:
            shutil.rmtree(folder.staging, ignore_errors=True)


def _audit(job: AuditJob, folder: RunDir, *, fail_if: Sequence[str], created_at: datetime, watch: Stopwatch) -> int:
    config = job.config
    log = open_log(config.log, job.base, date=job.date)
    say(f"log: {len(log.files):,} {'file' if len(log.files) == 1 else 'files'}, format {log.format}")
    calls = store_calls(log, folder.staging / "calls", part_rows=config.log.part_rows)
    watch.lap("store")
    if not calls.read:
        raise NothingToDoError(f"log {config.log.path} holds no rows; nothing was written")
    prices = price_snapshot(config.prices)
    books = keep_books(calls, prices, control=_control(job), page=config.page)
    watch.lap("books")
    found = None
    if config.what_if is not None:
        found = what_if(job, calls, prices, cache=folder.root / CACHE, clock=watch.clock)
    watch.lap("what_if")
    report = _report(job, log, calls, books, found, prices=prices, created_at=created_at)
    paths = _write(report, books, found, calls, prices, folder, job)
    watch.lap("write")
    broken = broken_gates(fail_if, figures(report))
    show(report, broken, watch.timings_s, folder.root)
    emit(record(report, broken, watch.timings_s, folder.root, paths))
    return 1 if broken else 0


def _control(job: AuditJob) -> pl.DataFrame | None:
    """The control totals under our names."""
    section = job.config.control
    if section is None:
        return None
    table = read_table(job.path(section.path))
    if missing := sorted(set(section.columns.values()) - set(table.columns)):
        raise DataError(
            f"control {section.path}: control.columns names {missing}, which the table lacks; it has {table.columns}"
        )
    return table.select(pl.col(theirs).alias(ours) for ours, theirs in section.columns.items())


def _report(
    job: AuditJob,
    log: OpenedLog,
    calls: StoredCalls,
    books: Books,
    found: WhatIfResult | None,
    *,
    prices: pl.DataFrame,
    created_at: datetime,
) -> AuditReport:
    return AuditReport(
        name=job.config.name,
        created_at=created_at,
        nightroute_version=package_version(),
        log_format=log.format,
        files=calls.files,
        first_called_at=books.first_called_at,
        last_called_at=books.last_called_at,
        prices_sha256=snapshot_sha256(prices),
        price_source=SOURCE,
        reconciliation=books.reconciliation,
        paid=books.paid,
        what_if=None if found is None else found.report,
        notes=[],
        versions=versions(VERSIONED),
    )


def _write(
    report: AuditReport,
    books: Books,
    found: WhatIfResult | None,
    calls: StoredCalls,
    prices: pl.DataFrame,
    folder: RunDir,
    job: AuditJob,
) -> dict[str, Path]:
    """Write every file atomically, the report last: where it is, the rest is whole."""
    root = folder.root
    (root / REPORT).unlink(missing_ok=True)
    folder.rejected.unlink(missing_ok=True)
    if calls.rejected_path is not None:
        move(calls.rejected_path, folder.rejected)
    write_exports(report, books, found, root, job.config.exports, prices=prices)
    write_text(root / PAGE, audit_page(report), folder.staging)
    write_json(root / REPORT, report, folder.staging)
    return {"report": root / REPORT, "page": root / PAGE}
