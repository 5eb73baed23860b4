import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from routing.account import Billing, cost, spent
from routing.prices import price_snapshot
from routing.replies import answer, read_bodies
from routing.split import by_alpha, route
from schemas.billing import USD, PriceOverride
from schemas.queries import Costed
from tests.fakes import NOON, completion, ledger_replies, scored

AT = datetime.fromtimestamp(NOON, UTC)
PRICES = price_snapshot(
    [
        # $ per million tokens: big 10 in, 1 cached, 30 out; small 1 in, 2 out.
        PriceOverride(
            model="big",
            input_usd_per_mtok=Decimal(10),
            cached_input_usd_per_mtok=Decimal(1),
            output_usd_per_mtok=Decimal(30),
        ),
        PriceOverride(model="small", input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2)),
    ]
)
BILLING = {
    "strong": Billing("big", "https://big.example/v1", None, mean_output_tokens=300),
    "weak": Billing("small", "https://small.example/v1", None, mean_output_tokens=100),
}
MICRO = Decimal(1) / 1_000_000


def body(served: str | None, n_input: int, n_output: int, *, cached: int = 0, **fields: Any) -> str:
    usage = {
        "prompt_tokens": n_input,
        "completion_tokens": n_output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return completion("Yes.", model=served, usage=usage, **fields)


def costed(
    *bodies: str | None, win_rates: list[float], prices: pl.DataFrame = PRICES, limit: int | None = None, **reply: Any
) -> pl.DataFrame:
    """Route at alpha 0.5, answer each query with a body (null: unsent), and price."""
    table = scored(win_rates).with_columns(max_output_tokens=pl.lit(limit, pl.Int64))
    routed = route(table, by_alpha(table, 0.5), strong="big", weak="small").with_columns(call_key="query_id")
    rows = [{"call_key": f"q{i}", "body": text, **reply} for i, text in enumerate(bodies) if text is not None]
    return cost(answer(routed, ledger_replies(*rows)), prices, BILLING)


def test_each_side_pays_its_own_rates() -> None:
    table = costed(body("big", 1000, 50, cached=400), body("small", 1000, 50), win_rates=[0.9, 0.1])
    # big: 600 * 10 + 400 * 1 + 50 * 30 = 6000 + 400 + 1500; small: 1000 * 1 + 50 * 2.
    assert table["cost_usd"].to_list() == [7900 * MICRO, 1100 * MICRO]
    assert table["unpriced_reason"].to_list() == [None, None]
    assert all(price_id.startswith("override:") for price_id in table["price_id"])
    assert table.columns == Costed.column_names()


def test_the_other_side_is_modelled_by_observed_input_and_its_own_mean_output() -> None:
    table = costed(body("big", 1000, 50), body("small", 1000, 50), win_rates=[0.9, 0.1])
    big, small = 10_000 + 50 * 30, 1_000 + 50 * 2
    assert table["strong_cost_usd"].to_list() == [big * MICRO, (10_000 + 300 * 30) * MICRO]
    assert table["weak_cost_usd"].to_list() == [(1_000 + 100 * 2) * MICRO, small * MICRO]
    assert table["saved_vs_strong_usd"].to_list() == [0, (19_000 - small) * MICRO]
    assert table.schema["saved_vs_strong_usd"] == USD


@pytest.mark.parametrize(("limit", "modelled"), [(20, 20), (300, 300), (5000, 300)])
def test_modelled_output_stays_within_the_rows_own_limit(limit: int, modelled: int) -> None:
    table = costed(body("small", 1000, 20), win_rates=[0.1], limit=limit)
    assert table["strong_cost_usd"].item() == (10_000 + modelled * 30) * MICRO


def test_the_served_model_is_billed_not_the_one_asked_for() -> None:
    table = costed(body("small", 1000, 50), win_rates=[0.9])  # strong was asked, the endpoint used small
    assert (table["requested_model"].item(), table["cost_usd"].item()) == ("big", 1100 * MICRO)


def test_a_reply_that_names_no_model_is_billed_as_asked() -> None:
    assert costed(body(None, 1000, 50), win_rates=[0.9])["cost_usd"].item() == 11_500 * MICRO


@pytest.mark.parametrize("text", [None, '{"error": {"message": "no"}}', "no json"])
def test_a_query_without_a_billed_reply_costs_nothing_and_is_not_compared(text: str | None) -> None:
    row = costed(text, win_rates=[0.9], status=400, error_code="bad_request").row(0, named=True)
    assert row["cost_usd"] == 0
    for name in ("price_id", "unpriced_reason", "strong_cost_usd", "weak_cost_usd", "saved_vs_strong_usd"):
        assert row[name] is None


@pytest.mark.parametrize(
    "fields", [{"finish_reason": "length"}, {"finish_reason": "content_filter"}, {"refusal": "No."}]
)
def test_tokens_of_truncated_and_refused_answers_are_billed(fields: dict[str, Any]) -> None:
    table = costed(body("big", 1000, 50, **fields), win_rates=[0.9])
    assert (table["cost_usd"].item(), table["strong_cost_usd"].item()) == (11_500 * MICRO, 11_500 * MICRO)


def test_an_unknown_served_model_is_unpriced_not_free() -> None:
    row = costed(body("house-blend", 1000, 50), win_rates=[0.9]).row(0, named=True)
    assert (row["cost_usd"], row["strong_cost_usd"], row["saved_vs_strong_usd"]) == (None, None, None)
    assert row["unpriced_reason"] == "no price for model 'house-blend'"
    assert row["weak_cost_usd"] == (1_000 + 100 * 2) * MICRO


def test_an_answer_without_usage_is_unpriced() -> None:
    row = costed(completion("Yes.", model="big", usage={}), win_rates=[0.9]).row(0, named=True)
    assert (row["cost_usd"], row["unpriced_reason"]) == (None, "tokens unknown")


@pytest.mark.parametrize(
    ("replied_at", "rate"), [(AT - timedelta(microseconds=1), 10), (AT, 4), (AT + timedelta(days=400), 4)]
)
def test_the_price_is_that_of_the_moment_of_the_answer(replied_at: datetime, rate: int) -> None:
    dear, cheap = ({"output_usd_per_mtok": Decimal(0), "input_usd_per_mtok": Decimal(n)} for n in (10, 4))
    prices = price_snapshot(
        [
            PriceOverride(model="big", valid_to=AT, **dear),
            PriceOverride(model="big", valid_from=AT, **cheap),
            PriceOverride(model="small", **cheap),
        ]
    )
    table = costed(body("big", 1000, 0), win_rates=[0.9], prices=prices, replied_at=replied_at.timestamp())
    assert table["cost_usd"].item() == 1000 * rate * MICRO


def test_a_provider_named_in_the_config_decides_between_two_prices() -> None:
    rates = {"output_usd_per_mtok": Decimal(0)}
    prices = price_snapshot(
        [
            PriceOverride(model="big", provider="azure", input_usd_per_mtok=Decimal(7), **rates),
            PriceOverride(model="big", provider="openai", input_usd_per_mtok=Decimal(5), **rates),
            PriceOverride(model="small", input_usd_per_mtok=Decimal(1), **rates),
        ]
    )
    table = scored([0.9])
    routed = route(table, by_alpha(table, 0.5), strong="big", weak="small").with_columns(call_key="query_id")
    reply = ledger_replies({"call_key": "q0", "body": body("big", 1000, 0)})
    billing = {**BILLING, "strong": Billing("big", "https://big.example/v1", "azure", 300)}
    assert cost(answer(routed, reply), prices, billing)["cost_usd"].item() == 7000 * MICRO


def test_a_reply_of_http_200_that_cannot_be_read_is_unpriced_too() -> None:
    row = costed("no json", win_rates=[0.9]).row(0, named=True)
    assert (row["status"], row["cost_usd"], row["unpriced_reason"]) == ("failed", None, "tokens unknown")


def test_the_other_model_is_priced_as_standard_whatever_tier_answered() -> None:
    rates = [("big", 10, 30), ("small", 1, 2)]
    prices = price_snapshot([
        PriceOverride(model=model, input_usd_per_mtok=Decimal(asked), output_usd_per_mtok=Decimal(told),
                      batch_factor=Decimal("0.5"))
        for model, asked, told in rates
    ])  # fmt: skip
    table = costed(body("big", 1000, 50, service_tier="batch"), win_rates=[0.9], prices=prices)
    assert table["cost_usd"].to_list() == [(1000 * 10 + 50 * 30) * MICRO / 2]
    assert table["weak_cost_usd"].to_list() == [(1000 * 1 + 100 * 2) * MICRO]


def test_a_service_tier_without_a_price_is_unpriced_and_default_is_standard() -> None:
    table = costed(
        body("big", 1000, 50, service_tier="flex"), body("big", 1000, 50, service_tier="default"), win_rates=[0.9, 0.9]
    )
    assert table["cost_usd"].to_list() == [None, 11_500 * MICRO]
    assert "'flex'" in table["unpriced_reason"][0]


def test_order_and_rows_stay() -> None:
    bodies = [body("small", 100 + i, 1) if i % 3 else None for i in range(30)]
    table = costed(*bodies, win_rates=[0.1] * 30)
    assert table["query_id"].to_list() == [f"q{i}" for i in range(30)]
    assert table["cost_usd"].to_list() == [(102 + i) * MICRO if i % 3 else 0 for i in range(30)]


def test_every_billed_reply_is_spent_money_whether_its_answer_is_used_or_not() -> None:
    paid = pl.DataFrame(
        {
            "model": ["big", "small", "big"],
            "body": [body("big", 1000, 50), body(None, 1000, 50), json.dumps({"oops": 1})],
            "answered_at": [AT] * 3,
        },
        schema_overrides={"answered_at": pl.Datetime("us", "UTC")},
    )
    table = spent(read_bodies(paid), PRICES, BILLING)
    assert table["cost_usd"].to_list() == [11_500 * MICRO, 1_100 * MICRO, None]
    assert table["unpriced_reason"].to_list() == [None, None, "tokens unknown"]
