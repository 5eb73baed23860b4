"""The config of `nightroute calibrate`: a router, a table or labels, and what alpha is wanted for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from jobs.config import Input, Models, RouterSection, Usd
from jobs.config_file import Section, load_config
from schemas.billing import PriceOverride


class LabelsSection(Section):
    """Labelled prompts: what `nightroute label` writes, graded answers, pairs of scores, or battles."""

    path: str
    """A .parquet, .csv or .jsonl file."""
    layout: Literal["battles", "golden", "correctness"] | None = None
    """How the table is read (docs/calibrate.md); left out: found from its columns."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our name = your column. `win_rate` maps win rates that this router gave before, so that it is not run again."""
    strong: str | None = None
    """The strong model, as the table names it; needed by correctness, and by battles of more than two models."""
    weak: str | None = None
    winners: dict[str, str] = Field(default_factory=dict)
    """The table's name of a winner = model_a, model_b or tie."""
    largest_score: float = Field(1.0, gt=0)
    """Largest grade; scores are divided by it."""

    @model_validator(mode="after")
    def _both_or_none(self) -> "LabelsSection":
        if (self.strong is None) != (self.weak is None):
            raise ValueError("name strong and weak, or neither")
        return self


class Target(Section):
    """What alpha is wanted for; any of the three."""

    strong_share: float | None = Field(None, ge=0, le=1)
    """Share of queries that go strong."""
    max_usd: Usd | None = None
    """Budget of a table like the one of [input]."""
    pgr: float | None = Field(None, gt=0, lt=1)
    """Share of the quality gap that routing has to recover on new prompts."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Probability with which `pgr` has to hold."""


class CalibrationSection(Section):
    """A calibrated copy of the router."""

    method: Literal["platt", "isotonic"] = "platt"
    """`platt`: two parameters, from a few hundred labels on; `isotonic`: any rising shape, from a few thousand on."""
    output: str
    """Folder of the new artifact."""
    name: str | None = None
    """Name on its card; else that of the router with `-calibrated`."""


class ReportSection(Section):
    """Where the result goes."""

    path: str = "calibration.json"


class CalibrateConfig(Section):
    """A calibration."""

    router: RouterSection = RouterSection()
    input: Input | None = None
    """Queries whose win rates (and costs) alpha is read from; without it, those of the labels."""
    labels: LabelsSection | None = None
    target: Target = Target()
    models: Models | None = None
    """The pair, as in the job config; needed by `target.max_usd`."""
    prices: list[PriceOverride] = Field(default_factory=list)
    calibration: CalibrationSection | None = None
    output: ReportSection = ReportSection()
    seed: int = 0
    """Of all resampling, and of the order in which a guarantee reads the labels."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "CalibrateConfig":
        target = self.target
        if not any(item is not None for item in (target.strong_share, target.max_usd, target.pgr, self.calibration)):
            raise ValueError(
                "nothing is asked for: give target.strong_share, target.max_usd, target.pgr or [calibration]"
            )
        if self.labels is None and (target.pgr is not None or self.calibration is not None):
            raise ValueError("target.pgr and [calibration] learn from labels: add [labels]")
        if self.input is None and self.labels is None:
            raise ValueError("alpha is read from win rates: add [input] with a table of queries, or [labels]")
        if target.max_usd is not None and (self.input is None or self.models is None):
            raise ValueError("target.max_usd is the budget of a table: add [input], [models.strong] and [models.weak]")
        if self.router.embedding is not None:
            raise ValueError("[router.embedding] is not used here: map labels.columns.win_rate for such a router")
        return self


@dataclass(frozen=True, slots=True)
class CalibrateJob:
    """A config with its surroundings."""

    config: CalibrateConfig
    base: Path
    """Folder that relative paths start from."""
    date: str | None


def load_calibrate(path: Path, *, overrides: Sequence[str] = (), date: str | None = None) -> CalibrateJob:
    """Read a calibration config.

    Args:
        path: TOML file.
        overrides: As for `jobs.config.load_job`.
        date: Partition of [input] to read, as in `--date`.

    Raises:
        NightrouteError: as `jobs.config.load_job`.
    """
    return CalibrateJob(load_config(CalibrateConfig, path, overrides=overrides, date=date), path.resolve().parent, date)
