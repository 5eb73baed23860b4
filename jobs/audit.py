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
from jobs.audit_results import CACHE, PAGE, REPORT
from jobs.audit_what_if import WhatIfResult, what_if
from jobs.audit_what_if_inputs import read_inputs
from jobs.console import emit, say
from jobs.night import package_version
from jobs.report.audit import audit_page
from jobs.rundir import RunDir, check_staging, locked, move, storing, write_json, write_text
from jobs.stopwatch import Stopwatch
from jobs.training import read_table, versions
from routing.audit.control import conform
from routing.audit.gates import broken_gates, check_gates, figures
from routing.audit.overrides import unused_overrides
from routing.audit.what_if_routed import idle_patterns
from routing.errors import DataError, NothingToDoError
from routing.prices import SOURCE, price_snapshot, snapshot_sha256
from schemas.audit import AuditReport

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
    check_staging(folder)
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
    prices = price_snapshot(config.prices)
    control, inputs = _control(job), read_inputs(job, prices)
    log = open_log(config.log, job.base, date=job.date, output=folder.root)
    say(f"log: {len(log.files):,} {'file' if len(log.files) == 1 else 'files'}, format {log.format}")
    calls = store_calls(log, folder.staging / "calls", part_rows=config.log.part_rows)
    watch.lap("store")
    if not calls.read:
        raise NothingToDoError(f"log {config.log.path} holds no rows; nothing was written")
    books = keep_books(calls, prices, control=control, page=config.page)
    watch.lap("books")
    found = None
    if inputs is not None:
        found = what_if(inputs, calls, prices, cache=folder.root / CACHE, clock=watch.clock)
    watch.lap("what_if")
    report = _report(job, log, calls, books, found, prices=prices, created_at=created_at)
    paths = _write(report, books, found, calls, prices, folder, job)
    watch.lap("write")
    broken = broken_gates(fail_if, figures(report))
    show(report, broken, watch.timings_s, folder.root)
    emit(record(report, broken, watch.timings_s, folder.root, paths))
    return 1 if broken else 0


def _control(job: AuditJob) -> pl.DataFrame | None:
    """The control totals, in our names and types."""
    section = job.config.control
    if section is None:
        return None
    table = read_table(job.path(section.path), check="control.path")
    if missing := sorted(set(section.columns.values()) - set(table.columns)):
        raise DataError(
            f"control {section.path}: control.columns names {missing}, which the table lacks; it has {table.columns}"
        )
    try:
        return conform(table.select(pl.col(theirs).alias(ours) for ours, theirs in section.columns.items()))
    except DataError as error:
        raise DataError(f"control {section.path}: {error}") from error


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
        notes=_notes(job, books, prices),
        versions=versions(VERSIONED),
    )


def _notes(job: AuditJob, books: Books, prices: pl.DataFrame) -> list[str]:
    asked = job.config.what_if
    if asked is None:
        return unused_overrides(books.daily, prices, besides=())
    idle = idle_patterns(asked.replaces, books.daily["model"].drop_nulls().unique())
    return [*unused_overrides(books.daily, prices, besides=(asked.strong.name, asked.weak.name)), *idle]


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
        if not job.config.page.excerpts:
            _forget_prompts(calls.rejected_path)
        move(calls.rejected_path, folder.rejected)
    write_exports(report, books, found, root, job.config.exports, prices=prices)
    write_text(root / PAGE, audit_page(report), folder.staging)
    write_json(root / REPORT, report, folder.staging)
    return {"report": root / REPORT, "page": root / PAGE}


def _forget_prompts(path: Path) -> None:
    """Take the prompts out of the rejected rows."""
    draft = path.with_suffix(".without")
    with storing(path):
        pl.scan_parquet(path, glob=False).drop("prompt").sink_parquet(draft)
        draft.replace(path)
