"""Stage 1 of an audit: the log as Parquet parts in a work folder, rules applied, repeated rows known.

Importing a log is dear (JSON, CSV, time zones), so it is done once; what comes after reads the parts. Memory is bounded
by `part_rows` and eight bytes a row; by sixteen bytes more for each row that repeats another, and for each repeated id.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import polars as pl

from jobs import audit_files
from jobs.audit_log import OpenedLog
from jobs.audit_results import REJECTED
from jobs.rundir import storing
from routing.artifact import file_sha256
from routing.audit.duplicates import (
    IDENTITY,
    Hashes,
    Repeats,
    candidates,
    find_repeats,
    id_hashes,
    repeated_hashes,
)
from routing.call_logs.layout import IS_CALL
from routing.call_logs.otel import OTEL
from routing.errors import DataError
from routing.matching import resolve_models, served_names
from routing.pricing import price
from schemas.audit import LogFile, RejectedRows
from schemas.billing import USD, Costs, Usage
from schemas.call_log import CallLog

_IN_FLIGHT_ROWS = 20_000
"""Rows that one step of an import hands to the next. An import has dozens of steps, each with a few such pieces in
flight: at polars' own 100,000 they held twice the memory, for no gain in speed."""

_GROUP_ROWS = 16_384
"""Rows that are read at once from a file of repeated ids."""

_LOGGED, _COSTS = CallLog.column_names(), Costs.column_names()


@dataclass(frozen=True, slots=True)
class StoredCalls:
    """A log in parts, and what is known of it before any price.

    read = rejected + duplicated + kept; what is left out was never read as a call.
    """

    parts: tuple[Path, ...]
    files: list[LogFile]
    read: int
    left_out: int
    """Rows that are no calls: spans around them, queries that were never sent."""
    rejected: int
    broken_rules: list[RejectedRows]
    rejected_path: Path | None
    """Table of the rejected rows with their `broken_rules` and where they are: `file`, and `file_row` from 1, the
    header and blank lines of JSON not counted; null where a record may hold several rows. None where all are good."""
    duplicates: dict[int, pl.Series]
    """Number of a part -> `row` of those that repeat an earlier one."""
    null_ids: int
    reused_ids: int
    duplicated_logged_usd: Decimal
    names: pl.DataFrame
    """Distinct (provider, base_url, model) of the whole log."""

    @property
    def duplicated(self) -> int:
        """Rows that repeat an earlier one."""
        return sum(len(rows) for rows in self.duplicates.values())

    @property
    def kept_rows(self) -> int:
        """Rows that count."""
        return self.read - self.rejected - self.duplicated

    def kept(
        self, prices: pl.DataFrame, columns: Sequence[str] | None = None, *, where: pl.Expr | None = None
    ) -> Iterator[pl.DataFrame]:
        """Read the kept calls, part by part, in log order: CALL_LOG + COSTS. No part is empty.

        A call that no provider billed costs exactly $0: it has no price, and no reason for having none.

        Args:
            prices: See `routing.prices.price_snapshot`.
            columns: Those wanted, in this order; else all. Nothing is priced where none of them is of COSTS.
            where: Over CALL_LOG: other calls are left out, before anything is priced.
        """
        wanted = [*_LOGGED, *_COSTS] if columns is None else list(columns)
        priced = not set(_COSTS).isdisjoint(wanted)
        needed = {*wanted, *((*Usage.column_names(), "billed") if priced else ())}
        resolved = resolve_models(self.names, prices)
        for number, part in enumerate(self.parts):
            calls = pl.scan_parquet(part)
            if where is not None:
                calls = calls.filter(where)
            if number in self.duplicates:
                calls = calls.filter(~pl.col("row").is_in(self.duplicates[number].implode()))
            found = calls.select(name for name in _LOGGED if name in needed).collect()
            if not found.is_empty():
                yield (_with_costs(found, prices, resolved) if priced else found).select(wanted)


class _Part(NamedTuple):
    """What the check of one part says."""

    read: int
    left_out: int
    rejected: int
    broken_rules: dict[str, int]
    null_ids: int
    hashes: Hashes
    names: pl.DataFrame


def store_calls(
    log: OpenedLog, folder: Path, *, part_rows: int, on_part: Callable[[object], None] = lambda _: None
) -> StoredCalls:
    """Store a log, set bad rows aside, find repeated ones.

    Args:
        log: The log; read once.
        folder: Work folder; whatever is in it goes.
        part_rows: Rows of a part.
        on_part: Told of every part that is checked.

    Raises:
        DataError: The log cannot be read to its end.
        StorageError: The disk refuses.
    """
    with storing(folder):
        shutil.rmtree(folder, ignore_errors=True)
        parts = _import(log, folder / "parts", part_rows)
        checked = []
        for part in parts:
            checked.append(_check(part, folder / "rejected"))
            on_part(part)
        files = [_described(file) for file in log.files]
        rows = sum(one.read + one.left_out for one in checked)
        rejected_path = _join_rejected(folder, _places(files, rows, spans=log.format == OTEL.name))
    repeats = _repeats(parts, [one.hashes for one in checked], folder / "repeats")
    read = sum(one.read for one in checked)
    rules: Counter[str] = sum((Counter(one.broken_rules) for one in checked), Counter())
    duplicates = repeats.duplicates.partition_by("part", as_dict=True)
    return StoredCalls(
        parts=parts,
        files=files,
        read=read,
        left_out=sum(one.left_out for one in checked),
        rejected=sum(one.rejected for one in checked),
        broken_rules=[
            RejectedRows(rule=rule, rows=rows)
            for rule, rows in sorted(rules.items(), key=lambda one: (-one[1], one[0]))
        ],
        rejected_path=rejected_path,
        duplicates={int(number): rows["row"] for (number,), rows in duplicates.items()},
        null_ids=sum(one.null_ids for one in checked),
        reused_ids=repeats.reused_ids,
        duplicated_logged_usd=repeats.logged_usd,
        names=served_names(pl.concat([one.names for one in checked])),
    )


def _import(log: OpenedLog, folder: Path, part_rows: int) -> tuple[Path, ...]:
    """Stream the log into files of `part_rows` rows each, in log order; an empty log is one empty file."""
    folder.mkdir(parents=True)
    target = pl.PartitionBy(folder, max_rows_per_file=part_rows, approximate_bytes_per_file=None)
    with _reading(log), pl.Config(streaming_chunk_size=_IN_FLIGHT_ROWS):
        # lz4: parts live as long as the audit; measured as fast as no compression, at half the size.
        log.rows.sink_parquet(target, compression="lz4")
    return tuple(sorted(folder.glob("*.parquet")))


@contextmanager
def _reading(log: OpenedLog) -> Iterator[None]:
    """Tell a damaged log from a full disk: polars raises one type for both."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        if "os error" in str(error):
            raise
        if "more fields" in str(error):
            raise _ragged(log) from error
        raise DataError(
            f"the {log.format} log ({len(log.files)} files, the first {log.files[0]}) cannot be read to its end: "
            f"{str(error).splitlines()[0]}; mend or leave out the damaged file, or name another log.format"
        ) from error


def _ragged(log: OpenedLog) -> DataError:
    """Say where a CSV file has a row that is wider than its header."""
    tables = (file for file in log.files if audit_files.found(file, "log.path")[0][1] == "csv")
    file, line = next(
        ((file, line) for file in tables if (line := audit_files.ragged_line(file)) is not None), (log.files[0], None)
    )
    where = f"log file {file}, line {line}," if line is not None else f"one of the CSV files of the log (first {file})"
    return DataError(
        f"{where} has more fields than its header has columns, so that it is not clear which is which: "
        "put quotes around fields that hold commas, take commas from the ends of lines, or take the line out"
    )


def _check(part: Path, rejected: Path) -> _Part:
    """Take out of a part what is no call, apply the rules of CALL_LOG and set aside what breaks them."""
    rows = pl.read_parquet(part)
    calls = rows.filter(IS_CALL)
    left_out = rows.height - calls.height
    checked = CallLog.filter(calls.drop(IS_CALL))
    failure, kept = checked.failure, checked.result
    if len(failure):
        rejected.mkdir(exist_ok=True)
        _with_rules(failure.details()).write_parquet(rejected / part.name)
    if len(failure) or left_out:
        kept.write_parquet(part, compression="lz4")
    return _Part(
        read=calls.height,
        left_out=left_out,
        rejected=len(failure),
        broken_rules=failure.counts(),
        null_ids=kept["call_id"].null_count(),
        hashes=id_hashes(kept),
        names=served_names(kept),
    )


def _described(file: Path) -> LogFile:
    """Rows of a table, lines of JSON: some of them may be no calls, or hold several."""
    [(_, kind, _)] = audit_files.found(file, "log.path")
    if kind == "parquet":
        rows = pl.scan_parquet(file, glob=False)
    else:
        rows = audit_files.csv(file) if kind == "csv" else audit_files.lines([file], kind)
    count = rows.select(pl.len()).collect().item()
    return LogFile(path=str(file), rows=count, sha256=file_sha256(file))


def _with_rules(details: pl.DataFrame) -> pl.DataFrame:
    """Turn one column per rule into one text of the rules that a row breaks."""
    rules = [name for name in details.columns if name not in _LOGGED]
    broken = pl.concat_list(pl.when(pl.col(rule) == "invalid").then(pl.lit(rule)) for rule in rules)
    return details.select(*_LOGGED, broken_rules=broken.list.drop_nulls().list.join(", "))


def _join_rejected(folder: Path, places: Mapping[str, pl.Expr]) -> Path | None:
    """Put the rejected rows of all parts into one table, with the file and the row in it."""
    parts = sorted((folder / "rejected").glob("*.parquet"))
    if not parts:
        return None
    rejected = pl.scan_parquet(parts)
    rejected.select(*_LOGGED, **places, broken_rules="broken_rules").sink_parquet(folder / REJECTED)
    shutil.rmtree(folder / "rejected")
    return folder / REJECTED


def _places(files: Sequence[LogFile], rows: int, *, spans: bool) -> dict[str, pl.Expr]:
    """File of a row and its place in it; unknown where a record holds several rows, or none, as those of spans do."""
    ends = list(accumulate(file.rows for file in files))
    if spans or ends[-1] != rows:
        alone = files[0].path if len(files) == 1 else None
        return {"file": pl.lit(alone, pl.String), "file_row": pl.lit(None, pl.UInt64)}
    number = pl.lit(pl.Series(ends, dtype=pl.UInt64)).search_sorted(pl.col("row"), side="right")
    paths = pl.lit(pl.Series([file.path for file in files]))
    starts = pl.lit(pl.Series([0, *ends[:-1]], dtype=pl.UInt64))
    return {"file": paths.gather(number), "file_row": pl.col("row") - starts.gather(number) + 1}


def _repeats(parts: Sequence[Path], hashes: Sequence[Hashes], folder: Path) -> Repeats:
    """Find repeated rows; what they are compared by lies in `folder` meanwhile, for it may be all rows."""
    repeated = repeated_hashes(hashes)
    if repeated.is_empty():
        return find_repeats(candidates(CallLog.create_empty(), repeated, part=0).lazy())
    files = [folder / part.name for part in parts]
    with storing(folder):
        folder.mkdir()
        for number, (part, file) in enumerate(zip(parts, files, strict=True)):
            found = candidates(pl.read_parquet(part, columns=list(IDENTITY)), repeated, part=number)
            # In order and in small groups: a slice reads its own rows only.
            found.sort("call_hash").write_parquet(file, compression="lz4", row_group_size=_GROUP_ROWS)
        repeats = find_repeats(pl.scan_parquet(files, glob=False))
        shutil.rmtree(folder)
    return repeats


def _with_costs(calls: pl.DataFrame, prices: pl.DataFrame, resolved: pl.DataFrame) -> pl.DataFrame:
    nothing = {"cost_usd": pl.lit(Decimal(0), USD), "price_id": None, "unpriced_reason": None}
    return price(calls, prices, resolved).with_columns(
        pl.when("billed").then(name).otherwise(value).alias(name) for name, value in nothing.items()
    )
