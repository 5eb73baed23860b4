"""LiteLLM: dumps of the table LiteLLM_SpendLogs.

Read from the sources of releases 1.60 to 1.109. LiteLLM brings all usage into OpenAI's shape before it logs it, so
`prompt_tokens` includes cached tokens whoever the provider is. It did not always include those written to the cache:

* up to 1.65 it does; `metadata` has no `usage_object`
* 1.66 to 1.77 it does not; `usage_object.prompt_tokens_details` has no count of them
* from 1.78 on it does; the count is there as `cache_creation_tokens`, later also `cache_write_tokens`
"""

import polars as pl

from routing.call_logs.columns import Columns
from routing.call_logs.json_text import count_at, object_at, without_foreign_keys, word_at
from routing.call_logs.layout import TEXT, Format, Prepared, operation, outcome, processing, provider
from routing.call_logs.prompts import MESSAGES, REQUEST, mend_messages, mend_request, mending
from routing.call_logs.times import seconds
from routing.call_logs.tokens import inclusive_input, inclusive_written
from routing.call_logs.usage import without_steps

_DETAILS = pl.Struct(
    {
        **dict.fromkeys(("cached_tokens", "cache_creation_tokens", "cache_write_tokens"), TEXT),
        "cache_creation_token_details": pl.Struct({"ephemeral_1h_input_tokens": TEXT}),
    }
)
_USAGE = pl.Struct(
    {
        "prompt_tokens_details": _DETAILS,
        "completion_tokens_details": pl.Struct({"reasoning_tokens": TEXT}),
        "cache_read_input_tokens": TEXT,
        "cache_creation_input_tokens": TEXT,
        "service_tier": TEXT,
        "speed": TEXT,
    }
)
_METADATA = pl.Struct(
    {
        "usage_object": _USAGE,
        "additional_usage_values": _USAGE,
        "error_information": pl.Struct({"error_code": TEXT, "error_class": TEXT}),
        "cost_breakdown": pl.Struct({"service_tier": TEXT}),
        "attempted_retries": TEXT,
    }
)
_FIELDS: dict[str, pl.DataType] = {
    **dict.fromkeys(
        (
            *("request_id", "call_type", "spend", "prompt_tokens", "completion_tokens", "startTime", "endTime"),
            *("request_duration_ms", "model", "model_group", "custom_llm_provider", "api_base", "cache_hit", "status"),
            *("team_id", "user", "end_user"),
        ),
        TEXT,
    ),
    "metadata": _METADATA,
    "messages": MESSAGES,
    "proxy_server_request": REQUEST,
    "response": pl.Struct({"service_tier": TEXT, "usage": pl.Struct({"service_tier": TEXT})}),
}
_REDACTED = ["redacted-by-litellm", "REDACTED_BY_LITELM"]
_PREFIX = (
    r"^(openai|azure|azure_ai|anthropic|bedrock|vertex_ai|gemini|mistral|groq|deepseek|xai|openrouter|cohere|perplexity"
    r"|together_ai|fireworks_ai)/"
)
"""LiteLLM's names of providers, before the model's in rows without `custom_llm_provider`."""
_BATCHES = ["retrieve_batch", "aretrieve_batch"]
"""Rows of a whole batch: written when its results are fetched."""


def _prepare(frame: pl.LazyFrame, columns: Columns) -> Prepared:
    """Find what is in the metadata, each thing once: polars would search anew for every column it is used in."""
    metadata, usage = pl.col("__metadata"), pl.col("__usage")
    frame = frame.with_columns(__metadata=without_foreign_keys(columns.json("metadata"), _METADATA, of="_metadata"))
    if columns.schema.get("response") == pl.String:  # it holds the whole answer: parsed only where that may help
        has_tier = pl.col("response").str.contains('"service_tier"', literal=True)
        frame = frame.with_columns(response=pl.when(has_tier).then("response"))
    frame = frame.with_columns(__newer=object_at(metadata, "usage_object"))
    older = object_at(pl.when(pl.col("__newer").is_null()).then(metadata), "additional_usage_values")
    frame = frame.with_columns(__usage=without_steps(pl.coalesce("__newer", older))).with_columns(
        __cached=count_at(usage, "cached_tokens"),
        __hour=count_at(usage, "ephemeral_1h_input_tokens"),
        __counted=pl.coalesce(count_at(usage, "cache_creation_tokens"), count_at(usage, "cache_write_tokens")),
        __error=object_at(metadata, "error_information", rare=True),
    )
    frame = frame.with_columns(__counted=inclusive_written(pl.col("__counted"), hour=pl.col("__hour")))
    cached = count_at(pl.when(pl.col("__cached").is_null()).then(usage), "cache_read_input_tokens")
    written = count_at(pl.when(pl.col("__counted").is_null()).then(usage), "cache_creation_input_tokens")
    frame = frame.with_columns(__cached=pl.coalesce("__cached", cached), __written=pl.coalesce("__counted", written))
    host = pl.coalesce(columns.text("custom_llm_provider"), columns.text("model").str.extract(_PREFIX))
    return frame.with_columns(__host=host, __tier=_logged_tier(columns)).with_columns(__tier=_tier(usage)), columns


def _calls(columns: Columns) -> dict[str, pl.Expr]:
    usage, error, cached, written = (pl.col(f"__{name}") for name in ("usage", "error", "cached", "written"))
    left_out = pl.col("__newer").is_not_null() & pl.col("__counted").is_null() & (written > 0)
    tokens = columns.integer("prompt_tokens") + pl.when(left_out).then(written).otherwise(0)
    started, ended = columns.moment("startTime"), columns.moment("endTime")
    call_id, kind = columns.text("request_id"), columns.text("call_type")
    host, model = pl.col("__host"), columns.text("model")
    return {
        "call_id": pl.when(call_id != "None").then(call_id),  # str(None): LiteLLM had no id
        "called_at": pl.coalesce(started, ended),
        "provider": provider(host),
        "base_url": columns.text("api_base"),
        "model": pl.when(model != "unknown-model").then(model.str.strip_prefix(host.fill_null("") + "/")),
        "requested_model": columns.text("model_group"),
        "processing": pl.when(kind.is_in(_BATCHES)).then(pl.lit("batch")).otherwise("__tier"),
        "operation": operation(kind),
        "input_tokens": inclusive_input(tokens, cached=cached, written=written, apart=False),
        "cached_tokens": cached,
        "cache_write_tokens": written,
        "cache_write_1h_tokens": pl.col("__hour"),
        "output_tokens": columns.integer("completion_tokens"),
        "reasoning_tokens": count_at(usage, "reasoning_tokens"),
        "logged_usd": columns.usd("spend"),
        "billed": ~columns.flag("cache_hit").fill_null(value=False),
        "outcome": outcome(columns.text("status")),
        "error_code": pl.coalesce(word_at(error, "error_code"), word_at(error, "error_class")),
        "attempts": count_at(pl.col("__metadata"), "attempted_retries") + 1,
        "latency_s": pl.coalesce(columns.number("request_duration_ms") / 1_000, seconds(started, ended)),
        "tenant": columns.text("team_id"),
        "prompt": _prompt(columns),
    }


def _logged_tier(columns: Columns) -> pl.Expr:
    """Of the usage, the cost breakdown or the response; a null is passed over."""
    cost = object_at(pl.col("__metadata"), "cost_breakdown", rare=True)
    logged = [text.str.extract(r'"service_tier"\s*:\s*"(\w+)"') for text in (pl.col("__usage"), cost)]
    return pl.coalesce(*logged, columns.text("response.service_tier", "response.usage.service_tier"))


def _tier(usage: pl.Expr) -> pl.Expr:
    fast = pl.when(usage.str.contains(r'"speed"\s*:\s*"fast"')).then(pl.lit("fast"))
    return pl.coalesce(fast, processing(pl.col("__tier")))


def _prompt(columns: Columns) -> pl.Expr:
    text = columns.prompt("messages", "proxy_server_request")
    return pl.when(~text.is_in(_REDACTED)).then(text)


LITELLM = Format(
    name="litellm",
    needs=(("request_id",), ("startTime",), ("spend", "call_type")),
    fields=_FIELDS,
    calls=_calls,
    prompts=("messages", "proxy_server_request"),
    prepare=_prepare,
    mend=mending(messages=mend_messages, proxy_server_request=mend_request),
)
