"""The config of `nightroute study`: which kinds of router, on which data, with how many labels of which benchmark."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from jobs.config_file import Section
from jobs.train_config import Models


class BenchmarkSection(Models):
    """A table of prompts that both models of a pair were graded on: labels are drawn from it, the rest is evaluated."""

    name: str
    path: str
    """File with prompt, model and score (0 to 1), in the data folder."""
    sizes: tuple[int, ...] = ()
    """Labelled prompts; smaller samples lie inside the larger ones, all are evaluated on what the largest leaves."""
    folds: int | None = Field(None, ge=2)
    """Instead of sizes: each of so many folds is evaluated with the labels of the others."""
    draws: int = Field(1, ge=1)
    """Seeded draws of the samples or folds."""
    max_prompts: int | None = Field(None, ge=10)
    """Work on this many of its prompts, drawn with the seed; for slow routers."""
    arms: tuple[str, ...] = ()
    """Arms that are run on it; empty: all."""
    note: str = ""
    """What a reader of its figures must know besides."""

    @field_validator("sizes")
    @classmethod
    def _rising(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if any(size < 1 for size in sizes) or list(sizes) != sorted(set(sizes)):
            raise ValueError(f"expected rising numbers of labels, each at least 1, got {list(sizes)}")
        return sizes

    @model_validator(mode="after")
    def _one_way(self) -> "BenchmarkSection":
        if self.sizes and self.folds is not None:
            raise ValueError("give sizes or folds, not both; name the table twice to have both")
        return self


class ArmSection(Section):
    """What a router is given to learn from."""

    name: str
    """E.g. `preferences + in-domain`."""
    sources: tuple[str, ...] = ()
    """Names of `[[sources]]` of the training configs (a source without one has its file's, without the ending)."""
    in_domain: bool = False
    """Besides: the labels that are drawn from the benchmark."""
    weight: float = Field(1.0, gt=0)
    """Of each in-domain label against the sources, as `weight` of a source."""
    siblings: Literal["keep", "drop"] = "keep"
    """Labelled prompts that are near-duplicates of an evaluated one: learned from, or left out."""

    @model_validator(mode="after")
    def _something(self) -> "ArmSection":
        if not self.sources and not self.in_domain:
            raise ValueError("an arm needs sources, in_domain = true, or both")
        return self


class KindSection(Section):
    """A kind of router: a training config."""

    name: str
    config: str
    """Training config, relative to this file; its own paths are relative to it."""
    arms: tuple[str, ...] = ()
    """Arms that it is run on; empty: all."""
    per_arm: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Arm -> keys of the training config that are different there."""


class StudyConfig(Section):
    """A study of what labels are worth."""

    name: str
    output: str
    """Folder of the results and of the finished cells."""
    data: str | None = None
    """Folder of the tables; else the variable NIGHTROUTE_DATA, else `../shared/data` beside the checkout."""
    seed: int = 0
    """Of the draws and of the bootstrap; the fits have the seeds of their training configs."""
    resamples: int = Field(1_000, ge=100)
    """Bootstrap samples of each interval."""
    benchmarks: tuple[BenchmarkSection, ...] = Field(min_length=1)
    arms: tuple[ArmSection, ...] = Field(min_length=1)
    kinds: tuple[KindSection, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _known_names(self) -> "StudyConfig":
        arms = _distinct("arms", self.arms)
        for group, items in (("benchmarks", self.benchmarks), ("kinds", self.kinds)):
            _distinct(group, items)
            for item in items:
                if unknown := sorted(set(item.arms) - set(arms)):
                    raise ValueError(f"{group}: {item.name!r} names the arms {unknown}; there are {arms}")
        for kind in self.kinds:
            if unknown := sorted(set(kind.per_arm) - set(arms)):
                raise ValueError(f"kinds: per_arm of {kind.name!r} names the arms {unknown}; there are {arms}")
        return self

    def arms_of(self, kind: KindSection, benchmark: BenchmarkSection) -> list[ArmSection]:
        """Return the arms that a kind is run on with a benchmark, in the order of the config."""
        return [
            arm
            for arm in self.arms
            if arm.name in (kind.arms or {arm.name})
            and arm.name in (benchmark.arms or {arm.name})
            and (not arm.in_domain or benchmark.sizes or benchmark.folds)
        ]


def _distinct(group: str, items: "Sequence[BenchmarkSection | ArmSection | KindSection]") -> list[str]:
    names = [item.name for item in items]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{group}: {twice} are named twice; give each a name of its own")
    return names
