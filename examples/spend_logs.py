"""Rows of LiteLLM_SpendLogs, the table that the LiteLLM proxy writes one row a call to (its schema.prisma).

Only columns that say something are filled. What a provider reports of the tokens stands as JSON in `metadata`. The
proxy is upgraded in between: from then on the prompts stand in `proxy_server_request`, no longer in `messages`, and
`prompt_tokens` includes the tokens that Anthropic wrote to its cache, as it does since release 1.78.
"""

import hashlib
import json
from datetime import UTC, datetime

import polars as pl

from examples.log_traffic import EMBEDDING, MODELS, TENANTS

UPGRADED_AT = datetime(2026, 8, 20, tzinfo=UTC)
_UPGRADED = pl.col("called_at") >= UPGRADED_AT
_PROMPT_TOKENS = pl.col("input_tokens") - pl.when(_UPGRADED).then(0).otherwise("cache_write_tokens")

# By model, in the order of log_traffic.
ALIASES = ("smart", "fast", "haiku", "flash", "embedder", "in-house")
PROVIDERS = ("openai", "openai", "anthropic", "gemini", "openai", "hosted_vllm")
ENDPOINTS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "hosted_vllm": "http://models.internal:8000/v1",
}
ERRORS = (("429", "RateLimitError"), ("500", "InternalServerError"), ("408", "Timeout"), ("400", "BadRequestError"))
SYSTEM = '{"role":"system","content":"You are a careful assistant. Answer in the language of the user."}'


def spend_logs(rows: pl.DataFrame, pool: pl.DataFrame) -> pl.DataFrame:
    """Rows of the log -> LiteLLM_SpendLogs.

    Args:
        rows: What `make_log.write_down` gives.
        pool: The prompts.
    """
    assert len(MODELS) == len(ALIASES) == len(PROVIDERS)
    found = rows.with_columns(
        team=_of(TENANTS, rows["tenant"]),
        alias=_of(ALIASES, rows["model"]),
        provider=_of(PROVIDERS, rows["model"]),
        code=_of([code for code, _ in ERRORS], (rows["error"] * len(ERRORS)).cast(pl.Int64)),
        kind=_of([kind for _, kind in ERRORS], (rows["error"] * len(ERRORS)).cast(pl.Int64)),
        text=_of([json.dumps(prompt, ensure_ascii=False)[1:] for prompt in pool["prompt"]], rows["prompt"]),
        key=_of([hashlib.sha256(name.encode()).hexdigest() for name in TENANTS], rows["tenant"]),
    ).with_columns(
        messages=pl.concat_str(pl.lit(f'[{SYSTEM},{{"role":"user","content":"'), _ticket(), "text", pl.lit("}]")),
    )
    start = pl.when(~pl.col("damaged")).then(pl.col("called_at").dt.replace_time_zone(None))
    took = pl.duration(milliseconds=(pl.col("latency_s") * 1_000).round().cast(pl.Int64))
    old, new = ~_UPGRADED & ~pl.col("no_prompt"), _UPGRADED & ~pl.col("no_prompt")
    request = pl.concat_str(pl.lit('{"model":"'), "alias", pl.lit('","messages":'), "messages", pl.lit("}"))
    return found.select(
        request_id=_request_id(),
        call_type=pl.when(model=EMBEDDING).then(pl.lit("aembedding")).otherwise(pl.lit("acompletion")),
        api_key="key",
        spend="spend",
        total_tokens=_PROMPT_TOKENS + pl.col("output_tokens"),
        prompt_tokens=_PROMPT_TOKENS,
        completion_tokens="output_tokens",
        startTime=start,
        endTime=start + took,
        completionStartTime=start + took,
        model="name",
        model_id=pl.lit(None, pl.String),
        model_group="alias",
        custom_llm_provider="provider",
        api_base=pl.col("provider").replace_strict(ENDPOINTS),
        user=pl.lit("default_user_id"),
        metadata=_metadata().struct.json_encode(),
        cache_hit=pl.when("cache_hit").then(pl.lit("True")).otherwise(pl.lit("None")),
        cache_key=pl.lit("Cache OFF"),
        request_tags=pl.lit("[]"),
        team_id="team",
        organization_id=pl.lit(None, pl.String),
        end_user=pl.lit(""),
        requester_ip_address=pl.lit(None, pl.String),
        messages=pl.when(old).then("messages").otherwise(pl.lit("{}")),
        response=pl.lit("{}"),
        session_id=pl.lit(None, pl.String),
        status=pl.when("failed").then(pl.lit("failure")).otherwise(pl.lit("success")),
        proxy_server_request=pl.when(new).then(request).otherwise(pl.lit("{}")),
    )


def _of(names: tuple[str, ...] | list[str], index: pl.Series) -> pl.Series:
    return pl.Series(names, dtype=pl.String).gather(index)


def _ticket() -> pl.Expr:
    """Some prompts come from a help desk, under a running number."""
    return pl.when(pl.col("ticket") > 0).then(pl.format("Ticket #{}: ", "ticket")).otherwise(pl.lit(""))


def _request_id() -> pl.Expr:
    """The provider's response id; the proxy makes that of a cached answer unique."""
    number = pl.col("call").cast(pl.String).str.zfill(9)
    return (
        pl.when("null_id")
        .then(pl.lit(None, pl.String))
        .when("static_id")
        .then(pl.lit("cmpl-0"))
        .when("damaged")
        .then(pl.format("torn-{}", number))
        .when("cache_hit")
        .then(pl.format("chatcmpl-{}_cache_hit{}", number, pl.col("called_at").dt.epoch("ms")))
        .otherwise(pl.format("chatcmpl-{}", number))
    )


def _metadata() -> pl.Expr:
    details = pl.struct("cached_tokens", cache_creation_tokens=pl.when(_UPGRADED).then("cache_write_tokens"))
    usage = pl.struct(
        prompt_tokens=_PROMPT_TOKENS,
        completion_tokens="output_tokens",
        total_tokens=_PROMPT_TOKENS + pl.col("output_tokens"),
        prompt_tokens_details=details,
        completion_tokens_details=pl.struct("reasoning_tokens"),
        cache_creation_input_tokens="cache_write_tokens",
        cache_read_input_tokens="cached_tokens",
    )
    error = pl.struct(error_code="code", error_class="kind", llm_provider="provider", error_message=pl.lit(""))
    return pl.struct(
        status=pl.when("failed").then(pl.lit("failure")).otherwise(pl.lit("success")),
        user_api_key_team_id="team",
        user_api_key_team_alias="team",
        attempted_retries="retries",
        error_information=pl.when("failed").then(error),
        usage_object=pl.when(~pl.col("failed")).then(usage),
    )
