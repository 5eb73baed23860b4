"""FOCUS 1.2 in plain Python: the columns that must be there, what may be null, and that the money adds up.

The rules were read from the model of the specification that focus-validator 2.2.1 brings (model-1.2.0.1.json);
tests/published/test_focus_validator.py runs that program itself.
"""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from genai_prices.data import providers

from routing.audit.cube import daily, finish_daily, merge_daily
from routing.audit.focus import MAKERS, MANDATORY, OPTIONAL, OWN, focus_rows
from routing.errors import DataError
from routing.matching import resolve_models, served_names
from routing.prices import price_snapshot
from routing.pricing import price
from schemas.billing import USD, PriceOverride
from schemas.call_log import CallLog

MUST = [
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd"),
    *("ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity"),
    *("PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName"),
]
MAY_BE_NULL = {"ChargeClass", "CommitmentDiscountStatus", "InvoiceId", "Tags"}
COSTS = ["BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "PricingCurrencyEffectiveCost"]

PRICES = price_snapshot(
    [
        PriceOverride(
            model="own", input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(10), request_usd=Decimal("0.01")
        ),
        PriceOverride(
            model="third",
            input_usd_per_mtok=Decimal("0.333333"),
            output_usd_per_mtok=Decimal("0.1"),
            batch_factor=Decimal("0.333333"),
        ),
    ]
)
NOON = datetime(2026, 12, 31, 12, tzinfo=UTC)


def daily_of(*calls: dict[str, Any]) -> pl.DataFrame:
    """DAILY of calls; what they do not say is $1 a million tokens in, $10 out, on the model `own` of acme."""
    said = {"called_at": NOON, "model": "own", "tenant": "acme", "input_tokens": 1_000, "output_tokens": 100}
    log = pl.DataFrame(
        [said | {"row": n, "billed": True, "outcome": "ok"} | call for n, call in enumerate(calls)],
        schema=CallLog.create_empty().schema,
    )
    costed = price(log, PRICES, resolve_models(served_names(log), PRICES)).with_columns(
        pl.when("billed").then("cost_usd").otherwise(pl.lit(Decimal(0), USD)).alias("cost_usd"),
        pl.when("billed").then("price_id").alias("price_id"),
        pl.when("billed").then("unpriced_reason").alias("unpriced_reason"),
    )
    return finish_daily(merge_daily(daily(costed)))


def rows_of(*calls: dict[str, Any]) -> pl.DataFrame:
    return focus_rows(daily_of(*calls), PRICES, account="audit")


def test_every_mandatory_column_is_there_first() -> None:
    assert sorted(MANDATORY) == sorted(MUST)
    assert rows_of({}).columns == [*MANDATORY, *OPTIONAL, *OWN]
    assert all(name.startswith("x_") for name in OWN)


def test_only_what_may_be_null_is_null() -> None:
    rows = rows_of({}, {"tenant": None}, {"provider": "openai", "model": "gpt-4o", "cached_tokens": 500})
    assert {name for name in rows.columns if rows[name].null_count()} == MAY_BE_NULL
    assert rows["ChargeClass"].null_count() == rows.height  # nothing is a correction
    assert rows["InvoiceId"].null_count() == rows.height  # nor on an invoice


def test_types() -> None:
    schema = rows_of({}).schema
    for name in (*COSTS, "ListUnitPrice", "ContractedUnitPrice", "PricingQuantity", "ConsumedQuantity"):
        assert isinstance(schema[name], pl.Decimal), name
    for name in ("BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"):
        assert schema[name] == pl.Datetime("us", "UTC"), name
    decided = {name for name, dtype in schema.items() if isinstance(dtype, pl.Decimal | pl.Datetime)}
    assert {str(schema[name]) for name in schema if name not in decided} == {"String"}


def test_one_call_is_a_row_for_each_kind_of_token() -> None:
    row = {"provider": "anthropic", "model": "claude-haiku-4-5", "input_tokens": 10_000, "output_tokens": 300}
    written = {"cache_write_tokens": 1_400, "cache_write_1h_tokens": 400}
    rows = rows_of(row | {"cached_tokens": 6_000, "reasoning_tokens": 200} | written)
    found = {
        row["x_TokenKind"]: (row["ConsumedQuantity"], row["ListUnitPrice"], row["BilledCost"])
        for row in rows.iter_rows(named=True)
    }
    assert found == {
        "input": (2_600, Decimal(1), Decimal("0.0026")),
        "cached_input": (6_000, Decimal("0.1"), Decimal("0.0006")),
        "cache_write": (1_000, Decimal("1.25"), Decimal("0.00125")),
        "cache_write_1h": (400, Decimal(2), Decimal("0.0008")),
        "output": (300, Decimal(5), Decimal("0.0015")),
    }
    assert set(rows["ConsumedUnit"]) == {"Tokens"}
    assert set(rows["PricingUnit"]) == {"1000000 Tokens"}
    assert rows["PricingQuantity"].to_list() == [quantity / 1_000_000 for quantity in rows["ConsumedQuantity"]]
    assert rows["SkuPriceId"].n_unique() == rows["SkuId"].n_unique() == rows["SkuMeter"].n_unique() == 5


def test_a_fee_for_each_request_is_a_row_of_its_own() -> None:
    rows = rows_of({}, {}, {"outcome": "failed", "input_tokens": 0, "output_tokens": 0})
    fee = rows.row(by_predicate=pl.col("x_TokenKind") == "request", named=True)
    assert (fee["ConsumedQuantity"], fee["ConsumedUnit"], fee["PricingUnit"]) == (3, "Requests", "Requests")
    assert fee["BilledCost"] == Decimal("0.03")
    assert rows["BilledCost"].sum() == Decimal("0.034")  # 2 x 0.002 for tokens, 3 x 0.01


def test_costs_sum_to_the_last_digit_where_rates_have_twelve_decimals() -> None:
    calls = [
        {"model": "third", "processing": "batch", "input_tokens": 1_000 + n, "output_tokens": n} for n in range(1, 40)
    ]
    table = daily_of(*calls, {"provider": "google", "model": "gemini-2.5-flash", "cached_tokens": 333})
    rows = focus_rows(table, PRICES, account="audit")
    for cost in COSTS:
        assert rows[cost].sum() == table["cost_usd"].sum()
    product = rows["ListUnitPrice"].cast(pl.Float64) * rows["PricingQuantity"].cast(pl.Float64)
    assert (product - rows["ListCost"].cast(pl.Float64)).abs().max() < 1e-10  # type: ignore[operator]


def test_calls_without_a_price_and_answers_of_a_cache_are_left_out() -> None:
    rows = rows_of({}, {"model": "nobody knows it"}, {"billed": False, "input_tokens": 5_000})
    assert set(rows["x_Model"]) == {"own"}
    assert rows.filter(x_TokenKind="input")["ConsumedQuantity"].item() == 1_000
    assert rows_of({"model": "nobody knows it"}).is_empty()


def test_periods_are_half_open_days_and_months() -> None:
    row = rows_of({}).row(0, named=True)
    assert row["ChargePeriodStart"] == datetime(2026, 12, 31, tzinfo=UTC)
    assert row["ChargePeriodEnd"] == row["BillingPeriodEnd"] == datetime(2027, 1, 1, tzinfo=UTC)
    assert row["BillingPeriodStart"] == datetime(2026, 12, 1, tzinfo=UTC)


def test_who_sells_and_who_made_it() -> None:
    rows = rows_of({"provider": "azure", "model": "gpt-4o"}, {"provider": "a house of its own"}, {"provider": None})
    found = set(rows.select("ProviderName", "PublisherName", "ServiceName").iter_rows())
    assert ("a house of its own", "a house of its own", "a house of its own API") in found
    assert ("unknown", "unknown", "unknown API") in found
    assert any(provider == "Microsoft Azure" for provider, _, _ in found)
    assert rows["ProviderName"].to_list() == rows["InvoiceIssuerName"].to_list()  # else BilledCost had to be 0


@pytest.mark.parametrize(
    ("provider", "model", "served_by", "made_by"),
    [
        ("bedrock", "us.anthropic.claude-sonnet-4-20250514-v1:0", "AWS Bedrock", "Anthropic"),
        ("vertex_ai", "claude-sonnet-4@20250514", "Google", "Anthropic"),
        ("anthropic", "claude-haiku-4-5", "Anthropic", "Anthropic"),
        ("azure", "gpt-4o", "Microsoft Azure", "OpenAI"),
        ("openai", "o3", "OpenAI", "OpenAI"),
        ("aws", "amazon.nova-lite-v1:0", "AWS Bedrock", "Amazon"),
        ("groq", "llama-3.3-70b-versatile", "Groq", "Meta"),
        ("openrouter", "deepseek/deepseek-r1-distill-llama-70b", "OpenRouter", "Deepseek"),
        ("x-ai", "grok-3", "X AI", "X AI"),
        ("groq", "whisper-large-v3", None, None),  # no text-token rate: not in it
        ("openrouter", "01-ai/yi-large", "OpenRouter", "OpenRouter"),  # the name does not say
        ("a house of its own", "own", "a house of its own", "a house of its own"),
        (None, "own", "unknown", "unknown"),
    ],
)
def test_who_serves_a_model_and_who_made_it(
    provider: str | None, model: str, served_by: str | None, made_by: str | None
) -> None:
    rows = rows_of({"provider": provider, "model": model})
    expected = set() if served_by is None else {(served_by, made_by)}
    assert set(rows.select("ProviderName", "PublisherName").iter_rows()) == expected


def test_makers_are_called_as_genai_prices_calls_them() -> None:
    known = {provider.name for provider in providers}
    assert set(MAKERS) - known == {"Alibaba", "NVIDIA", "Amazon", "Microsoft", "AI21 Labs", "IBM"}


@pytest.mark.parametrize("tenant", ['a "b" \\ c', "=1+1", "Zoë / 北京", '{"x": 1}', "line\nbreak", ""])
def test_tags_are_json_whatever_a_tenant_is_called(tenant: str) -> None:
    assert {json.loads(tags)["tenant"] for tags in rows_of({"tenant": tenant})["Tags"]} == {tenant}


def test_a_price_that_is_not_in_the_table_stops_it() -> None:
    with pytest.raises(DataError, match="override:own@start"):
        focus_rows(daily_of({}), price_snapshot(), account="audit")


def test_two_prices_of_one_day_are_two_rows() -> None:
    before = {"provider": "openai", "model": "gpt-5.6-sol", "called_at": datetime(2026, 8, 20, 23, tzinfo=UTC)}
    rows = rows_of(before, before | {"called_at": datetime(2026, 8, 21, tzinfo=UTC)})
    inputs = rows.filter(x_TokenKind="input").sort("ChargePeriodStart")
    assert inputs["ListUnitPrice"].to_list() == [Decimal(5), Decimal(4)]
    assert inputs["SkuId"].n_unique() == 1
    assert inputs["SkuPriceId"].n_unique() == 2
    assert inputs["ChargePeriodStart"].dt.date().to_list() == [date(2026, 8, 20), date(2026, 8, 21)]
