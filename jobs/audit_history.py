"""Answers from elsewhere that a what-if may learn lengths from: published tables, or others with their columns."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from jobs.history import COLUMNS, TYPES, history_files
from routing.audit.answer_lengths import Answers
from routing.errors import DataError, InputMissingError
from routing.score import stable_hash

MOST_ANSWERS = 20_000
"""Answers of one model that are used; more are drawn from, so that scoring their prompts takes seconds."""

PART_OF = 0.99
"""From this share of the smaller side on, a history and a log are taken to hold the same answers."""

_NAMED = 5


def read_history(path: Path, models: Sequence[str], *, seed: int) -> dict[str, pl.DataFrame]:
    """Read the answers of some models.

    Args:
        path: A Parquet file, a glob or a folder.
        models: Their names, as `requested_model` has them.
        seed: Draws from more than `MOST_ANSWERS`.

    Returns:
        Model -> `COLUMNS`, `prompt` (null where unknown; where it is known, answers have win rates too) and `tenant`
        (null where unknown); models without an answer are left out.

    Raises:
        InputMissingError: there is no such file.
        DataError: a file is no Parquet, or lacks a column; or all answers are of other models.
    """
    files = history_files(path)
    if not files:
        raise InputMissingError(f"what_if.history: nothing at {path}; name published tables, or take it out")
    parts, others = [], set[str]()
    for file in files:
        part = _read(file)
        ours = pl.col("requested_model").is_in(list(models))
        parts.append(part.filter(ours))
        others.update(part.filter(~ours)["requested_model"].unique())
    rows = pl.concat(parts)
    if rows.is_empty() and others:
        names = ", ".join(map(repr, sorted(others)[:_NAMED])) + (" ..." if len(others) > _NAMED else "")
        raise DataError(
            f"what_if.history: {path} holds answers of {names}, and none of {' or '.join(map(repr, models))}; name "
            "the models in requested_model as what_if.strong and what_if.weak do"
        )
    own = {name: rows.filter(requested_model=name) for name in models}
    return {
        name: table.sample(MOST_ANSWERS, seed=seed) if len(table) > MOST_ANSWERS else table
        for name, table in own.items()
        if len(table)
    }


def answers_of(rows: pl.DataFrame, win_rates: pl.Series, tenants: Sequence[str | None]) -> Answers:
    """Return a model's answers.

    Args:
        rows: Of `read_history`.
        win_rates: Of the rows with a prompt, in order.
        tenants: Of the log, in the order of their numbers. Others are numbered behind them: answers to nobody knows
            whom count as those to one stranger, because they may be. Where the log names no tenant or has but one,
            answers without a name are taken for its own.
    """
    known = rows["prompt"].is_not_null().to_numpy()
    rates = np.full(len(rows), np.nan)
    rates[known] = win_rates.to_numpy()
    hashed = rows.select(stable_hash("prompt")).to_series().fill_null(0).to_numpy()
    digests = np.where(known, hashed, np.arange(len(rows), dtype=np.uint64))
    asked, answered = (rows[name].cast(pl.Float64).to_numpy() for name in COLUMNS[1:])
    return Answers(asked, rates, answered, digests, _numbered(rows["tenant"], tenants))


def unseen(answers: Answers, logged: Answers) -> Answers:
    """Return the answers of a history that do not stand in the log: those that do would count twice.

    Two are the same if tokens and prompt are; where the history has no prompt, if tokens are. Where nearly all of the
    smaller side find their like, one for one, it is part of the other, and those go. Where fewer do, all stay: answers
    of equal length to a common prompt are no copies, and without them the lengths that occur often would be missing.
    """
    keys = ["input_tokens", "output_tokens"]
    tokens, own = (
        pl.DataFrame({name: getattr(one, name) for name in keys} | {"prompt": one.digests}) for one in (answers, logged)
    )
    rows = tokens.with_columns(known=pl.Series(~np.isnan(answers.win_rates))).with_row_index("row")
    double = pl.concat(
        [
            _paired(rows.filter("known"), own, [*keys, "prompt"]),
            _paired(rows.filter(~pl.col("known")), own, keys),
        ]
    )
    if len(double) < PART_OF * min(len(answers), len(logged)):
        return answers
    return answers.take(~rows["row"].is_in(double.implode()).to_numpy())


def _paired(rows: pl.DataFrame, own: pl.DataFrame, keys: list[str]) -> pl.Series:
    """Return the `row` of those that an own row of equal keys can be found for, each own row taken once."""
    turn = pl.int_range(pl.len()).over(keys).alias("turn")
    return rows.with_columns(turn).join(own.with_columns(turn), on=[*keys, "turn"], how="semi")["row"]


def _numbered(names: pl.Series, tenants: Sequence[str | None]) -> NDArray[np.intp]:
    if list(tenants) == [None]:
        return np.zeros(len(names), np.intp)
    numbers = {name: number for number, name in enumerate(tenants) if name is not None}
    nobody = 0 if len(tenants) == 1 else len(tenants)
    strangers = [name for name in names.drop_nulls().unique().sort() if name not in numbers]
    numbers |= {name: number for number, name in enumerate(strangers, start=len(tenants) + 1)}
    found = names.replace_strict(numbers, default=nobody, return_dtype=pl.Int64)
    return np.asarray(found.fill_null(nobody).to_numpy(), np.intp)


def _read(file: Path) -> pl.DataFrame:
    try:
        table = pl.scan_parquet(file, glob=False, hive_partitioning=False)
        columns = table.collect_schema()
        texts = [pl.col(name) if name in columns else pl.lit(None).alias(name) for name in ("prompt", "tenant")]
        rows = table.select(*COLUMNS, *(text.cast(pl.String) for text in texts)).drop_nulls(COLUMNS)
        return rows.cast({name: TYPES[name] for name in COLUMNS}).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"what_if.history: {file} cannot be read ({str(error).splitlines()[0]}); it names tables that nightroute "
            f"published, or others with {list(COLUMNS)}"
        ) from error
