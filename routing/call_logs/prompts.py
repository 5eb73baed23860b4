"""The text a router reads: the user's turns of whatever a log holds as the request, joined by blank lines."""

from typing import Any

import polars as pl

from routing.call_logs.json_text import Mend, decode, fields_of, loaded

BLANK_LINE = "\n\n"
PART = pl.Struct({"type": pl.String, "text": pl.String, "content": pl.String})
MESSAGE = pl.Struct({"role": pl.String, "content": pl.String, "parts": pl.List(PART)})
MESSAGES = pl.List(MESSAGE)
REQUEST = pl.Struct(
    {
        "messages": MESSAGES,
        "input": MESSAGES,
        "contents": MESSAGES,
        "prompt": pl.String,
        "role": pl.String,
        "content": pl.String,
    }
)
"""A request body of any of the usual APIs, or a single message."""

_TURNS = ("messages", "input", "contents")
_TEXT_TYPES = ("text", "input_text")
_NOTHING = ["{}", "[]", "null"]
"""What gateways write that keep no prompts."""
_MEANT_AS_JSON = r'^\s*(\{|\[\s*[\[{"])'
"""Text that begins so is damaged when it is no JSON; `[INST] ...` is a prompt."""


def prompt(value: pl.Expr, dtype: pl.DataType, *, plain: bool) -> pl.Expr:
    """Prompt text of a column: text, JSON of a request or of messages, or typed lists and structs of them.

    Args:
        value: The column.
        dtype: Its type.
        plain: The column is meant to hold the prompt itself: only a JSON list of messages is taken apart, any other
            text is the prompt. Else JSON that holds no user's turn gives null.
    """
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        text = value.cast(pl.String)
        return text.map_batches(_plain if plain else _any, return_dtype=pl.String, is_elementwise=True)
    if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct):
        return user_turns(value, dtype)
    if isinstance(dtype, pl.Struct):
        return _of_request(value, dtype)
    return pl.lit(None, pl.String)


def user_turns(messages: pl.Expr, dtype: pl.List) -> pl.Expr:
    """Join the text of the user's messages; null where there is none."""
    text = _text_of(pl.element(), dtype.inner)  # type: ignore[arg-type]  # checked by the caller
    is_user = pl.element().struct.field("role") == "user"
    joined = messages.list.eval(text.filter(is_user & (text != ""))).list.join(BLANK_LINE)
    return _filled(joined)


def mending(**menders: Mend) -> Mend:
    """Mend the named keys of a record."""

    def mend(record: Any) -> Any:
        if not isinstance(record, dict):
            return None
        return record | {key: mender(record[key]) for key, mender in menders.items() if record.get(key) is not None}

    return mend


def mend_request(value: Any) -> Any:
    """Bring what a request may hold as text, parts or lists of either into the shape of REQUEST."""
    value = loaded(value)
    if isinstance(value, list):
        value = {"messages": value}
    elif isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, dict):
        return None
    mended = dict(value)
    for key in _TURNS:
        mended[key] = mend_messages(mended.get(key))
    if isinstance(mended.get("prompt"), list):
        mended["prompt"] = BLANK_LINE.join(item for item in mended["prompt"] if isinstance(item, str))
    if isinstance(mended.get("content"), list):
        mended["messages"] = mend_messages([{"role": mended.get("role"), "content": mended["content"]}])
    return mended


def mend_messages(value: Any) -> Any:
    """A text, a list of texts or of messages -> a list of MESSAGE; null for anything else."""
    value = loaded(value)
    items = [value] if isinstance(value, str) else value
    return [_mend_message(item) for item in items] if isinstance(items, list) else None


def _mend_message(item: Any) -> Any:
    if isinstance(item, str):
        return {"role": "user", "content": item}
    if isinstance(item, dict) and isinstance(content := item.get("content"), list):
        parts = [{"text": part} if isinstance(part, str) else part for part in content]
        return {"role": item.get("role"), "parts": parts}
    return item


def _plain(texts: pl.Series) -> pl.Series:
    is_list = texts.str.contains(r"^\s*\[\s*\{") & texts.str.contains(r'"role"\s*:')
    return _taken_apart(texts, is_list).select(pl.coalesce("turns", _filled(pl.col("text")))).to_series()


def _any(texts: pl.Series) -> pl.Series:
    text = pl.col("text")
    is_json = pl.col("read") | text.is_in(_NOTHING) | text.str.contains(_MEANT_AS_JSON)
    found = _taken_apart(texts, texts.str.contains(r'^\s*[\[{"]') & ~texts.is_in(_NOTHING))
    return found.select(_filled(pl.when(is_json).then("turns").otherwise(text))).to_series()


def _taken_apart(texts: pl.Series, candidates: pl.Series) -> pl.DataFrame:
    """The candidates as JSON: `text` as it was, `read` where that worked, and the user's `turns`."""
    text, first = pl.col("text"), pl.col("text").str.strip_chars_start().str.head(1)
    frame = pl.DataFrame({"text": texts, "candidate": candidates.fill_null(value=False)})
    if not candidates.any():
        return frame.with_columns(pl.lit(False).alias("read"), pl.lit(None, pl.String).alias("turns"))  # noqa: FBT003
    wrapped = (
        pl.when(first == "[")
        .then(pl.format('{{"messages":{}}}', text))
        .when(first == '"')
        .then(pl.format('{{"prompt":{}}}', text))
        .otherwise(text)
    )
    frame = frame.with_columns(request=decode(pl.when("candidate").then(wrapped), REQUEST, mend=mend_request))
    request = pl.col("request")
    return frame.with_columns(read=request.is_not_null(), turns=_of_request(request, REQUEST))


def _of_request(request: pl.Expr, dtype: pl.Struct) -> pl.Expr:
    fields = fields_of(dtype)
    turns = []
    for key in (*_TURNS, "prompt"):
        kind = fields.get(key)
        if kind == pl.String:
            turns.append(request.struct.field(key))
        elif isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct):
            turns.append(user_turns(request.struct.field(key), kind))
    if {"role", "content"} <= set(fields):
        is_user = request.struct.field("role") == "user"
        turns.append(pl.when(is_user).then(_text_of(request, dtype)))
    return pl.coalesce(*(_filled(turn) for turn in turns)) if turns else pl.lit(None, pl.String)


def _text_of(message: pl.Expr, dtype: pl.Struct) -> pl.Expr:
    """Text of one message: its content, else the text parts of its content or of its `parts`."""
    fields, found = fields_of(dtype), []
    for key in ("content", "parts"):
        kind = fields.get(key)
        if kind == pl.String:
            found.append(message.struct.field(key))
        elif isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct):
            found.append(message.struct.field(key).list.eval(_text_parts(kind.inner)).list.join(BLANK_LINE))
    return pl.coalesce(*found) if found else pl.lit(None, pl.String)


def _text_parts(dtype: pl.Struct) -> pl.Expr:
    fields = fields_of(dtype)
    texts = [pl.element().struct.field(key) for key in ("text", "content") if fields.get(key) == pl.String]
    if not texts:
        return pl.lit(None, pl.String)
    text = pl.coalesce(*texts)
    kind = pl.element().struct.field("type") if "type" in fields else pl.lit(None, pl.String)
    return text.filter(text.is_not_null() & (kind.is_null() | kind.is_in(_TEXT_TYPES)))


def _filled(text: pl.Expr) -> pl.Expr:
    return pl.when(text != "").then(text)
