from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from schemas.audit import DaySpend, ErrorCount, LoggedSpend, Spend, UnpricedCalls
from schemas.daily import Daily
from tests.audit_frames import NOON, Row, booked, call_log

ZERO = Decimal(0)


def spend(key: str | None, calls: int, **counts: object) -> Spend:
    return Spend.model_validate(dict.fromkeys(Spend.model_fields, 0) | {"key": key, "calls": calls} | counts)


def test_the_total_is_over_every_kept_call(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"cached_tokens": 400, "reasoning_tokens": 30, "logged_usd": Decimal("0.002")},
        {"model": "mystery", "input_tokens": 7, "output_tokens": 3, "logged_usd": Decimal("0.5")},
        {"outcome": "failed"},
    ]
    assert booked(call_log(*rows), tmp_path).paid.total == spend(
        None,
        3,
        failed_calls=1,
        unpriced_calls=1,
        input_tokens=2_007,
        cached_tokens=400,
        output_tokens=203,
        reasoning_tokens=30,
        cost_usd=Decimal("0.004"),
        logged_usd=Decimal("0.502"),
    )


@pytest.mark.parametrize(
    ("dimension", "column", "values"),
    [
        ("tenants", "tenant", ("a / x", "b", None)),
        ("models", "model", ("big", "small", None)),
        ("providers", "provider", ("openai", "house", None)),
    ],
)
def test_spend_of_each_value_dearest_first(
    tmp_path: Path, dimension: str, column: str, values: tuple[str | None, ...]
) -> None:
    rows: list[Row] = [{column: values[number]} for number in (2, 1, 0, 1, 0, 0)]
    groups = getattr(booked(call_log(*rows), tmp_path).paid, dimension)
    assert [(group.key, group.calls) for group in groups] == [(values[0], 3), (values[1], 2), (values[2], 1)]
    assert sum(group.cost_usd for group in groups) == booked(call_log(*rows), tmp_path).paid.total.cost_usd


def test_ties_go_by_calls_then_by_name_with_null_last(tmp_path: Path) -> None:
    free = {"billed": False}
    names = [None, "b", "a", "c", "c"]
    tenants = booked(call_log(*({"tenant": name} | free for name in names)), tmp_path).paid.tenants
    assert [tenant.key for tenant in tenants] == ["c", "a", "b", None]


def test_standard_default_and_null_are_one_tier(tmp_path: Path) -> None:
    rows: list[Row] = [{"processing": name} for name in (None, "default", "standard", "batch")]
    tiers = booked(call_log(*rows), tmp_path).paid.tiers
    assert [(tier.key, tier.calls, tier.unpriced_calls) for tier in tiers] == [("standard", 3, 0), ("batch", 1, 1)]


def test_days_are_of_utc_half_open_and_in_order(tmp_path: Path) -> None:
    midnight = datetime(2026, 10, 6, tzinfo=UTC)
    rows: list[Row] = [
        {"called_at": midnight, "tenant": "a"},
        {"called_at": midnight - timedelta(microseconds=1), "tenant": "b"},
        {"called_at": midnight + timedelta(hours=23, minutes=59), "tenant": "a", "model": "big"},
    ]
    paid = booked(call_log(*rows), tmp_path).paid
    assert [tenant.key for tenant in paid.tenants] == ["a", "b"]
    assert [(day.day, day.spend.calls, day.groups) for day in paid.days] == [
        (date(2026, 10, 5), 1, [ZERO, Decimal("0.002")]),
        (date(2026, 10, 6), 2, [Decimal("0.022"), ZERO]),
    ]
    assert isinstance(paid.days[0], DaySpend)
    assert paid.days[0].spend.key == "2026-10-05"


def test_logged_spend_is_compared_where_both_are_known(tmp_path: Path) -> None:
    at = [NOON + timedelta(hours=n) for n in range(7)]
    rows: list[Row] = [
        {"logged_usd": Decimal("0.002"), "called_at": at[3]},
        {"logged_usd": Decimal("0.005"), "called_at": at[1]},
        {"called_at": at[0]},
        {"logged_usd": Decimal("0.001"), "billed": False, "called_at": at[2]},
        {"model": "mystery", "logged_usd": Decimal(1), "called_at": at[4]},
    ]
    models = booked(call_log(*rows, provider="house"), tmp_path).reconciliation.models
    assert models == [
        LoggedSpend(
            provider="house",
            model="small",
            calls=4,
            compared_calls=3,
            logged_usd=Decimal("0.008"),
            recomputed_usd=Decimal("0.004"),
            difference_usd=Decimal("0.004"),
            differing_calls=2,
            first_called_at=at[0],
            last_called_at=at[3],
        ),
        LoggedSpend(
            provider="house",
            model="mystery",
            calls=1,
            compared_calls=0,
            logged_usd=ZERO,
            recomputed_usd=ZERO,
            difference_usd=ZERO,
            differing_calls=0,
            first_called_at=at[4],
            last_called_at=at[4],
        ),
    ]


@pytest.mark.parametrize(
    ("tokens", "logged", "differs"),
    [
        (1_000, "0.001", 0),
        (1_000, "0.001001", 0),  # one part in a thousand, a ten-thousandth of a cent: neither is passed
        (1_000, "0.001001000001", 1),
        (1_000, "0.000998999999", 1),
        (10, "0.000011", 0),  # $0.000010: a tenth too much is below a ten-thousandth of a cent
        (10, "0.000011000001", 1),
        (100_000, "0.1001", 0),  # a hundredth of a cent too much is one part in a thousand
        (100_000, "0.100100000001", 1),
    ],
)
def test_logged_spend_differs_beyond_rounding(tmp_path: Path, tokens: int, logged: str, differs: int) -> None:
    row = {"input_tokens": tokens, "output_tokens": 0, "logged_usd": Decimal(logged)}
    [model] = booked(call_log(row), tmp_path).reconciliation.models
    assert model.differing_calls == differs


def test_unpriced_calls_have_a_line_for_each_reason(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"model": "mystery", "logged_usd": Decimal("0.25")},
        {"model": "mystery"},
        {"output_tokens": None},
        {},
        {"model": None, "billed": False},
    ]
    assert booked(call_log(*rows), tmp_path).reconciliation.unpriced == [
        UnpricedCalls(
            reason="no price for model 'mystery'",
            calls=2,
            input_tokens=2_000,
            output_tokens=200,
            logged_usd=Decimal("0.25"),
        ),
        UnpricedCalls(reason="tokens unknown", calls=1, input_tokens=1_000, output_tokens=0, logged_usd=None),
    ]


def test_waste_is_failures_retries_and_duplicates(tmp_path: Path) -> None:
    failed = {"outcome": "failed"}
    rows: list[Row] = [
        failed | {"error_code": "500"},
        failed | {"error_code": "429", "input_tokens": 0, "output_tokens": 0, "attempts": 4},
        failed | {"error_code": "429", "input_tokens": None, "output_tokens": None, "attempts": 1},
        failed | {"error_code": None, "input_tokens": 0, "output_tokens": 0, "attempts": 0},
        {"attempts": 3, "call_id": "twice", "logged_usd": Decimal("0.3")},
        {"attempts": 3, "call_id": "twice", "logged_usd": Decimal("0.3")},
    ]
    waste = booked(call_log(*rows), tmp_path).paid.waste
    assert (waste.failed_calls, waste.failed_usd) == (4, Decimal("0.002"))
    assert (waste.retried_calls, waste.extra_attempts) == (2, 5)
    assert waste.duplicated_logged_usd == Decimal("0.3")
    assert waste.errors == [
        ErrorCount(error_code="500", calls=1, cost_usd=Decimal("0.002")),
        ErrorCount(error_code="429", calls=2, cost_usd=ZERO),
        ErrorCount(error_code=None, calls=1, cost_usd=ZERO),
    ]


def test_the_daily_table_has_a_cell_for_each_price_and_reason(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"tenant": "a", "logged_usd": Decimal("0.002")},
        {"tenant": "a", "outcome": "failed", "attempts": 2, "prompt": " "},
        {"tenant": "a", "billed": False, "prompt": "hello"},
        {"tenant": "a", "model": "mystery", "logged_usd": Decimal(3)},
        {"tenant": "a", "outcome": "failed", "input_tokens": 0, "output_tokens": 0},
    ]
    daily = booked(call_log(*rows), tmp_path).daily
    assert Daily.is_valid(daily)
    assert daily["processing"].unique().to_list() == ["standard"]
    priced = daily.row(by_predicate=pl.col("price_id").is_not_null(), named=True)
    unpriced = daily.row(by_predicate=pl.col("unpriced_reason").is_not_null(), named=True)
    unbilled = daily.row(by_predicate=pl.col("billed_calls") == 0, named=True)
    assert daily.height == 3
    counts = ("calls", "failed_calls", "billed_calls", "answered_calls", "retried_calls", "missing_prompts")
    assert [priced[name] for name in counts] == [3, 2, 3, 2, 1, 3]
    assert [unpriced[name] for name in counts] == [1, 0, 1, 1, 0, 1]
    assert [unbilled[name] for name in counts] == [1, 0, 0, 0, 0, 0]
    money = ("cost_usd", "failed_usd", "logged_calls", "logged_usd", "compared_usd", "differing_calls")
    two, three = Decimal("0.002"), Decimal(3)
    assert [priced[name] for name in money] == [Decimal("0.004"), two, 1, two, two, 0]
    assert [unpriced[name] for name in money] == [None, None, 1, three, None, 0]
    assert [unbilled[name] for name in money] == [ZERO, ZERO, 0, None, None, 0]
    assert priced["first_called_at"] == priced["last_called_at"] == NOON
