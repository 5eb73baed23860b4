"""Spend that an audit recomputes against genai-prices itself, asked row by row, across a change of price."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import genai_prices
import polars as pl
import pytest
from genai_prices.types import Usage as TheirUsage

from examples.audit_faults import audit_of
from examples.log_traffic import MODELS, OWN, STRONG
from examples.make_log import PRICE_CHANGED_AT, make_log
from jobs.audit_calls import store_calls
from jobs.audit_log import open_log
from routing.prices import price_snapshot

ROWS = 10_000
STEP = Decimal("1e-12")


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """Calls of the example log, as the audit reads and prices them."""
    folder = tmp_path_factory.mktemp("audit")
    make_log(folder / "log", rows=2 * ROWS)
    job = audit_of(folder / "log", folder / "out")
    stored = store_calls(open_log(job.config.log, job.base), folder / "work", part_rows=3_000)
    return pl.concat(stored.kept(price_snapshot()))


def their_price(call: dict[str, Any]) -> Decimal | None:
    """Return their total at twelve decimals, or null for a model that they do not know."""
    usage = TheirUsage(
        input_tokens=call["input_tokens"],
        cache_read_tokens=call["cached_tokens"],
        cache_write_tokens=call["cache_write_tokens"],
        output_tokens=call["output_tokens"],
    )
    try:
        found = genai_prices.calc_price(
            usage, call["model"], provider_id=call["provider"], genai_request_timestamp=call["called_at"]
        )
    except LookupError:
        return None
    return found.total_price.quantize(STEP, ROUND_HALF_EVEN)


def billed(calls: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """10,000 calls that went to a provider, drawn with a seed."""
    return calls.filter("billed").sample(ROWS, seed=5).iter_rows(named=True)


def test_recomputed_spend_is_theirs_to_the_last_digit(calls: pl.DataFrame) -> None:
    compared = [(call, their_price(call)) for call in billed(calls)]
    wrong = [(call, theirs) for call, theirs in compared if call["cost_usd"] != theirs]
    assert wrong == []
    assert sum(call["cost_usd"] or Decimal(0) for call, _ in compared) > 10
    unpriced = [call["model"] for call, theirs in compared if theirs is None]
    assert set(unpriced) == {MODELS[OWN]}
    assert len(unpriced) < 0.05 * ROWS
    assert sum(bool(call["cached_tokens"]) for call, _ in compared) > 500
    assert any(call["cache_write_tokens"] for call, _ in compared)


def test_the_sample_lies_on_both_sides_of_the_change(calls: pl.DataFrame) -> None:
    strong = [call for call in billed(calls) if call["model"] == MODELS[STRONG]]
    before, after = (
        {call["price_id"] for call in strong if (call["called_at"] < PRICE_CHANGED_AT) is early}
        for early in (True, False)
    )
    assert before == {"openai/gpt-5.6-sol@start#standard>0"}
    assert after == {"openai/gpt-5.6-sol@2026-08-21#standard>0"}
    assert min(call["called_at"] for call in strong) < PRICE_CHANGED_AT < max(call["called_at"] for call in strong)


def test_a_call_at_midnight_of_the_change_pays_the_new_price(calls: pl.DataFrame) -> None:
    call = next(billed(calls)) | {"provider": "openai", "model": "o3", "cached_tokens": 0, "cache_write_tokens": 0}
    tokens = {"input_tokens": 1_000_000, "output_tokens": 0}
    midnight = datetime(2025, 6, 10, tzinfo=UTC)
    assert their_price(call | tokens | {"called_at": midnight}) == 2
    assert their_price(call | tokens | {"called_at": midnight.replace(day=9, hour=23, minute=59)}) == 10
