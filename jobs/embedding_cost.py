"""What the embeddings of a run's prompts cost: before they are bought, and as billed."""

import math
from dataclasses import dataclass
from decimal import Decimal

import polars as pl
from tokenizers import Tokenizer

from jobs.night import Night
from jobs.rundir import RunDir
from jobs.source import read_part
from routing.account import Billing, usage
from routing.embeddings import EmbeddingReader, digests
from routing.estimate import TOKENIZER_SPREAD, Interval
from routing.matching import resolve_models, served_names
from routing.pricing import Unpriced, price, rate_card
from schemas.queries import Queries
from schemas.run import EmbeddingBill, Part


@dataclass(frozen=True, slots=True)
class EmbeddingForecast:
    """What is still to be bought."""

    prompts: int
    """Distinct prompts without their vector."""
    requests: int
    input_tokens: int
    """Router tokens, over-long prompts cut."""
    usd: Interval | None
    """Null when the model has no price."""


def open_tokenizer(night: Night) -> Tokenizer:
    """The router's tokenizer, without truncation and padding."""
    tokenizer = Tokenizer.from_file(str(night.router.tokenizer))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def wanted(night: Night, part: Part, tokenizer: Tokenizer) -> pl.DataFrame:
    """Return the distinct prompts of a part that need a vector, in table order: digest, text, tokens.

    Rows that break a rule need none, nor do prompts longer than `max_prompt_tokens`.
    """
    prompts = Queries.filter(read_part(night.source, part).queries).result["prompt"].unique(maintain_order=True)
    encodings = tokenizer.encode_batch_fast(prompts.to_list(), add_special_tokens=False)
    tokens = pl.Series([len(encoding.ids) for encoding in encodings], dtype=pl.Int64)
    texts = pl.DataFrame({"digest": digests(prompts), "text": prompts, "tokens": tokens})
    return texts.filter(pl.col("tokens") <= night.source.config.max_prompt_tokens)


def unknown_to(known: pl.Series, texts: pl.DataFrame) -> pl.DataFrame:
    """Leave out the texts of a part whose digest is known; the known ones of a whole table are too many to hash."""
    seen = known.to_frame("digest").join(texts, on="digest", how="semi")
    return texts.join(seen, on="digest", how="anti", maintain_order="left")


def unscored(night: Night) -> list[Part]:
    """Parts whose scores are not there yet."""
    return [part for part in night.plan.parts if not night.run.scores(part.number).exists()]


def forecast_embedding(night: Night) -> EmbeddingForecast:
    """Look at every prompt that is not scored yet, and price what is not embedded yet; nothing is sent."""
    card, section, model = night.router.card.embedding, night.job.config.router.embedding, night.embedding
    assert card is not None
    assert section is not None
    assert model is not None
    tokenizer = open_tokenizer(night)
    known = embedded(night)
    prompts = tokens = 0
    for part in unscored(night):
        texts = unknown_to(known, wanted(night, part, tokenizer))
        known = pl.concat([known, texts["digest"]])
        prompts += texts.height
        tokens += int(texts["tokens"].clip(upper_bound=card.max_tokens).sum())
    rates = rate_card(
        model.name, night.prices, at=night.plan.created_at, provider=model.provider, base_url=model.base_url
    )
    requests = max(math.ceil(prompts / section.batch_size), math.ceil(tokens / section.batch_tokens))
    if isinstance(rates, Unpriced):
        return EmbeddingForecast(prompts, requests, tokens, None)
    expected = tokens * rates.input_usd_per_mtok / 1_000_000
    fixed, spread = requests * rates.request_usd, expected * Decimal(str(TOKENIZER_SPREAD))
    interval = Interval(fixed + expected, fixed + expected - spread, fixed + expected + spread)
    return EmbeddingForecast(prompts, requests, tokens, interval)


def embedded(night: Night) -> pl.Series:
    """Digests of the prompts that have their vector."""
    if not night.run.embeddings.exists():
        return pl.Series("digest", [], pl.String)
    return EmbeddingReader(night.run.embeddings).answered()["digest"]


def embedding_bill(night: Night) -> EmbeddingBill | None:
    """What the endpoint billed so far; null for a router that reads tokens."""
    model = night.embedding
    if model is None:
        return None
    return read_bill(night.run, night.prices, Billing(model.name, model.base_url, model.provider, 0))


def read_bill(run: RunDir, prices: pl.DataFrame, biller: Billing) -> EmbeddingBill:
    """Read a run's ledger of embeddings, every reply priced as billed.

    Args:
        run: The run.
        prices: PRICES.
        biller: Who bills.
    """
    if not run.embeddings.exists():
        return EmbeddingBill(
            model=biller.model, prompts=0, requests=0, input_tokens=0, cost_usd=Decimal(0), unpriced_requests=0,
            unknown_calls=0,
        )  # fmt: skip
    ledger = EmbeddingReader(run.embeddings)
    answered_at = pl.from_epoch((pl.col("replied_at") * 1_000_000).cast(pl.Int64), time_unit="us")
    replies = ledger.billed().with_columns(
        answered_at=answered_at.dt.replace_time_zone("UTC"),
        service_tier=pl.lit(None, pl.String),
        cached_tokens=pl.lit(None, pl.Int64),
        output_tokens=pl.lit(0, pl.Int64),
    )
    bills = usage(replies, {"embedding": biller})
    costs = price(bills, prices, resolve_models(served_names(bills), prices))
    return EmbeddingBill(
        model=biller.model,
        prompts=ledger.answered().height,
        requests=replies.height,
        input_tokens=int(replies["input_tokens"].sum()),
        cost_usd=Decimal(costs["cost_usd"].sum() or 0),
        unpriced_requests=costs["unpriced_reason"].drop_nulls().len(),
        unknown_calls=ledger.unknown().height,
    )


def embedding_usd(night: Night) -> Decimal:
    """What counts against the budget: the bill, and the estimates of requests lost in a kill."""
    bill = embedding_bill(night)
    if bill is None or not night.run.embeddings.exists():
        return Decimal(0)
    lost = EmbeddingReader(night.run.embeddings).unknown()["estimate_usd"].drop_nulls()
    return bill.cost_usd + sum((Decimal(usd) for usd in lost), Decimal(0))
