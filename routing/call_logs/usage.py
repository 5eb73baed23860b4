"""Usage objects as the APIs themselves return them: chat completions, responses and Anthropic's messages."""

import polars as pl

from routing.call_logs.json_text import count_at, object_at
from routing.call_logs.layout import TEXT
from routing.call_logs.tokens import inclusive_input, inclusive_written

_INPUT_DETAILS = pl.Struct({"cached_tokens": TEXT, "cache_write_tokens": TEXT})
_OUTPUT_DETAILS = pl.Struct({"reasoning_tokens": TEXT})
USAGE = pl.Struct(
    {
        **dict.fromkeys(("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "service_tier"), TEXT),
        **dict.fromkeys(("cache_read_input_tokens", "cache_creation_input_tokens", "prompt_cache_hit_tokens"), TEXT),
        "cache_creation": pl.Struct(dict.fromkeys(("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"), TEXT)),
        "prompt_tokens_details": _INPUT_DETAILS,
        "input_tokens_details": _INPUT_DETAILS,
        "completion_tokens_details": _OUTPUT_DETAILS,
        "output_tokens_details": _OUTPUT_DETAILS,
    }
)
"""What is read of it, for JSON lines."""


def without_steps(usage: pl.Expr) -> pl.Expr:
    """A usage object as text, without what it counts step by step: the same keys, which may come first."""
    return usage.str.replace(r'"iterations"\s*:\s*\[[^\]]*\]', '"iterations":[]')


def counted(usage: pl.Expr) -> dict[str, pl.Expr]:
    """Read a usage object in our convention; null where there is none.

    `prompt_tokens`, and `input_tokens` of the responses API, include cached tokens. `input_tokens` beside
    `cache_read_input_tokens` or `cache_creation_input_tokens` is Anthropic's and does not.

    Args:
        usage: Its JSON text.
    """
    usage = without_steps(usage)
    details = pl.coalesce(object_at(usage, "prompt_tokens_details"), object_at(usage, "input_tokens_details"))
    read_apart, written_apart = (
        count_at(usage, "cache_read_input_tokens"),
        count_at(usage, "cache_creation_input_tokens"),
    )
    prompt = count_at(usage, "prompt_tokens")
    cached = pl.coalesce(count_at(details, "cached_tokens"), read_apart, count_at(usage, "prompt_cache_hit_tokens"))
    minutes, hour = (count_at(usage, f"ephemeral_{age}_input_tokens") for age in ("5m", "1h"))
    written_apart = pl.coalesce(written_apart, minutes + hour)
    written = inclusive_written(pl.coalesce(count_at(details, "cache_write_tokens"), written_apart), hour=hour)
    apart = prompt.is_null() & pl.any_horizontal(read_apart.is_not_null(), written_apart.is_not_null())
    tokens = pl.coalesce(prompt, count_at(usage, "input_tokens"))
    return {
        "input_tokens": inclusive_input(tokens, cached=cached, written=written, apart=apart),
        "cached_tokens": cached,
        "cache_write_tokens": written,
        "cache_write_1h_tokens": hour,
        "output_tokens": pl.coalesce(count_at(usage, "completion_tokens"), count_at(usage, "output_tokens")),
        "reasoning_tokens": count_at(usage, "reasoning_tokens"),
    }
