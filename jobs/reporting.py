"""`nightroute report PATH`: the page of a run, an audit or an evaluation, made (again) from what its folder holds."""

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from jobs import console
from jobs.night import refuse_labelling
from jobs.report.audit import audit_page
from jobs.report.evaluation import evaluation_page
from jobs.report.run import run_page
from jobs.run_report import run_report
from jobs.rundir import RunDir, write_text
from routing.errors import ConfigError, InputMissingError, UsageError
from schemas.audit import AuditReport
from schemas.evaluation import EvaluationReport

REPORT, PAGE = "report.json", "report.html"

R = TypeVar("R", bound=BaseModel)

_MARKS = {"reconciliation": "audit", "benchmarks": "evaluation"}
"""A key that only one kind of report has."""


def report(path: Path, *, output: Path | None = None, groups: Sequence[str] = (), now: datetime | None = None) -> int:
    """Write the page of a folder; returns the exit code.

    Args:
        path: Folder of a run, or one that `nightroute audit` or `nightroute evaluate` wrote.
        output: The page; else `report.html` in that folder.
        groups: Columns of a run's table to add up by.
        now: Moment of a run's page; else that of the system's clock.

    Raises:
        NightrouteError: with the exit code of DESIGN section 9; among them TryLaterError where a run is not published
            yet, and InputMissingError where there is nothing to report.
    """
    kind, html = page(path, groups=groups, now=now or datetime.now(UTC))
    target = output or path / PAGE
    staging = target.parent / f".{target.name}.staging"
    try:
        write_text(target, html, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    console.say(f"page of the {kind} in {path}: {target}")
    console.emit({
        "job": "report", "status": "reported", "exit_code": 0, "kind": kind, "folder": str(path), "page": str(target),
        "bytes": len(html.encode()),
    })  # fmt: skip
    return 0


def page(path: Path, *, groups: Sequence[str], now: datetime) -> tuple[str, str]:
    """Return what a folder holds (run, audit, evaluation) and its page.

    Raises:
        NightrouteError: see `report`.
    """
    run = RunDir(path)
    refuse_labelling(run)
    if run.plan.exists():
        return "run", run_page(run_report(path, groups=groups, now=now))
    if groups:
        raise UsageError(f"--group is for runs, and {path} is not the folder of one: leave it out")
    found = _read(path)
    kind = next((kind for key, kind in _MARKS.items() if key in found), None)
    if kind == "audit":
        return kind, audit_page(_parsed(AuditReport, found, path))
    if kind == "evaluation":
        return kind, evaluation_page(_parsed(EvaluationReport, found, path))
    raise ConfigError(f"{path / REPORT} is no report of an audit or an evaluation; it has the keys {sorted(found)[:9]}")


def _read(path: Path) -> dict[str, object]:
    if not path.is_dir():
        raise InputMissingError(f"{path} is no folder; name that of a run, of an audit or of an evaluation")
    try:
        found = json.loads((path / REPORT).read_bytes())
    except OSError as error:
        raise InputMissingError(
            f"{path} holds neither a run (plan.json) nor a report ({REPORT}); name the run_dir of a run, or the output "
            "of an audit or an evaluation"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path / REPORT} is no JSON ({error}); run the audit or the evaluation again") from error
    return found if isinstance(found, dict) else {}


def _parsed(model: type[R], found: object, path: Path) -> R:
    try:
        return model.model_validate(found)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise ConfigError(
            f"{path / REPORT} cannot be understood ({error.error_count()} problems, the first at {where}): another "
            "version of nightroute wrote it; run the audit or the evaluation again"
        ) from error
