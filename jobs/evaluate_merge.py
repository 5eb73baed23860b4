"""Adds the rows of other reports to an evaluation: of routers measured elsewhere, of a study of labels."""

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.evaluate_config import EvaluateJob
from jobs.evaluate_read import ReadBenchmark
from jobs.evaluate_scores import OpenRouter
from routing.errors import ConfigError, InputMissingError
from schemas.evaluation import EvaluationReport

KEYS: Mapping[str, tuple[str, ...]] = {
    "figures": ("benchmark", "category", "router", "metric", "bins"),
    "comparisons": ("benchmark", "router", "other", "metric"),
    "curves": ("benchmark", "router"),
    "reliability": ("benchmark", "router"),
    "histograms": ("benchmark", "router"),
    "agreement": ("benchmark", "router", "other"),
    "transfer": ("benchmark", "strong", "weak", "router"),
    "transfer_summaries": ("router",),
    "robustness": ("benchmark", "router", "perturbation"),
    "drift": ("router", "group"),
    "label_study": ("benchmark", "kind", "data", "n_labels", "protocol"),
}
"""Lists of a report that are joined -> what a row is about; of rows about the same, the first stays."""
IDENTITY: Mapping[str, tuple[str, ...]] = {"routers": ("kind", "sha256"), "benchmarks": ("sha256", "strong", "weak")}
"""What one name must mean in all reports. Costs are no part of it: they hang on the day of the prices."""


def read_others(
    job: EvaluateJob, routers: Sequence[OpenRouter], benchmarks: Sequence[ReadBenchmark]
) -> list[EvaluationReport]:
    """Read the reports that a config merges.

    Raises:
        InputMissingError: one is not there.
        ConfigError: one is no report of this version, means another router or benchmark by the name of ours or of one
            before it, or compares routers on another number of resamples.
    """
    known: dict[str, dict[str, Any]] = {
        "routers": {router.name: router.described for router in routers},
        "benchmarks": {item.name: item.described for item in benchmarks},
    }
    found = []
    for path in map(job.path, job.config.merge):
        other = _read(path)
        if other.comparisons and other.resamples != job.config.resamples:
            raise ConfigError(
                f"merge: {path} compares routers on {other.resamples:,} resamples, this evaluation on "
                f"{job.config.resamples:,}, and its p would be misread; give both the same resamples"
            )
        theirs: dict[str, Sequence[Any]] = {"routers": other.routers, "benchmarks": _measured_on(other)}
        for kind, parts in theirs.items():
            if differing := [part.name for part in parts if not _same(kind, known[kind].get(part.name, part), part)]:
                raise ConfigError(
                    f"merge: {path} has other {kind} under the names {differing}; evaluate both with the same files, "
                    "or give one of them another name"
                )
            known[kind] = {part.name: part for part in parts} | known[kind]
        found.append(other)
    return found


def merge(report: EvaluationReport, other: EvaluationReport) -> EvaluationReport:
    """Add the rows of another report; what both have stays once, as the first has it.

    Benchmarks without figures of their own (those of a study) add nothing: its rows say what they were measured on.
    """
    added: dict[str, Any] = {
        name: _once(getattr(report, name), getattr(other, name), keys) for name, keys in KEYS.items()
    }
    added["routers"] = _once(report.routers, other.routers, ("name",))
    added["benchmarks"] = _once(report.benchmarks, _measured_on(other), ("name",))
    added["notes"] = list(dict.fromkeys([*report.notes, *other.notes, *_other_prices(report, other)]))
    return report.model_copy(update=added)


def _once(ours: Sequence[Any], theirs: Sequence[Any], keys: Sequence[str]) -> list[Any]:
    about = attrgetter(*keys)
    known = {about(part) for part in ours}
    return [*ours, *(part for part in theirs if about(part) not in known)]


def _other_prices(report: EvaluationReport, other: EvaluationReport) -> Iterator[str]:
    ours = {part.name: (part.all_strong_usd, part.all_weak_usd) for part in report.benchmarks}
    for part in _measured_on(other):
        theirs = (part.all_strong_usd, part.all_weak_usd)
        if None not in theirs and ours.get(part.name, theirs) != theirs:
            yield (
                f"{part.name}: figures over dollars from the report {other.name!r} are at other prices, "
                f"${part.all_strong_usd:,.4f} for all strong and ${part.all_weak_usd:,.4f} for all weak"
            )


def _same(kind: str, one: Any, two: Any) -> bool:
    identity = attrgetter(*IDENTITY[kind])
    return bool(identity(one) == identity(two))


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
