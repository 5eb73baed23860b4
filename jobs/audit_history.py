"""Answers from elsewhere that a what-if may learn lengths from: published tables, or others with their columns."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from jobs.history import COLUMNS, TYPES, history_files
from routing.audit.answer_lengths import Answers
from routing.errors import DataError, InputMissingError
from routing.score import stable_hash

MOST_ANSWERS = 20_000
"""Answers of one model that are used; more are drawn from, so that scoring their prompts takes seconds."""


def read_history(path: Path, models: Sequence[str], *, seed: int) -> dict[str, pl.DataFrame]:
    """Read the answers of some models.

    Args:
        path: A Parquet file, a glob or a folder.
        models: Their names, as `requested_model` has them.
        seed: Draws from more than `MOST_ANSWERS`.

    Returns:
        Model -> `COLUMNS` and `prompt` (null where unknown; where it is known, answers have win rates too); models
        without an answer are left out.

    Raises:
        InputMissingError: there is no such file.
        DataError: a file is no Parquet, or lacks a column.
    """
    files = history_files(path)
    if not files:
        raise InputMissingError(f"what_if.history: nothing at {path}; name published tables, or take it out")
    rows = pl.concat([_read(file, models) for file in files])
    own = {name: rows.filter(requested_model=name) for name in models}
    return {
        name: table.sample(MOST_ANSWERS, seed=seed) if len(table) > MOST_ANSWERS else table
        for name, table in own.items()
        if len(table)
    }


def answers_of(rows: pl.DataFrame, win_rates: pl.Series) -> Answers:
    """Return a model's answers.

    Args:
        rows: Of `read_history`.
        win_rates: Of the rows with a prompt, in order.
    """
    known = rows["prompt"].is_not_null().to_numpy()
    rates = np.full(len(rows), np.nan)
    rates[known] = win_rates.to_numpy()
    digests = np.where(known, rows.select(stable_hash("prompt")).to_series().fill_null(0), np.arange(len(rows)))
    asked, answered = (rows[name].cast(pl.Float64).to_numpy() for name in COLUMNS[1:])
    return Answers(asked, rates, answered, digests.astype(np.uint64))


def _read(file: Path, models: Sequence[str]) -> pl.DataFrame:
    try:
        table = pl.scan_parquet(file, glob=False, hive_partitioning=False)
        prompt = pl.col("prompt") if "prompt" in table.collect_schema() else pl.lit(None).alias("prompt")
        rows = table.select(*COLUMNS, prompt.cast(pl.String)).drop_nulls(COLUMNS).cast(TYPES).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"what_if.history: {file} cannot be read ({str(error).splitlines()[0]}); it names tables that nightroute "
            f"published, or others with {list(COLUMNS)}"
        ) from error
    return rows.filter(pl.col("requested_model").is_in(list(models)))
