"""What calls would have cost on another model: caches that are warm, cold, or dear to write."""

import numpy as np
import polars as pl
import pytest

from routing.audit.what_if_prices import OnModel, on_model
from routing.audit.what_if_routed import PairModel
from routing.prices import price_snapshot
from schemas.billing import PriceOverride
from tests.unit.audit.what_if_logs import call_log

RATES = (
    {"model": "writes", "input_usd_per_mtok": "10", "cached_input_usd_per_mtok": "1",
     "cache_write_usd_per_mtok": "12.5", "cache_write_1h_usd_per_mtok": "20", "output_usd_per_mtok": "50"},
    {"model": "reads", "input_usd_per_mtok": "4", "cached_input_usd_per_mtok": "1", "output_usd_per_mtok": "8"},
    {"model": "plain", "input_usd_per_mtok": "2", "output_usd_per_mtok": "6"},
    {"model": "odd", "input_usd_per_mtok": "2", "cached_input_usd_per_mtok": "3", "output_usd_per_mtok": "6"},
)  # fmt: skip
PRICES = price_snapshot([PriceOverride.model_validate(rates) for rates in RATES])
READ, WRITTEN = [None, 8_000, None, 6_000], [None, None, 9_000, 3_000]


def on(
    model: str,
    read: list[int | None] = READ,
    written: list[int | None] = WRITTEN,
    hour: list[int | None] | None = None,
) -> OnModel:
    """Calls of 10,000 input tokens of the model `plain`."""
    calls = call_log(
        {
            "model": ["plain"] * len(read),
            "input_tokens": [10_000] * len(read),
            "output_tokens": [0] * len(read),
            "cached_tokens": pl.Series(read, dtype=pl.Int64),
            "cache_write_tokens": pl.Series(written, dtype=pl.Int64),
            "cache_write_1h_tokens": pl.Series([None] * len(read) if hour is None else hour, dtype=pl.Int64),
        },
        PRICES,
    )
    return on_model(calls, PRICES, PairModel(model))


@pytest.mark.parametrize(
    ("model", "cold", "warm"),
    [
        # A cold cache is written anew: 2,000 * 10 + 8,000 * 12.5 and so on.
        ("writes", [0.1, 0.12, 0.1225, 0.1225], [0.1, 0.028, 0.1225, 0.0535]),
        ("reads", [0.04, 0.04, 0.04, 0.04], [0.04, 0.016, 0.04, 0.022]),
        ("plain", [0.02, 0.02, 0.02, 0.02], [0.02, 0.02, 0.02, 0.02]),
        ("odd", [0.02, 0.028, 0.02, 0.026], [0.02, 0.028, 0.02, 0.026]),  # never cheaper than warm
    ],
)
def test_a_cold_cache_is_written_anew(model: str, cold: list[float], warm: list[float]) -> None:
    found = on(model)
    assert found.cold_usd == pytest.approx(cold)
    assert found.warm_usd == pytest.approx(warm)
    assert (found.cold_usd >= found.warm_usd).all()


def test_a_call_that_writes_for_an_hour_does_so_on_another_model() -> None:
    hour = on("writes", READ, WRITTEN, [None, 0, 9_000, 1_000])
    # The third wrote for an hour alone: 1,000 * 10 + 9,000 * 20; the fourth a thousand of three.
    assert hour.warm_usd == pytest.approx([0.1, 0.028, 0.19, 0.061])
    assert hour.cold_usd == pytest.approx([0.1, 0.12, 0.19, 0.13])
    # What it read it had written so: 6,000 and 3,000, all of it at 20.
    alone = on("writes", [6_000], [3_000], [3_000])
    assert [*alone.warm_usd, *alone.cold_usd] == pytest.approx([0.076, 0.19])
    assert on("plain", READ, WRITTEN, WRITTEN).cold_usd == pytest.approx([0.02] * 4)


def test_without_cached_tokens_cold_is_warm() -> None:
    found = on("writes", [None, 0], [0, None])
    assert found.cold_usd.tolist() == found.warm_usd.tolist() == [0.1, 0.1]
    assert np.array_equal(found.usd_per_output_token, [50e-6, 50e-6])
