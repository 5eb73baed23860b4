"""The config of `nightroute evaluate`: routers, benchmarks, and what is measured on them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from jobs.config_file import Section, load_config
from jobs.evaluate_robustness import DriftSection, RobustnessSection
from jobs.evaluate_transfer import TransferSection
from jobs.train_config import Models
from schemas.billing import PriceOverride

BASELINES = ("random", "length", "constant", "oracle")
"""Rows that every report has; no router may be called so."""

Layout = Literal["routellm", "correctness", "golden", "battles"]


class EvaluatedRouterSection(Section):
    """A router to measure."""

    artifact: str
    """`builtin:NAME`, or the folder of a router artifact."""
    name: str | None = None
    """Name in the report; else the one on its card."""
    threads: int = Field(1, ge=0)
    """Threads of one graph run; 0 takes every core."""
    token_budget: int = Field(4_096, ge=1)
    """Padded tokens per graph run."""


class DataSection(Section):
    """Where the tables are."""

    path: str | None = None
    """Folder of the tables; else the variable NIGHTROUTE_DATA, else `../shared/data` beside the checkout."""


class BenchmarkSection(Models):
    """Prompts with the graded answers of two models: any pair that the file has."""

    name: str = Field(min_length=1)
    path: str
    """In the data folder: a table (.parquet, .csv, .jsonl, .ndjson), or a folder in RouteLLM's layout."""
    layout: Layout | None = None
    """How it is read; left out: `routellm` for a folder, else found from the columns."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our name of a column -> the table's."""
    winners: dict[str, str] = Field(default_factory=dict)
    """`battles`: the table's name of a winner -> model_a, model_b or tie."""
    where: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    """Column of the table -> value or values; other rows are passed over."""
    largest_score: float = Field(1.0, gt=0)
    """Largest grade of the table; scores are divided by it."""
    decontaminate: bool = True
    """`routellm`: leave out the prompts of contaminated_prompts.jsonl."""
    drop_trained: tuple[str, ...] = ()
    """Training configs (relative to this one); prompts that their sources draw are left out."""
    max_prompts: int | None = Field(None, ge=10)
    """Measure on this many rows, drawn with the seed."""
    protocol: str = ""
    """How its figures have to be read, e.g. `zero-shot`."""


class EvaluateConfig(Section):
    """An evaluation."""

    name: str = "evaluation"
    output: str
    """Folder of the report; files in it are replaced."""
    cache: str | None = None
    """Folder of win rates, kept between runs; else `cache` in the output folder. It may be deleted."""
    seed: int = 0
    """Of resampling, of random routers, and of `max_prompts`."""
    resamples: int = Field(1_000, ge=100)
    """Bootstrap samples behind each interval."""
    random_routers: int = Field(1_000, ge=100)
    """Random routers behind the row `random`."""
    category_prompts: int = Field(30, ge=2)
    """Smallest category that has figures of its own."""
    priced_at: date | None = None
    """Day whose prices hold; else today."""
    data: DataSection = DataSection()
    routers: tuple[EvaluatedRouterSection, ...] = Field(min_length=1)
    benchmarks: tuple[BenchmarkSection, ...] = Field(min_length=1)
    prices: tuple[PriceOverride, ...] = ()
    """Your own prices, by model name as in `strong` and `weak`; they come before the table of genai-prices."""
    transfer: TransferSection | None = None
    """Pairs of models that the routers were not trained on; left out: not measured, like the following."""
    robustness: RobustnessSection | None = None
    """What changes of the prompts do to the routes."""
    drift: DriftSection | None = None
    """Win rates by language or category of a table without scores."""
    merge: tuple[str, ...] = ()
    """Reports (`report.json`, the JSON of `nightroute study`) whose rows are added to this one."""

    @field_validator("routers")
    @classmethod
    def _no_baseline(cls, routers: tuple[EvaluatedRouterSection, ...]) -> tuple[EvaluatedRouterSection, ...]:
        names = [router.name for router in routers if router.name is not None]
        if taken := sorted({*names} & {*BASELINES}):
            raise ValueError(f"{taken} are names of baselines, which every report has; call the routers otherwise")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{twice} are named twice; give every router its own name")
        return routers

    @field_validator("benchmarks")
    @classmethod
    def _one_name_each(cls, benchmarks: tuple[BenchmarkSection, ...]) -> tuple[BenchmarkSection, ...]:
        names = [item.name for item in benchmarks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{twice} are named twice; give every benchmark its own name")
        return benchmarks

    @model_validator(mode="after")
    def _known_benchmarks(self) -> "EvaluateConfig":
        known = [item.name for item in self.benchmarks]
        named = {
            "robustness.benchmarks": () if self.robustness is None else self.robustness.benchmarks,
            "transfer.tables.seen": ()
            if self.transfer is None
            else tuple(table.seen for table in self.transfer.tables if table.seen is not None),
        }
        for key, names in named.items():
            if unknown := sorted({*names} - {*known}):
                raise ValueError(f"{key} names {unknown}, the benchmarks of this evaluation are {known}")
        return self


@dataclass(frozen=True, slots=True)
class EvaluateJob:
    """A config with its surroundings."""

    config: EvaluateConfig
    base: Path
    """Folder that relative paths start from."""

    def path(self, text: str) -> Path:
        """Resolve a path of the config."""
        return Path(os.path.normpath(self.base / Path(text).expanduser()))

    @property
    def output(self) -> Path:
        """Folder of the report."""
        return self.path(self.config.output)

    @property
    def cache(self) -> Path:
        """Folder of win rates."""
        return self.output / "cache" if self.config.cache is None else self.path(self.config.cache)


def load_evaluation(path: Path, *, overrides: Sequence[str] = ()) -> EvaluateJob:
    """Read an evaluation config; arguments and errors are those of `jobs.config.load_job`."""
    return EvaluateJob(load_config(EvaluateConfig, path, overrides=overrides, date=None), path.resolve().parent)
