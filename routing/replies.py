"""Read raw replies: ROUTED x ledger -> ANSWERED, vectorized, long after the replies were stored.

Every field is taken by JSON path, which gives null for what is missing or is no JSON at all: a reply that cannot be
read is a row with an error, and its raw text stays in the ledger.
"""

import json

import polars as pl

from schemas.queries import STATUSES, Answered

_CHOICE = "$.choices[0]"
_TEXT_PATHS = {
    "answer": f"{_CHOICE}.message.content",
    "refusal": f"{_CHOICE}.message.refusal",
    "finish_reason": f"{_CHOICE}.finish_reason",
    "served_model": "$.model",
    "service_tier": "$.service_tier",
}
_NUMBER_PATHS = {
    "input_tokens": "$.usage.prompt_tokens",
    "output_tokens": "$.usage.completion_tokens",
    "cached_tokens": "$.usage.prompt_tokens_details.cached_tokens",
    "reasoning_tokens": "$.usage.completion_tokens_details.reasoning_tokens",
}


def read_bodies(bodies: pl.DataFrame) -> pl.DataFrame:
    """Add the fields of a chat completion to a frame with a `body` column of raw replies; null where a field is absent.

    Adds answer, refusal, finish_reason, served_model, service_tier (String) and input_tokens, output_tokens,
    cached_tokens, reasoning_tokens (Int64).
    """
    body = _readable(bodies["body"]).str
    texts = {name: body.json_path_match(path) for name, path in _TEXT_PATHS.items()}
    numbers = {name: body.json_path_match(path) for name, path in _NUMBER_PATHS.items()}
    return bodies.with_columns(**texts, **numbers).with_columns(pl.col(*numbers).cast(pl.Int64, strict=False))


def _readable(bodies: pl.Series) -> pl.Series:
    """Mend the few bodies that are JSON to Python but not to polars: NaN, and halves of surrogate pairs.

    A paid answer is not lost to one broken emoji. Every chat completion has `choices`: only bodies that show none are
    looked at again, one by one.
    """
    unread = bodies.str.json_path_match("$.choices").is_null() & bodies.is_not_null()
    if not unread.any():
        return bodies
    broken = bodies.filter(unread).unique()
    mended = pl.Series([_mended(text) for text in broken], dtype=pl.String)
    return bodies.replace(broken, mended)


def _mended(body: str) -> str:
    try:
        value = json.loads(body, parse_constant=lambda _: None)
    except ValueError:
        return body
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()


def answer(routed: pl.DataFrame, replies: pl.DataFrame) -> pl.DataFrame:
    """ROUTED x ledger replies -> ANSWERED: one row out for each row in, same order; undecided rows are `unsent`.

    Args:
        routed: Rows of one part.
        replies: `Ledger.replies` of that part.
    """
    return Answered.validate(outcomes(routed, replies))


def outcomes(calls: pl.DataFrame, replies: pl.DataFrame) -> pl.DataFrame:
    """Add to any calls (rows with `call_key` and `model`) the columns that ANSWERED has beyond ROUTED.

    One row out for each row in, same order. The raw `body` stays beside them.
    """
    joined = calls.join(read_bodies(replies), on="call_key", how="left", maintain_order="left", validate="1:1")
    ended = pl.col("attempts").is_not_null()
    blank = pl.col("answer").fill_null("").str.strip_chars() == ""
    unread = pl.col("finish_reason").is_null() & pl.col("answer").is_null()
    error_code = (
        pl.when(~ended)
        .then(pl.lit("unsent"))
        .when(pl.col("error_code").is_not_null())
        .then(pl.col("error_code"))
        .when(unread)
        .then(pl.lit("malformed_response"))
        .when(pl.col("finish_reason") == "content_filter")
        .then(pl.lit("content_filter"))
        .when(blank & pl.col("refusal").is_not_null())
        .then(pl.lit("refusal"))
        .when(blank)
        .then(pl.lit("empty_response"))
        .when(pl.col("finish_reason") == "length")
        .then(pl.lit("length"))
    )
    status = (
        pl.when(~ended)
        .then(pl.lit("unsent"))
        .when(pl.col("error_code").is_null())
        .then(pl.lit("ok"))
        .when(pl.col("error_code") == "length")
        .then(pl.lit("truncated"))
        .otherwise(pl.lit("failed"))
    )
    return joined.with_columns(error_code=error_code).with_columns(
        status=status.cast(pl.Enum(list(STATUSES))),
        requested_model=pl.col("model"),
        attempts=pl.col("attempts").fill_null(0),
        answered_at=pl.from_epoch(
            (pl.col("replied_at") * 1_000_000).cast(pl.Int64), time_unit="us"
        ).dt.replace_time_zone("UTC"),
        error_message=pl.coalesce("error_message", _messages()),
        cached_tokens=pl.when(pl.col("input_tokens").is_not_null()).then(pl.col("cached_tokens").fill_null(0)),
        reasoning_tokens=pl.when(pl.col("output_tokens").is_not_null()).then(pl.col("reasoning_tokens").fill_null(0)),
    )


def _messages() -> pl.Expr:
    """Say what an error means when the provider said nothing."""
    said = {
        "malformed_response": "the reply was HTTP 200 but no chat completion; its raw text is in the ledger",
        "content_filter": "the provider's content filter withheld the answer",
        "empty_response": "the reply held no text; its tokens are billed",
        "length": "the answer was cut at the output token limit",
        "unsent": "the run stopped before this query was sent",
    }
    code = pl.col("error_code")
    refusal = pl.when(code == "refusal").then(pl.col("refusal"))
    return pl.coalesce(refusal, code.replace_strict(said, default=None, return_dtype=pl.String))
