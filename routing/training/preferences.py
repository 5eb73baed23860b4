"""Raw tables of the shared data -> BATTLES, CORRECTNESS, GOLDEN: filters, weights, folds.

No prompt of MMLU test, GSM8K test or MT-Bench passes. Three gates stand behind each other: sources and tasks that are
those benchmarks (`Exclusions`), the overlap columns of the tables, and embeddings (`routing.training.decontamination`).
"""

from collections.abc import Collection
from dataclasses import dataclass

import dataframely as dy
import numpy as np
import polars as pl

from routing.benchmarks import graded
from routing.errors import DataError
from schemas.preferences import WINNERS, Battles, Correctness, Golden

MIN_PROMPT_CHARS = 16
"""RouteLLM drops shorter prompts too (arXiv 2406.18665, section 4.1)."""

MAX_OVERLAP = 0.8
"""Largest TF-IDF cosine to an evaluation prompt that is let through."""

HUMAN_WEIGHT = 3.0
"""A human vote counts as much as this many verdicts of a judge model, whose position and length bias is known."""

EVALUATION_SETS = ("mt_bench", "gsm8k_test", "mmlu_test")
"""Suffixes of the overlap columns `exact_*` and `sim_*`."""

OVERLAP_COLUMNS = tuple(f"{kind}_{name}" for kind in ("exact", "sim") for name in EVALUATION_SETS)


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Rows that are not trained on, by name."""

    sources: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    task_pattern: str | None = None
    """Regular expression; a task that it finds is left out."""

    def keep(self, columns: Collection[str]) -> pl.Expr:
        """Return the expression that is true for rows to keep; a column the table lacks excludes nothing."""
        kept = pl.lit(value=True)
        for column, names in (("source", self.sources), ("benchmark", self.benchmarks)):
            if column in columns and names:
                kept &= ~pl.col(column).cast(pl.String).is_in(names).fill_null(value=False)
        if "task" in columns and self.task_pattern is not None:
            kept &= ~pl.col("task").cast(pl.String).str.contains(self.task_pattern).fill_null(value=False)
        return kept


def battles(raw: pl.DataFrame, exclusions: Exclusions) -> dy.DataFrame[Battles]:
    """Raw battles -> BATTLES.

    A prompt with n battles weighs sqrt(n), not n, so that no prompt outshouts the rest by being judged often.

    Raises:
        DataError: a column is missing, a winner is unknown, or no row is left.
    """
    _require(raw, "battles", ("prompt", "model_a", "model_b", "winner", "label_kind", "source", *OVERLAP_COLUMNS))
    unknown = raw.filter(~pl.col("winner").is_in(WINNERS) | pl.col("winner").is_null())["winner"].unique().sort()
    if len(unknown):
        raise DataError(f"battles: winner must be one of {list(WINNERS)}, got {unknown.to_list()}; map it, or drop it")
    kept = without_overlap(raw).filter(_long(), exclusions.keep(raw.columns))
    votes = pl.when(pl.col("label_kind") == "human").then(HUMAN_WEIGHT).otherwise(1.0)
    rows = kept.select(
        "prompt",
        "model_a",
        "model_b",
        pl.col("winner").cast(pl.Enum(list(WINNERS))),
        weight=votes / pl.len().over("prompt").sqrt(),
        source="source",
    )
    return Battles.validate(_some(rows, "battles"))


def correctness(raw: pl.DataFrame, exclusions: Exclusions) -> dy.DataFrame[Correctness]:
    """Raw correctness -> CORRECTNESS, one row per prompt, model and benchmark (repeated grades are averaged).

    Weights balance twice: a prompt graded for n models weighs sqrt(n), and a benchmark of m rows about sqrt(m).

    Raises:
        DataError: a column is missing, or no row is left.
    """
    _require(raw, "correctness", ("prompt", "model", "score", "benchmark", "source", *OVERLAP_COLUMNS))
    kept = without_overlap(raw).filter(_long(), exclusions.keep(raw.columns), pl.col("score").is_not_null())
    keys = ("prompt", "model", "benchmark", "source")
    rows = (
        kept.with_columns(pl.col("model", "benchmark", "source").cast(pl.String), pl.col("score").cast(pl.Float64))
        .group_by(keys, maintain_order=True)
        .agg(pl.col("score").mean().clip(0.0, 1.0))
        .with_columns(
            weight=1.0 / (pl.len().over("prompt").sqrt() * pl.len().over("benchmark").sqrt()).cast(pl.Float64)
        )
    )
    return Correctness.validate(_some(rows.select(Correctness.column_names()), "correctness"))


def golden(raw: pl.DataFrame, exclusions: Exclusions) -> dy.DataFrame[Golden]:
    """Raw golden rows -> GOLDEN, one row per prompt; `source` names the benchmark.

    Raises:
        DataError: a column is missing, or no row is left.
    """
    _require(raw, "golden", ("prompt", "strong_score", "weak_score", "benchmark", *OVERLAP_COLUMNS))
    kept = without_overlap(raw).filter(_long(), exclusions.keep(raw.columns))
    rows = (
        kept.select("prompt", "strong_score", "weak_score", source=pl.col("benchmark").cast(pl.String))
        .group_by("prompt", maintain_order=True)
        .agg(pl.col("strong_score", "weak_score").mean(), pl.col("source").first())
    )
    return Golden.validate(_some(rows.select(Golden.column_names()), "golden"))


def golden_pair(graded: dy.DataFrame[Correctness], *, benchmark: str, strong: str, weak: str) -> dy.DataFrame[Golden]:
    """CORRECTNESS -> GOLDEN for one pair of models on one benchmark; prompts that both have answered.

    Raises:
        DataError: no such prompt.
    """
    rows = graded.filter(pl.col("benchmark") == benchmark)
    sides = [
        rows.filter(pl.col("model") == model).select("prompt", pl.col("score").alias(name))
        for model, name in ((strong, "strong_score"), (weak, "weak_score"))
    ]
    both = sides[0].join(sides[1], on="prompt", maintain_order="left").with_columns(source=pl.lit(benchmark))
    return Golden.validate(_some(both.unique("prompt", keep="first", maintain_order=True), f"{strong} over {weak}"))


def benchmark(raw: pl.DataFrame, *, name: str, strong: str, weak: str) -> dy.DataFrame[Golden]:
    """Raw evaluation rows (prompt, model, score) -> GOLDEN, one row per prompt: `routing.benchmarks.graded`.

    Raises:
        DataError: a column or one of the two models is missing, or a score is no number of 0 to 1.
    """
    return Golden.validate(graded(raw, name=name, strong=strong, weak=weak).rows.select(Golden.column_names()))


def held_out(prompts: pl.Series, *, share: float, seed: int) -> pl.Series:
    """Return a random share of the distinct prompts, the same for the same set of prompts whatever its order.

    Raises:
        DataError: the share leaves one of the two sides empty.
    """
    distinct = prompts.unique().sort()
    n = round(share * len(distinct))
    if not 0 < n < len(distinct):
        raise DataError(
            f"split.held_out_share {share} of {len(distinct)} prompts leaves an empty side; "
            "use more data or another share"
        )
    chosen = np.random.default_rng(seed).choice(len(distinct), size=n, replace=False)
    return distinct.gather(np.sort(chosen))


def without_overlap(raw: pl.DataFrame) -> pl.DataFrame:
    """Drop the rows that the table's own overlap columns call evaluation prompts; a column it lacks drops nothing."""
    exact = [
        pl.col(f"exact_{name}").fill_null(value=False) for name in EVALUATION_SETS if f"exact_{name}" in raw.columns
    ]
    near = [pl.col(f"sim_{name}").fill_null(0.0) for name in EVALUATION_SETS if f"sim_{name}" in raw.columns]
    kept = raw.filter(~pl.any_horizontal(exact)) if exact else raw
    return kept.filter(pl.max_horizontal(near) < MAX_OVERLAP) if near else kept


def _long() -> pl.Expr:
    return pl.col("prompt").str.len_chars() >= MIN_PROMPT_CHARS


def _require(raw: pl.DataFrame, name: str, columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in raw.columns]
    if missing:
        raise DataError(f"{name}: columns {missing} are missing; expected {list(columns)}, got {raw.columns}")


def _some(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    if rows.is_empty():
        raise DataError(f"{name}: no row is left after the filters; check [exclude] and the overlap columns")
    return rows
