"""What the demo reads: prompts that were typed or dropped, with the scores of both answers where a table has them."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import BinaryIO, Final, cast

import numpy as np
import polars as pl

from jobs.training import READERS
from routing import benchmarks
from routing.errors import DataError

EXAMPLES: Final = (
    "What is the capital of France?",
    "Write a haiku about autumn.",
    "A train leaves at 9:40 and travels 210 km at 84 km/h. When does it arrive?",
    "Explain to a ten-year-old why the sky is blue.",
    "Write a Python function that merges two sorted lists in linear time, and argue why it is correct.",
    "Prove that there are infinitely many primes that leave remainder 3 when divided by 4.",
)
"""What stands in the text field at first."""

SEED: Final = 0
"""Of the draw from a table that has too many rows."""
ROWS: Final = (500, 2_000, 10_000, 50_000)
"""How many rows of a dropped table may be scored."""
DEFAULT_ROWS: Final = 2_000

SUFFIXES: Final = tuple(suffix.removeprefix(".") for suffix in READERS)
_PROMPT_NAMES: Final = ("prompt", "question", "query", "instruction", "input", "text", "content")
_SCORES: Final = {"golden": ("strong_score", "weak_score"), "correctness": ("score",), "battles": ()}


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts to score."""

    rows: pl.DataFrame
    """`prompt` (String, not blank); a labelled table's `strong_score` and `weak_score` (Float64 in 0..1) as well."""
    given: int
    """Lines or rows that they were read from."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Why some of these were left out -> how many."""

    @property
    def labelled(self) -> bool:
        """Whether both answers' scores are known."""
        return "strong_score" in self.rows.columns

    @property
    def texts(self) -> list[str]:
        """The prompts."""
        return self.rows["prompt"].to_list()


def typed(text: str, *, one_a_line: bool) -> Prompts:
    """Return what was typed: every line that is not blank is a prompt, or the whole text is one."""
    pieces = text.splitlines() if one_a_line else [text]
    found = [piece.strip() for piece in pieces if piece.strip()]
    return Prompts(pl.DataFrame({"prompt": found}, schema={"prompt": pl.String}), len(found))


def read_upload(name: str, content: bytes) -> pl.DataFrame:
    """Read a dropped file: Parquet, CSV or JSON lines, told by the end of its name.

    Raises:
        DataError: the name ends otherwise, the content is something else, or there are no rows.
    """
    suffix = PurePath(name).suffix.lower()
    # Polars' readers take open files as they take paths.
    readers = cast("Mapping[str, Callable[[BinaryIO], pl.DataFrame]]", READERS)
    if suffix not in readers:
        raise DataError(f"{name}: files ending in {suffix!r} are not read; drop one of {', '.join(readers)}")
    try:
        table = readers[suffix](io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{name} cannot be read as {suffix.removeprefix('.')}: {error}") from error
    if table.is_empty():
        raise DataError(f"{name} has no rows")
    return table


def text_columns(table: pl.DataFrame, *, name: str) -> list[str]:
    """Return the columns that may hold prompts, the likeliest first: by name, then by length.

    Raises:
        DataError: no column holds text.
    """
    found = [column for column, dtype in table.schema.items() if dtype == pl.String]
    if not found:
        raise DataError(f"{name} has no column of text; it has {dict(table.schema)}")
    lengths = table.select(pl.col(found).str.len_chars().mean().fill_null(0.0)).row(0, named=True)

    def rank(column: str) -> tuple[int, float]:
        known = column.lower() in _PROMPT_NAMES
        return _PROMPT_NAMES.index(column.lower()) if known else len(_PROMPT_NAMES), -lengths[column]

    return sorted(found, key=rank)


def unlabelled(table: pl.DataFrame, column: str) -> Prompts:
    """Return a column as prompts; blank ones are left out and counted."""
    kept = table.select(prompt=column).filter(pl.col("prompt").str.strip_chars() != "")
    blank = len(table) - len(kept)
    return Prompts(kept, len(table), {"rows without a prompt": blank} if blank else {})


def label_layout(table: pl.DataFrame) -> str | None:
    """Return the layout of `nightroute calibrate` in which a table holds labels; null where it holds none.

    The column of the prompts may have any name.
    """
    try:
        return benchmarks.detect({*table.columns, "prompt"}, name="table")
    except DataError:
        return None


def labelled_models(table: pl.DataFrame, layout: str) -> list[str]:
    """Return the models of a table of labels, the one to take for strong first; none where it names no models.

    Of graded answers that is the model with the best mean; of battles `model_a`, as `nightroute label` writes it.
    """
    if layout == "correctness":
        score = pl.col("score").cast(pl.Float64, strict=False).mean()
        graded = table.group_by(pl.col("model").cast(pl.String)).agg(score)
        return graded.drop_nulls("model").sort("score", "model", descending=[True, False])["model"].to_list()
    if layout == "battles":
        sides = table.select(pl.col("model_a", "model_b").cast(pl.String))
        return pl.concat([sides["model_a"], sides["model_b"]]).drop_nulls().unique(maintain_order=True).to_list()
    return []


def largest_score(table: pl.DataFrame, layout: str) -> float:
    """Return the largest score of a table, at least 1: scores are divided by the largest grade."""
    columns = [column for column in _SCORES[layout] if table.schema[column].is_numeric()]
    found = [table[column].cast(pl.Float64).fill_nan(None).max() for column in columns]
    return max([1.0, *(float(value) for value in found if isinstance(value, float))])


def labelled(
    table: pl.DataFrame, layout: str, column: str, *, name: str, strong: str, weak: str, largest: float
) -> Prompts:
    """Return the prompts of a table of labels with both scores, as `nightroute calibrate` reads them.

    Args:
        table: As it was dropped.
        layout: See `label_layout`.
        column: Its prompts.
        name: For messages.
        strong: The strong model, as the table names it; not read in layout `golden`.
        weak: The weak one.
        largest: Largest grade.

    Raises:
        DataError: the table breaks its layout.
    """
    ours = benchmarks.renamed(table, {"prompt": column}, layout, name=name)
    if layout == "golden":
        read = benchmarks.paired(ours, name=name, largest=largest)
    elif strong == weak:
        raise DataError(f"{name}: choose two models, got {strong!r} twice")
    elif layout == "battles":
        read = benchmarks.fought(ours, name=name, strong=strong, weak=weak)
    else:
        read = benchmarks.graded(ours, name=name, strong=strong, weak=weak, largest=largest)
    rows = read.rows.select("prompt", "strong_score", "weak_score")
    blank = pl.col("prompt").str.strip_chars() == ""
    return Prompts(rows.filter(~blank), len(table), read.left_out)


def drawn(prompts: Prompts, at_most: int) -> Prompts:
    """Return at most so many prompts, drawn with `SEED` and in their order."""
    n = len(prompts.rows)
    if n <= at_most:
        return prompts
    chosen = np.random.default_rng(SEED).choice(n, at_most, replace=False)
    return replace(prompts, rows=prompts.rows[np.sort(chosen).tolist()])
