"""Helicone: what its export tool writes (JSON lines or CSV), and dumps of its query API.

Its counts are buckets: `prompt_tokens` leaves out tokens read from a provider's cache, `completion_tokens` those of
reasoning where the row has them apart. Where an export holds the bodies (`--include-body`), the provider's own usage
goes before these counts.
"""

import polars as pl

from routing.call_logs.columns import PAIRS, Columns
from routing.call_logs.layout import TEXT, Format, Prepared, operation, processing, provider
from routing.call_logs.prompts import REQUEST, mend_request, mending
from routing.call_logs.tokens import counts_cache_apart
from routing.call_logs.usage import USAGE, counted

_FIELDS: dict[str, pl.DataType] = {
    **dict.fromkeys(
        (
            *("request_id", "response_id", "request_created_at", "response_created_at", "response_status", "provider"),
            *("request_model", "response_model", "model", "target_url", "request_path", "request_user_id"),
            *("prompt_tokens", "prompt_cache_read_tokens", "prompt_cache_write_tokens", "completion_tokens"),
            *("reasoning_tokens", "cost", "costUSD", "cost_usd", "delay_ms", "latency", "cache_reference_id"),
        ),
        TEXT,
    ),
    "request_body": pl.Struct({**REQUEST.to_schema(), "model": TEXT}),
    "response_body": pl.Struct({"usage": USAGE, "model": TEXT, "service_tier": TEXT}),
    "request_properties": PAIRS,
    "properties": PAIRS,
}
_NOT_CACHED = "00000000-0000-0000-0000-000000000000"
_PATHS = {"embeddings": "embedding", r"chat/completions|/completions|messages|responses|generateContent": "chat"}


def _prepare(frame: pl.LazyFrame, columns: Columns) -> Prepared:
    """The tool's CSV doubles the quotes of JSON once more than CSV does: `{""model"":""gpt-4o""}`."""
    texts = [name for name in ("request_body", "request_properties") if columns.schema.get(name) == pl.String]
    doubled = [
        pl.when(pl.col(name).str.starts_with('{""'))
        .then(pl.col(name).str.replace_all('""', '"', literal=True))
        .otherwise(name)
        for name in texts
    ]
    return frame.with_columns(expr.alias(name) for name, expr in zip(texts, doubled, strict=True)), columns


def _calls(columns: Columns) -> dict[str, pl.Expr]:
    host = provider(columns.text("provider"))
    model = columns.text("response_model", "response_body.model", "model", "request_model")
    usage = columns.json("response_body.usage")
    status = columns.integer("response_status")
    failed = (status < 200) | (status >= 300)
    tier = columns.text("response_body.service_tier", "response_body.usage.service_tier")
    return {
        "call_id": columns.text("request_id", "response_id"),
        "called_at": columns.moment("request_created_at", "response_created_at"),
        "provider": host,
        "base_url": columns.text("target_url").str.extract(r"^(https?://[^/]+)"),
        "model": model,
        "requested_model": columns.text("request_model", "request_body.model", "model"),
        "processing": processing(tier),
        "operation": _operation(columns.text("request_path")),
        **_tokens(columns, counted(usage), apart=counts_cache_apart(host, model)),
        "logged_usd": columns.usd("cost", "costUSD", "cost_usd"),
        "billed": (columns.text("cache_reference_id") == _NOT_CACHED).fill_null(value=True),
        "outcome": pl.when(failed).then(pl.lit("failed")).otherwise(pl.lit("ok")),
        "error_code": pl.when(failed).then(status.cast(pl.String)),
        "latency_s": columns.number("delay_ms", "latency") / 1_000,
        "tenant": columns.text("request_user_id"),
        "prompt": columns.prompt("request_body"),
    }


def _tokens(columns: Columns, body: dict[str, pl.Expr], *, apart: pl.Expr) -> dict[str, pl.Expr]:
    """The provider's usage where the body has it, else Helicone's buckets put together."""
    cached, written = columns.integer("prompt_cache_read_tokens"), columns.integer("prompt_cache_write_tokens")
    reasoning = columns.integer("reasoning_tokens")
    written_apart = pl.when(apart).then(written).otherwise(0)
    buckets = {
        "input_tokens": columns.integer("prompt_tokens") + cached.fill_null(0) + written_apart.fill_null(0),
        "cached_tokens": cached,
        "cache_write_tokens": written,
        "output_tokens": columns.integer("completion_tokens") + reasoning.fill_null(0),
        "reasoning_tokens": reasoning,
    }
    has_body = body["input_tokens"].is_not_null()
    found = {name: pl.when(has_body).then(body[name]).otherwise(bucket) for name, bucket in buckets.items()}
    return found | {"cache_write_1h_tokens": pl.when(has_body).then(body["cache_write_1h_tokens"])}


def _operation(path: pl.Expr) -> pl.Expr:
    named = pl.coalesce(*(pl.when(path.str.contains(pattern)).then(pl.lit(name)) for pattern, name in _PATHS.items()))
    return operation(pl.coalesce(named, path))


HELICONE = Format(
    name="helicone",
    needs=(("request_created_at", "response_created_at"), ("response_status",), ("prompt_tokens",)),
    fields=_FIELDS,
    calls=_calls,
    prompts=("request_body",),
    prepare=_prepare,
    mend=mending(request_body=mend_request),
)
