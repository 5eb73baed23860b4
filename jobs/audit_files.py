"""The files of a log: found, opened as text, their columns told, before anything is known of their format."""

import csv as csv_text
import glob
import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from jobs.audit_results import is_result
from routing.call_logs.json_text import decode
from routing.call_logs.layout import LINE
from routing.errors import DataError, InputMissingError

Kind = Literal["parquet", "csv", "lines", "document"]

KINDS: dict[str, Kind] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".json": "document",
}
_PACKED = (".gz", ".zst")
_BOM = b"\xef\xbb\xbf"
_NOT_COMMAS = (";", "\t", "|")
_SAMPLE = 200
"""Lines that the keys of JSON lines are told from."""
OBJECT = pl.Struct({})
_TYPES: tuple[tuple[type, pl.DataType], ...] = ((str, pl.String()), (list, pl.List(pl.Null)), (dict, OBJECT))
_NOT_IN_JSON = "\x01"
"""Written with a backslash within JSON: no line of JSON holds it, so that a line is one column of a CSV file."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file and what it holds."""

    path: Path
    kind: Kind
    columns: dict[str, pl.DataType]
    """Of JSON lines: the keys of the first ones, told apart as text, list, object and anything else."""
    hive: dict[str, str]
    """Keys of `key=value` folders."""
    blank: int = 0
    """Of a CSV file: how many fields without a name or a value end its rows."""

    @property
    def names(self) -> list[str]:
        """Everything that can be read by name."""
        return [*self.columns, *(key for key in self.hive if key not in self.columns)]


def found(path: Path, key: str, *, output: Path | None = None) -> list[tuple[Path, Kind, dict[str, str]]]:
    """Files in order of their paths. In folders and globs, names starting with `_` or `.` are not data.

    Args:
        path: A file, a folder or a glob; what is there under this very name goes before a pattern.
        key: Where the config has it, for errors.
        output: Folder of results: what is in it is not data either, where it is a folder within the log's; else what
            an audit writes there is not.

    Raises:
        InputMissingError: There is none.
    """
    if path.is_dir():
        fixed = path
        chosen = [file for file in _data(path.rglob("*"), fixed, output) if _kind(file) is not None]
    elif path.exists():
        fixed, chosen = path.parent, [path]
    elif glob.has_magic(str(path)):
        fixed = Path(*_before_magic(path.parts))
        chosen = _data(fixed.glob(str(path.relative_to(fixed))), fixed, output)
    else:
        fixed, chosen = path.parent, []
    if not chosen:
        raise InputMissingError(
            f"{key} {path} matches no file; it must name a file, a glob or a folder of {', '.join(KINDS)} "
            "(relative paths start from the config file's folder)"
        )
    return [(file, _packed(file) or _kind(file) or _looks(file), _hive(file.relative_to(fixed))) for file in chosen]


def _data(files: Iterable[Path], fixed: Path, output: Path | None) -> list[Path]:
    return [
        file
        for file in sorted(files)
        if file.is_file()
        and not any(step[0] in "_." for step in file.relative_to(fixed).parts)
        and not (output is not None and _is_result(file.resolve(), fixed.resolve(), output.resolve()))
    ]


def _is_result(file: Path, fixed: Path, output: Path) -> bool:
    """Whether a file is an audit's and none of the log: all are that lie in a folder of results within the log's."""
    if output not in file.parents:
        return False
    return fixed in output.parents or is_result(file, output=output, log=fixed)


def _before_magic(parts: Sequence[str]) -> list[str]:
    return list(parts[: next(index for index, part in enumerate(parts) if glob.has_magic(part))])


def _kind(path: Path) -> Kind | None:
    name = path.name.lower()
    packed = next((suffix for suffix in _PACKED if name.endswith(suffix)), "")
    return KINDS.get(Path(name.removesuffix(packed)).suffix)


def _packed(path: Path) -> Kind | None:
    """A packed .json holds lines as often as a document: its first line tells."""
    if path.suffix.lower() not in _PACKED or _kind(path) != "document":
        return None
    try:
        first = lines([path], "lines").head(1).collect()[LINE]
    except pl.exceptions.PolarsError:  # damaged: said where it is read
        return "document"
    record = _record(first.item()) if len(first) else {}
    return "document" if not record or isinstance(record.get("data"), list) else "lines"


def _looks(path: Path) -> Kind:
    """Tell the kind of a file whose name does not, by its first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip(_BOM + b" \t\r\n")
    except OSError as error:
        raise _unopened(path, error) from error
    return "parquet" if start[:4] == b"PAR1" else "lines" if start[:1] == b"{" else "csv"


def _hive(relative: Path) -> dict[str, str]:
    pairs = (step.partition("=") for step in relative.parent.parts)
    return {key: value for key, sign, value in pairs if key and sign}


def described(path: Path, kind: Kind, hive: dict[str, str]) -> LogFile:
    """Look into a file for its columns.

    Raises:
        InputMissingError: It cannot be opened.
        DataError: It is not what its name says.
    """
    blank = 0
    try:
        _check_encoding(path)
        if kind == "parquet":
            columns: dict[str, Any] = dict(pl.read_parquet_schema(path))
        elif kind == "csv":
            columns = dict(csv(path).collect_schema())
            _check_separator(list(columns))
            blank = _blank(path, list(columns))
        else:
            columns = _keys(lines([path], kind).head(_SAMPLE).collect()[LINE])
    except OSError as error:
        raise _unopened(path, error) from error
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise DataError(
            f"log file {path} cannot be read as {kind}: {_short(error)}; write it again, leave it out of log.path, "
            "or give it the suffix of what it is"
        ) from error
    return LogFile(path, kind, columns, hive, blank)


def is_empty(file: LogFile) -> bool:
    """Whether a file holds nothing at all, not even a header."""
    return not file.columns and (file.kind == "csv" or lines([file.path], file.kind).head(1).collect().is_empty())


def has_key(file: LogFile, key: str) -> bool:
    """Whether any record of a file of JSON lines has a key; reads all of it."""
    likely = lines([file.path], file.kind).filter(pl.col(LINE).str.contains(json.dumps(key), literal=True))
    value = decode(pl.col(LINE), pl.Struct({key: pl.String()})).struct.field(key)
    return bool(likely.select(value.is_not_null().any()).collect(engine="streaming").item())


def _check_encoding(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError("it is UTF-16 text, as PowerShell writes it with `>`, where UTF-8 is needed")


def _check_separator(columns: Sequence[str]) -> None:
    wrong = [mark for mark in _NOT_COMMAS if len(columns) == 1 and mark in columns[0]]
    if wrong:
        raise ValueError(f"its columns are separated by {wrong[0]!r}, where commas are needed")


def csv(path: Path | list[Path]) -> pl.LazyFrame:
    """CSV files with a header, everything as text."""
    return pl.scan_csv(path, glob=False, infer_schema=False, encoding="utf8-lossy", raise_if_empty=False)


def strict_csv(path: Path | list[Path], columns: Sequence[str], blank: int) -> pl.LazyFrame:
    """CSV files with a header, everything as text. A row with more fields than the header stops the reading.

    Args:
        path: Files of the same columns.
        columns: Those of the header.
        blank: How many more fields the rows may have; they are left out (see `LogFile.blank`).
    """
    frame = _beyond_header(path, [*columns, *_no_names(blank)]) if blank else csv(path)
    return _counted(frame).select(columns)


def _counted(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Polars counts the fields of a row only where all columns are wanted: else a shifted row would pass."""
    return frame.map_batches(lambda rows: rows, projection_pushdown=False, streamable=True)


def _beyond_header(path: Path | list[Path], names: Sequence[str]) -> pl.LazyFrame:
    schema = dict.fromkeys(names, pl.String)
    return pl.scan_csv(path, glob=False, has_header=False, skip_rows=1, schema=schema, encoding="utf8-lossy")


def _no_names(count: int) -> list[str]:
    return [f"__blank_{index}" for index in range(count)]


def _blank(path: Path, columns: Sequence[str]) -> int:
    """How many more fields than the header the rows of a CSV file have, if the first has, and they are all empty."""
    first = pl.scan_csv(path, glob=False, has_header=False, skip_rows=1, infer_schema=False, raise_if_empty=False)
    more = len(first.collect_schema()) - len(columns)
    if more <= 0:
        return 0
    names = _no_names(more)
    rows = _beyond_header(path, [*columns, *names])
    try:
        filled = _counted(rows).select(pl.any_horizontal(pl.col(names).str.len_bytes() > 0).any())
        found = filled.collect(engine="streaming")
    except pl.exceptions.PolarsError:  # said, with its line, where the log is read
        return 0
    return 0 if found.item() else more


def ragged_line(path: Path) -> int | None:
    """Number of the line that ends the first record of a CSV file with more fields than its header; null without one.

    Python's reader is slow, but knows lines; it is asked once polars has said that there is such a record.
    """
    if path.suffix.lower() == ".zst":
        return None
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file:
        records = csv_text.reader(file)
        try:
            width = len(next(records, []))
            wide = ((any(record[width:]), records.line_num) for record in records if len(record) > width)
            return _first_filled(wide)
        except csv_text.Error:  # a field beyond its limit
            return None


def _first_filled(wide: Iterable[tuple[bool, int]]) -> int | None:
    """Of wide records the first whose extra fields hold something, as commas at the end of a line shift none."""
    first = None
    for filled, line in wide:
        if filled:
            return line
        first = line if first is None else first
    return first


def lines(paths: Sequence[Path], kind: Kind) -> pl.LazyFrame:
    """Lines as text, blank ones left out; bytes that are not UTF-8 are replaced."""
    if kind == "document":
        return pl.LazyFrame({LINE: [line for path in paths for line in _records(path)]}, schema={LINE: pl.String})
    lines = pl.scan_csv(
        list(paths),
        glob=False,
        has_header=False,
        separator=_NOT_IN_JSON,
        quote_char=None,
        encoding="utf8-lossy",
        schema={LINE: pl.String},
        extra_columns="ignore",
        raise_if_empty=False,
    )
    return lines.filter(pl.col(LINE).str.strip_chars() != "")


def _records(path: Path) -> list[str]:
    """Lines out of a file with one JSON document, or lines that are called .json: a list, or a list under `data`."""
    if path.suffix.lower() in _PACKED:
        text = "\n".join(lines([path], "lines").collect()[LINE])
    else:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    try:
        value = json.loads(text) if text.strip() else []
    except ValueError as error:
        pieces = [line for line in text.splitlines() if line.strip()]
        if any(_record(line) for line in pieces[:_SAMPLE]):
            return pieces
        raise ValueError(f"neither a JSON document ({error}) nor JSON lines") from error
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    return [json.dumps(record, ensure_ascii=False) for record in (value if isinstance(value, list) else [value])]


def _keys(lines: Iterable[str]) -> dict[str, Any]:
    """Keys of JSON lines and the type of their values: the first of text, list and object that occurs, else Null."""
    found: dict[str, int] = {}
    for line in lines:
        for key, value in _record(line).items():
            rank = next((index for index, (kind, _) in enumerate(_TYPES) if isinstance(value, kind)), len(_TYPES))
            found[key] = min(rank, found.get(key, rank))
    return {key: _TYPES[rank][1] if rank < len(_TYPES) else pl.Null() for key, rank in found.items()}


def _record(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _unopened(path: Path, error: OSError) -> InputMissingError:
    return InputMissingError(f"log file {path} cannot be opened: {error.strerror or _short(error)}; mend its rights")


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
