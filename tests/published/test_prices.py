"""Our join against genai-prices itself, asked row by row."""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import genai_prices
import numpy as np
import polars as pl
import pytest
from genai_prices.data import providers
from genai_prices.types import Usage as TheirUsage

from routing.matching import resolve_models, served_names
from routing.prices import price_snapshot
from routing.pricing import price
from schemas.billing import Usage

CONTEXTS: dict[str, dict[str, str]] = {
    "standard": {},
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast", "speed": "fast"},
}
STEP = Decimal("1e-12")


@pytest.fixture(scope="module")
def prices() -> pl.DataFrame:
    return price_snapshot()


def random_calls(names: list[tuple[str, str]], processing: list[str], n: int, seed: int) -> pl.DataFrame:
    """Valid calls of random models, days (2023 to 2026), lengths on both sides of every tier, and cache shares."""
    rng = np.random.default_rng(seed)
    start = datetime(2023, 1, 1, tzinfo=UTC)
    chosen = [names[i] for i in rng.integers(0, len(names), n)]
    written = rng.integers(0, 300_000, n) * rng.integers(0, 2, n)
    cached = rng.integers(0, 300_000, n) * rng.integers(0, 2, n)
    rows = {
        "provider": [provider for provider, _ in chosen],
        "base_url": [None] * n,
        "model": [model for _, model in chosen],
        "processing": [processing[i] for i in rng.integers(0, len(processing), n)],
        "called_at": [start + timedelta(seconds=int(s)) for s in rng.integers(0, 1_440 * 86_400, n)],
        "input_tokens": cached + written + rng.integers(0, 300_000, n),
        "cached_tokens": cached,
        "cache_write_tokens": written,
        "cache_write_1h_tokens": rng.integers(0, written + 1) * rng.integers(0, 2, n),
        "output_tokens": rng.integers(0, 20_000, n) * rng.integers(0, 4, n).clip(0, 1),
    }
    return pl.DataFrame(rows, schema=Usage.create_empty().schema)


def their_price(call: dict[str, Any]) -> Decimal | None:
    """Return their total at twelve decimals, or null for a model that does not match its own id."""
    tokens = TheirUsage(
        input_tokens=call["input_tokens"],
        cache_read_tokens=call["cached_tokens"],
        cache_write_tokens=call["cache_write_tokens"],
        cache_write_1h_tokens=call["cache_write_1h_tokens"],
        output_tokens=call["output_tokens"],
    )
    try:
        answer = genai_prices.calc_price(
            tokens,
            call["model"],
            provider_id=call["provider"],
            genai_request_timestamp=call["called_at"],
            price_context=CONTEXTS[call["processing"]],
        )
    except LookupError:
        return None
    return answer.total_price.quantize(STEP, ROUND_HALF_EVEN)


def compare(calls: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
    """Return the calls with our cost and theirs, and check each pair that we priced."""
    ours = price(calls, prices, resolve_models(served_names(calls), prices))
    theirs = [their_price(call) for call in calls.iter_rows(named=True)]
    compared = ours.with_columns(theirs=pl.Series(theirs, dtype=pl.Decimal(38, 12)))
    # A rate of more than six decimals (float noise, a third) is rounded by us at the twelfth.
    rates = pl.col("^.*_usd_per_mtok$").fill_null(Decimal(0))
    rough = prices.filter(pl.any_horizontal(rates != rates.round(6)))["price_id"].implode()
    tolerance = pl.when(pl.col("price_id").is_in(rough)).then(pl.lit(STEP)).otherwise(pl.lit(Decimal(0)))
    difference = pl.max_horizontal("cost_usd", "theirs") - pl.min_horizontal("cost_usd", "theirs")
    only_ours = pl.col("cost_usd").is_not_null() & pl.col("theirs").is_null()
    wrong = compared.filter(only_ours | (pl.col("cost_usd").is_not_null() & (difference > tolerance)))
    assert wrong.is_empty(), wrong.to_dicts()[:3]
    return compared


def test_every_provider_agrees_to_the_last_digit(prices: pl.DataFrame) -> None:
    names = [(provider.id, model.id) for provider in providers for model in provider.models]
    compared = compare(random_calls(names, ["standard"], 4_000, seed=1), prices)
    priced = compared.filter(pl.col("cost_usd").is_not_null())
    assert priced.height > 3_000
    assert priced["provider"].n_unique() > 35


def test_every_price_row_holds_at_its_first_instant_and_just_above_its_threshold(prices: pl.DataFrame) -> None:
    rows = prices.filter(pl.col("excluded_reason").is_null())
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    calls = rows.select(
        "provider",
        "model",
        "processing",
        base_url=pl.lit(None, dtype=pl.String),
        called_at=pl.col("valid_from").fill_null(long_ago),
        input_tokens=pl.col("min_input_tokens") + 1,
        cached_tokens=1,
        cache_write_tokens=0,
        cache_write_1h_tokens=0,
        output_tokens=pl.when(pl.col("output_usd_per_mtok").is_not_null()).then(1_001).otherwise(0),
        expected_id="price_id",
    )
    # A few ids are caught by an earlier pattern of their provider, or by none: genai-prices reads them so as well.
    resolved = resolve_models(served_names(calls), prices)
    own = (pl.col("provider") == pl.col("price_provider")) & (pl.col("model") == pl.col("price_model"))
    calls = calls.join(resolved.filter(own), on=["provider", "model"], how="semi")
    assert calls.height > 0.95 * rows.height
    assert set(calls["processing"]) == set(CONTEXTS)
    assert (calls["input_tokens"] > 100_000).sum() > 150
    assert compare(calls, prices).filter(pl.col("price_id").ne_missing(pl.col("expected_id"))).is_empty()


def test_what_we_leave_unpriced_has_a_known_reason(prices: pl.DataFrame) -> None:
    names = [(provider.id, model.id) for provider in providers for model in provider.models]
    calls = random_calls(names, list(CONTEXTS), 4_000, seed=3)
    reasons = compare(calls, prices).filter(pl.col("cost_usd").is_null())["unpriced_reason"]
    known = ["no '.*' price for", "no output price for", "no price for model", "depends on the time of day"]
    known += ["no text-token rate", "genai-prices knows no rate", "have a rate of their own"]
    assert reasons.str.contains("|".join(known)).all()


def test_no_model_of_genai_prices_is_lost(prices: pl.DataFrame) -> None:
    names = {(provider.id, model.id) for provider in providers for model in provider.models}
    assert set(prices.select("provider", "model").iter_rows()) == names


def test_a_model_without_a_known_rate_is_not_free(prices: pl.DataFrame) -> None:
    unknown = prices.filter(excluded_reason="genai-prices knows no rate").select("provider", "model")
    compared = compare(random_calls(unknown.rows(), ["standard"], 200, seed=4), prices)
    free = compared.filter(theirs=Decimal(0))
    assert free.height > 100
    assert free["cost_usd"].null_count() == free.height
