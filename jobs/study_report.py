"""The result of a study: figures over its draws, the report, and the same as Parquet and Markdown."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from jobs.rundir import write_atomic, write_json, write_parquet
from jobs.study_cells import Cell, Table
from jobs.study_config import StudyConfig
from jobs.training import versions
from routing.metrics import Floats, average_pgr, bootstrap, cost_quality_curve, first_share, random_many
from routing.trials import Rows, Trial
from schemas.evaluation import EvaluatedBenchmark, EvaluationReport, LabelStudy

VERSIONED = ("nightroute", "numpy", "onnxruntime", "polars", "tokenizers", "torch", "transformers")
COLUMNS = {
    "kind": pl.String, "benchmark": pl.String, "data": pl.String, "n_labels": pl.Int64, "draws": pl.Int64,
    "apgr": pl.Float64, "low": pl.Float64, "high": pl.Float64, "spread": pl.Float64, "cpt50": pl.Float64,
    "protocol": pl.String,
}  # fmt: skip
READING = (
    "APGR: mean share of the quality gap that is recovered, over all strong shares; 0.5 is a random router. Routers "
    "are scored in the framework that trained them, none is exported.",
    "In brackets the 95 % bootstrap interval over the evaluated prompts of one draw (mean of the draws' ends); after "
    "± the standard deviation over draws. Draws share prompts: neither says how another benchmark would come out.",
    "`length` sends the prompts with more tokens to the strong model; the interval of `random` holds 19 of 20 single "
    "random routers; `oracle` knows both scores.",
)


@dataclass(frozen=True, slots=True)
class Scored:
    """One trial of a draw, as a router scored it."""

    trial: Trial
    cell: Cell
    win_rates: Floats
    """Of the trial's evaluated prompts, in their order."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a row of the study measured, over its draws."""

    apgr: float
    low: float
    high: float
    spread: float | None
    cpt50: float


def figures(table: Table, draws: Sequence[tuple[Rows, Floats]], *, resamples: int, seed: int) -> Figures:
    """Measure the draws of one row.

    Args:
        table: The benchmark.
        draws: Of each draw, the evaluated prompts and their win rates.
        resamples: Bootstrap samples.
        seed: Of the bootstrap.

    Raises:
        DataError: see `routing.metrics`.
    """
    values, cpt50 = list[tuple[float, float, float]](), list[float]()
    for rows, rates in draws:
        strong, weak = _scores(table, rows)
        one = bootstrap(rates, strong, weak, average_pgr, resamples=resamples, seed=seed)
        values.append((one.value, one.low, one.high))
        cpt50.append(cost_quality_curve(rates, strong, weak).cpt(0.5))
    apgr, low, high = np.mean(values, axis=0).tolist()
    spread = float(np.std([value for value, _, _ in values], ddof=1)) if len(draws) > 1 else None
    return Figures(apgr, low, high, spread, float(np.mean(cpt50)))


def baselines(
    table: Table, evaluated: Sequence[Rows], lengths: Floats, *, resamples: int, seed: int
) -> list[LabelStudy]:
    """Return the rows of prompt length, the oracle and random routers.

    Args:
        table: The benchmark.
        evaluated: Prompts of each draw.
        lengths: Tokens of every prompt of the table.
        resamples: Bootstrap samples, and random routers.
        seed: Of both.
    """
    gain = np.subtract(*_scores(table, np.arange(len(table.rows))))
    found = {
        name: figures(table, [(rows, rates[rows]) for rows in evaluated], resamples=resamples, seed=seed)
        for name, rates in (("length", lengths), ("oracle", gain))
    }
    wanted = {"apgr": average_pgr, "cpt50": first_share(0.5)}
    chance = [random_many(*_scores(table, rows), wanted, routers=resamples, seed=seed) for rows in evaluated]
    ends = [(one["apgr"].value, one["apgr"].low, one["apgr"].high, one["cpt50"].value) for one in chance]
    apgr, low, high, cpt50 = np.mean(ends, axis=0).tolist()
    found["random"] = Figures(apgr, low, high, None, cpt50)
    protocol = f"no label; {_evaluated(evaluated)}"
    return [
        _row(table, (name, "none", 0), replace(one, spread=None), draws=len(evaluated), protocol=protocol)
        for name, one in found.items()
    ]


def label_study(
    table: Table, kind: str, data: str, draws: Sequence[Sequence[Scored]], *, resamples: int, seed: int
) -> LabelStudy:
    """Return one row of the study.

    The folds of a draw are one set of prompts. Within each fold win rates are replaced by their ranks: every fold has a
    router of its own, which sends its own share of the fold to the strong model.

    Args:
        table: The benchmark.
        kind: Name of the kind of router.
        data: Name of the arm.
        draws: The scored trials of each draw.
        resamples: Bootstrap samples.
        seed: Of the bootstrap.
    """
    merged = [
        (
            np.concatenate([one.trial.evaluated for one in draw]),
            draw[0].win_rates if len(draw) == 1 else np.concatenate([_ranks(one.win_rates) for one in draw]),
        )
        for draw in draws
    ]
    found = figures(table, merged, resamples=resamples, seed=seed)
    every = [one for draw in draws for one in draw]
    labels = round(np.mean([len(one.trial.labelled) for one in every]))
    if not labels:  # one router: its figures differ by the prompts that the draws leave, and by nothing else
        found = replace(found, spread=None)
    said = _evaluated([rows for rows, _ in merged])
    learned = _labels(table, every, labels) if labels else "no label of this benchmark"
    dropped = max(one.cell.contaminated for one in every)
    cleaned = f"{dropped:,} prompts of the sources dropped, being the benchmark's" if dropped else ""
    protocol = "; ".join(filter(None, [learned, said, cleaned, table.section.note]))
    return _row(table, (kind, data, labels), found, draws=len(draws), protocol=protocol)


def report(
    study: StudyConfig,
    tables: Sequence[Table],
    rows: Sequence[LabelStudy],
    *,
    failures: Mapping[str, str],
    now: datetime,
) -> EvaluationReport:
    """Return the report of a study.

    Args:
        study: The config.
        tables: Its benchmarks.
        rows: Its figures.
        failures: Cell -> why it could not be fitted.
        now: Of the report.
    """
    return EvaluationReport(
        name=study.name,
        created_at=now,
        seed=study.seed,
        resamples=study.resamples,
        machine=f"{len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}",
        versions=versions(VERSIONED),
        benchmarks=[_benchmark(table) for table in tables],
        label_study=list(rows),
        notes=[*READING, *(f"not fitted: {cell}: {reason}" for cell, reason in failures.items())],
    )


def write(folder: Path, found: EvaluationReport, staging: Path) -> list[Path]:
    """Write study.json, study.parquet and study.md; returns them.

    Raises:
        StorageError: the disk refuses.
    """
    paths = [folder / f"study.{ending}" for ending in ("json", "parquet", "md")]
    write_json(paths[0], found, staging)
    rows = pl.DataFrame([row.model_dump() for row in found.label_study], schema=COLUMNS)
    write_parquet(paths[1], rows, staging)
    write_atomic(paths[2], lambda draft: draft.write_text(markdown(found), encoding="utf-8"), staging)
    return paths


def markdown(found: EvaluationReport) -> str:
    """Return the report as Markdown: a table per benchmark, a row per router and data, a column per label count."""
    lines = [f"# {found.name}", ""]
    for table in found.benchmarks:
        rows = [row for row in found.label_study if row.benchmark == table.name]
        counts = sorted({row.n_labels for row in rows})
        lines += [
            f"## {table.name}",
            "",
            f"{table.strong} over {table.weak}, {table.n:,} prompts. {table.protocol}",
            "",
        ]
        lines += ["| router | data |" + "".join(f" {count:,} labels |" for count in counts)]
        lines += ["|---|---|" + "---|" * len(counts)]
        cells = {(row.kind, row.data, row.n_labels): _cell(row) for row in rows}
        lines += [
            f"| {_plain(kind)} | {_plain(data)} |"
            + "".join(f" {cells.get((kind, data, count), '')} |" for count in counts)
            for kind, data in dict.fromkeys((row.kind, row.data) for row in rows)
        ]
        lines += ["", *(f"- {text}" for text in dict.fromkeys(_told(row) for row in rows)), ""]
    return "\n".join([*lines, *(f"- {note}" for note in found.notes)]) + "\n"


def _cell(row: LabelStudy) -> str:
    spread = "" if row.spread is None else f" ± {row.spread:.3f}"
    return f"{row.apgr:.3f}{spread} ({row.low:.3f}-{row.high:.3f})"


def _told(row: LabelStudy) -> str:
    return f"{row.data}, {row.n_labels:,} labels: {row.protocol}"


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


def _row(table: Table, key: tuple[str, str, int], found: Figures, *, draws: int, protocol: str) -> LabelStudy:
    kind, data, labels = key
    return LabelStudy(
        kind=kind,
        benchmark=table.section.name,
        data=data,
        n_labels=labels,
        draws=draws,
        apgr=found.apgr,
        low=found.low,
        high=found.high,
        spread=found.spread,
        cpt50=found.cpt50,
        protocol=protocol,
    )


def _labels(table: Table, scored: Sequence[Scored], labels: int) -> str:
    siblings, given = (round(np.mean([getattr(one.cell, name) for one in scored])) for name in ("siblings", "labels"))
    how = "labels of the other folds" if table.section.folds else "labelled prompts drawn by seed"
    return f"{labels:,} {how}, {siblings:,} of them siblings of an evaluated prompt, {given:,} used"


def _evaluated(draws: Sequence[Rows]) -> str:
    return f"{round(np.mean([len(rows) for rows in draws])):,} evaluated"


def _benchmark(table: Table) -> EvaluatedBenchmark:
    section = table.section
    strong, weak = _scores(table, np.arange(len(table.rows)))
    how = f"{section.folds} folds" if section.folds else f"labels drawn: {', '.join(map(str, section.sizes)) or 'none'}"
    sampled = "" if section.max_prompts is None else f"; at most {section.max_prompts:,} prompts, drawn by seed"
    return EvaluatedBenchmark(
        name=section.name,
        sha256=table.sha256,
        strong=section.strong,
        weak=section.weak,
        n=len(table.rows),
        strong_quality=float(strong.mean()),
        weak_quality=float(weak.mean()),
        protocol=f"{how}; draws: {section.draws}{sampled}",
    )


def _ranks(win_rates: Floats) -> Floats:
    """Return mean ranks between 0 and 1, equal for equal win rates."""
    ranks = pl.Series(win_rates).rank("average").to_numpy()
    return np.asarray((ranks - 0.5) / len(ranks))


def _scores(table: Table, rows: Rows) -> tuple[Floats, Floats]:
    return table.rows["strong_score"].to_numpy()[rows], table.rows["weak_score"].to_numpy()[rows]
