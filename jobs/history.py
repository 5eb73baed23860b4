"""Answers paid for before: how long the answers of a model are, given the length of the prompt."""

import glob
from pathlib import Path

import polars as pl

from jobs.config import SplitSection
from jobs.night import SIDES, Night
from routing.errors import DataError, InputMissingError
from routing.estimate import fit_answer_length
from schemas.run import AnswerLength

TYPES = pl.Schema({"requested_model": pl.String, "input_tokens": pl.Int64, "output_tokens": pl.Int64})
"""What is read: columns of a published table."""
COLUMNS = tuple(TYPES)


def answer_lengths(night: Night, section: SplitSection) -> dict[str, AnswerLength]:
    """Route -> answer length, fitted on the answers that `split.history` names; empty where it is not given.

    A route whose model has no answer in there is left out. On the first night the job's own output holds none at all.

    Raises:
        InputMissingError: there is no such file, and it is not where the job itself publishes.
        DataError: a file is no Parquet, lacks a column, or holds something else in it.
    """
    if section.history is None:
        return {}
    path = night.job.path(section.history)
    files = history_files(path)
    if not files:
        if _overlap(_before_magic(path), night.job.output):
            return {}
        raise InputMissingError(
            f"split.history: nothing at {path}; name published tables (only those of the job's own output may be yet "
            "to come), or take it out"
        )
    answers = pl.concat([_read(file) for file in files])
    found = {}
    for side in SIDES:
        rows = answers.filter(requested_model=night.model(side).name)
        if rows.height:
            found[side] = fit_answer_length(*(rows[name].cast(pl.Float64).to_numpy() for name in COLUMNS[1:]))
    return found


def history_files(path: Path) -> list[Path]:
    """Return the Parquet files that a file, a pattern or a folder names, sorted."""
    if path.is_dir():
        return sorted(path.rglob("*.parquet"))
    return sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))


def _before_magic(path: Path) -> Path:
    """The folders of a pattern that are no pattern."""
    return next((one for one in (path, *path.parents) if not glob.has_magic(str(one))), path)


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _read(file: Path) -> pl.DataFrame:
    try:
        rows = pl.scan_parquet(file, glob=False, hive_partitioning=False).select(COLUMNS).drop_nulls()
        return rows.cast(TYPES).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"split.history: {file} cannot be read ({str(error).splitlines()[0]}); it names tables that nightroute "
            f"published, or others with {list(COLUMNS)}"
        ) from error
