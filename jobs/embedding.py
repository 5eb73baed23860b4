"""Stage 0 of a run whose router starts at an embedding: buy the vectors, through a ledger of their own."""

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Sequence
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from jobs.dispatching import Lane, Watch, max_usd, model_key, send_all
from jobs.embedding_cost import embedding_usd, open_tokenizer, unknown_to, unscored, wanted
from jobs.night import EMBEDDING, Night, TableRun
from routing.calls import EmbeddingCall
from routing.embeddings import (
    EmbeddingLedger,
    EmbeddingReader,
    batches,
    cut,
    digests,
    query_id,
    usage_reader,
)
from routing.errors import ConfigError, TryLaterError
from routing.estimate import TOKENIZER_SPREAD
from routing.guards import Budget
from routing.pricing import Unpriced, rate_card
from routing.providers import OpenAIEmbeddings

_PART = 0
"""All batches are filed under one part: a text may stand in many."""
_REPLIES = 64
"""Replies in memory at once: one holds thousands of vectors, as text."""


class Vectors:
    """The vectors that a run has bought; an `Embedder` of `routing.routers`."""

    def __init__(self, night: TableRun) -> None:
        """Read which texts have one.

        Args:
            night: A run whose embeddings were bought.

        Raises:
            ConfigError: nothing was bought.
        """
        card = night.router.card.embedding
        assert card is not None
        if not night.run.embeddings.exists():
            raise ConfigError(
                f"router {night.router.card.name!r} starts at embeddings, which only `nightroute run` buys; choose a "
                "router that reads tokens"
            )
        self._dim = card.dim
        self._ledger = EmbeddingReader(night.run.embeddings)
        self._places = self._ledger.answered()

    def known(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Return which texts have a vector, shape (n,)."""
        return self._find(texts)["send_id"].is_not_null().to_numpy()

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of texts that have one, shape (n, dim)."""
        found = self._find(texts).with_row_index("at")
        vectors = np.empty((len(texts), self._dim), np.float32)
        sends = found["send_id"].unique().sort().to_list()
        for start in range(0, len(sends), _REPLIES):
            replies = self._ledger.vectors(sends[start : start + _REPLIES], dim=self._dim)
            for (send_id,), rows in found.filter(pl.col("send_id").is_in(list(replies))).group_by("send_id"):
                vectors[rows["at"].to_numpy()] = replies[int(str(send_id))][rows["place"].to_numpy()]
        return vectors

    def _find(self, texts: Sequence[str]) -> pl.DataFrame:
        names = digests(pl.Series(texts, dtype=pl.String)).alias("digest").to_frame()
        # The places of a whole table are many, those of a part few: only these are looked up in.
        places = self._places.join(names, on="digest", how="semi")
        return names.join(places, on="digest", how="left", maintain_order="left")


def embed(night: Night, watch: Watch) -> None:
    """Buy the vectors of every prompt that is not scored yet; does nothing for a router that reads tokens.

    Args:
        night: The run.
        watch: Shows progress while its context is open.

    Raises:
        NightrouteError: why it stopped early. What was bought is kept; the same command goes on.
    """
    if night.embedding is None or not unscored(night):
        return
    with EmbeddingLedger(night.run.embeddings) as ledger:
        start = ledger.last_id
        batch = _Batches(night, ledger)
        asyncio.run(_send(night, batch, batch.every_text(), watch))
        _check(ledger, since=start)
        # One text can spoil its batch: the refused ones go again one by one, and shorter where refused alone.
        sent = -1
        while not ledger.to_repeat().is_empty() and sent < ledger.last_id:
            sent = ledger.last_id
            asyncio.run(_send(night, batch, batch.refused_texts(), watch))
            _check(ledger, since=start)


async def _send(night: Night, batch: "_Batches", calls: AsyncIterator[EmbeddingCall], watch: Watch) -> None:
    config = night.job.config
    limit = max_usd(night)
    result = await send_all(
        night,
        [Lane(EMBEDDING, batch.model, calls, partial(OpenAIEmbeddings, dim=batch.card.dim), usage_reader)],
        batch.ledger,
        settings=config.dispatch,
        budget=Budget(limit, booked_usd=embedding_usd(night)),
        resume_with="the same command",
        watch=watch,
    )
    if result.stopped_by is not None:
        raise result.stopped_by


def _check(ledger: EmbeddingReader, *, since: int) -> None:
    failures = ledger.failures(since)
    if failures.is_empty():
        _check_refusals(ledger, since=since)
        return
    code, message, _, _ = failures.row(-1)
    said = (
        f"{failures['texts'].sum():,} prompts could not be embedded, the last with {code} ({message or 'no message'}); "
        "what was bought is kept: "
    )
    if code == "not_found":
        raise ConfigError(f"{said}check base_url in [router.embedding], then run the same command again")
    raise TryLaterError(f"{said}check the endpoint, then run the same command again")


def _check_refusals(ledger: EmbeddingReader, *, since: int) -> None:
    """An endpoint that refuses everything says nothing about a prompt: none is cut or rejected for it."""
    refusals = ledger.refusals(since)
    if refusals.is_empty() or ledger.has_answers(since):
        return
    code, message = refusals.row(-1)
    raise TryLaterError(
        f"the embeddings endpoint refused all that it was sent, the last with {code} ({message or 'no message'}); "
        "check [router.embedding] and the endpoint, then run the same command again"
    )


class _Batches:
    """Makes requests of the prompts that have no vector yet."""

    def __init__(self, night: Night, ledger: EmbeddingLedger) -> None:
        card, section, model = night.router.card.embedding, night.job.config.router.embedding, night.embedding
        assert card is not None
        assert section is not None
        assert model is not None
        self.night, self.ledger, self.card, self.section, self.model = night, ledger, card, section, model
        self._tokenizer = open_tokenizer(night)
        self._rates = rate_card(
            model.name, night.prices, at=night.plan.created_at, provider=model.provider, base_url=model.base_url
        )
        self._attempts: dict[str, int] = dict(ledger.sends(_PART).iter_rows())

    async def every_text(self) -> AsyncIterator[EmbeddingCall]:
        """Yield batches of the texts that were never answered nor refused, part by part; each text once."""
        known = pl.concat([self.ledger.answered()["digest"], self.ledger.refused()["digest"]])
        for part in unscored(self.night):
            texts = await asyncio.to_thread(wanted, self.night, part, self._tokenizer)
            texts = unknown_to(known, texts)
            known = pl.concat([known, texts["digest"]])
            limit = self.card.max_tokens
            tokens = texts["tokens"].clip(upper_bound=limit).to_numpy()
            for run in batches(tokens, max_texts=self.section.batch_size, max_tokens=self.section.batch_tokens):
                rows = texts[run]
                cuts = [
                    text if length <= limit else cut(self._tokenizer, text, limit)
                    for text, length in rows.select("text", "tokens").iter_rows()
                ]
                yield self._call(rows["digest"].to_list(), cuts, int(tokens[run].sum()))

    async def refused_texts(self) -> AsyncIterator[EmbeddingCall]:
        """Yield each refused text in a request of its own, halved once for every time that it was refused alone."""
        again = self.ledger.to_repeat()
        for part in unscored(self.night):
            texts = await asyncio.to_thread(wanted, self.night, part, self._tokenizer)
            texts = texts.join(again, on="digest", how="inner", maintain_order="left")
            again = again.join(texts, on="digest", how="anti")
            for digest, text, tokens, alone in texts.select("digest", "text", "tokens", "alone").iter_rows():
                limit = max(1, min(tokens, self.card.max_tokens) >> alone)
                yield self._call([digest], [cut(self._tokenizer, text, limit)], limit)

    def _call(self, names: list[str], texts: list[str], tokens: int) -> EmbeddingCall:
        key = hashlib.sha256("\x1f".join([model_key(self.model), *names, *texts]).encode()).hexdigest()
        estimate_usd = None
        if not isinstance(self._rates, Unpriced):
            most = math.ceil(tokens * (1 + TOKENIZER_SPREAD))
            estimate_usd = str(most * self._rates.input_usd_per_mtok / 1_000_000 + self._rates.request_usd)
        return EmbeddingCall(
            call_key=key,
            part=_PART,
            row=0,
            query_id=query_id(names),
            model=self.model.name,
            estimated_tokens=tokens,
            estimate_usd=estimate_usd,
            attempts_before=self._attempts.get(key, 0),
            texts=tuple(texts),
        )
