"""Score: QUERIES -> SCORED, in vectorized batches, before any money is spent."""

import polars as pl
import polars_hash as plh

from routing.routers import Router
from schemas.queries import Scored

TOKENS_PER_MESSAGE = 4
TOKENS_PER_REPLY = 3
"""Framing of chat messages, OpenAI cookbook "How to count tokens": 4 tokens around a message, 3 that open the reply."""

DERIVED_ID_LENGTH = 24
"""Hex digits (96 bits) of the content digest in a derived id."""

_CONTENT = ("prompt", "messages_json", "system", "max_output_tokens")
_NULL = "-"


def stable_hash(column: str) -> pl.Expr:
    """Hash a string column to UInt64, the same on every machine and in every version (polars' own hash is not)."""
    return plh.col(column).nchash.wyhash()


def content_sha256() -> pl.Expr:
    """Digest what is sent for a query: sha256 of `<bytes>:<text>` for each field, `-` for null; no two share one."""
    texts = [pl.col(name).cast(pl.String) for name in _CONTENT]
    parts = [pl.format("{}:{}", text.str.len_bytes(), text).fill_null(_NULL) for text in texts]
    return plh.concat_str(parts).chash.sha2_256()


def score(queries: pl.DataFrame, router: Router) -> pl.DataFrame:
    """QUERIES -> SCORED: add win rates, token estimates and digests; one row out for each row in, same order.

    Derived ids are still without their ordinal here, because equal contents may stand in different parts: see
    `identify`.
    """
    rates = router.win_rates(queries["prompt"].to_list())
    other = queries.select("row", "other_text").filter(pl.col("other_text").is_not_null())
    other_tokens = pl.DataFrame(
        {"row": other["row"], "other_tokens": router.count_tokens(other["other_text"].to_list())},
        schema={"row": pl.UInt32, "other_tokens": pl.Int64},
    )
    framing = TOKENS_PER_REPLY + TOKENS_PER_MESSAGE * pl.col("n_messages").cast(pl.Int64)
    scored = (
        queries.with_columns(
            content_sha256=content_sha256(),
            win_rate=pl.Series(rates.win_rate, dtype=pl.Float64),
            text_tokens=pl.Series(rates.tokens, dtype=pl.Int64),
        )
        .join(other_tokens, on="row", how="left", maintain_order="left")
        .with_columns(
            query_id=pl.coalesce("given_id", pl.col("content_sha256").str.slice(0, DERIVED_ID_LENGTH)),
            prompt_tokens=pl.col("text_tokens") + pl.col("other_tokens").fill_null(0) + framing,
        )
        .with_columns(tie_key=stable_hash("query_id"))
    )
    return Scored.validate(scored)


def repeated(ids: pl.DataFrame) -> pl.DataFrame:
    """Find repeated ids in a whole table: return part, row and ordinal of every occurrence but the first.

    Args:
        ids: Columns `part`, `row` and the two hashes `id_hash`, `id_check` of the id, in table order.
    """
    ordinal = pl.int_range(pl.len(), dtype=pl.UInt32).over("id_hash", "id_check").alias("ordinal")
    return ids.with_columns(ordinal).filter(pl.col("ordinal") > 0).select("part", "row", "ordinal")


def id_hashes() -> tuple[pl.Expr, pl.Expr]:
    """Two independent 64-bit hashes of the id: together 128 bits, so that whole tables of ids fit into memory."""
    return (
        plh.col("query_id").nchash.wyhash().alias("id_hash"),
        plh.col("query_id").nchash.xxh3_64().alias("id_check"),
    )


def number_derived(scored: pl.DataFrame, ordinals: pl.DataFrame) -> pl.DataFrame:
    """SCORED -> SCORED: give derived ids their ordinal (`<digest>-0`, `-1`, ...), which makes them unique in the table.

    Args:
        scored: Rows of one part whose ids were derived from content.
        ordinals: `row`, `ordinal` of the repeated ids of this part.
    """
    numbered = scored.join(ordinals.select("row", "ordinal"), on="row", how="left", maintain_order="left").with_columns(
        query_id=pl.format("{}-{}", "query_id", pl.col("ordinal").fill_null(0))
    )
    return Scored.validate(numbered.with_columns(tie_key=stable_hash("query_id")).drop("ordinal"))
