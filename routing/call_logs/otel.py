"""OpenTelemetry: spans of the GenAI conventions as OTLP JSON, one export request a line or one document a file.

Names of the conventions before 1.37 and of the instrumentations that led to them are read as well. Cached tokens are
part of the input and reasoning is part of the output, for Anthropic too: instrumentations have to add them up.
"""

import json
from typing import Any

import polars as pl

from routing.call_logs.columns import Columns
from routing.call_logs.layout import IS_CALL, TEXT, Format, Prepared, operation, processing, provider
from routing.call_logs.prompts import BLANK_LINE, prompt
from routing.call_logs.times import seconds
from routing.call_logs.tokens import inclusive_input

_VALUE = pl.Struct(dict.fromkeys(("stringValue", "intValue", "doubleValue", "boolValue"), TEXT))
_ATTRIBUTES = pl.List(pl.Struct({"key": TEXT, "value": _VALUE}))
_SPAN = pl.Struct(
    {
        **dict.fromkeys(("traceId", "spanId", "name", "startTimeUnixNano", "endTimeUnixNano"), TEXT),
        "attributes": _ATTRIBUTES,
        "events": pl.List(pl.Struct({"name": TEXT, "attributes": _ATTRIBUTES})),
        "status": pl.Struct({"code": TEXT}),
    }
)
_FIELDS: dict[str, pl.DataType] = {
    "resourceSpans": pl.List(
        pl.Struct(
            {
                "resource": pl.Struct({"attributes": _ATTRIBUTES}),
                "scopeSpans": pl.List(pl.Struct({"spans": pl.List(_SPAN)})),
            }
        )
    )
}
_STRUCTURED = r'"gen_ai\.(input\.messages|prompt|content\.prompt)"\s*,\s*"value"\s*:\s*\{\s*"(array|kvlist)Value"'
"""Attributes that hold messages as they are instead of as JSON text."""
_PAIRS = pl.Map(pl.String, pl.String)

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "call_id": ("gen_ai.response.id",),
    "provider": ("gen_ai.provider.name", "gen_ai.system"),
    "base_url": ("server.address", "server.port"),
    "model": ("gen_ai.response.model", "llm.response.model"),
    "requested_model": ("gen_ai.request.model", "llm.request.model"),
    "processing": ("openai.response.service_tier", "gen_ai.openai.response.service_tier"),
    "operation": ("gen_ai.operation.name", "llm.request.type"),
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens"),
    "cached_tokens": ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"),
    "cache_write_tokens": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_write_input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
    ),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens"),
    "reasoning_tokens": ("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"),
    "logged_usd": ("gen_ai.usage.cost",),
    "error_code": ("error.type", "http.response.status_code"),
    "tenant": ("service.name",),
    "prompt": ("gen_ai.input.messages", "gen_ai.prompt", "gen_ai.content.prompt"),
}
"""Where each column is looked for, best name first."""
_NOT_CALLS = r"(?:^|[^a-z])(?:agents?|tools?|workflow|retrieval|retrieve|retriever|memory|plan|task)(?:[^a-z]|$)"
"""Words of operations around calls: their usage, where they have any, is the sum of calls with spans of their own."""
_CALLS = ["chat", "embedding"]
"""Operations, as `operation` names them, that are calls whatever else their span says."""
_PREFIXED = r"^gen_ai\.prompt\.\d+\.(role|content)$"


def _plain(value: Any) -> Any:
    """An OTLP value as plain JSON."""
    if not isinstance(value, dict) or not value:
        return None
    kind, inner = next(iter(value.items()))
    if kind == "arrayValue":
        return [_plain(item) for item in (inner or {}).get("values") or []]
    if kind == "kvlistValue":
        return {item.get("key"): _plain(item.get("value")) for item in (inner or {}).get("values") or []}
    return inner


def _mend(value: Any) -> Any:
    """Write structured attributes as JSON text, wherever in the record they stand."""
    if isinstance(value, list):
        return [_mend(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "key" in value and isinstance(value.get("value"), dict) and {"arrayValue", "kvlistValue"} & set(value["value"]):
        return {"key": value["key"], "value": {"stringValue": json.dumps(_plain(value["value"]), ensure_ascii=False)}}
    return {key: _mend(item) for key, item in value.items()}


def _pairs(attributes: pl.Expr) -> pl.Expr:
    entry = pl.element().struct
    value = entry.field("value").struct
    text = pl.coalesce(*(value.field(field.name) for field in _VALUE.fields))
    entries = attributes.list.eval(
        pl.struct(key=entry.field("key"), value=text).filter(entry.field("key").is_not_null())
    )
    return entries.list.to_map()


def _prepare(frame: pl.LazyFrame, columns: Columns) -> Prepared:
    """Lines -> spans: a line that cannot be read stays one row, a request without spans becomes none."""
    span = pl.col("span").struct
    events = span.field("events").list
    frame = (
        frame.with_columns(readable=pl.col("resourceSpans").is_not_null())
        .explode("resourceSpans")
        .select(
            "readable",
            resource=_pairs(pl.col("resourceSpans").struct.field("resource").struct.field("attributes")),
            scope=pl.col("resourceSpans").struct.field("scopeSpans"),
        )
        .explode("scope")
        .with_columns(span=pl.col("scope").struct.field("spans"))
        .explode("span")
        .filter(~pl.col("readable") | pl.col("span").is_not_null())
        .select(
            "readable",
            *(span.field(name) for name in ("spanId", "startTimeUnixNano", "endTimeUnixNano")),
            code=span.field("status").struct.field("code"),
            attributes=_pairs(span.field("attributes")),
            resource="resource",
            asked=_flat_prompt(span.field("attributes")),
            told=_event_prompt(events),
        )
    )
    texts = ("spanId", "startTimeUnixNano", "endTimeUnixNano", "code", "asked", "told")
    schema = {**dict.fromkeys(texts, TEXT), "attributes": _PAIRS, "resource": _PAIRS}
    return frame, Columns(schema, columns.time_zone, under=("attributes", "resource"))


def _flat_prompt(attributes: pl.Expr) -> pl.Expr:
    """User's turns out of `gen_ai.prompt.0.role`, `gen_ai.prompt.0.content`, ...: role and content side by side."""
    entry = pl.element().struct
    found = attributes.list.eval(pl.element().filter(entry.field("key").str.contains(_PREFIXED)))
    key, value = entry.field("key"), entry.field("value").struct.field("stringValue")
    role_key = key.str.replace(r"\.content$", ".role")
    is_user = ((key.shift(1) == role_key) & (value.shift(1) == "user")) | (
        (key.shift(-1) == role_key) & (value.shift(-1) == "user")
    )
    return found.list.eval(value.filter(key.str.ends_with(".content") & is_user)).list.join(
        BLANK_LINE, ignore_nulls=True
    )


def _event_prompt(events: Any) -> pl.Expr:
    """What events of a span say of the request: messages as an attribute, or one event for each of the user's."""
    entry, pair = pl.element().struct, pl.element().struct
    value = pair.field("value").struct.field("stringValue")
    asked = (
        entry.field("attributes").list.eval(value.filter(pair.field("key").is_in(ATTRIBUTES["prompt"]))).list.first()
    )
    content = pl.coalesce(
        entry.field("attributes").list.eval(value.filter(pair.field("key") == "content")).list.first(),
        entry.field("attributes")
        .list.eval(value.filter(pair.field("key") == "gen_ai.event.content"))
        .list.first()
        .str.json_path_match("$.content"),
    )
    turns = events.eval(content.filter(entry.field("name") == "gen_ai.user.message").drop_nulls()).list.join(BLANK_LINE)
    return pl.coalesce(events.eval(asked.drop_nulls()).list.first(), pl.when(turns != "").then(turns))


def _calls(columns: Columns) -> dict[str, pl.Expr]:
    names = ATTRIBUTES
    texts = {key: columns.text(*names[key]) for key in ("provider", "processing", "operation", "requested_model")}
    model = pl.coalesce(columns.text(*names["model"]), texts["requested_model"])
    status = columns.integer("http.response.status_code")
    failed = (
        columns.text("error.type").is_not_null()
        | columns.text("code").is_in(["2", "STATUS_CODE_ERROR"])
        | (status >= 400).fill_null(value=False)
    )
    started, ended = columns.moment("startTimeUnixNano"), columns.moment("endTimeUnixNano")
    tokens = _tokens(columns)
    asked = prompt(columns.text(*names["prompt"], "told"), TEXT, plain=False)
    return {
        "call_id": columns.text(*names["call_id"], "spanId"),
        "called_at": pl.coalesce(started, ended),
        "provider": provider(texts["provider"]),
        "base_url": _base_url(columns),
        "model": model,
        "requested_model": texts["requested_model"],
        "processing": processing(texts["processing"]),
        "operation": operation(texts["operation"]),
        **tokens,
        "logged_usd": columns.usd(*names["logged_usd"]),
        "outcome": pl.when(failed).then(pl.lit("failed")).otherwise(pl.lit("ok")),
        "error_code": pl.when(failed).then(columns.text(*names["error_code"])),
        "latency_s": seconds(started, ended),
        "tenant": columns.text(*(f"resource.{name}" for name in names["tenant"])),
        "prompt": pl.coalesce(asked, columns.text("asked")),
        IS_CALL: _is_call(columns, model, texts["operation"], tokens) | ~pl.col("readable"),
    }


def _is_call(columns: Columns, model: pl.Expr, named: pl.Expr, tokens: dict[str, pl.Expr]) -> pl.Expr:
    """By its operation; else by its model or, unless it is an agent's sum, its usage."""
    used = pl.any_horizontal(tokens[name].is_not_null() for name in ("input_tokens", "output_tokens"))
    has_sign = model.is_not_null() | (used & columns.text("gen_ai.agent.name", "agent_name").is_null())
    around = named.str.to_lowercase().str.contains(_NOT_CALLS).fill_null(value=False)
    return operation(named).is_in(_CALLS).fill_null(value=False) | (has_sign & ~around)


def _tokens(columns: Columns) -> dict[str, pl.Expr]:
    kinds = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    tokens = {kind: columns.integer(*ATTRIBUTES[kind]) for kind in kinds}
    cached, written = tokens["cached_tokens"], tokens["cache_write_tokens"]
    return tokens | {
        "input_tokens": inclusive_input(tokens["input_tokens"], cached=cached, written=written, apart=False)
    }


def _base_url(columns: Columns) -> pl.Expr:
    address, port = columns.text("server.address"), columns.integer("server.port")
    address = pl.when(address.str.starts_with("http")).then(address).otherwise("https://" + address)
    return pl.when(port.is_null() | (port == 443)).then(address).otherwise(pl.format("{}:{}", address, port))


OTEL = Format(
    name="otel",
    needs=(("resourceSpans",),),
    fields=_FIELDS,
    calls=_calls,
    prompts=("resourceSpans",),
    prepare=_prepare,
    mend=_mend,
    odd=_STRUCTURED,
)
