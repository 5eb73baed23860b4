"""The config of `nightroute audit`: a log, what to hold it against, and what routing to ask about."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from jobs.calibrate_config import LabelsSection
from jobs.config import RouterSection
from jobs.config_file import Section, dated_path, load_config
from routing.estimate import TOKENIZER_SPREAD
from schemas.billing import PriceOverride

FormatName = Literal["litellm", "langfuse", "helicone", "otel", "openai_batch", "nightroute", "table"]


class LogSection(Section):
    """The calls that were made."""

    path: str
    """A file, a glob, or a folder. May hold `{date}`."""
    format: FormatName | None = None
    """Left out: told from the columns (docs/audit-formats.md). `table` needs `columns`."""
    columns: dict[str, str] = Field(default_factory=dict)
    """CALL_LOG name = your column; with a named format, it goes before what the format says."""
    tenant: list[str] = Field(default_factory=list)
    """Columns of the log that say who a call was made for, joined by ` / `; else what the format has for it."""
    time_zone: str = "UTC"
    """Of times that are written without a zone (IANA name)."""
    prompts: str | None = None
    """Batch API only: the input file(s), joined by custom_id, for the prompts that an output file lacks."""
    provider: str | None = None
    """Provider id of genai-prices, where the log names none."""
    cache_in_input: bool | None = None
    """`table` only: whether `input_tokens` includes cached tokens. Left out: as the provider of each row counts."""
    part_rows: int = Field(250_000, ge=1)
    """Rows worked on at once: memory is bounded by this, never by the log."""


class ControlSection(Section):
    """Control totals from another source: a provider's usage export, one row a day, a model or both."""

    path: str
    columns: dict[str, str]
    """`day` and/or `model`, and any of `calls`, `input_tokens`, `output_tokens`, `usd` = your column."""


class WhatIfModel(Section):
    """A model that calls could have gone to."""

    name: str
    provider: str | None = None
    base_url: str | None = None
    expected_output_tokens: int = Field(264, ge=1)
    """Answer length where neither the log nor the history holds an answer of it."""


class WhatIfSection(Section):
    """What if these calls had been routed?"""

    strong: WhatIfModel
    weak: WhatIfModel
    router: RouterSection = RouterSection()
    replaces: list[str] = Field(default_factory=list)
    """Further logged models whose calls would be routed (`*` stands for anything); the pair's own always are."""
    labels: LabelsSection | None = None
    """Graded prompts of this traffic: without them cost is modelled, but quality is not."""
    quality_floor: float | None = Field(None, gt=0, le=1)
    """Share of the strong model's quality that has to be kept; alpha is recommended for it."""
    cache: Literal["cold", "warm"] = "cold"
    """Whether a call that changes its model finds its cached tokens cached there."""
    history: str | None = None
    """More answers to learn lengths from (published tables of nightroute, or others with their columns)."""
    tokenizer_spread: float = Field(TOKENIZER_SPREAD, ge=0, le=1)
    """By how much one model may count the tokens of a prompt differently from the other; 0: they share a tokenizer."""
    points: int = Field(101, ge=3, le=1_001)
    """Points of the curve, equally far apart in strong share."""
    resamples: int = Field(1_000, ge=100)
    """Joint draws of answer lengths behind the intervals of costs."""
    seed: int = 0

    @model_validator(mode="after")
    def _can_compare(self) -> "WhatIfSection":
        if self.strong.name == self.weak.name:
            raise ValueError(
                f"strong and weak are both called {self.strong.name!r}; name two models, or there is nothing to route"
            )
        if self.quality_floor is not None and self.labels is None:
            raise ValueError("quality_floor is held against labels: add [what_if.labels]")
        if self.router.embedding is not None:
            raise ValueError("[what_if.router.embedding] is not used here: an audit buys nothing")
        return self


class PageSection(Section):
    """What the page and the tables show."""

    excerpts: bool = True
    """Whether beginnings of prompts are shown; false leaves digests."""
    top: int = Field(20, ge=1, le=1_000)
    """Prompt groups shown."""


class ExportSection(Section):
    """What is written beside Parquet, JSON and the page."""

    focus: bool = True
    """FOCUS 1.2 rows, as CSV and Parquet."""
    csv: bool = True


class AuditConfig(Section):
    """An audit."""

    name: str = "audit"
    output: str
    """Folder of the results. May hold `{date}`."""
    log: LogSection
    control: ControlSection | None = None
    what_if: WhatIfSection | None = None
    page: PageSection = PageSection()
    exports: ExportSection = ExportSection()
    prices: list[PriceOverride] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class AuditJob:
    """A config with its surroundings."""

    config: AuditConfig
    base: Path
    """Folder that relative paths start from."""
    date: str | None

    def path(self, text: str) -> Path:
        """Resolve a path of the config."""
        return dated_path(text, self.base, self.date)


def load_audit(path: Path, *, overrides: Sequence[str] = (), date: str | None = None) -> AuditJob:
    """Read an audit config.

    Args:
        path: TOML file.
        overrides: As for `jobs.config.load_job`.
        date: Replaces `{date}`.

    Raises:
        NightrouteError: as `jobs.config.load_job`.
    """
    return AuditJob(load_config(AuditConfig, path, overrides=overrides, date=date), path.resolve().parent, date)
