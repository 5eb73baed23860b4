"""Where queries come from: find Parquet files, cut them into parts, read a part as QUERIES and carried columns."""

import glob
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jobs.config import Input, TableConfig, TableJob
from routing.artifact import file_sha256
from routing.errors import ConfigError, DataError, InputMissingError, NothingToDoError, UsageError
from schemas.queries import PUBLISHED_COLUMNS
from schemas.run import InputFile, Part

ROW = "__row"
"""Position in its part, beside the columns of a table that may well have a `row` of its own."""
_BAD_TEXT = "__bad_text"


@dataclass(frozen=True, slots=True)
class Source:
    """The files of an input and how to read them."""

    files: list[InputFile]
    parts: list[Part]
    config: Input
    date: str | None

    @property
    def rows(self) -> int:
        """Rows in all files, before `--date` selects among them."""
        return sum(file.rows for file in self.files)

    def columns(self) -> list[str]:
        """Names of the columns that travel along, mapped ones under our names."""
        ours = {theirs: name for name, theirs in self.config.columns.items()}
        theirs = dict.fromkeys((*pq.read_schema(self.files[0].path).names, *self.files[0].partition))
        return [ours.get(name, name) for name in theirs if name not in self.config.drop]


class PartTable(NamedTuple):
    """A part as it was read: two tables with one row each per row of the part, `queries.row` is `carried.__row`."""

    queries: pl.DataFrame
    """QUERIES, not yet validated."""
    carried: pl.DataFrame
    """`__row` and every column of the user's table that travels along, mapped ones under our names."""


def discover(job: TableJob[TableConfig], *, written: Collection[str] = PUBLISHED_COLUMNS) -> Source:
    """Find the input files, check their schemas against the config and cut them into parts.

    Args:
        job: Whose input.
        written: Columns that the job writes beside those of the table, which therefore must not have them.

    Raises:
        InputMissingError: nothing is there.
        DataError: a file is no Parquet, or columns are missing, of a wrong type or in the way.
        NothingToDoError: no file holds the date.
    """
    config = job.config.input
    if job.date is not None and config.date_column is None and "{date}" not in config.path:
        raise UsageError(
            "--date was given, but the config has neither input.date_column nor {date} in input.path; add one"
        )
    paths = _paths(job.path(config.path))
    found = [_describe(path, hive) for path, hive in paths]
    if config.date_column is not None and job.date is not None:
        found = [
            (file, schema) for file, schema in found if file.partition.get(config.date_column, job.date) == job.date
        ]
        if not found:
            raise NothingToDoError(f"no partition of {job.path(config.path)} has {config.date_column}={job.date}")
    _check_schemas(found, config, written)
    _check_date_column(found, job)
    files = [file for file, _ in found]
    if not sum(file.rows for file in files):
        raise NothingToDoError(f"input {job.path(config.path)} holds no rows; nothing was published")
    return Source(files, _cut(files, config.part_rows), config, job.date)


def read_part(source: Source, part: Part) -> PartTable:
    """Read one part; a pure function of its address, so any process may call it in any order.

    Raises:
        DataError: the file cannot be decoded.
    """
    file = source.files[part.file]
    table = _read_rows(Path(file.path), part.start, part.rows)
    for key, value in file.partition.items():
        if key not in table.column_names:
            table = table.append_column(key, pa.array([value] * table.num_rows, pa.string()))
    frame = _to_polars(table).with_row_index(ROW)
    if source.config.date_column is not None and source.date is not None:
        frame = frame.filter(
            pl.col(source.config.date_column).cast(pl.String).str.slice(0, len(source.date)) == source.date
        )
    return _as_queries(frame, source.config)


# ---- finding
# ------------------------------------------------------------------------------------------------------------


def _paths(path: Path) -> list[tuple[Path, dict[str, str | None]]]:
    """Files in a stable order, with their hive keys. Names starting with `_` or `.` are not data."""
    text = str(path)
    if glob.has_magic(text):
        # Hive folders below the fixed start of the pattern count, as they do for a folder.
        fixed = Path(*_before_magic(path.parts))
        files = sorted(found for found in fixed.glob(str(path.relative_to(fixed))) if found.is_file())
    elif path.is_dir():
        fixed = path
        files = sorted(found for found in path.rglob("*") if found.suffix in (".parquet", ".pq") and found.is_file())
    else:
        fixed = path.parent
        files = [path] if path.exists() else []
    visible = [file for file in files if not any(step[0] in "_." for step in file.relative_to(fixed).parts)]
    if not visible:
        raise InputMissingError(
            f"input {path} matches no Parquet file; input.path in the config must name a file, a glob or a folder "
            "(relative paths start from the config file's folder)"
        )
    return [(file, _hive(file.relative_to(fixed))) for file in visible]


def _before_magic(parts: Sequence[str]) -> list[str]:
    fixed: list[str] = []
    for part in parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return fixed


def _hive(relative: Path) -> dict[str, str | None]:
    keys = [segment.partition("=")[0] for segment in relative.parent.parts if "=" in segment]
    parsed = ds.HivePartitioning(pa.schema([(key, pa.string()) for key in keys])).parse(relative.as_posix())
    return ds.get_partition_keys(parsed)  # type: ignore[no-any-return]  # untyped library


def _describe(path: Path, hive: dict[str, str | None]) -> tuple[InputFile, pa.Schema]:
    try:
        with pq.ParquetFile(path) as parquet:
            rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
        digest = file_sha256(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # pyarrow has OSErrors of its own, without a number
            raise InputMissingError(f"input file {path} cannot be opened: {error.strerror}; mend its rights") from error
        raise DataError(
            f"input file {path} cannot be read as Parquet: {_short(error)}; write it again or remove it"
        ) from error
    return InputFile(path=str(path), rows=rows, sha256=digest, partition=hive), schema


def _cut(files: Sequence[InputFile], part_rows: int) -> list[Part]:
    addresses = [
        (index, start, min(part_rows, file.rows - start))
        for index, file in enumerate(files)
        for start in range(0, file.rows, part_rows)
    ]
    return [Part(number=n, file=file, start=start, rows=rows) for n, (file, start, rows) in enumerate(addresses)]


# ---- checking
# -----------------------------------------------------------------------------------------------------------


def _check_schemas(found: list[tuple[InputFile, pa.Schema]], config: Input, written: Collection[str]) -> None:
    first_file, first = found[0]
    complaints = _complaints(first, first_file.partition, config, written)
    if complaints:
        raise DataError(f"input {first_file.path} breaks the contract of queries:\n  " + "\n  ".join(complaints))
    for file, schema in found[1:]:
        if not schema.equals(first):
            differing = sorted(
                set(first.names).symmetric_difference(schema.names)
                | {
                    name
                    for name in set(first.names) & set(schema.names)
                    if first.field(name).type != schema.field(name).type
                }
            )
            raise DataError(
                f"input files differ in their columns: {file.path} and {first_file.path} disagree on {differing}; "
                "write them with one schema, or name fewer files in input.path"
            )


def _check_date_column(found: list[tuple[InputFile, pa.Schema]], job: TableJob[TableConfig]) -> None:
    """A column that the output folder's name replaces may hold nothing but the date."""
    if job.date is None or job.date_key is None or job.date_key not in found[0][1].names:
        return
    values = pl.scan_parquet([file.path for file, _ in found], hive_partitioning=False).select(pl.col(job.date_key))
    text = pl.col(job.date_key).cast(pl.String)
    longer = values.filter(text.str.starts_with(job.date) & (text != job.date)).head(1).collect()
    if longer.height:
        raise ConfigError(
            f"input.date_column {job.date_key} holds more than a date ({longer.item()!s}), which the output folder "
            f"{job.output} would lose; put {{date}} into output.path, e.g. {job.config.output.path}/day={{date}}"
        )


def _complaints(schema: pa.Schema, hive: dict[str, str | None], config: Input, written: Collection[str]) -> list[str]:
    """Name every wrong column at once."""
    lines = []
    available = [*schema.names, *hive]
    for ours, theirs in config.columns.items():
        if theirs not in schema.names:
            lines.append(f"{theirs} (mapped to {ours}): missing; columns are {available}; map it in [input.columns]")
        elif expected := _wrong_type(ours, schema.field(theirs).type):
            lines.append(f"{theirs} (mapped to {ours}): {schema.field(theirs).type}, expected {expected}")
    if config.date_column is not None and config.date_column not in available:
        lines.append(f"{config.date_column} (input.date_column): missing; columns are {available}")
    mapped = set(config.columns.values())
    reserved = {*written, *config.columns, ROW}
    taken = [name for name in available if name in reserved and name not in {*mapped, *config.drop}]
    return lines + [
        f"{name}: nightroute writes a column of this name; rename yours, map it, or list it in input.drop"
        for name in taken
    ]


def _wrong_type(ours: str, dtype: pa.DataType) -> str | None:
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    if pa.types.is_null(dtype) and ours != "messages":
        return None  # a column that never held a value, as in an empty table
    if ours in ("prompt", "system"):
        return None if _is_text(dtype) else "a string"
    if ours == "query_id":
        return None if _is_text(dtype) or pa.types.is_integer(dtype) else "a string or an integer"
    if ours == "max_output_tokens":
        return None if pa.types.is_integer(dtype) else "an integer"
    fine = (
        (pa.types.is_list(dtype) or pa.types.is_large_list(dtype))
        and pa.types.is_struct(dtype.value_type)
        and all(
            dtype.value_type.get_field_index(key) >= 0 and _is_text(dtype.value_type.field(key).type)
            for key in ("role", "content")
        )
    )
    return None if fine else "a list of structs with the strings role and content"


def _is_text(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype))


# ---- reading
# ------------------------------------------------------------------------------------------------------------


def _read_rows(path: Path, start: int, rows: int) -> pa.Table:
    """Read `rows` rows from row `start`, touching only the row groups that hold them."""
    try:
        with pq.ParquetFile(path) as parquet:
            skip, before = 0, 0
            groups: list[int] = []
            for index in range(parquet.num_row_groups):
                size = parquet.metadata.row_group(index).num_rows
                if before + size > start and before < start + rows:
                    skip = skip if groups else start - before
                    groups.append(index)
                before += size
            pieces: list[pa.RecordBatch] = []
            wanted = rows
            for batch in parquet.iter_batches(batch_size=rows, row_groups=groups):
                usable = batch.slice(min(skip, batch.num_rows), wanted)
                skip -= min(skip, batch.num_rows)
                if usable.num_rows:
                    pieces.append(usable)
                    wanted -= usable.num_rows
                if wanted == 0:
                    break
            return pa.Table.from_batches(pieces, parquet.schema_arrow)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"input file {path}, rows {start} to {start + rows}, cannot be decoded: {_short(error)}; "
            "the file is damaged: write it again and give the new run a run_dir of its own"
        ) from error


def _to_polars(table: pa.Table) -> pl.DataFrame:
    """Convert; rows with text that is not UTF-8 are marked, since polars must never see such bytes as a string."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        return _repaired(table)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.with_columns(pl.lit(False).alias(_BAD_TEXT))  # noqa: FBT003  # a literal


def _repaired(table: pa.Table) -> pl.DataFrame:
    """Slow path, for a part with broken text only: replace what is not UTF-8, and mark the rows."""
    bad = [False] * table.num_rows
    for index, field in enumerate(table.schema):
        if not _is_text(field.type):
            continue
        texts: list[str | None] = []
        for row, value in enumerate(table.column(index).cast(pa.large_binary()).to_pylist()):
            text = None if value is None else value.decode("utf-8", "replace")
            bad[row] = bad[row] or (value is not None and text is not None and text.encode() != value)
            texts.append(text)
        table = table.set_column(index, field.name, pa.array(texts, pa.large_string()))
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.with_columns(pl.Series(_BAD_TEXT, bad, pl.Boolean))


def _as_queries(frame: pl.DataFrame, config: Input) -> PartTable:
    """Split a part into QUERIES and the carried columns, mapped columns under our names in both."""
    columns = {ours: frame[theirs] for ours, theirs in config.columns.items()}

    def column(name: str, dtype: Any) -> pl.Series:
        found = columns.get(name)
        return pl.Series([None], dtype=dtype).new_from_index(0, frame.height) if found is None else found.cast(dtype)

    given = column("query_id", pl.String)
    queries = pl.DataFrame(
        {
            "row": frame[ROW].cast(pl.UInt32),
            "given_id": given,
            "prompt": column("prompt", pl.String),
            "system": column("system", pl.String),
            "max_output_tokens": column("max_output_tokens", pl.Int64),
            "valid_utf8": ~frame[_BAD_TEXT],
            "has_id": given.is_not_null() | ("query_id" not in columns),
        }
    )
    queries = _with_messages(queries, columns["messages"]) if "messages" in columns else _with_prompt(queries)
    mapped = {theirs: ours for ours, theirs in config.columns.items()}
    keep = [name for name in frame.columns if name not in config.drop and name != _BAD_TEXT]
    carried = frame.select(keep).rename({name: mapped[name] for name in keep if name in mapped})
    return PartTable(queries, carried.with_columns(pl.col(ROW).cast(pl.UInt32)))


def _with_prompt(queries: pl.DataFrame) -> pl.DataFrame:
    return queries.with_columns(
        messages_json=pl.lit(None, pl.String),
        other_text=pl.col("system"),
        n_messages=(1 + pl.col("system").is_not_null().cast(pl.UInt32)).cast(pl.UInt32),
    )


def _with_messages(queries: pl.DataFrame, messages: pl.Series) -> pl.DataFrame:
    """The router reads the user's turns; everything else that is sent counts as other text."""
    turns = pl.col("messages").list
    is_user = pl.element().struct.field("role") == "user"
    content = pl.element().struct.field("content").fill_null("")
    joined = queries.with_columns(
        messages=messages.list.eval(pl.struct(pl.element().struct.field("role"), pl.element().struct.field("content")))
    ).with_columns(
        prompt=turns.eval(content.filter(is_user)).list.join("\n\n"),
        other_text=turns.eval(content.filter(~is_user)).list.join("\n\n"),
        n_messages=turns.len().cast(pl.UInt32) + pl.col("system").is_not_null().cast(pl.UInt32),
        # One JSON text per row: {"messages": [...]} encoded by polars, the wrapper stripped again when it is sent.
        messages_json=pl.struct("messages").struct.json_encode(),
    )
    other = pl.concat_str([pl.col("system"), pl.col("other_text")], separator="\n\n", ignore_nulls=True)
    return joined.with_columns(
        n_messages=pl.col("n_messages").fill_null(0),
        messages_json=pl.when(pl.col("messages").is_not_null()).then("messages_json"),
        other_text=pl.when(other != "").then(other),
    ).drop("messages")


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0][:200]
