from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from routing.errors import DataError
from routing.matching import resolve_models, served_names
from routing.prices import price_snapshot
from routing.pricing import RateCard, Unpriced, counterfactual, price, rate_card
from schemas.billing import Costs, PriceOverride, Usage

PRICES = price_snapshot()
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


def usage(*calls: dict[str, Any]) -> pl.DataFrame:
    default = {"called_at": NOVEMBER, "input_tokens": 1_000_000, "output_tokens": 0}
    return pl.DataFrame([default | call for call in calls], schema=Usage.create_empty().schema)


def costs(calls: pl.DataFrame, prices: pl.DataFrame = PRICES) -> pl.DataFrame:
    return price(calls, prices, resolve_models(served_names(calls), prices))


def cost_of(**call: Any) -> Decimal | None:
    cost: Decimal | None = costs(usage(call))["cost_usd"].item()
    return cost


def reason_of(**call: Any) -> str | None:
    row = costs(usage(call)).row(0, named=True)
    assert (row["cost_usd"] is None) == (row["price_id"] is None) == (row["unpriced_reason"] is not None)
    reason: str | None = row["unpriced_reason"]
    return reason


@pytest.mark.parametrize(
    ("called_at", "expected"),
    [
        (datetime(2025, 6, 9, 23, 59, 59, 999_999, tzinfo=UTC), "10"),  # one million input tokens at $10
        (datetime(2025, 6, 10, tzinfo=UTC), "2"),  # and at $2: the first instant of the new price
        (datetime(2020, 1, 1, tzinfo=UTC), "10"),  # the first known price has no start
    ],
)
def test_o3_costs_what_it_cost_on_that_day(called_at: datetime, expected: str) -> None:
    assert cost_of(model="o3", called_at=called_at) == Decimal(expected)


def test_cached_tokens_are_part_of_input_and_billed_once() -> None:
    # (1,000 - 600) * $2.50 + 600 * $1.25 + 50 * $10 = 1,000 + 750 + 500 = 2,250 millionths
    cost = cost_of(model="gpt-4o", input_tokens=1_000, cached_tokens=600, output_tokens=50)
    assert cost == Decimal("0.002250")


def test_cache_writes_have_their_own_rate() -> None:
    # claude-opus-4-8: 100 * $5 + 200 * $0.50 + 700 * $6.25 + 10 * $25 = 500 + 100 + 4,375 + 250 = 5,225 millionths
    tokens = {"input_tokens": 1_000, "cached_tokens": 200, "cache_write_tokens": 700, "output_tokens": 10}
    assert cost_of(model="claude-opus-4-8", **tokens) == Decimal("0.005225")


def test_an_hour_in_the_cache_has_its_own_rate() -> None:
    # claude-opus-4-8: 100 * $5 + 500 * $6.25 + 400 * $10 + 10 * $25 = 500 + 3,125 + 4,000 + 250 = 7,875 millionths
    written = {"cache_write_tokens": 900, "cache_write_1h_tokens": 400}
    assert cost_of(model="claude-opus-4-8", input_tokens=1_000, **written, output_tokens=10) == Decimal("0.007875")


def test_without_a_rate_of_its_own_an_hour_costs_what_five_minutes_cost() -> None:
    rates = {"model": "house-model", "input_usd_per_mtok": 1, "output_usd_per_mtok": 0}
    call = {"model": "house-model", "input_tokens": 1_000, "cache_write_tokens": 900, "cache_write_1h_tokens": 400}
    for written, expected in ((None, "0.001"), (3, "0.0028")):
        prices = price_snapshot([PriceOverride.model_validate(rates | {"cache_write_usd_per_mtok": written})])
        assert costs(usage(call), prices)["cost_usd"].item() == Decimal(expected)


def test_without_a_cached_rate_cached_tokens_cost_what_input_costs() -> None:
    # gpt-4o-2024-05-13 has no cached rate: 1,000 * $5
    assert cost_of(model="gpt-4o-2024-05-13", input_tokens=1_000, cached_tokens=1_000) == Decimal("0.005")


@pytest.mark.parametrize(
    ("input_tokens", "expected"),
    [
        (200_000, "0.250010"),  # 200,000 * $1.25 + 1 * $10
        (200_001, "0.5000175"),  # 200,001 * $2.50 + 1 * $15: the cliff raises the price of every token
    ],
)
def test_a_tier_starts_above_its_threshold_and_holds_for_all_tokens(input_tokens: int, expected: str) -> None:
    assert cost_of(model="gemini-2.5-pro", input_tokens=input_tokens, output_tokens=1) == Decimal(expected)


def test_batch_calls_pay_the_batch_rate() -> None:
    # gpt-4.1-mini in batch: 1,000 * $0.20 + 500 * $0.80 = 600 millionths; standard is twice that
    tokens = {"input_tokens": 1_000, "output_tokens": 500}
    assert cost_of(model="gpt-4.1-mini", processing="batch", **tokens) == Decimal("0.000600")
    assert cost_of(model="gpt-4.1-mini", processing="standard", **tokens) == Decimal("0.001200")


@pytest.mark.parametrize("processing", [None, "default", "standard"])
def test_default_and_unknown_processing_are_standard(processing: str | None) -> None:
    assert cost_of(model="gpt-4.1-mini", processing=processing) == Decimal("0.4")


def test_the_service_tier_that_was_served_is_billed() -> None:
    assert cost_of(model="gpt-4.1-mini", processing="priority") == Decimal("0.7")


def test_a_price_per_request_is_added_once() -> None:
    # perplexity sonar: 1,000 * $1 + 1,000 * $1 per million, and $12 per thousand calls
    assert cost_of(provider="perplexity", model="sonar", input_tokens=1_000, output_tokens=1_000) == Decimal("0.014")


def test_one_token_of_the_cheapest_model_is_not_rounded_away() -> None:
    assert cost_of(model="gpt-5-nano", input_tokens=1, cached_tokens=1) == Decimal("0.000000005000")  # $0.005


def test_huge_counts_stay_exact() -> None:
    tokens = 9_007_199_254_740_993  # 2**53 + 1: a float would lose the last token
    assert cost_of(model="gpt-4.1-mini", input_tokens=tokens) == Decimal(tokens) * Decimal("0.4") / 10**6


def test_the_price_row_can_be_looked_up_by_its_id() -> None:
    priced = costs(usage({"model": "gemini-2.5-pro", "input_tokens": 300_000}))
    row = PRICES.filter(price_id=priced["price_id"].item()).row(0, named=True)
    assert row["input_usd_per_mtok"] * 300_000 / 10**6 == priced["cost_usd"].item()
    assert row["min_input_tokens"] == 200_000


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"model": "house-model"}, "no price for model 'house-model'"),
        ({"model": None}, "model unknown"),
        ({"model": "gpt-4o", "output_tokens": None}, "tokens unknown"),
        ({"model": "gpt-4o", "called_at": None}, "time of call unknown"),
        ({"model": "gpt-4o", "output_tokens": -1}, "invalid usage: negative token count"),
        (
            {"model": "gpt-4o", "input_tokens": 10, "cached_tokens": 6, "cache_write_tokens": 5},
            "invalid usage: cached and cache-write tokens exceed input tokens",
        ),
        (
            {"model": "gpt-4o", "input_tokens": 10, "cache_write_tokens": 4, "cache_write_1h_tokens": 5},
            "invalid usage: one-hour cache writes exceed cache writes",
        ),
        ({"model": "deepseek-chat"}, "model 'deepseek-chat': the price depends on the time of day"),
        ({"model": "whisper-1"}, "model 'whisper-1': no text-token rate, only audio_hours, input_audio_hours"),
        (
            {"model": "gpt-4.1-mini", "processing": "batch", "called_at": datetime(2026, 10, 13, tzinfo=UTC)},
            "no 'batch' price for model 'gpt-4.1-mini' at the time of the call",
        ),
        (
            {"provider": "openai", "model": "text-embedding-3-small", "output_tokens": 1},
            "no output price for model 'text-embedding-3-small'",
        ),
    ],
)
def test_unpriced_is_a_reason_and_never_zero(call: dict[str, Any], reason: str) -> None:
    assert reason_of(**call) == reason


def test_an_input_only_price_is_enough_for_a_call_without_output() -> None:
    assert cost_of(provider="openai", model="text-embedding-3-small", output_tokens=0) == Decimal("0.02")


def test_rows_keep_their_order_and_their_other_columns() -> None:
    tenants = pl.Series("tenant", ["x", "y", "z"])
    calls = usage({"model": "o3"}, {"model": "house-model"}, {"model": "gpt-4o"}).with_columns(tenants)
    priced = costs(calls)
    assert_frame_equal(priced.select(calls.columns), calls)
    assert priced["cost_usd"].to_list() == [Decimal(2), None, Decimal("2.5")]
    assert priced.columns == [*calls.columns, *Costs.column_names()]


def test_a_table_without_rows_is_priced() -> None:
    assert costs(usage()).is_empty()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (pl.col("called_at").dt.replace_time_zone(None), "called_at: Datetime.* expected"),
        (pl.col("input_tokens").cast(pl.Float64), "input_tokens: Float64, expected Int64"),
    ],
)
def test_a_column_of_the_wrong_type_is_named(broken: pl.Expr, message: str) -> None:
    with pytest.raises(DataError, match=message):
        costs(usage({"model": "o3"}).with_columns(broken))


def test_a_missing_column_is_named() -> None:
    calls = usage({"model": "o3"})
    with pytest.raises(DataError, match="processing: missing"):
        price(calls.drop("processing"), PRICES, resolve_models(served_names(calls), PRICES))


def test_a_name_that_was_not_resolved_is_an_error_not_an_unpriced_row() -> None:
    resolved = resolve_models(served_names(usage({"model": "o3"})), PRICES)
    with pytest.raises(DataError, match="'model': 'gpt-4o'"):
        price(usage({"model": "gpt-4o"}), PRICES, resolved)


def test_counterfactual_is_the_same_engine_on_another_model() -> None:
    calls = usage({"model": "gpt-4o", "input_tokens": 1_000, "cached_tokens": 600, "output_tokens": 50})
    other = counterfactual(calls.with_columns(expected=pl.lit(80)), PRICES, model="o3", output_tokens="expected")
    # o3: 400 * $2 + 600 * $0.50 + 80 * $8 = 800 + 300 + 640 = 1,740 millionths
    assert other["cost_usd"].to_list() == [Decimal("0.001740")]
    assert_frame_equal(counterfactual(calls, PRICES, model="gpt-4o"), costs(calls).select(Costs.column_names()))


def test_counterfactual_names_a_missing_column() -> None:
    with pytest.raises(DataError, match="no column 'expected'"):
        counterfactual(usage({"model": "o3"}), PRICES, model="o3", output_tokens="expected")


def test_rate_card_fills_in_what_a_cached_token_costs() -> None:
    card = rate_card("gemini-2.5-pro", PRICES, at=NOVEMBER)
    assert isinstance(card, RateCard)
    assert (card.input_usd_per_mtok, card.output_usd_per_mtok) == (Decimal("1.25"), Decimal(10))
    assert card.cache_write_usd_per_mtok == Decimal("1.25")
    assert card.request_usd == 0
    assert card.max_input_tokens == 200_000
    long = rate_card("gemini-2.5-pro", PRICES, at=NOVEMBER, input_tokens=200_001)
    assert isinstance(long, RateCard)
    assert (long.input_usd_per_mtok, long.max_input_tokens) == (Decimal("2.5"), None)


def test_an_unpriced_rate_card_is_a_warning_to_show() -> None:
    card = rate_card("house-model", PRICES, at=NOVEMBER)
    assert isinstance(card, Unpriced)
    assert "no price for model 'house-model': its cost is unknown, not $0" in str(card)
