"""JSON in logs: whole lines and single columns, never trusted to be JSON or to have the shape that is documented."""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import polars as pl

Mend = Callable[[Any], Any]
"""Brings a parsed value into the shape of a dtype, where the log may write it in several."""

_PIECE = 512
"""Rows looked at one by one when one of them is broken or of another shape; the others are decoded as a whole."""

_STRING = r'"(?:[^"\\]|\\.)*"'
_DEPTH = 3


def _object_pattern(depth: int) -> str:
    inner = "" if depth == 0 else f"|{_object_pattern(depth - 1)}"
    return r"\{(?:[^{}\"]|" + _STRING + inner + r")*\}"


_OBJECT = _object_pattern(_DEPTH)


def object_at(text: pl.Expr, key: str, *, rare: bool = False) -> pl.Expr:
    """JSON text of the object under the first `key`, at any level; null where it is none, or nested over 3 deep.

    Found by a pattern that knows strings and braces, ten times as fast as parsing: the metadata of ten million rows
    is gigabytes of which a few numbers are wanted. A key within a string has its quotes escaped and is not found.

    Args:
        text: JSON text.
        key: Name of the object.
        rare: Few rows have one. The whole pattern is then searched for, which is faster where it is not found.
    """
    if rare:
        return text.str.extract(rf'"{key}"\s*:\s*({_OBJECT})')
    start = text.str.find(f'"{key}"', literal=True)  # in bytes
    rest = text.cast(pl.Binary).bin.slice(start).cast(pl.String)
    return rest.str.extract(rf'^"{key}"\s*:\s*({_OBJECT})')  # anchored: the pattern is followed in one pass


def count_at(text: pl.Expr, key: str) -> pl.Expr:
    """The first whole number under `key`, at any level, as Int64."""
    return text.str.extract(rf'"{key}"\s*:\s*"?(-?\d+)').cast(pl.Int64, strict=False)


def word_at(text: pl.Expr, key: str) -> pl.Expr:
    """The first string, number or flag under `key`, at any level; for codes and tiers: up to the first escape."""
    return text.str.extract(rf'"{key}"\s*:\s*"?([^"\\\s,}}\]]+)')


def without_foreign_keys(text: pl.Expr, dtype: pl.Struct, *, of: str) -> pl.Expr:
    """JSON text in which the first key of a name is the record's own, for `object_at` and its like.

    The objects under `of` are somebody else's and may hold keys of the same names. Only the few rows where one does
    are parsed, and left with what the dtype has.

    Args:
        text: JSON text of objects.
        dtype: The keys that count.
        of: How the keys end whose objects are not to be looked into. Rows without one are passed over fast.
    """
    keys = "|".join(fields_of(dtype))
    begin, key = rf'{re.escape(of)}"\s*:\s*\{{', rf'"(?:{keys})"\s*:'
    # Whatever matches `within` matches this, which is a quarter of the work: an object begins, or there is the key.
    likely = rf'{begin}(?:[^{{}}"]|{_STRING})*?(?:\{{|{key})'
    within = rf'{begin}(?:[^}}"]|{_STRING}|{_OBJECT})*?{key}'

    def own(texts: pl.Series) -> pl.Series:
        asked = pl.when(pl.col("text").str.contains(likely)).then("text")
        doubtful = texts.to_frame("text").select(asked.str.contains(within).fill_null(value=False)).to_series()
        if not doubtful.any():
            return texts
        read = decode(pl.when("doubtful").then("text"), dtype).struct.json_encode()
        frame = pl.DataFrame({"text": texts, "doubtful": doubtful})
        return frame.select(pl.when("doubtful").then(read).otherwise("text")).to_series()

    return text.map_batches(own, return_dtype=pl.String, is_elementwise=True)


def fields_of(dtype: pl.Struct) -> dict[str, pl.DataType]:
    """Names and types of a struct's fields."""
    return dict(dtype.to_schema())  # type: ignore[arg-type]  # instances, never classes


def decode(text: pl.Expr, dtype: pl.DataType, *, mend: Mend | None = None, odd: str | None = None) -> pl.Expr:
    """Parse JSON text into a dtype; unknown keys are ignored, what is missing, broken or of another shape is null.

    Args:
        text: One JSON value per row.
        dtype: What to read. Where it says String, numbers and flags become their text and lists and objects theirs.
        mend: Applied to the values of rows that do not fit the dtype as they are.
        odd: Pattern of rows that `mend` has to see although they would fit.
    """
    return text.map_batches(partial(_decode, dtype=dtype, mend=mend, odd=odd), return_dtype=dtype, is_elementwise=True)


def _decode(texts: pl.Series, dtype: pl.DataType, mend: Mend | None, odd: str | None) -> pl.Series:
    # A blank row would vanish from what polars decodes.
    texts = texts.to_frame("text").select(pl.when(pl.col("text").str.strip_chars() != "").then("text")).to_series()
    special = texts.str.contains(odd).any() if odd is not None else False
    if not special and (whole := _whole(texts, dtype)) is not None:
        return whole
    pieces = [texts.slice(start, _PIECE) for start in range(0, len(texts), _PIECE)]
    return pl.concat([_piece(piece, dtype, mend, odd) for piece in pieces])


def _whole(texts: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    """Parsed at once, also where `{}` stands for no list; null where a row has another shape."""
    values = _parsed(texts, dtype)
    fields = fields_of(dtype) if isinstance(dtype, pl.Struct) else {}
    lists = [name for name, kind in fields.items() if isinstance(kind, pl.List)]
    if values is not None or not lists:
        return values
    # Not within a string, whose quotes are escaped.
    return _parsed(texts.str.replace_all(rf'"({"|".join(lists)})"\s*:\s*\{{\s*\}}', '"${1}":null'), dtype)


def _parsed(texts: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    try:
        values = texts.str.json_decode(dtype)
    except pl.exceptions.PolarsError:
        return None
    return values if len(values) == len(texts) else None


def _piece(texts: pl.Series, dtype: pl.DataType, mend: Mend | None, odd: str | None) -> pl.Series:
    if not (odd is not None and texts.str.contains(odd).any()):
        values = _whole(texts, dtype)
        if values is not None:
            return values
    fitted = [None if text is None else json.dumps(_fit(_loaded(text, mend), dtype)) for text in texts]
    return pl.Series(fitted, dtype=pl.String).str.json_decode(dtype)


def _loaded(text: str | None, mend: Mend | None) -> Any:
    if text is None:
        return None
    try:
        value = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return value if mend is None or value is None else mend(value)


def _fit(value: Any, dtype: Any) -> Any:
    """Bring a parsed value into a dtype; null where it has another shape."""
    if value is None:
        return None
    if isinstance(dtype, pl.Struct):
        value = _container(value, dict)
        return (
            None if value is None else {field.name: _fit(value.get(field.name), field.dtype) for field in dtype.fields}
        )
    if isinstance(dtype, pl.List):
        value = _container(value, list)
        return None if value is None else [_fit(item, dtype.inner) for item in value]
    if isinstance(dtype, pl.Map):
        value = _container(value, dict)
        return None if value is None else {key: _fit(item, dtype.value) for key, item in value.items()}
    return _text(value)


def _container(value: Any, kind: type) -> Any:
    value = loaded(value)
    return value if isinstance(value, kind) else None


def loaded(value: Any) -> Any:
    """Parse what is JSON text within JSON, as some exporters write objects; null where it is broken."""
    return _loaded(value, None) if isinstance(value, str) and value.lstrip()[:1] in ("{", "[") else value


def _text(value: Any) -> str:
    if isinstance(value, str):
        # Halves of surrogate pairs are JSON to Python, but no text.
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    return json.dumps(value, ensure_ascii=False)
