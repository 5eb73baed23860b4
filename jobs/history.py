"""Answers paid for before: how long the answers of a model are, given the length of the prompt."""

from pathlib import Path

import polars as pl

from jobs.config import SplitSection
from jobs.night import SIDES, Night
from routing.errors import DataError
from routing.estimate import fit_answer_length
from schemas.run import AnswerLength

COLUMNS = ("requested_model", "input_tokens", "output_tokens")
"""What is read: columns of a published table."""


def answer_lengths(night: Night, section: SplitSection) -> dict[str, AnswerLength]:
    """Route -> answer length, fitted on the answers that `split.history` names; empty where it is not given.

    A route whose model has no answer in there is left out: on the first night there is no history.

    Raises:
        DataError: a file is no Parquet, or lacks a column.
    """
    if section.history is None:
        return {}
    files = _files(night.job.path(section.history))
    answers = pl.concat([_read(file) for file in files]) if files else None
    found = {}
    for side in SIDES:
        rows = None if answers is None else answers.filter(requested_model=night.model(side).name)
        if rows is not None and rows.height:
            found[side] = fit_answer_length(*(rows[name].cast(pl.Float64).to_numpy() for name in COLUMNS[1:]))
    return found


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        path = path / "**" / "*.parquet"
    return sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))


def _read(file: Path) -> pl.DataFrame:
    try:
        rows = pl.scan_parquet(file, hive_partitioning=False).select(COLUMNS).drop_nulls().collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"split.history: {file} cannot be read ({str(error).splitlines()[0]}); it names tables that nightroute "
            f"published, or others with {list(COLUMNS)}"
        ) from error
    return rows.cast({"requested_model": pl.String, "input_tokens": pl.Int64, "output_tokens": pl.Int64})
