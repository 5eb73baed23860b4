from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.matching import resolve_models, served_names
from routing.prices import price_snapshot
from routing.pricing import price
from schemas.billing import PriceOverride, Usage

rates = st.decimals(min_value=0, max_value=1_000, places=6)
overrides = st.builds(
    PriceOverride,
    model=st.just("house-model"),
    input_usd_per_mtok=rates,
    output_usd_per_mtok=rates,
    cached_input_usd_per_mtok=st.none() | rates,
    cache_write_usd_per_mtok=st.none() | rates,
    cache_write_1h_usd_per_mtok=st.none() | rates,
    request_usd=st.none() | rates,
)
moments = st.integers(0, 1_095 * 86_400).map(lambda s: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
LISTED = price_snapshot()
MODELS = ["o3", "gpt-4o", "gemini-2.5-pro", "gpt-5.4", "claude-opus-4-8", "deepseek-chat", "house-model"]


@st.composite
def calls(draw: st.DrawFn, models: tuple[str, ...] = tuple(MODELS)) -> dict[str, Any]:
    """One valid call: cached and written tokens are part of the input, those for an hour of the written ones."""
    cached, written, fresh, output, hour = (draw(st.integers(0, 10**9)) for _ in range(5))
    return {
        "model": draw(st.sampled_from(models)),
        "processing": draw(st.sampled_from([None, "batch", "flex"])),
        "called_at": draw(moments),
        "input_tokens": cached + written + hour + fresh,
        "cached_tokens": cached,
        "cache_write_tokens": written + hour,
        "cache_write_1h_tokens": draw(st.just(hour) if hour else st.sampled_from([0, None])),
        "output_tokens": output,
    }


def costed(rows: list[dict[str, Any]], prices: pl.DataFrame) -> pl.DataFrame:
    usage = pl.DataFrame(rows, schema=Usage.create_empty().schema)
    return price(usage, prices, resolve_models(served_names(usage), prices))


@settings(deadline=None, max_examples=25)
@given(override=overrides, call=calls(models=("house-model",)))
def test_the_cost_is_the_sum_of_its_parts_to_the_last_digit(override: PriceOverride, call: dict[str, Any]) -> None:
    one, write, hour = (
        override.input_usd_per_mtok,
        override.cache_write_usd_per_mtok,
        override.cache_write_1h_usd_per_mtok,
    )
    fresh = call["input_tokens"] - call["cached_tokens"] - call["cache_write_tokens"]
    parts = [
        (fresh, one),
        (call["cached_tokens"], override.cached_input_usd_per_mtok),
        (call["cache_write_tokens"] - (call["cache_write_1h_tokens"] or 0), write),
        (call["cache_write_1h_tokens"] or 0, write if hour is None else hour),
        (call["output_tokens"], override.output_usd_per_mtok),
    ]
    expected = sum(tokens * (one if rate is None else rate) / 10**6 for tokens, rate in parts)
    cost = costed([call | {"processing": None}], price_snapshot([override]))["cost_usd"].item()
    assert cost == expected + (override.request_usd or 0)


@settings(deadline=None, max_examples=25)
@given(rows=st.lists(calls(), min_size=1, max_size=12), random=st.randoms(use_true_random=False))
def test_each_call_is_priced_on_its_own(rows: list[dict[str, Any]], random: Any) -> None:
    order = random.sample(range(len(rows)), len(rows))
    together = costed(rows, LISTED)["cost_usd"].to_list()
    shuffled = costed([rows[i] for i in order], LISTED)["cost_usd"].to_list()
    assert shuffled == [together[i] for i in order]
    assert together == [costed([row], LISTED)["cost_usd"].item() for row in rows]


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(calls(), max_size=12))
def test_a_call_has_either_a_cost_or_a_reason(rows: list[dict[str, Any]]) -> None:
    priced = costed(rows, LISTED)
    assert priced.height == len(rows)
    assert (priced["cost_usd"].is_null() == priced["unpriced_reason"].is_not_null()).all()
    assert (priced["cost_usd"].drop_nulls() >= 0).all()


@settings(deadline=None, max_examples=60)
@given(
    tokens=st.lists(st.integers(0, 400_000), min_size=1, max_size=20), edge=st.sampled_from([0, 1, 200_000, 200_001])
)
def test_a_longer_prompt_never_falls_into_a_lower_tier(tokens: list[int], edge: int) -> None:
    lengths = sorted([*tokens, edge])
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [{"model": "gemini-2.5-pro", "called_at": at, "input_tokens": n, "output_tokens": 0} for n in lengths]
    tiers = costed(rows, LISTED).join(LISTED, on="price_id", maintain_order="left")["min_input_tokens"].to_list()
    assert tiers == [200_000 if n > 200_000 else 0 for n in lengths]


@settings(deadline=None, max_examples=20)
@given(override=overrides, row=calls(models=("house-model",)), factor=st.decimals(0, 1, places=6))
def test_batch_costs_the_factor_of_standard(override: PriceOverride, row: dict[str, Any], factor: Decimal) -> None:
    half = override.model_copy(update={"batch_factor": factor, "request_usd": None})
    rows = [row | {"processing": None}, row | {"processing": "batch"}]
    standard, batch = costed(rows, price_snapshot([half]))["cost_usd"].to_list()
    assert abs(batch - standard * factor) <= Decimal("0.5e-12")
