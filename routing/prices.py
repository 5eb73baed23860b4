"""The price snapshot: the user's overrides and everything in the bundled data of genai-prices, as one PRICES table.

Only the data inside the installed package is read; nothing here starts `UpdatePrices` or opens a connection.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise

import genai_prices
import polars as pl
from genai_prices.data import providers as bundled_providers
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from routing.errors import ConfigError
from schemas.billing import BATCH, STANDARD, PriceOverride, Prices

SOURCE = f"genai-prices {genai_prices.__version__}"
OVERRIDE = "override"

_RATES = {
    "input_mtok": "input_usd_per_mtok",
    "cache_read_mtok": "cached_input_usd_per_mtok",
    "cache_write_mtok": "cache_write_usd_per_mtok",
    "cache_write_1h_mtok": "cache_write_1h_usd_per_mtok",
    "output_mtok": "output_usd_per_mtok",
}
"""genai-prices key -> column of PRICES. Both are USD per million tokens."""

_REQUESTS = "requests_kcount"
"""USD per thousand calls."""

_SPLITS_OUTPUT = ("output_reasoning_mtok", "output_citation_mtok")
"""A rate of its own for a part of the output: one output rate cannot stand for both."""

_PROCESSING_KEYS = ("processing", "service_tier", "speed")
"""Context keys whose value names a way of processing. Others (a route, a kind of search) cannot be read off a call."""

_STEP = Decimal(1).scaleb(-12)
_Row = dict[str, str | int | Decimal | datetime | None]
_Edge = datetime | None


def price_snapshot(overrides: Sequence[PriceOverride] = ()) -> pl.DataFrame:
    """Return PRICES: the overrides, then every provider and model of genai-prices, with every dated price and tier.

    A price that a row cannot hold (it depends on the time of day; no text-token rate; reasoning billed apart) is a row
    with an `excluded_reason`.

    Raises:
        ConfigError: Two overrides of the same model and provider overlap in time.
    """
    rows = [
        *_override_rows(overrides),
        *(row for provider in bundled_providers for model in provider.models for row in _model_rows(provider, model)),
    ]
    return Prices.validate(pl.DataFrame(rows, schema=Prices.create_empty().schema))


def snapshot_sha256(prices: pl.DataFrame) -> str:
    """Return the digest of a PRICES table: of its values, whatever the order of rows or the file they came from."""
    columns = Prices.column_names()
    dated = pl.col("valid_from", "valid_to").dt.epoch("us")
    lines = (
        prices.select(columns)
        .with_columns(dated)
        .select(pl.concat_str(pl.all().cast(pl.String).fill_null("\0"), separator="\x1f").alias("line"))
        .to_series()
        .sort()
    )
    return hashlib.sha256("\n".join(["\x1f".join(columns), *lines]).encode()).hexdigest()


def _override_rows(overrides: Sequence[PriceOverride]) -> Iterator[_Row]:
    _refuse_overlap(overrides)
    for override in overrides:
        rates: dict[str, Decimal | None] = {column: getattr(override, column) for column in _RATES.values()}
        ways = {STANDARD: Decimal(1)}
        if override.batch_factor is not None:
            ways[BATCH] = override.batch_factor
        for processing, factor in ways.items():
            row = _row(override.provider, override.model, processing, (override.valid_from, override.valid_to))
            priced = {column: None if rate is None else rate * factor for column, rate in rates.items()}
            yield (
                row
                | priced
                | {
                    "price_id": f"{OVERRIDE}:{row['price_id']}",
                    "request_usd": override.request_usd,
                    "source": OVERRIDE,
                }
            )


def _refuse_overlap(overrides: Sequence[PriceOverride]) -> None:
    ever, never = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    ordered = sorted(overrides, key=lambda o: (o.model, o.provider or "", o.valid_from or ever))
    for earlier, later in pairwise(ordered):
        same = (earlier.model, earlier.provider) == (later.model, later.provider)
        if same and (later.valid_from or ever) < (earlier.valid_to or never):
            raise ConfigError(
                f"prices: two overrides of model {later.model!r} hold at the same time; "
                "give the earlier one a valid_to no later than the valid_from of the other"
            )


def _model_rows(provider: Provider, model: ModelInfo) -> Iterator[_Row]:
    for processing, context in _contexts(model).items():
        variants = [v for v in model.price_variants or () if _applies(v, context)]
        for start, end in _intervals(model, variants):
            day = start or datetime.min.replace(tzinfo=UTC)
            if context and not any(v.constraint is None or v.constraint.active(day) for v in variants):
                continue  # genai-prices would answer with the standard price: a guess that we do not make
            price = model.get_prices(day, context)
            base = _row(provider.id, model.id, processing, (start, end)) | {"source": SOURCE}
            reason = _time_of_day(model, variants, day) or _inexpressible(price)
            if reason is not None:
                yield base | {"excluded_reason": reason}
                continue
            for threshold in _thresholds(price):
                row = _row(provider.id, model.id, processing, (start, end), threshold)
                yield base | row | _rates(price, threshold) | {"not_covered": _not_covered(model, price)}


def _contexts(model: ModelInfo) -> dict[str, Mapping[str, str]]:
    """Return processing -> the request context that selects it. `default` is another word for standard."""
    contexts: dict[str, Mapping[str, str]] = {STANDARD: {}}
    for variant in model.price_variants or ():
        if len(variant.when) == 1 and (key := next(iter(variant.when))) in _PROCESSING_KEYS:
            processing = variant.when[key]
            if processing not in (STANDARD, "default"):
                contexts.setdefault(processing, variant.when)
    return contexts


def _applies(variant: PriceVariant, context: Mapping[str, str]) -> bool:
    return all(context.get(key) == value for key, value in variant.when.items())


def _intervals(model: ModelInfo, variants: Sequence[PriceVariant]) -> Iterator[tuple[_Edge, _Edge]]:
    """Yield the half-open intervals between the dates on which some price of the model starts. Null is open."""
    entries: list[ConditionalPrice | PriceVariant] = [*_conditional(model), *variants]
    starts = {e.constraint.start_date for e in entries if isinstance(e.constraint, StartDateConstraint)}
    edges = [datetime.combine(day, time(), UTC) for day in sorted(starts)]
    yield from pairwise([None, *edges, None])


def _conditional(model: ModelInfo) -> Sequence[ConditionalPrice]:
    return () if isinstance(model.prices, ModelPrice) else model.prices


def _time_of_day(model: ModelInfo, variants: Sequence[PriceVariant], day: datetime) -> str | None:
    """Say whether the clock decides the price of this day: genai-prices tries the list from its end."""
    entries: list[ConditionalPrice | PriceVariant] = [*variants, *reversed(_conditional(model))]
    for entry in entries:
        if isinstance(entry.constraint, TimeOfDateConstraint):
            return "the price depends on the time of day"
        if isinstance(entry, ConditionalPrice) and (entry.constraint is None or entry.constraint.active(day)):
            break
    return None


def _inexpressible(price: ModelPrice) -> str | None:
    keys = _keys(price)
    if "input_mtok" not in keys:
        return f"no text-token rate, only {', '.join(keys)}" if keys else "genai-prices knows no rate"
    if any(key in keys for key in _SPLITS_OUTPUT):
        return "reasoning or citation tokens have a rate of their own"
    return None


def _thresholds(price: ModelPrice) -> list[int]:
    """Return 0 and the prompt lengths above which another rate holds, ascending."""
    values = (getattr(price, key) for key in _RATES)
    return sorted({0, *(tier.start for value in values if isinstance(value, TieredPrices) for tier in value.tiers)})


def _rates(price: ModelPrice, threshold: int) -> _Row:
    """Return the rates of a call whose input is just above `threshold` tokens (the whole call pays them: a cliff)."""
    rates: _Row = {column: _rate(getattr(price, key), threshold) for key, column in _RATES.items()}
    per_thousand = _rate(getattr(price, _REQUESTS), threshold)
    return rates | {"request_usd": None if per_thousand is None else per_thousand / 1000}


def _rate(value: Decimal | TieredPrices | None, threshold: int) -> Decimal | None:
    if isinstance(value, TieredPrices):
        reached = [tier.price for tier in value.tiers if 0 < tier.start <= threshold]
        value = reached[-1] if reached else value.base
    # Twenty-odd upstream rates carry float noise or a third (0.13999999999999999, 0.0833333333333333).
    return None if value is None else value.quantize(_STEP, ROUND_HALF_EVEN)


def _not_covered(model: ModelInfo, price: ModelPrice) -> str | None:
    covered = {*_RATES, _REQUESTS}
    contexts = {key for variant in model.price_variants or () for key in variant.when} - set(_PROCESSING_KEYS)
    return ", ".join([*(_label(key) for key in _keys(price) if key not in covered), *sorted(contexts)]) or None


def _keys(price: ModelPrice) -> list[str]:
    return sorted(key for key, value in vars(price).items() if value is not None)


def _label(key: str) -> str:
    """Name what a price key counts: `input_audio_mtok` -> `input_audio`."""
    return key.rpartition("_")[0]


def _row(
    provider: str | None, model: str, processing: str, valid: tuple[_Edge, _Edge], min_input_tokens: int = 0
) -> _Row:
    start, end = valid
    since = "start" if start is None else start.isoformat().removesuffix("T00:00:00+00:00")
    name = model if provider is None else f"{provider}/{model}"
    return {
        "price_id": f"{name}@{since}#{processing}>{min_input_tokens}",
        "provider": provider,
        "model": model,
        "processing": processing,
        "valid_from": start,
        "valid_to": end,
        "min_input_tokens": min_input_tokens,
    }
