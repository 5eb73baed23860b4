"""The columns of a raw log, read as the type that is asked for, whatever type its file gave them."""

from collections.abc import Mapping

import polars as pl

from routing.call_logs import prompts, times
from routing.call_logs.json_text import decode, fields_of
from schemas.billing import USD

_TEXTS = (pl.String, pl.Categorical, pl.Enum)
_MAX_USD = 10**12
"""No call costs as much; polars raises where a float does not fit a decimal."""


class Columns:
    """Reads columns by name; of several names the first value that is not null counts, and a missing column is null.

    `metadata.team` is the key `team` of the column `metadata`, be that a struct, a map or JSON text.
    """

    def __init__(self, schema: Mapping[str, pl.DataType], time_zone: str = "UTC", *, under: tuple[str, ...] = ()):
        """Take a schema.

        Args:
            schema: Raw columns and their types.
            time_zone: Of times that are written without a zone.
            under: Maps from text to text, in which a name is looked up that is no column itself.
        """
        self.schema = dict(schema)
        self.time_zone = time_zone
        self.under = under

    def plus(self, **added: pl.DataType) -> "Columns":
        """Return these columns and more."""
        return Columns(self.schema | added, self.time_zone, under=self.under)

    def text(self, *names: str) -> pl.Expr:
        """As String, lists as JSON; empty is null."""
        return self._coalesced([_text(*found) for found in self._found(names)], pl.String())

    def integer(self, *names: str) -> pl.Expr:
        """As Int64, out of numbers and text; fractions are cut off."""
        return self._coalesced([_integer(*found) for found in self._found(names)], pl.Int64())

    def number(self, *names: str) -> pl.Expr:
        """As Float64; what is not finite is null."""
        return self._coalesced([_number(*found) for found in self._found(names)], pl.Float64())

    def usd(self, *names: str) -> pl.Expr:
        """As Decimal with twelve decimals; a dollar sign is passed over."""
        return self._coalesced([_usd(*found) for found in self._found(names)], USD)

    def flag(self, *names: str) -> pl.Expr:
        """As Boolean: `True`, `true`, `1` and other numbers, `False`, `false`, `0`; else null."""
        return self._coalesced([_flag(*found) for found in self._found(names)], pl.Boolean())

    def moment(self, *names: str) -> pl.Expr:
        """As Datetime(us, UTC)."""
        found = [times.moment(expr, dtype, self.time_zone) for expr, dtype in self._found(names)]
        return self._coalesced(found, times.UTC_US)

    def prompt(self, *names: str, plain: bool = False) -> pl.Expr:
        """The user's turns (see `routing.call_logs.prompts.prompt`)."""
        found = [prompts.prompt(expr, dtype, plain=plain) for expr, dtype in self._found(names)]
        return self._coalesced(found, pl.String())

    def json(self, *names: str) -> pl.Expr:
        """As JSON text, for `routing.call_logs.json_text`."""
        return self._coalesced([_json(*found) for found in self._found(names)], pl.String())

    def pairs(self, *names: str) -> pl.Expr:
        """As Map(String, String): of a map, a struct or JSON text with one level."""
        found = [_pairs(expr, dtype) for expr, dtype in self._found(names)]
        return self._coalesced(found, PAIRS)

    def _coalesced(self, found: list[pl.Expr], dtype: pl.DataType) -> pl.Expr:
        if not found:
            return pl.lit(None, dtype)
        return found[0] if len(found) == 1 else pl.coalesce(*found)

    def _found(self, names: tuple[str, ...]) -> list[tuple[pl.Expr, pl.DataType]]:
        return [found for name in names if (found := self._find(name))]

    def _find(self, name: str) -> tuple[pl.Expr, pl.DataType] | None:
        if name in self.schema:
            return _readable(pl.col(name), self.schema[name])
        base, dot, key = name.partition(".")
        if dot and base in self.schema:
            return _step(pl.col(base), self.schema[base], key)
        return (pl.coalesce(*(pl.col(base).map.get(name) for base in self.under)), pl.String()) if self.under else None


PAIRS = pl.Map(pl.String, pl.String)


def _readable(value: pl.Expr, dtype: pl.DataType) -> tuple[pl.Expr, pl.DataType]:
    """Bytes as text: Impala, Athena and old Sparks do not say in their Parquet files that these are text."""
    if dtype != pl.Binary:
        return value, dtype
    return value.map_batches(_decoded, return_dtype=pl.String, is_elementwise=True), pl.String()


def _decoded(values: pl.Series) -> pl.Series:
    try:
        return values.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series(
            [None if value is None else value.decode("utf-8", "replace") for value in values], dtype=pl.String
        )


def _step(value: pl.Expr, dtype: pl.DataType, key: str) -> tuple[pl.Expr, pl.DataType] | None:
    """Read one key of a struct, a map or JSON text."""
    first, dot, rest = key.partition(".")
    if isinstance(dtype, pl.Map):
        found = value.map.get(key)
        if dtype != PAIRS or not dot:
            return found, dtype.value  # type: ignore[return-value]  # an instance
        return pl.coalesce(found, _path(value.map.get(first), rest)), pl.String()
    if isinstance(dtype, pl.Struct):
        fields = fields_of(dtype)
        if key in fields:
            return value.struct.field(key), fields[key]
        return _step(value.struct.field(first), fields[first], rest) if dot and first in fields else None
    return (_path(value, key), pl.String()) if dtype == pl.String else None


def _path(text: pl.Expr, key: str) -> pl.Expr:
    steps = (step.replace("\\", "\\\\").replace("'", "\\'") for step in key.split("."))
    return text.str.json_path_match("$" + "".join(f"['{step}']" for step in steps))


def _text(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype in _TEXTS:
        value = value.cast(pl.String)
        return pl.when(value != "").then(value)
    if isinstance(dtype, pl.List):
        lists = pl.struct(l=value).struct.json_encode().str.strip_prefix('{"l":').str.strip_suffix("}")
        return pl.when(value.is_not_null()).then(lists)
    scalar = dtype.is_numeric() or dtype in (pl.Boolean, pl.Date)
    return value.cast(pl.String, strict=False) if scalar else pl.lit(None, pl.String)


def _integer(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype in _TEXTS:
        text = value.cast(pl.String).str.strip_chars()
        whole = text.cast(pl.Int64, strict=False)
        return pl.coalesce(whole, text.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False))
    return value.cast(pl.Int64, strict=False) if dtype.is_numeric() else pl.lit(None, pl.Int64)


def _number(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype in _TEXTS:
        value = value.cast(pl.String).str.strip_chars()
    elif not dtype.is_numeric():
        return pl.lit(None, pl.Float64)
    value = value.cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)


def _usd(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype in _TEXTS:
        return value.cast(pl.String).str.strip_chars(" $").cast(USD, strict=False)
    if dtype.is_float():
        value = value.cast(pl.Float64)
        return pl.when(value.abs() < _MAX_USD).then(value).cast(USD, strict=False)
    return value.cast(USD, strict=False) if dtype.is_numeric() else pl.lit(None, USD)


def _flag(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype == pl.Boolean:
        return value
    if dtype.is_numeric():
        return value != 0
    if dtype not in _TEXTS:
        return pl.lit(None, pl.Boolean)
    text = value.cast(pl.String).str.strip_chars().str.to_lowercase()
    yes, no = text.is_in(["true", "t", "1", "yes"]), text.is_in(["false", "f", "0", "no"])
    return pl.when(yes | no).then(yes)


def _json(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Struct):
        return value.struct.json_encode()
    return value if dtype == pl.String else pl.lit(None, pl.String)


def _pairs(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Map):
        return value.cast(PAIRS, strict=False)
    if isinstance(dtype, pl.Struct):
        fields = [(name, _text(value.struct.field(name), kind)) for name, kind in fields_of(dtype).items()]
        entries = pl.concat_list([pl.struct(key=pl.lit(name), value=text) for name, text in fields])
        return entries.list.to_map()
    if (
        isinstance(dtype, pl.List)
        and isinstance(dtype.inner, pl.Struct)
        and set(fields_of(dtype.inner)) == {"key", "value"}
    ):
        return value.cast(pl.List(pl.Struct({"key": pl.String, "value": pl.String}))).list.to_map()
    if dtype == pl.String:
        return decode(value, PAIRS)
    return pl.lit(None, PAIRS)
