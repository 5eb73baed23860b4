"""Open a log for an audit: find its files, tell its format, read it lazily as CALL_LOG, larger than memory."""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from jobs.audit_config import LogSection
from jobs.audit_files import OBJECT, Kind, LogFile, described, found, has_key, is_empty, lines, strict_csv
from jobs.config_file import dated_path
from routing.call_logs.json_text import fields_of
from routing.call_logs.known import FORMATS, looks_like
from routing.call_logs.layout import IS_CALL, SCHEMA, TEXT, Format, Wishes, normalized, numbered, parsed
from routing.call_logs.openai_batch import OPENAI_BATCH, ended, openai_batch, requests
from routing.call_logs.table import table
from routing.call_logs.times import UTC_US
from routing.errors import ConfigError, DataError, NothingToDoError

_VARYING = ("lines", "document")
"""Kinds of files whose rows need not have the same keys."""


@dataclass(frozen=True, slots=True)
class OpenedLog:
    """A log, ready to be read."""

    format: str
    """A FormatName."""
    files: tuple[Path, ...]
    """Sorted."""
    rows: pl.LazyFrame
    """CALL_LOG, its rules not applied, and IS_CALL; what cannot be read is a row of nulls."""
    has_prompts: bool
    """Whether the log can hold prompt text at all."""

    @property
    def calls(self) -> pl.LazyFrame:
        """CALL_LOG of the calls alone; `row` counts the others too."""
        return self.rows.filter(IS_CALL).drop(IS_CALL)


def open_log(section: LogSection, base: Path, *, date: str | None = None, output: Path | None = None) -> OpenedLog:
    """Find the files of a log and tell how they are read; nothing is normalised yet.

    Of Batch API files the times are read, once, for the lines that have none.

    Args:
        section: What the config says of the log.
        base: Folder that relative paths start from.
        date: Replaces `{date}`.
        output: Folder of results, whose files are none of the log's where it lies in the log's folder.

    Raises:
        NothingToDoError: The log is empty, and no format is named.
        UsageError: The path holds `{date}`, but there is no date.
        InputMissingError: No file is there, or one cannot be opened.
        DataError: A file is damaged, or is of another format than the config says.
        ConfigError: The format cannot be told, or keys of the config do not fit the log.
    """
    _check(section)
    path = dated_path(section.path, base, date)
    files = [described(file, kind, hive) for file, kind, hive in found(path, "log.path", output=output)]
    layout = _layout(section, path, files)
    _check_names(section, layout, files)
    wishes = Wishes(
        columns={} if layout.name == "table" else section.columns,
        tenant=section.tenant,
        provider=section.provider,
        time_zone=section.time_zone,
    )
    if layout.name == OPENAI_BATCH.name:
        prompts = None if section.prompts is None else dated_path(section.prompts, base, date)
        groups = _batches(files, None if prompts is None else _asked(found(prompts, "log.prompts")))
    elif section.prompts is not None:
        raise ConfigError(f"log.prompts is for the format openai_batch; the log is {layout.name}: leave it out")
    else:
        groups = [(layout, group) for group in _alike(files, layout, section)]
    rows = numbered([normalized(*_raw(group, layout, section), layout, wishes) for layout, group in groups])
    return OpenedLog(layout.name, tuple(file.path for file in files), rows, _has_prompts(section, layout, files))


# ---- formats
# ------------------------------------------------------------------------------------------------------------


def _check(section: LogSection) -> None:
    """Whether the section makes sense by itself."""
    if unknown := [name for name in section.columns if name not in SCHEMA or name == "row"]:
        known = [name for name in SCHEMA if name != "row"]
        raise ConfigError(
            f"log.columns maps {unknown[0]!r}, which is no column of a call log; {_near(unknown[0], known)}"
        )
    if section.format == "table" and "called_at" not in section.columns:
        raise ConfigError(
            "log.format = 'table' needs [log.columns] with at least called_at, e.g. called_at = 'timestamp', "
            "model = 'model', input_tokens = 'prompt_tokens', output_tokens = 'completion_tokens'"
        )
    if section.cache_in_input is not None and section.format not in ("table", None):
        raise ConfigError(f"log.cache_in_input is for the format table, not {section.format}: leave it out")
    try:
        pl.Series([0]).cast(pl.Datetime("us")).dt.replace_time_zone(section.time_zone)
    except pl.exceptions.PolarsError as error:
        raise ConfigError(
            f"log.time_zone {section.time_zone!r} is no time zone; give an IANA name such as Europe/Berlin"
        ) from error


def _layout(section: LogSection, path: Path, files: Sequence[LogFile]) -> Format:
    """The format that the config names, else the one that the columns show; every file has to be of it."""
    filled = [file for file in files if file.columns]
    mapped = table(section.columns, cache_in_input=section.cache_in_input, provider=section.provider)
    if section.format == mapped.name or (section.format is None and filled and "called_at" in section.columns):
        for file in filled:
            _check_time(section, mapped, file)
        return mapped
    if section.format is None:
        return _told(section, path, files)
    wanted = FORMATS[section.format]
    for file in filled:
        _check_fits(section, file, wanted)
    return wanted


def _check_time(section: LogSection, layout: Format, file: LogFile) -> None:
    wanted = section.columns["called_at"]
    if not _there(wanted, file.names) and not _later(wanted, layout, [file]):
        raise ConfigError(
            f"log.columns.called_at names {wanted!r}, which log file {file.path} lacks; {_near(wanted, file.names)}"
        )


def _check_fits(section: LogSection, file: LogFile, wanted: Format) -> None:
    seen = _seen(file)
    renamed = bool(section.columns) and seen is None and wanted.resembles(file.names)  # the mapping stands for the rest
    if wanted.fits(file.names) or renamed:
        if wanted.name == OPENAI_BATCH.name and file.kind not in _VARYING:
            raise DataError(
                f"log file {file.path} is no {wanted.name} log: these are JSON lines; give the files as the API wrote "
                "them, or leave this one out of log.path"
            )
        return
    advice = (
        f"it looks like {seen}: set log.format = {seen!r}"
        if seen
        else "leave it out of log.path, or name the format that it has in log.format"
    )
    raise DataError(
        f"log file {file.path} is no {wanted.name} log: it has the columns {file.names}, where {wanted.name} has "
        f"{wanted.described()}; {advice}"
    )


def _told(section: LogSection, path: Path, files: Sequence[LogFile]) -> Format:
    """The one format that every file shows which shows anything."""
    if all(is_empty(file) for file in files):
        raise NothingToDoError(f"log {path} is empty; nothing was written")
    seen = {file.path: _seen(file) for file in files if file.columns}
    if not seen:
        raise DataError(
            f"log {path} holds no columns to tell its format from; set log.format to one of {list(FORMATS)}"
        )
    if unknown := next((file for file in files if file.columns and seen[file.path] is None), None):
        raise DataError(
            f"log file {unknown.path} is of no known format ({', '.join(FORMATS)}): it has the columns "
            f"{unknown.names}; set log.format = 'table' and map its columns, e.g. [log.columns] "
            "called_at = 'timestamp', model = 'model', input_tokens = 'prompt_tokens', "
            "output_tokens = 'completion_tokens'"
        )
    (first, name), *_ = seen.items()
    if other := next((one for one, its in seen.items() if its != name), None):
        raise DataError(
            f"the log {path} is of several formats: file {first} looks like {name}, {other} like {seen[other]}; "
            "audit them one by one, each with a log.path of its own"
        )
    if section.cache_in_input is not None:
        raise ConfigError(f"log.cache_in_input is for the format table, but the log looks like {name}: leave it out")
    return FORMATS[str(name)]


def _seen(file: LogFile) -> str | None:
    """The format that a file looks like. Columns alone do not tell a batch: many a table has an id and a response."""
    name = looks_like(file.names)
    if name != OPENAI_BATCH.name or OBJECT in (file.columns.get(key) for key in ("response", "error")):
        return name
    return None


def _check_names(section: LogSection, layout: Format, files: Sequence[LogFile]) -> None:
    """Whether the columns that the config names are there; attributes of spans differ from span to span."""
    names = {name for file in files for name in file.names}
    if not names or layout.name == "otel":
        return
    wanted = [(f"log.columns.{ours}", theirs) for ours, theirs in section.columns.items()]
    for key, name in [*wanted, *(("log.tenant", name) for name in section.tenant)]:
        if not _there(name, names) and not _later(name, layout, files):
            raise ConfigError(f"{key} names {name!r}, which the log lacks; {_near(name, sorted(names))}")


def _there(name: str, names: Collection[str]) -> bool:
    return name in names or ("." in name and name.partition(".")[0] in names)


def _later(name: str, layout: Format, files: Sequence[LogFile]) -> bool:
    """Whether JSON lines may hold a key, or do, beyond those that were looked at."""
    varying = [file for file in files if file.kind in _VARYING]
    if layout.name != "table" and varying and _there(name, layout.fields):
        return True
    return any(has_key(file, key) for file in varying for key in dict.fromkeys((name, name.partition(".")[0])))


def _near(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"


def _has_prompts(section: LogSection, layout: Format, files: Sequence[LogFile]) -> bool:
    if layout.name == OPENAI_BATCH.name:
        return section.prompts is not None
    names = {name for file in files for name in file.names}
    keys_vary = any(file.kind in _VARYING for file in files)
    return "prompt" in section.columns or keys_vary or not names.isdisjoint(layout.prompts)


# ---- reading
# ------------------------------------------------------------------------------------------------------------


def _alike(files: Sequence[LogFile], layout: Format, section: LogSection) -> list[list[LogFile]]:
    """Files in order, neighbours of one shape together: each group is one scan."""

    def shape(file: LogFile) -> Any:
        return file.kind, file.blank, list(_schema(file, layout, section).items()), file.hive

    return [list(group) for _, group in groupby(files, key=shape)]


def _schema(file: LogFile, layout: Format, section: LogSection) -> dict[str, pl.DataType]:
    """Raw columns of a file and their types, as they will be read."""
    if file.kind in ("parquet", "csv"):
        return file.columns
    fields = dict(layout.fields)
    for name in (*section.columns.values(), *section.tenant) if layout.name != "otel" else ():
        base, _, key = (name, "", "") if name in file.columns else name.partition(".")
        fields[base] = _with_key(fields.get(base, pl.Struct({}) if key else TEXT), key)
    return {name: _as_written(dtype, file.columns.get(name)) for name, dtype in fields.items()}


def _with_key(dtype: pl.DataType, key: str) -> pl.DataType:
    """A struct with one more key, `a.b` for one inside another; other types as they are."""
    if not key or not isinstance(dtype, pl.Struct):
        return dtype
    first, _, rest = key.partition(".")
    fields = fields_of(dtype)
    return pl.Struct(fields | {first: _with_key(fields.get(first, pl.Struct({}) if rest else TEXT), rest)})


def _as_written(dtype: pl.DataType, seen: pl.DataType | None) -> pl.DataType:
    """The type of a field in this file: some write objects as text."""
    return TEXT if seen == TEXT else dtype


def _raw(group: Sequence[LogFile], layout: Format, section: LogSection) -> tuple[pl.LazyFrame, dict[str, pl.DataType]]:
    first, paths = group[0], [file.path for file in group]
    schema = _schema(first, layout, section)
    if first.kind == "parquet":
        frame = pl.scan_parquet(paths, glob=False, hive_partitioning=False)
    elif first.kind == "csv":
        # A file without a header holds nothing.
        frame = strict_csv(paths, list(schema), first.blank) if schema else pl.LazyFrame(schema={"nothing": TEXT})
    else:
        frame = parsed(lines(paths, first.kind), layout, schema)
    added = {key: value for key, value in first.hive.items() if key not in schema}
    frame = frame.with_columns(pl.lit(value).alias(key) for key, value in added.items())
    return frame, schema | dict.fromkeys(added, TEXT)


def _asked(inputs: Sequence[tuple[Path, Kind, dict[str, str]]]) -> pl.LazyFrame:
    """What the input files of batches asked for, by custom_id."""
    return requests(
        pl.concat([lines([path], "document" if kind == "document" else "lines") for path, kind, _ in inputs])
    )


def _batches(files: Sequence[LogFile], asked: pl.LazyFrame | None) -> list[tuple[Format, list[LogFile]]]:
    """Each output file with its own end, which its lines without a time take; an error file has the log's."""
    times = [ended(lines([file.path], file.kind)).collect().item() for file in files]
    latest = max((time for time in times if time is not None), default=None)
    return [
        (openai_batch(asked, pl.lit(latest if time is None else time, UTC_US)), [file])
        for time, file in zip(times, files, strict=True)
    ]
