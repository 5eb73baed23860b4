import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from routing.errors import ConfigError
from routing.matching import resolve_models, served_names
from routing.prices import price_snapshot, snapshot_sha256
from routing.pricing import price
from schemas.billing import PriceOverride, Usage

MARCH = datetime(2026, 3, 1, tzinfo=UTC)
APRIL = datetime(2026, 4, 1, tzinfo=UTC)


def override(model: str, rate: str, **more: Any) -> PriceOverride:
    return PriceOverride.model_validate(
        {"model": model, "input_usd_per_mtok": rate, "output_usd_per_mtok": rate, **more}
    )


def costs(overrides: list[PriceOverride], *calls: dict[str, Any]) -> list[Decimal | None]:
    """Cost of one million input tokens for each call."""
    default = {"called_at": datetime(2026, 11, 1, tzinfo=UTC), "input_tokens": 1_000_000, "output_tokens": 0}
    usage = pl.DataFrame([default | call for call in calls], schema=Usage.create_empty().schema)
    prices = price_snapshot(overrides)
    return price(usage, prices, resolve_models(served_names(usage), prices))["cost_usd"].to_list()


def test_an_override_wins_over_the_snapshot_for_the_exact_name_only() -> None:
    # The list price of gpt-4o is $2.50; the dated name is another name.
    calls = ({"model": "gpt-4o"}, {"model": "gpt-4o-2024-08-06"}, {"model": "GPT-4o"})
    assert costs([override("gpt-4o", "1.75")], *calls) == [Decimal("1.75"), Decimal("2.5"), Decimal("2.5")]


def test_an_override_prices_a_model_that_nobody_lists() -> None:
    assert costs([override("house-model", "0.1")], {"model": "house-model"}) == [Decimal("0.1")]


def test_outside_its_time_the_list_price_holds() -> None:
    moments = [datetime(2026, 2, 28, 23, 59, tzinfo=UTC), MARCH, datetime(2026, 3, 31, 23, 59, tzinfo=UTC), APRIL]
    dated = override("gpt-4o", "1", valid_from=MARCH, valid_to=APRIL)
    assert costs([dated], *({"model": "gpt-4o", "called_at": at} for at in moments)) == [
        Decimal("2.5"),
        Decimal(1),
        Decimal(1),
        Decimal("2.5"),
    ]


def test_the_providers_own_override_wins_over_the_general_one() -> None:
    both = [override("gpt-4o", "1"), override("gpt-4o", "3", provider="azure")]
    calls = ({"model": "gpt-4o"}, {"model": "gpt-4o", "provider": "azure"}, {"model": "gpt-4o", "provider": "openai"})
    assert costs(both, *calls) == [Decimal(1), Decimal(3), Decimal(1)]


def test_the_base_url_tells_the_provider_of_an_override() -> None:
    call = {"model": "house-model", "base_url": "https://api.openai.com/v1"}
    assert costs([override("house-model", "3", provider="openai")], call) == [Decimal(3)]


def test_a_batch_factor_scales_every_rate_and_without_it_batch_is_unpriced() -> None:
    # gpt-4o has a batch price on the list; half a contract is not filled up from it.
    batch = {"model": "gpt-4o", "processing": "batch"}
    assert costs([override("gpt-4o", "1.5", batch_factor="0.5")], batch) == [Decimal("0.75")]
    assert costs([override("gpt-4o", "1.5")], batch) == [None]


def test_an_unknown_endpoint_is_unpriced_and_a_loopback_one_is_matched_by_name() -> None:
    urls = ["https://gpu.example.com/v1", "http://127.0.0.1:8000/v1", "http://localhost:8000", "http://[::1]:8000/v1"]
    calls = ({"model": "gpt-4o", "base_url": url} for url in urls)
    assert costs([], *calls) == [None, Decimal("2.5"), Decimal("2.5"), Decimal("2.5")]


def test_a_resold_model_takes_its_owners_standard_price_but_not_its_batch_price() -> None:
    prices = price_snapshot()
    names = pl.DataFrame({"provider": ["azure"], "base_url": [None], "model": ["o3-pro"]})
    resold = resolve_models(names, prices).row(0, named=True)
    assert (resold["price_provider"], resold["standard_only"]) == ("openai", True)
    assert costs([], {"provider": "azure", "model": "o3-pro"}) == [Decimal(20)]
    assert costs([], {"provider": "azure", "model": "o3-pro", "processing": "batch"}) == [None]
    assert costs([], {"provider": "openai", "model": "o3-pro", "processing": "batch"}) == [Decimal(10)]


def test_names_are_resolved_once_each() -> None:
    names = pl.DataFrame({"provider": [None] * 3, "base_url": [None] * 3, "model": ["o3", "o3", "house-model"]})
    resolved = resolve_models(names, price_snapshot())
    assert resolved.select("model", "price_provider", "price_model").rows() == [
        ("o3", "openai", "o3"),
        ("house-model", None, None),
    ]


def test_two_overrides_for_the_same_time_are_refused() -> None:
    with pytest.raises(ConfigError, match="two overrides of model 'm' hold at the same time"):
        price_snapshot([override("m", "1", valid_to=APRIL), override("m", "2", valid_from=MARCH)])


def test_successive_overrides_are_accepted() -> None:
    pair = [override("m", "2", valid_from=MARCH), override("m", "1", valid_to=MARCH)]
    assert costs(pair, {"model": "m"}, {"model": "m", "called_at": datetime(2026, 2, 1, tzinfo=UTC)}) == [2, 1]


def test_toml_floats_strings_and_dates_are_read_exactly() -> None:
    text = 'model = "m"\ninput_usd_per_mtok = 0.1\noutput_usd_per_mtok = "0.30"\nvalid_from = 2026-03-01'
    read = PriceOverride.model_validate(tomllib.loads(text))
    assert (read.input_usd_per_mtok, read.output_usd_per_mtok) == (Decimal("0.1"), Decimal("0.3"))
    assert read.valid_from == MARCH


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_usd_per_mtok": -1},
        {"input_usd_per_mtok": float("nan")},
        {"input_usd_per_mtok": "1e6"},
        {"input_usd_per_mtok": "0.0000001"},
        {"batch_factor": 1.5},
        {"cached_usd_per_mtok": 1},
        {"valid_from": "2026-04-01", "valid_to": "2026-04-01"},
        {"valid_from": "yesterday"},
        {"model": ""},
    ],
)
def test_a_price_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PriceOverride.model_validate({"model": "m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 1, **wrong})


def test_the_digest_is_of_the_values_not_of_their_order() -> None:
    prices = price_snapshot()
    assert snapshot_sha256(prices) == snapshot_sha256(prices.sample(fraction=1, shuffle=True, seed=1))
    assert snapshot_sha256(prices) == snapshot_sha256(prices.select(reversed(prices.columns)))
    cent = (
        pl.when(pl.col("price_id") == "openai/o3@2025-06-10#standard>0").then(pl.lit(Decimal("0.000001"))).otherwise(0)
    )
    dearer = prices.with_columns(pl.col("output_usd_per_mtok") + cent)
    assert dearer.schema == prices.schema
    assert snapshot_sha256(dearer) != snapshot_sha256(prices)


def test_the_digest_is_that_of_the_parquet_file_too(tmp_path: Any) -> None:
    prices = price_snapshot([override("m", "1", valid_from=MARCH)])
    prices.write_parquet(tmp_path / "prices.parquet")
    assert snapshot_sha256(pl.read_parquet(tmp_path / "prices.parquet")) == snapshot_sha256(prices)
