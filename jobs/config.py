"""The config of the nightly job, and the sections that other jobs share."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from jobs.config_file import DATE, Section, apply_override, dated_path, load_config, parse
from schemas.billing import PriceOverride
from schemas.queries import INPUT_COLUMNS

Usd = Annotated[Decimal, BeforeValidator(lambda value: str(value) if isinstance(value, float) else value), Field(gt=0)]
"""Dollars; a TOML float is taken by its text, so that 0.1 is exactly 0.1."""


class Input(Section):
    """What to read."""

    path: str
    """A Parquet file, a glob, or a folder (hive keys are read from `key=value` names). May hold `{date}`."""
    columns: dict[str, str] = Field(default_factory=lambda: {"prompt": "prompt"})
    """Our name -> the name in your table. `prompt` or `messages` is needed; without `query_id`, ids are derived."""
    date_column: str | None = None
    """Column (or hive key) that `--date` selects on."""
    drop: list[str] = Field(default_factory=list)
    """Columns of your table to leave out of the published one."""
    max_prompt_tokens: int = Field(128_000, ge=1)
    """Longer queries are rejected before any money is spent (router tokens)."""
    part_rows: int = Field(5_000, ge=1)
    """Rows worked on at once: memory is bounded by this, never by the table."""

    @model_validator(mode="after")
    def _one_text(self) -> "Input":
        unknown = sorted(set(self.columns) - set(INPUT_COLUMNS))
        if unknown:
            raise ValueError(f"columns maps {unknown}, which nightroute does not read; it reads {list(INPUT_COLUMNS)}")
        if ("prompt" in self.columns) == ("messages" in self.columns):
            raise ValueError("columns must map exactly one of prompt (a string) and messages (a list of role/content)")
        theirs = list(self.columns.values())
        if repeated := sorted({name for name in theirs if theirs.count(name) > 1}):
            raise ValueError(f"columns maps {repeated} twice; give each of our names a column of its own")
        return self


class Access(Section):
    """Where a model is served, and how fast it may be asked."""

    base_url: str
    """Address of the OpenAI-compatible API, usually ending in /v1."""
    api_key_env: str | None = None
    """Environment variable that holds the key; leave out where none is needed."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Extra headers, not secret."""
    headers_env: dict[str, str] = Field(default_factory=dict)
    """Extra headers whose value is secret: header -> environment variable."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Request parameters sent with every call (temperature, max_completion_tokens, ...)."""
    provider: str | None = None
    """Provider id of genai-prices; found from base_url or the model name when left out."""
    timeout_s: float = Field(120.0, gt=0)
    max_in_flight: int = Field(64, ge=1)
    start_in_flight: int = Field(8, ge=1)
    rpm: int | None = Field(None, ge=1)
    tpm: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _sane(self) -> "Access":
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url must start with http:// or https://, got {self.base_url!r}")
        if {"messages", "model", "input", "encoding_format"} & set(self.params) or self.params.get("stream"):
            raise ValueError(
                "params must not hold messages, model, input, encoding_format or stream: nightroute sets them"
            )
        return self


class EmbeddingSection(Access):
    """Where a router that starts at an embedding gets it; the model is named by the router's card."""

    batch_size: int = Field(128, ge=1, le=2_048)
    """Prompts in one request, at most."""
    batch_tokens: int = Field(100_000, ge=1)
    """Tokens in one request, at most (router tokens; OpenAI takes 300,000 of its own)."""


class RouterSection(Section):
    """Which router scores the queries."""

    artifact: str = "builtin:static-mf"
    """`builtin:NAME`, or the folder of a router artifact."""
    threads: int = Field(1, ge=0)
    """Threads of one graph run; 0 takes every core. One is fastest for a static table."""
    token_budget: int = Field(4_096, ge=1)
    """Padded tokens per graph run; small enough that the vectors of a run stay in the processor's cache."""
    embedding: EmbeddingSection | None = None
    """Needed by a router whose card names an embedding model."""


class SplitSection(Section):
    """How to cut the table: exactly one of alpha, strong_share and max_usd."""

    alpha: float | None = Field(None, ge=0, le=1)
    """Cost threshold: strong iff win_rate >= alpha."""
    strong_share: float | None = Field(None, ge=0, le=1)
    """Share of queries that go to the strong model (0..1, not percent), met to one row."""
    max_usd: Usd | None = None
    """Budget for the whole table: as many strong queries as its expected cost allows; also the limit of [budget]."""
    order: Literal["win_rate", "gain_per_usd"] = "win_rate"
    """Which queries go strong first; `gain_per_usd` (with max_usd only): the highest expected gain per extra dollar."""
    history: str | None = None
    """Answers paid for before (a Parquet file, a glob or a folder): they tell how long answers to a prompt are."""

    @model_validator(mode="after")
    def _one_rule(self) -> "SplitSection":
        given = [name for name in ("alpha", "strong_share", "max_usd") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of alpha, strong_share and max_usd, got {given or 'none'}")
        if self.order != "win_rate" and self.max_usd is None:
            raise ValueError(f"order = {self.order!r} spends a budget: give max_usd instead of {given[0]}")
        return self


class Model(Access):
    """One model, and where it answers."""

    name: str
    """Model name, as the endpoint knows it."""
    max_output_tokens_param: str = "max_completion_tokens"
    """Parameter that carries a row's max_output_tokens; older servers want max_tokens."""
    expected_output_tokens: int = Field(264, ge=1)
    """Mean answer length assumed by plans and budgets. Default: the mean of arXiv 2406.18665, appendix D."""


class Models(Section):
    """The pair."""

    strong: Model
    weak: Model


class Dispatch(Section):
    """Retries and guards."""

    max_attempts: int = Field(5, ge=1)
    max_refusals: int = Field(20, ge=1)
    max_retry_after_s: float = Field(900.0, ge=0)
    backoff_initial_s: float = Field(0.5, ge=0)
    backoff_max_s: float = Field(30.0, ge=0)
    breaker_window: int = Field(100, ge=1)
    breaker_failed_share: float = Field(0.5, gt=0, le=1)
    min_free_disk_mb: int = Field(100, ge=0)
    """Stop sending while less is free on the disk of the run folder."""


class Budget(Section):
    """What the run may cost at most, resumes included."""

    max_usd: Usd | None = None


class Destination(Section):
    """Where a table goes."""

    path: str
    """Folder (or file) of the published table. May hold `{date}`."""
    max_failed_share: float = Field(0.0, ge=0, le=1)
    """Up to this share of failed or rejected rows the exit code is still 0."""


class Output(Destination):
    """Where the answers go."""

    partition_by: list[str] = Field(default_factory=list)
    """Columns to split the table by, hive style."""

    @model_validator(mode="after")
    def _names_once(self) -> "Output":
        if len(set(self.partition_by)) < len(self.partition_by):
            raise ValueError(f"partition_by names a column twice: {self.partition_by}; name each once")
        return self


class TableConfig(Section):
    """What every job over a table of queries has in its config."""

    name: str = "nightroute"
    run_dir: str
    """Folder of scores, ledger and staging; one per run, so it holds `{date}` where --date is used."""
    input: Input
    router: RouterSection = RouterSection()
    dispatch: Dispatch = Dispatch()
    budget: Budget = Budget()
    prices: list[PriceOverride] = Field(default_factory=list)
    """Your own prices, by served model name; they come before the table of genai-prices."""
    output: Destination


class JobConfig(TableConfig):
    """A nightly job."""

    split: SplitSection
    models: Models
    output: Output


C = TypeVar("C", bound=TableConfig, covariant=True)


@dataclass(frozen=True, slots=True)
class TableJob(Generic[C]):
    """A config with its surroundings: what a job needs to start."""

    config: C
    base: Path
    """Folder that relative paths start from."""
    date: str | None = None

    def path(self, text: str) -> Path:
        """Resolve a path of the config."""
        return dated_path(text, self.base, self.date)

    @property
    def run_dir(self) -> Path:
        """Folder of this run."""
        return self.path(self.config.run_dir)

    @property
    def output(self) -> Path:
        """Path of the published table: with a date column and no `{date}` in the path, one hive folder per date."""
        path = self.path(self.config.output.path)
        return path if self.date_key is None else path / f"{self.date_key}={self.date}"

    @property
    def date_key(self) -> str | None:
        """Column that the output folder's name holds, so that it is not in its files; null when it holds none."""
        names_date = self.date is not None and DATE not in self.config.output.path
        return self.config.input.date_column if names_date else None


@dataclass(frozen=True, slots=True)
class Job(TableJob[JobConfig]):
    """A nightly job."""


def load_job(path: Path, *, overrides: Sequence[str] = (), date: str | None = None) -> Job:
    """Read a job config.

    Args:
        path: TOML file.
        overrides: `section.key=value`, values in TOML syntax (a bare word is taken as a string).
        date: Partition to run, as in `--date`.

    Raises:
        UsageError: the date is no calendar date, or an override is none.
        ConfigError: the file cannot be read, a key is unknown, a value is wrong; the message names every place.
    """
    return Job(load_config(JobConfig, path, overrides=overrides, date=date), path.resolve().parent, date)


def override_job(job: Job, overrides: Sequence[str]) -> Job:
    """Apply `section.key=value` overrides to a job that was read before.

    Raises:
        ConfigError: the result is no valid config.
    """
    data = job.config.model_dump(mode="json", exclude_none=True)
    for override in overrides:
        apply_override(data, override)
    return Job(parse(JobConfig, data, source="after --set"), job.base, job.date)
