"""Embeddings that a provider computes: which texts go into one request, and what came back, read from the ledger.

A batch names its texts by digest in the ledger's `query_id`, so that a vector belongs to a prompt and never to the
batch it came in: other batches, another batch size or a kill between them change nothing that was paid for.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np
import polars as pl
import polars_hash as plh
from numpy.typing import NDArray
from tokenizers import Tokenizer

from routing.dispatch import Usage
from routing.ledger import Ledger, LedgerReader
from routing.pricing import RateCard, Unpriced

DIGEST_LENGTH = 24
"""Hex digits (96 bits) that name a text."""

REFUSED_CODES = ("bad_request", "context_length", "too_large", "unprocessable", "content_filter")
"""The endpoint will not embed this request. One text can spoil a batch, so its texts are sent again one by one."""

MAX_CUTS = 3
"""A text that is refused alone is halved this often: providers count other tokens than we do."""


def digests(texts: pl.Series) -> pl.Series:
    """Return the names of texts, 24 hex digits of their SHA-256 each."""
    name = plh.col("text").chash.sha2_256().str.slice(0, DIGEST_LENGTH)
    return pl.DataFrame({"text": texts}, schema={"text": pl.String}).select(name).to_series()


def cut(tokenizer: Tokenizer, text: str, max_tokens: int) -> str:
    """Return the start of a text that holds at most `max_tokens` tokens, and at least its first character."""
    offsets = tokenizer.encode(text, add_special_tokens=False).offsets
    return text if len(offsets) <= max_tokens else text[: max(1, offsets[max_tokens - 1][1])]


def batches(tokens: NDArray[np.int64], *, max_texts: int, max_tokens: int) -> Iterator[slice]:
    """Yield runs of texts of at most `max_texts` texts and `max_tokens` tokens; a longer text is a run of its own.

    Args:
        tokens: Length of each text, shape (n,).
        max_texts: Texts in one request.
        max_tokens: Tokens in one request.
    """
    ends = np.cumsum(tokens)
    start = 0
    while start < len(tokens):
        before = ends[start - 1] if start else 0
        full = int(np.searchsorted(ends, before + max_tokens, side="right"))
        stop = max(start + 1, min(start + max_texts, full))
        yield slice(start, stop)
        start = stop


def read_vectors(body: str, *, n: int, dim: int) -> NDArray[np.float32] | None:
    """Return the vectors of a reply in the order of its request, shape (n, dim); null when they are not all there.

    Servers that do not know `encoding_format = "base64"` answer with lists of numbers; both are read.
    """
    try:
        data = sorted(json.loads(body)["data"], key=lambda item: item["index"])
        if [item["index"] for item in data] != list(range(n)):
            return None
        vectors = np.stack([_vector(item["embedding"]) for item in data])
    except (ValueError, TypeError, KeyError, binascii.Error):
        return None
    return vectors if vectors.shape == (n, dim) and bool(np.isfinite(vectors).all()) else None


def _vector(value: str | Sequence[float]) -> NDArray[np.float32]:
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
    return np.array(value, np.float32)


def usage_reader(rates: RateCard | Unpriced) -> Usage:
    """Tokens and cost of a raw reply, for the guards only: the booked cost is computed from the ledger."""

    def tokens(body: str) -> int | None:
        try:
            reply = json.loads(body)
            used = reply.get("usage") or {}
            found = used.get("prompt_tokens", used.get("total_tokens"))
            # Vectors without a count are no failure: some servers do not count.
            return int(found) if found is not None else 0 if reply["data"] else None
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def cost_usd(body: str) -> Decimal:
        if isinstance(rates, Unpriced):
            return Decimal(0)
        return (tokens(body) or 0) * rates.input_usd_per_mtok / 1_000_000 + rates.request_usd

    return Usage(tokens, cost_usd)


def query_id(names: Sequence[str]) -> str:
    """Name a batch in the ledger: the digests of its texts, one after the other."""
    return "".join(names)


def _names(column: str = "query_id") -> pl.Expr:
    """Digests of a batch, as a list."""
    return pl.col(column).str.extract_all(f".{{{DIGEST_LENGTH}}}")


class EmbeddingReader(LedgerReader):
    """Questions to a ledger of embedding requests; all its calls are of part 0."""

    def answered(self) -> pl.DataFrame:
        """Return one row a text that has its vector: digest, send_id, place (of the text in its request)."""
        found = self._query(
            "SELECT e.send_id, s.query_id FROM ends e JOIN sends s ON s.id = e.send_id WHERE e.error_code IS NULL",
            {"send_id": pl.Int64(), "query_id": pl.String()},
        )
        places = pl.int_ranges(pl.col("digest").list.len()).alias("place")
        texts = found.select("send_id", _names().alias("digest")).with_columns(places).explode("digest", "place")
        return texts.unique("digest", keep="first", maintain_order=True)

    def refused(self) -> pl.DataFrame:
        """Return one row a text that was refused: digest, alone (how often it was refused in a request of its own)."""
        found = self._query(
            "SELECT s.query_id FROM ends e JOIN sends s ON s.id = e.send_id"
            " WHERE e.error_code IN (SELECT value FROM json_each(?))",
            {"query_id": pl.String()},
            json.dumps(REFUSED_CODES),
        )
        alone = (pl.col("query_id").str.len_bytes() == DIGEST_LENGTH).alias("alone")
        texts = found.select(alone, _names().alias("digest")).explode("digest")
        return texts.group_by("digest", maintain_order=True).agg(pl.col("alone").sum().cast(pl.Int64))

    def to_repeat(self) -> pl.DataFrame:
        """Return the refused texts that have no vector and are not given up: digest, alone.

        As long as the endpoint has answered nothing, its refusals are not held against a text.
        """
        refused, answered = self.refused(), self.answered()
        if answered.is_empty():
            return refused.with_columns(alone=pl.lit(0, pl.Int64))
        return refused.filter(pl.col("alone") <= MAX_CUTS).join(
            answered, on="digest", how="anti", maintain_order="left"
        )

    def refusals(self, since: int) -> pl.DataFrame:
        """Return the calls refused after a send id: error_code, error_message."""
        return self._query(
            "SELECT e.error_code, r.error_message FROM ends e JOIN replies r USING (send_id)"
            " WHERE e.send_id > ? AND e.error_code IN (SELECT value FROM json_each(?)) ORDER BY e.send_id",
            {"error_code": pl.String(), "error_message": pl.String()},
            since,
            json.dumps(REFUSED_CODES),
        )

    def has_answers(self, since: int) -> bool:
        """Whether a call after a send id brought its vectors."""
        found = self._query(
            "SELECT EXISTS(SELECT 1 FROM ends WHERE send_id > ? AND error_code IS NULL)", {"found": pl.Int64()}, since
        )
        return bool(found.item())

    def vectors(self, send_ids: Sequence[int], *, dim: int) -> dict[int, NDArray[np.float32]]:
        """Return the vectors of some answered requests, by send id."""
        found = self._query(
            "SELECT r.send_id, s.query_id, r.body FROM replies r JOIN sends s ON s.id = r.send_id"
            " WHERE r.send_id IN (SELECT value FROM json_each(?))",
            {"send_id": pl.Int64(), "query_id": pl.String(), "body": pl.String()},
            json.dumps(list(send_ids)),
        )
        vectors = {}
        for send_id, names, body in found.iter_rows():
            read = read_vectors(body, n=len(names) // DIGEST_LENGTH, dim=dim)
            assert read is not None, f"the reply of send {send_id} was read when it came"
            vectors[send_id] = read
        return vectors

    def billed(self) -> pl.DataFrame:
        """Return every reply with status 200, used or not: model, replied_at, served_model, input_tokens."""
        return self._query(
            "SELECT model, replied_at, iif(json_valid(body), json_extract(body, '$.model'), NULL),"
            " iif(json_valid(body), coalesce(json_extract(body, '$.usage.prompt_tokens'),"
            " json_extract(body, '$.usage.total_tokens')), NULL) FROM replies WHERE status = 200",
            {"model": pl.String(), "replied_at": pl.Float64(), "served_model": pl.String(), "input_tokens": pl.Int64()},
        )

    def failures(self, since: int) -> pl.DataFrame:
        """Return the calls given up after a send id, refusals apart: error_code, error_message, texts."""
        return self._query(
            "SELECT e.error_code, r.error_message, s.query_id FROM ends e JOIN replies r USING (send_id)"
            " JOIN sends s ON s.id = e.send_id WHERE e.send_id > ? AND e.error_code IS NOT NULL"
            " AND e.error_code NOT IN (SELECT value FROM json_each(?))",
            {"error_code": pl.String(), "error_message": pl.String(), "query_id": pl.String()},
            since,
            json.dumps(REFUSED_CODES),
        ).with_columns(texts=pl.col("query_id").str.len_bytes() // DIGEST_LENGTH)


class EmbeddingLedger(Ledger, EmbeddingReader):
    """The ledger of embedding requests, open for writing."""

    @property
    def last_id(self) -> int:
        """Id of the last send."""
        return self._next_id - 1
