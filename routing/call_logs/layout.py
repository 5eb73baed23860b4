"""What a format is, and the last step of all of them: raw columns -> CALL_LOG."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import polars as pl

from routing.call_logs.columns import Columns
from routing.call_logs.json_text import Mend, decode
from routing.call_logs.tokens import inclusive_output
from schemas.call_log import CallLog

SCHEMA = CallLog.create_empty().schema
IS_CALL = "is_call"
"""Beside the columns of CALL_LOG: false for what is no call, such as the span of a tool."""
LINE = "line"
"""The one column of a file of JSON lines before it is parsed."""
TEXT = pl.String()

_COLUMNS = tuple(name for name in SCHEMA if name != "row")

Prepared = tuple[pl.LazyFrame, Columns]


def _as_it_is(frame: pl.LazyFrame, columns: Columns) -> Prepared:
    return frame, columns


@dataclass(frozen=True, slots=True)
class Format:
    """How one tool writes its log. Expressions only; rows of an odd shape alone are looked at one by one."""

    name: str
    needs: tuple[tuple[str, ...], ...]
    """Columns it is told by: of each group at least one."""
    fields: Mapping[str, pl.DataType]
    """Every column that is read, and its type where the log is JSON lines."""
    calls: Callable[[Columns], dict[str, pl.Expr]]
    """Columns of CALL_LOG, and IS_CALL, those that the format knows. What is left out is null."""
    prompts: tuple[str, ...] = ()
    """The fields that may hold prompt text."""
    prepare: Callable[[pl.LazyFrame, Columns], Prepared] = _as_it_is
    """Adds helper columns, or turns one row into many, before `calls`."""
    mend: Mend | None = None
    odd: str | None = None
    """For JSON lines: see `routing.call_logs.json_text.decode`."""

    def fits(self, columns: Collection[str]) -> bool:
        """Whether columns look like this format."""
        return all(not set(group).isdisjoint(columns) for group in self.needs)

    def resembles(self, columns: Collection[str]) -> bool:
        """Whether columns have a part of it."""
        return any(not set(group).isdisjoint(columns) for group in self.needs)

    def described(self) -> str:
        """The columns it is told by, in words."""
        return ", ".join(" or ".join(group) for group in self.needs)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the config says beyond the format."""

    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """CALL_LOG name -> raw column; goes before what the format says."""
    tenant: Sequence[str] = ()
    provider: str | None = None
    """Where the log names none."""
    time_zone: str = "UTC"


def parsed(lines: pl.LazyFrame, layout: Format, fields: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """JSON lines -> raw columns, one row a line; a broken line is a row of nulls.

    Args:
        lines: Column `line`.
        layout: The format.
        fields: What to read, by key.
    """
    record = decode(pl.col(LINE), pl.Struct(dict(fields)), mend=layout.mend, odd=layout.odd)
    return lines.select(record.alias(LINE)).unnest(LINE)


def normalized(frame: pl.LazyFrame, schema: Mapping[str, pl.DataType], layout: Format, wishes: Wishes) -> pl.LazyFrame:
    """Raw columns -> CALL_LOG without `row`, and IS_CALL.

    Args:
        frame: The raw log.
        schema: Its columns and their types.
        layout: Its format.
        wishes: What the config says.
    """
    frame, columns = layout.prepare(frame, Columns(schema, wishes.time_zone))
    calls = layout.calls(columns) | mapped(columns, wishes.columns)
    if wishes.tenant:
        calls["tenant"] = tenant(columns, wishes.tenant)
    if wishes.provider is not None:
        calls["provider"] = calls.get("provider", pl.lit(None, pl.String)).fill_null(pl.lit(wishes.provider))
    calls["billed"] = calls.get("billed", pl.lit(True)).fill_null(True)  # noqa: FBT003  # a literal
    calls["outcome"] = calls.get("outcome", pl.lit("ok")).fill_null("ok")
    if {"operation", "input_tokens", "output_tokens"} <= calls.keys():
        is_embedding = (calls["operation"] == "embedding") & calls["input_tokens"].is_not_null()
        calls["output_tokens"] = pl.coalesce(calls["output_tokens"], pl.when(is_embedding).then(0))
    is_call = calls.get(IS_CALL, pl.lit(True)).fill_null(False)  # noqa: FBT003  # a literal
    wanted = [
        calls.get(name, pl.lit(None, dtype)).cast(dtype).alias(name) for name, dtype in SCHEMA.items() if name != "row"
    ]
    # Not `select`, which makes one row of none where all columns are constant.
    rows = frame.with_columns(*wanted, is_call.alias(IS_CALL)).select(*_COLUMNS, IS_CALL)
    rows = rows.with_columns(
        output_tokens=inclusive_output(pl.col("output_tokens"), reasoning=pl.col("reasoning_tokens"))
    )
    return rows.with_columns(
        pl.when(~_uncounted()).then(name).alias(name) for name in ("input_tokens", "output_tokens")
    )


def _uncounted() -> pl.Expr:
    """An answer cannot be of no tokens at all: gateways write zeros for streams that ended without usage."""
    nothing = (pl.col("input_tokens") == 0) & (pl.col("output_tokens") == 0)
    return (nothing & pl.col("billed") & (pl.col("outcome") == "ok")).fill_null(value=False)


def numbered(frames: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
    """One after the other, with their `row` -> CALL_LOG, its rules not applied, and IS_CALL."""
    rows = pl.concat(frames, how="vertical").with_row_index("row")
    return rows.select(pl.col("row").cast(pl.UInt64), *_COLUMNS, IS_CALL)


def mapped(columns: Columns, mapping: Mapping[str, str]) -> dict[str, pl.Expr]:
    """Columns of CALL_LOG that the config maps to raw ones."""
    found = {}
    for ours, theirs in mapping.items():
        dtype = SCHEMA[ours]
        if ours == "prompt":
            found[ours] = columns.prompt(theirs, plain=True)
        elif ours == "outcome":
            found[ours] = outcome(columns.text(theirs))
        elif isinstance(dtype, pl.Datetime):
            found[ours] = columns.moment(theirs)
        elif isinstance(dtype, pl.Decimal):
            found[ours] = columns.usd(theirs)
        else:
            read = {pl.Int64: columns.integer, pl.Float64: columns.number, pl.Boolean: columns.flag}
            found[ours] = read.get(type(dtype), columns.text)(theirs)
    return found


def tenant(columns: Columns, names: Sequence[str]) -> pl.Expr:
    """The named columns joined by ` / `, `-` where one is null; null where all are."""
    parts = [columns.text(name) for name in names]
    joined = pl.concat_str([part.fill_null("-") for part in parts], separator=" / ")
    return pl.when(pl.any_horizontal(*(part.is_not_null() for part in parts))).then(joined)


_GOOD = [
    *("ok", "success", "successful", "succeeded", "complete", "completed", "done", "finished", "truncated"),
    *("true", "t", "yes", "y"),
    # What ended an answer says that there was one.
    *("stop", "length", "end_turn", "stop_sequence", "max_tokens", "tool_calls", "tool_use", "function_call"),
    "content_filter",
]
_GOOD_CODE = r"^(?:2\d\d|1)(?:\.0*)?$"
"""Of HTTP or a flag; a column of numbers with holes in it is often one of floats."""


def outcome(status: pl.Expr) -> pl.Expr:
    """Words, flags, reasons of an end and HTTP codes -> `ok` or `failed`; null, where nothing is said, is ok."""
    word = status.str.strip_chars().str.to_lowercase()
    good = word.is_in(_GOOD) | word.str.contains(_GOOD_CODE)
    return pl.when(word.is_null() | good).then(pl.lit("ok")).otherwise(pl.lit("failed"))


def http_error(status: pl.Expr) -> pl.Expr:
    """HTTP status of what failed, as a text; null for words, flags and what went well."""
    code = status.str.extract(r"^\s*([1-5]\d\d)(?:\.0*)?\s*$")
    return pl.when(outcome(status) == "failed").then(code)


_CHAT = "chat"
_OPERATIONS = {
    **dict.fromkeys(
        (
            *("completion", "acompletion", "text_completion", "atext_completion", "completions", "chat.completion"),
            *("responses", "aresponses", "response", "anthropic_messages", "aanthropic_messages", "message"),
            *("generate_content", "agenerate_content", "generation", "chat"),
        ),
        _CHAT,
    ),
    **dict.fromkeys(("embedding", "aembedding", "embeddings"), "embedding"),
}


def operation(name: pl.Expr) -> pl.Expr:
    """`chat` for whatever writes text, `embedding`, else the name in the log."""
    return renamed(name, _OPERATIONS)


_STANDARD = ["default", "standard", "auto", "standard_only", "on_demand", "none", "null"]


def processing(tier: pl.Expr) -> pl.Expr:
    """Service tier as prices know it; null is standard."""
    tier = tier.str.to_lowercase()
    return pl.when(~tier.is_in(_STANDARD)).then(tier)


_PROVIDERS = {
    "fireworks_ai": "fireworks",
    "azure_ai": "azure",
    "azure.ai.inference": "azure",
    "x_ai": "x-ai",
    "gcp.gen_ai": "google",
}


def provider(name: pl.Expr) -> pl.Expr:
    """Provider names that genai-prices does not know, as it knows them."""
    return renamed(name, _PROVIDERS)


def renamed(name: pl.Expr, words: Mapping[str, str]) -> pl.Expr:
    """Other words for some names. Not `replace`: polars' streaming engine gathers the whole log for it."""
    found = name
    for word in dict.fromkeys(words.values()):
        before = [old for old, new in words.items() if new == word]
        found = pl.when(name.is_in(before)).then(pl.lit(word)).otherwise(found)
    return found
