"""Adds the rows of other reports to an evaluation: of routers measured elsewhere, of a study of labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.evaluate_config import EvaluateJob
from jobs.evaluate_read import ReadBenchmark
from jobs.evaluate_scores import OpenRouter
from routing.errors import ConfigError, InputMissingError
from schemas.evaluation import EvaluationReport

ROWS = (
    "figures", "comparisons", "curves", "reliability", "histograms", "agreement", "transfer", "transfer_summaries",
    "robustness", "drift", "label_study",
)  # fmt: skip
"""Lists of a report that are joined as they are."""


def read_others(
    job: EvaluateJob, routers: Sequence[OpenRouter], benchmarks: Sequence[ReadBenchmark]
) -> list[EvaluationReport]:
    """Read the reports that a config merges.

    Raises:
        InputMissingError: one is not there.
        ConfigError: one is no report of this version, or measures another router or benchmark by the name of ours.
    """
    ours: dict[str, dict[str, Any]] = {
        "routers": {router.name: router.described for router in routers},
        "benchmarks": {item.name: item.described for item in benchmarks},
    }
    found = []
    for path in map(job.path, job.config.merge):
        other = _read(path)
        theirs: dict[str, Sequence[Any]] = {"routers": other.routers, "benchmarks": _measured_on(other)}
        for kind, parts in theirs.items():
            if differing := [part.name for part in parts if ours[kind].get(part.name, part) != part]:
                raise ConfigError(
                    f"merge: {path} has other {kind} under the names {differing}; evaluate both with the same files, "
                    "or give one of them another name"
                )
        found.append(other)
    return found


def merge(report: EvaluationReport, other: EvaluationReport) -> EvaluationReport:
    """Add the rows of another report; routers, benchmarks and notes that both have stay once.

    Benchmarks without figures of their own (those of a study) add nothing: its rows say what they were measured on.
    """
    added: dict[str, Any] = {name: [*getattr(report, name), *getattr(other, name)] for name in ROWS}
    added["routers"] = _once(report.routers, other.routers)
    added["benchmarks"] = _once(report.benchmarks, _measured_on(other))
    added["notes"] = list(dict.fromkeys([*report.notes, *other.notes]))
    return report.model_copy(update=added)


def _once(ours: Sequence[Any], theirs: Sequence[Any]) -> list[Any]:
    known = {part.name for part in ours}
    return [*ours, *(part for part in theirs if part.name not in known)]


def _measured_on(report: EvaluationReport) -> list[Any]:
    measured = {figure.benchmark for figure in report.figures}
    return [benchmark for benchmark in report.benchmarks if benchmark.name in measured]


def _read(path: Path) -> EvaluationReport:
    try:
        return EvaluationReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputMissingError(
            f"merge: {path} cannot be read ({error.strerror}); run the command that writes it, or take it out of merge"
        ) from error
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"])) or "(top level)"
        raise ConfigError(
            f"merge: {path} is no evaluation report of this version ({place}: {error.errors()[0]['msg']}); "
            "write it again with this version"
        ) from error
