"""`nightroute evaluate --config eval.toml`: how good are these routers, at what cost, and how sure is that.

read -> score -> measure -> extras -> write. Everything that can be wrong in the config, the routers and the tables is
found before anything is scored.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from jobs.console import STDERR, part_bar, say
from jobs.evaluate_config import BASELINES, EvaluateJob
from jobs.evaluate_extras import measure_extras, read_extras
from jobs.evaluate_markdown import markdown
from jobs.evaluate_merge import merge, read_others
from jobs.evaluate_read import ReadBenchmark, read_benchmarks, read_trained
from jobs.evaluate_scores import OpenRouter, Scorer, open_routers
from jobs.evaluate_tables import tables
from jobs.report.evaluation import evaluation_page
from jobs.rundir import write_json, write_parquet, write_text
from jobs.stopwatch import Stopwatch
from jobs.training import data_folder, versions
from routing.measuring import Exam, Measured, Resampling, measure
from routing.metrics import Floats
from schemas.evaluation import EvaluatedRouter, EvaluationReport

REPORT, PAGE, MARKDOWN = "report.json", "report.html", "report.md"
VERSIONED = ("nightroute", "numpy", "onnxruntime", "polars", "tokenizers", "genai-prices")


@dataclass(frozen=True, slots=True)
class EvaluateSummary:
    """What an evaluation left behind."""

    folder: Path
    report: EvaluationReport
    page: Path
    seconds: dict[str, float]
    """Stage -> wall-clock time."""

    def record(self) -> dict[str, Any]:
        """Return the JSON summary."""
        apgr: dict[str, dict[str, float | None]] = {}
        for figure in self.report.figures:
            if (figure.metric, figure.bins, figure.category) == ("apgr", "ranks", None):
                apgr.setdefault(figure.benchmark, {})[figure.router] = figure.value
        return {
            "job": "evaluate",
            "folder": str(self.folder),
            "report": str(self.folder / REPORT),
            "page": str(self.page),
            "prompts": {benchmark.name: benchmark.n for benchmark in self.report.benchmarks},
            "apgr": apgr,
            "seconds": self.seconds,
        }


def evaluate(
    job: EvaluateJob,
    *,
    environment: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.monotonic,
    now: datetime | None = None,
) -> EvaluateSummary:
    """Measure the routers of a config on its benchmarks and write report, tables and page.

    Args:
        job: The evaluation.
        environment: Where NIGHTROUTE_DATA is looked up.
        clock: Seconds, for the stages.
        now: Moment of the report; else that of the system's clock.

    Raises:
        ConfigError: a router cannot be evaluated, or a report to merge is none.
        ArtifactError: a router is missing or damaged.
        InputMissingError: a table is missing.
        DataError: a table breaks its contract, or its strong model is not better.
        StorageError: the disk refuses.
    """
    created_at, watch = now or datetime.now(UTC), Stopwatch(clock)
    routers = open_routers(job)
    data = data_folder(job.config.data.path, base=job.base, environment=environment)
    trained = read_trained(job, environment=environment)
    benchmarks = read_benchmarks(job.config, data, trained=trained, now=created_at)
    extra_tables = read_extras(job.config, data, benchmarks, trained=trained)
    others = read_others(job, routers, benchmarks)
    for item in benchmarks:
        say(f"{item.name}: {item.described.n:,} prompts")
    scorer = Scorer(routers, job.cache, clock)
    watch.lap("read")
    win_rates = {item.name: _win_rates(scorer, routers, item) for item in benchmarks}
    watch.lap("score")
    measured = _measure(job, benchmarks, win_rates)
    report = _report(job, routers, benchmarks, measured, created_at=created_at)
    watch.lap("measure")
    extras = measure_extras(job.config, extra_tables, routers, scorer, benchmarks, report.figures)
    report = report.model_copy(update={one.name: getattr(extras, one.name) for one in fields(extras)})
    for other in others:
        report = merge(report, other)
    watch.lap("extras")
    page = _write(job.output, report, tables(report, benchmarks, win_rates))
    watch.lap("write")
    return EvaluateSummary(job.output, report, page, {name: round(s, 1) for name, s in watch.timings_s.items()})


def show(summary: EvaluateSummary) -> None:
    """Print the main figures with their intervals."""
    table = Table(title=f"evaluation {summary.report.name}", title_justify="left")
    for name in ("benchmark", "router", "APGR", "95 % interval", "CPT50", "CPT80"):
        table.add_column(name, justify="left" if name in ("benchmark", "router") else "right", no_wrap=True)
    found = {
        (figure.benchmark, figure.router, figure.metric): figure
        for figure in summary.report.figures
        if figure.bins == "ranks" and figure.category is None
    }
    for benchmark, router, metric in found:
        if metric == "apgr":
            apgr, *cpts = (found.get((benchmark, router, name)) for name in ("apgr", "cpt50", "cpt80"))
            interval = "-" if apgr is None or apgr.low is None else f"{apgr.low:.3f} to {apgr.high:.3f}"
            table.add_row(benchmark, router, _number(apgr), interval, *map(_number, cpts))
    STDERR.print(table)
    say(f"wrote {summary.folder}: {', '.join(f'{stage} {s:g} s' for stage, s in summary.seconds.items())}")


def _number(figure: Any) -> str:
    return "-" if figure is None or figure.value is None else f"{figure.value:.3f}"


def _win_rates(scorer: Scorer, routers: Sequence[OpenRouter], item: ReadBenchmark) -> dict[str, Floats]:
    prompts = item.rows["prompt"].to_list()
    return {router.name: scorer.win_rates(router.name, prompts) for router in routers}


def _measure(
    job: EvaluateJob, benchmarks: Sequence[ReadBenchmark], win_rates: Mapping[str, Mapping[str, Floats]]
) -> list[Measured]:
    config = job.config
    how = Resampling(
        resamples=config.resamples,
        seed=config.seed,
        random_routers=config.random_routers,
        category_prompts=config.category_prompts,
    )
    found = []
    with part_bar("measure", len(benchmarks)) as on_part:
        for item in benchmarks:
            found.append(measure(_exam(item, win_rates[item.name]), how))
            on_part(item)
    return found


def _exam(item: ReadBenchmark, win_rates: Mapping[str, Floats]) -> Exam:
    rows = item.rows
    strong_usd, weak_usd = (
        None if rows[name].null_count() else rows[name].cast(pl.Float64).to_numpy()
        for name in ("strong_usd", "weak_usd")
    )
    return Exam(
        name=item.name,
        strong=rows["strong_score"].to_numpy(),
        weak=rows["weak_score"].to_numpy(),
        length=rows["prompt"].str.len_chars().cast(pl.Float64).to_numpy(),
        win_rates=win_rates,
        strong_usd=strong_usd,
        weak_usd=weak_usd,
        categories=tuple(rows["category"]),
    )


def _report(
    job: EvaluateJob,
    routers: Sequence[OpenRouter],
    benchmarks: Sequence[ReadBenchmark],
    measured: Sequence[Measured],
    *,
    created_at: datetime,
) -> EvaluationReport:
    baselines = [EvaluatedRouter(name=name, kind="baseline") for name in BASELINES]
    return EvaluationReport(
        name=job.config.name,
        created_at=created_at,
        seed=job.config.seed,
        resamples=job.config.resamples,
        machine=f"{len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}",
        versions=versions(VERSIONED),
        routers=[*(router.described for router in routers), *baselines],
        benchmarks=[item.described for item in benchmarks],
        figures=[figure for found in measured for figure in found.figures],
        comparisons=[one for found in measured for one in found.comparisons],
        curves=[curve for found in measured for curve in found.curves],
        reliability=[one for found in measured for one in found.reliability],
        histograms=[one for found in measured for one in found.histograms],
        agreement=[one for found in measured for one in found.agreement],
        notes=[
            *(note for item in benchmarks for note in item.notes),
            *(note for found in measured for note in found.notes),
            *_small_categories(job, benchmarks),
        ],
    )


def _small_categories(job: EvaluateJob, benchmarks: Sequence[ReadBenchmark]) -> Iterator[str]:
    least = job.config.category_prompts
    for item in benchmarks:
        small = [name for name, n in item.described.categories.items() if n < least]
        if small:
            yield f"{item.name}: {len(small)} categories with fewer than {least} prompts have no figures of their own"


def _write(folder: Path, report: EvaluationReport, frames: Mapping[str, pl.DataFrame]) -> Path:
    """Write every file atomically; returns the page."""
    staging = folder / "staging"
    for name, frame in frames.items():
        write_parquet(folder / f"{name}.parquet", frame, staging)
    write_text(folder / MARKDOWN, markdown(report), staging)
    page = folder / PAGE
    write_text(page, evaluation_page(report), staging)
    write_json(folder / REPORT, report, staging)
    with suppress(OSError):  # somebody else's files in it stay
        staging.rmdir()
    return page
