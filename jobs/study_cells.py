"""The cells of a study: one kind of router, fitted on one arm's data, and its win rates of the evaluated prompts.

A finished cell is kept on disk under a digest of all that decides it, so a study that was killed goes on, and one that
was extended fits only what is new.
"""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

import routing
from jobs.fitting import encoder_folder, fit_router, words
from jobs.rundir import write_json, write_parquet
from jobs.study_config import ArmSection, BenchmarkSection, KindSection, StudyConfig
from jobs.train import merged, parse_kind, read_config
from jobs.train_config import Evaluation, RouterConfig, SourceSection, StaticMfTrainConfig
from jobs.train_data import SCREEN_CUT, SCREEN_DIM, SCREEN_SIF, decontaminated, gather, named, training_set
from jobs.training import data_folder, read_benchmarks
from routing.artifact import file_sha256
from routing.benchmarks import rows_sha256
from routing.errors import ConfigError, InputMissingError
from routing.trials import Rows, Trial

if TYPE_CHECKING:
    from routing.training.decontamination import Near
    from routing.training.siblings import Siblings

CELL_FORMAT = 1
CODE = (
    *(f"jobs/{name}.py" for name in ("fitting", "study_cells", "train_data", "training")),
    *(
        f"routing/{name}.py"
        for name in (
            "artifact", "batching", "benchmarks", "bradley_terry", "calibrating", "metrics", "reliability", "routers",
            "split", "trials", "training/*",
        )
    ),
)  # fmt: skip
"""Code that decides a fit, or what is read for it: where a file of it changes, cells are made anew."""
NOT_FITTED: Any = {
    "name": True, "output": True, "card": True, "evaluation": True, "export": True,
    "data": {"path", "embedding_cache"}, "sources": {"__all__": {"path", "licence"}},
}  # fmt: skip
"""Keys of a training config that decide no win rate; tables are told apart by their digest."""
SHARED_KEYS = {"name", "path", "strong", "weak", "max_prompts"}
"""What a benchmark has in common with an evaluation set of a training config."""


class Cell(BaseModel):
    """What a fit came to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: int
    """In-domain labels that the router was given."""
    siblings: int
    """Labels that were drawn on near-duplicates of evaluated prompts."""
    contaminated: int
    """Prompts of the sources that were dropped because they are prompts of the benchmark."""
    win_rates: list[float]
    """Of the scored prompts, in the order of their places."""


@dataclass(frozen=True, slots=True)
class Table:
    """A benchmark as read."""

    section: BenchmarkSection
    rows: pl.DataFrame
    """GOLDEN, sorted by prompt; a trial's rows are places in it."""
    sha256: str
    """Digest of prompts and scores."""

    def prompts(self, places: Rows) -> pl.Series:
        """Return the prompts at some places."""
        return self.rows["prompt"].gather(places)


@dataclass(frozen=True, slots=True)
class Setting:
    """A kind of router on an arm."""

    kind: KindSection
    arm: ArmSection
    config: RouterConfig
    """The training config with the arm's keys and the arm's sources."""
    base: Path
    """Folder that its paths are relative to."""
    data: Path
    """Folder of its sources."""

    @property
    def sha256(self) -> str:
        """Digest of all that decides a fit, but the benchmark."""
        fit = getattr(self.config, "fit", None)
        beside = [getattr(fit, name, None) for name in ("base", "template")]
        return _digest(
            [
                CELL_FORMAT,
                _code(),
                self.config.model_dump(mode="json", exclude=NOT_FITTED),
                [_content(self.data / item.path) for item in self.config.sources],
                _content(encoder_folder(self.config, self.base)),
                [None if path is None else _content(self.base / path) for path in beside],
                self.arm.model_dump(mode="json", include={"in_domain", "weight", "siblings"}),
            ]
        )


def open_tables(study: StudyConfig, data: Path) -> list[Table]:
    """Read the benchmarks of a study.

    Raises:
        InputMissingError: a file is missing.
        DataError: a table breaks its contract, or its strong model is not better.
    """
    found = []
    for item in study.benchmarks:
        wanted = Evaluation(**item.model_dump(include=SHARED_KEYS), protocol=item.note)
        rows = read_benchmarks(data, [wanted], seed=study.seed)[item.name].sort("prompt")
        found.append(Table(item, rows, rows_sha256(rows)))
    return found


def open_settings(study: StudyConfig, base: Path, *, data: Path) -> dict[tuple[str, str], Setting]:
    """Read the training config of every kind and fit it to every arm.

    Args:
        study: The config.
        base: Folder that its paths are relative to.
        data: Folder of the tables, for training configs that name none.

    Returns:
        (kind, arm) -> setting.

    Raises:
        ConfigError: a training config is wrong, is of the kind `static_mf`, has `data.max_prompts`, or lacks a source
            that an arm names.
        InputMissingError: a table or a folder is missing.
    """
    found = {}
    for kind in study.kinds:
        path = base / kind.config
        raw, _ = read_config(path)
        for arm in study.arms:
            if kind.arms and arm.name not in kind.arms:
                continue
            config = parse_kind(merged(raw, kind.per_arm.get(arm.name, {})), source=f"{path} ({arm.name})")
            if isinstance(config, StaticMfTrainConfig):
                raise ConfigError(f"config {path}: static_mf has a recipe of its own and is not studied; use mf")
            if config.data.max_prompts is not None:
                raise ConfigError(
                    f"config {path}: data.max_prompts would draw from labels too; use that of the sources"
                )
            home = path.resolve().parent
            tables = data if config.data.path is None else data_folder(config.data.path, base=home, environment={})
            chosen = config.model_copy(update={"sources": _sources(config, arm, path)})
            missing = [item.path for item in chosen.sources if not (tables / item.path).is_file()]
            if missing:
                raise InputMissingError(f"tables {missing} of config {path} are not in {tables}; mend the paths")
            found[kind.name, arm.name] = Setting(kind, arm, chosen, home, tables)
    return found


@dataclass(frozen=True, slots=True)
class Bench:
    """Fits cells; what several of them need is read, cleaned and screened once."""

    folder: Path
    """Where finished cells are kept."""
    staging: Path
    _gathered: dict[str, pl.DataFrame] = field(default_factory=dict)
    _cleaned: dict[str, tuple[pl.DataFrame, int]] = field(default_factory=dict)
    _siblings: "dict[str, Siblings]" = field(default_factory=dict)

    def path(self, setting: Setting, table: Table, trial: Trial) -> Path:
        """Return the file of a cell."""
        places = [_digest(part.astype("<i8").tobytes()) for part in (trial.labelled, trial.evaluated)]
        return self.folder / f"{_digest([setting.sha256, table.sha256, places])[:32]}.json"

    def kept(self, path: Path) -> Cell | None:
        """Return a finished cell; null where there is none that can be read."""
        try:
            return Cell.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None

    def fit(self, setting: Setting, table: Table, trial: Trial, path: Path) -> Cell:
        """Fit a cell and keep it.

        Args:
            setting: Kind and arm.
            table: The benchmark.
            trial: Labelled and scored prompts.
            path: The cell's file.

        Raises:
            ConfigError, InputMissingError: as `jobs.fitting.fit_router`.
            DataError: nothing can be learned from this data.
        """
        from routing.training.loop import use_threads

        use_threads(setting.config.threads)
        parts, contaminated = self._battles(setting, table)
        near = trial.labelled[:0]
        labels = 0
        if len(trial.labelled):
            near = self._screened(setting, table).among(trial.labelled, trial.evaluated)
            used = trial.labelled if setting.arm.siblings == "keep" else np.setdiff1d(trial.labelled, near)
            own = _in_domain(setting, table, used)
            parts, labels = [*parts, own], own["prompt"].n_unique()
        dataset = training_set(pl.concat(parts, how="diagonal"), setting.config)
        fitted = fit_router(setting.config, dataset, base=setting.base, checkpoints=None)
        cell = Cell(
            labels=labels,
            siblings=len(near),
            contaminated=contaminated,
            win_rates=fitted.win_rates(table.prompts(trial.evaluated)).tolist(),
        )
        write_json(path, cell, self.staging)
        return cell

    def _battles(self, setting: Setting, table: Table) -> tuple[list[pl.DataFrame], int]:
        """Return the battles of each source without the prompts of the benchmark, and how many of those there were."""
        parts, contaminated = [], 0
        for item in setting.config.sources:
            key = _gathering(setting, item)
            if key not in self._gathered:
                alone = setting.config.model_copy(update={"sources": (item,)})
                self._gathered[key] = gather(setting.data, alone).battles
            battles, dropped = self._gathered[key], 0
            if setting.config.data.decontaminate:
                clean = _digest([key, table.sha256, str(encoder_folder(setting.config, setting.base))])
                if clean not in self._cleaned:
                    self._cleaned[clean] = decontaminated(battles, table.rows["prompt"], setting.config, setting.base)
                battles, dropped = self._cleaned[clean]
            parts.append(battles)
            contaminated += dropped
        return parts, contaminated

    def _screened(self, setting: Setting, table: Table) -> "Siblings":
        from routing.training.siblings import siblings

        key = _digest([_code(), table.sha256, _content(encoder_folder(setting.config, setting.base))])
        if key not in self._siblings:
            near = self._near(setting, table, self.folder / f"near-{key[:32]}.parquet")
            self._siblings[key] = siblings(table.rows["prompt"], near)
        return self._siblings[key]

    def _near(self, setting: Setting, table: Table, path: Path) -> "Near":
        """Return the near-duplicates of a benchmark; kept as well, for a large one takes a minute."""
        from routing.training.decontamination import Near
        from routing.training.embedders import static_embedder
        from routing.training.siblings import near_duplicates

        if not path.is_file():
            lexicon = words(setting.config, setting.base)
            dim = min(SCREEN_DIM, lexicon.states.shape[1])
            screen = static_embedder(lexicon, dim=dim, sif=SCREEN_SIF, truncation=SCREEN_CUT, counts=False)
            found = near_duplicates(
                table.rows["prompt"], lambda texts: screen.embed(screen.text.tokens(texts)), lexicon.encoder.embed
            )
            write_parquet(path, pl.DataFrame({"row": found.train, "other": found.evaluation}), self.staging)
        rows = pl.read_parquet(path)
        return Near(rows["row"].to_numpy().astype(np.intp), rows["other"].to_numpy().astype(np.intp))


def _in_domain(setting: Setting, table: Table, places: Rows) -> pl.DataFrame:
    """Labelled rows of the benchmark -> BATTLES of the training config's pair, weighed as a source of their own."""
    from routing.training.sources import Source, read_source

    config = setting.config
    source = Source(name="in-domain", layout="golden", weight=setting.arm.weight)
    rows = table.rows[places].select("prompt", "strong_score", "weak_score")
    return read_source(
        rows, source, named(config.pair), min_prompt_chars=config.data.min_prompt_chars,
        balance=config.data.balance_sources, seed=config.split.seed,
    ).battles  # fmt: skip


def _sources(config: RouterConfig, arm: ArmSection, path: Path) -> tuple[SourceSection, ...]:
    names = [item.name or Path(item.path).stem for item in config.sources]
    if unknown := sorted(set(arm.sources) - set(names)):
        raise ConfigError(f"arm {arm.name!r} names the sources {unknown}; config {path} has {names}")
    return tuple(item for name, item in zip(names, config.sources, strict=True) if name in arm.sources)


def _gathering(setting: Setting, item: SourceSection) -> str:
    """Digest of all that decides what is read of a source."""
    config = setting.config
    shared = config.model_dump(mode="json", include={"pair": True, "data": {"min_prompt_chars", "balance_sources"}})
    return _digest([str(setting.data), item.model_dump(mode="json"), shared, config.split.seed])


def _digest(value: object) -> str:
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@cache
def _content(path: Path) -> str:
    """Digest of a file, or of a folder's files; of the name where there is neither (a model of the hub)."""
    if path.is_file():
        return file_sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return _digest([[str(file.relative_to(path)), file_sha256(file)] for file in files] or path.name)


@cache
def _code() -> str:
    root = Path(routing.__file__).parents[1]
    return _digest([file_sha256(file) for pattern in CODE for file in sorted(root.glob(pattern))])
