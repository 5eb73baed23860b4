"""`nightroute study`: what preferences, golden labels and labels of a benchmark are worth to each kind of router."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from jobs.config_file import parse, read_toml
from jobs.console import say
from jobs.fitting import token_counts
from jobs.rundir import RunDir, locked, storing
from jobs.study_cells import Bench, Setting, Table, open_settings, open_tables
from jobs.study_config import StudyConfig
from jobs.study_report import Scored, baselines, label_study, report, write
from jobs.train import require_training
from jobs.training import data_folder
from routing.errors import DataError
from routing.trials import Trial, folds, samples
from schemas.evaluation import EvaluationReport, LabelStudy


@dataclass(frozen=True, slots=True)
class StudySummary:
    """What a study made."""

    folder: Path
    report: EvaluationReport
    fitted: int
    """Cells fitted by this run."""
    kept: int
    """Cells found from an earlier one."""
    failures: dict[str, str]
    """Cell -> why it could not be fitted."""

    @property
    def exit_code(self) -> int:
        """1 where a cell could not be fitted: the report says which and why."""
        return 1 if self.failures else 0

    def record(self) -> dict[str, object]:
        """Return the JSON summary."""
        return {
            "job": "study",
            "study": self.report.name,
            "folder": str(self.folder),
            "rows": len(self.report.label_study),
            "fitted": self.fitted,
            "kept": self.kept,
            "failed": len(self.failures),
        }


def study(
    config_path: Path,
    *,
    output: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    now: datetime | None = None,
) -> StudySummary:
    """Fit and measure every cell of a study that is not kept from an earlier run, and write its report.

    Args:
        config_path: TOML file, see `jobs.study_config`; its paths are relative to it.
        output: Folder of the results instead of the config's.
        environment: Where NIGHTROUTE_DATA is looked up.
        now: Date of the report; left out, the clock's.

    Raises:
        ConfigError: the config or a training config is wrong, or the extra `train` is not installed.
        InputMissingError: the data folder, a table or a base model is missing.
        DataError: a table breaks its contract, or no router could be fitted at all.
        TryLaterError: another process works in the folder.
    """
    config = parse(StudyConfig, read_toml(config_path), source=str(config_path))
    require_training()
    base = config_path.resolve().parent
    folder = output if output is not None else Path(os.path.normpath(base / config.output))
    data = data_folder(config.data, base=base, environment=environment)
    settings = open_settings(config, base, data=data)
    tables = open_tables(config, data)
    run = RunDir(folder)
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(run):
        work = _Work(config, settings, Bench(folder / "cells", run.staging))
        rows = [row for table in tables for row in work.rows(table)]
        if not work.fitted | work.kept:
            raise DataError(f"no router could be fitted: {next(iter(work.failures.values()), 'no arm is run')}")
        found = report(config, tables, rows, failures=work.failures, now=now or datetime.now(UTC))
        write(folder, found, run.staging)
    return StudySummary(folder, found, len(work.fitted), len(work.kept), work.failures)


def plan(table: Table, *, in_domain: bool, seed: int) -> list[list[list[Trial]]]:
    """Return the rows of a router on a benchmark: per number of labels, the draws; per draw, one trial or a fold each.

    Args:
        table: The benchmark.
        in_domain: Whether the router learns from its labels; else it is evaluated on the same prompts as those that do.
        seed: Of the draws.

    Raises:
        DataError: the benchmark has too few prompts.
    """
    section, n = table.section, len(table.rows)
    nobody = np.empty(0, np.intp)
    if section.folds and in_domain:
        return [[folds(n, section.folds, seed=seed, draw=draw) for draw in range(section.draws)]]
    if not section.sizes:
        return [[[Trial(nobody, np.arange(n))]]]
    drawn = [samples(n, section.sizes, seed=seed, draw=draw) for draw in range(section.draws)]
    if in_domain:
        return [[[one[size]] for one in drawn] for size in section.sizes]
    return [[[Trial(nobody, one[section.sizes[0]].evaluated)] for one in drawn]]


@dataclass(slots=True)
class _Work:
    study: StudyConfig
    settings: Mapping[tuple[str, str], Setting]
    bench: Bench
    fitted: set[Path] = field(default_factory=set)
    kept: set[Path] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)

    def rows(self, table: Table) -> Iterator[LabelStudy]:
        study = self.study
        first = next(iter(self.settings.values()))
        lengths = token_counts(first.config, first.base, table.rows["prompt"])
        alone = plan(table, in_domain=False, seed=study.seed)[0]
        evaluated = [trial.evaluated for draw in alone for trial in draw]
        yield from baselines(table, evaluated, lengths, resamples=study.resamples, seed=study.seed)
        for kind in study.kinds:
            for arm in study.arms_of(kind, table.section):
                setting = self.settings[kind.name, arm.name]
                for draws in plan(table, in_domain=arm.in_domain, seed=study.seed):
                    found = [self._cells(setting, table, draw, number) for number, draw in enumerate(draws, 1)]
                    if whole := [draw for draw in found if draw is not None]:
                        row = label_study(table, kind.name, arm.name, whole, resamples=study.resamples, seed=study.seed)
                        say(f"{row.benchmark}: {row.kind}, {row.data}, {row.n_labels:,} labels: APGR {row.apgr:.3f}")
                        yield row

    def _cells(self, setting: Setting, table: Table, draw: Sequence[Trial], number: int) -> list[Scored] | None:
        """Return the scored trials of a draw; null where one of them could not be fitted."""
        found = []
        for fold, trial in enumerate(draw, 1):
            title = f"{table.section.name}, {setting.kind.name}, {setting.arm.name}"
            if len(trial.labelled):
                title += f", {len(trial.labelled):,} labels, draw {number}"
            if len(draw) > 1:
                title += f", fold {fold}"
            cell = self._cell(setting, table, trial, title)
            if cell is None:
                return None
            found.append(cell)
        return found

    def _cell(self, setting: Setting, table: Table, trial: Trial, title: str) -> Scored | None:
        # Without labels of the benchmark it is one router for all draws: fitted once, it scores every prompt.
        whole = trial if len(trial.labelled) else Trial(trial.labelled, np.arange(len(table.rows)))
        path = self.bench.path(setting, table, whole)
        cell = self.bench.kept(path)
        if cell is not None:
            self.kept |= {path} - self.fitted
        elif title not in self.failures:
            try:
                cell = self.bench.fit(setting, table, whole, path)
                self.fitted.add(path)
            except DataError as error:
                say(f"{title}: {error}")
                self.failures[title] = str(error)
        if cell is None:
            return None
        places = np.searchsorted(whole.evaluated, trial.evaluated)
        return Scored(trial, cell, np.array(cell.win_rates)[places])
