"""One convention for tokens: cached and cache-write tokens inside the input, reasoning inside the output."""

import polars as pl


def counts_cache_apart(provider: pl.Expr, model: pl.Expr) -> pl.Expr:
    """Whether the API of a call leaves cached and cache-write tokens out of its input tokens, row by row.

    Anthropic's does, also on Vertex AI, and so does Bedrock's for every model; OpenAI's and all that copy it do not.
    """
    host = provider.str.to_lowercase().fill_null("")
    native = host.str.contains(r"anthropic|bedrock|^aws|^amazon")
    claude = model.str.to_lowercase().str.contains("claude", literal=True).fill_null(value=False)
    return native | (claude & ((host == "") | host.str.contains(r"vertex|google|^gcp|gemini")))


def inclusive_written(tokens: pl.Expr, *, hour: pl.Expr) -> pl.Expr:
    """Tokens written to the cache with those for an hour in them: where these are more, they are apart."""
    return pl.when(hour > tokens.fill_null(0)).then(tokens.fill_null(0) + hour).otherwise(tokens)


def inclusive_input(tokens: pl.Expr, *, cached: pl.Expr, written: pl.Expr, apart: pl.Expr | bool) -> pl.Expr:
    """Input tokens with those of the cache in them.

    Args:
        tokens: Input tokens as logged.
        cached: Read from the cache.
        written: Written to it.
        apart: Whether `tokens` leaves them out. A part that is larger than the whole is apart in any case.
    """
    cache = cached.fill_null(0) + written.fill_null(0)
    outside = pl.lit(apart) if isinstance(apart, bool) else apart
    return pl.when(outside | (cache > tokens)).then(tokens + cache).otherwise(tokens)


def inclusive_output(tokens: pl.Expr, *, reasoning: pl.Expr) -> pl.Expr:
    """Output tokens with those of reasoning in them: where they are more than the whole (Gemini), they are apart."""
    return pl.when(reasoning > tokens).then(tokens + reasoning).otherwise(tokens)
