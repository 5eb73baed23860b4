"""What a calibration reads: labelled prompts with their win rates, and the scored table of queries."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from jobs.calibrate_config import CalibrateJob, LabelsSection
from jobs.config import Destination, Input, Models, TableConfig, TableJob
from jobs.night import SIDES, pricing
from jobs.source import Source, discover, read_part
from jobs.training import read_table
from routing import benchmarks
from routing.errors import ConfigError, DataError
from routing.estimate import SPLIT, estimate
from routing.metrics import Floats
from routing.routers import Router
from routing.score import score
from schemas.queries import Queries

WIN_RATE = "win_rate"
BATTLES = "battles"


@dataclass(frozen=True, slots=True)
class Labels:
    """Labelled prompts."""

    rows: pl.DataFrame
    """BENCHMARK."""
    given: Floats | None
    """Win rates that the table holds, shape (n,); null where the router has to be run."""
    left_out: dict[str, int]
    """Why rows were left out -> how many."""

    @property
    def strong(self) -> Floats:
        """Scores of the strong model, 0..1, shape (n,)."""
        return self.rows["strong_score"].to_numpy()

    @property
    def weak(self) -> Floats:
        """Scores of the weak model, 0..1, shape (n,)."""
        return self.rows["weak_score"].to_numpy()

    @property
    def prompts(self) -> list[str]:
        """The prompts."""
        return self.rows["prompt"].to_list()

    @property
    def sha256(self) -> str:
        """Digest of prompts and scores."""
        return benchmarks.rows_sha256(self.rows)


def read_labels(section: LabelsSection, base: Path) -> Labels:
    """Read labels of any layout, one row a prompt (a row of its own where both scores stand in one).

    Raises:
        InputMissingError: the file is missing.
        DataError: it breaks its layout.
        ConfigError: the pair has to be named.
    """
    path = base / section.path
    name = path.name
    raw = read_table(path, check="labels.path")
    ours = {key: column for key, column in section.columns.items() if key != WIN_RATE}
    layout = section.layout or benchmarks.detect([*raw.columns, *ours], name=name)
    table = benchmarks.renamed(raw, ours, layout, name=name)
    if layout == "golden":
        read = benchmarks.paired(table, name=name, largest=section.largest_score)
    else:
        strong, weak = _pair(table, section, layout, name)
        if layout == BATTLES:
            read = benchmarks.fought(table, name=name, strong=strong, weak=weak, winners=section.winners)
        else:
            read = benchmarks.graded(table, name=name, strong=strong, weak=weak, largest=section.largest_score)
    return Labels(read.rows, _given(table, read.rows, section.columns.get(WIN_RATE), name), dict(read.left_out))


def _pair(table: pl.DataFrame, section: LabelsSection, layout: str, name: str) -> tuple[str, str]:
    if section.strong is not None and section.weak is not None:
        return section.strong, section.weak
    if layout == BATTLES and set(benchmarks.COLUMNS[BATTLES]) <= set(table.columns):
        pairs = table.select(pl.col("model_a", "model_b").cast(pl.String)).drop_nulls().unique()
        if len(pairs) == 1:
            return pairs.row(0)
    raise ConfigError(f"labels {name}: name the pair, as the table does: labels.strong and labels.weak")


def _given(table: pl.DataFrame, rows: pl.DataFrame, column: str | None, name: str) -> Floats | None:
    """Win rates of the table: a router knows nothing but the prompt, so equal prompts have one."""
    if column is None:
        return None
    if column not in table.columns:
        raise DataError(f"labels {name}: columns maps win_rate to {column!r}, but the table has {table.columns}")
    known = table.group_by("prompt").agg(pl.col(column).cast(pl.Float64).mean().alias(WIN_RATE))
    rates = rows.select("prompt").join(known, on="prompt", how="left", maintain_order="left")[WIN_RATE]
    if not rates.is_between(0.0, 1.0).fill_null(value=False).all():
        raise DataError(f"labels {name}: {column} must hold a win rate in [0, 1] for every labelled prompt")
    return rates.to_numpy()


def find_table(job: CalibrateJob, section: Input) -> Source:
    """Find the table of queries; errors are those of `jobs.source.discover`."""
    surroundings = TableConfig(run_dir=".", input=section, output=Destination(path="."))
    return discover(TableJob(surroundings, job.base, job.date), written=())


def score_table(source: Source, router: Router) -> pl.DataFrame:
    """Score a table of queries part by part: win_rate, prompt_tokens, max_output_tokens; no text is kept.

    Raises:
        DataError: a part cannot be decoded, or every row breaks a rule of QUERIES.
    """
    kept = ["win_rate", "prompt_tokens", "max_output_tokens"]
    parts = [
        score(Queries.filter(read_part(source, part).queries).result, router)
        .filter(pl.col("prompt_tokens") <= source.config.max_prompt_tokens)
        .select(kept)
        for part in source.parts
    ]
    table = pl.concat(parts)
    if table.is_empty():
        raise DataError(f"input {source.config.path}: none of {source.rows:,} rows is a query; check the columns")
    return table


def with_costs(scored: pl.DataFrame, models: Models, prices: pl.DataFrame, *, at: datetime) -> pl.DataFrame:
    """Add `strong_usd` and `weak_usd`, what each query is expected to cost at prices of a moment."""
    for side, model in zip(SIDES, (models.strong, models.weak), strict=True):
        scored = estimate(scored, prices, pricing(model), prefix=side, at=at, columns=SPLIT)
    return scored


def win_rates(labels: Labels, router: Router) -> Floats:
    """Win rates of the labelled prompts, shape (n,)."""
    return np.asarray(router.win_rates(labels.prompts).win_rate)
