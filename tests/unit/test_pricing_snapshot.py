"""The rows that price models of genai-prices turn into, on models made up for the purpose."""

from datetime import UTC, date, datetime, time
from decimal import Decimal

import polars as pl
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from routing.prices import _model_rows, price_snapshot
from schemas.billing import Prices

MAY = datetime(2026, 5, 1, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)


def flat(rate: int) -> ModelPrice:
    return ModelPrice(input_mtok=Decimal(rate), output_mtok=Decimal(rate))


def from_day(day: datetime) -> StartDateConstraint:
    return StartDateConstraint(date(day.year, day.month, day.day))


def rows_of(prices: ModelPrice | list[ConditionalPrice], variants: list[PriceVariant] | None = None) -> pl.DataFrame:
    model = ModelInfo(id="m", match=ClauseEquals("m"), prices=prices, price_variants=variants)
    rows = list(_model_rows(Provider(id="p", name="P", api_pattern="https://p"), model))
    return Prices.validate(pl.DataFrame(rows, schema=Prices.create_empty().schema))


def test_the_clock_excludes_only_the_days_on_which_it_decides() -> None:
    night = TimeOfDateConstraint(time(0, tzinfo=UTC), time(8, tzinfo=UTC))
    rows = rows_of(
        [
            ConditionalPrice(prices=flat(2)),
            ConditionalPrice(night, prices=flat(1)),
            ConditionalPrice(from_day(MAY), prices=flat(3)),
        ]
    )
    assert rows.select("valid_from", "valid_to", "input_usd_per_mtok", "excluded_reason").rows() == [
        (None, MAY, None, "the price depends on the time of day"),
        (MAY, None, Decimal(3), None),
    ]


def test_a_batch_price_starts_with_its_own_date_and_follows_the_standard_one() -> None:
    half = PriceVariant({"processing": "batch"}, ModelPrice(input_mtok=Decimal(1)), from_day(MAY))
    rows = rows_of([ConditionalPrice(prices=flat(2)), ConditionalPrice(from_day(JUNE), prices=flat(4))], [half])
    # The variant names an input rate only: its output rate is the standard one of the day.
    batch = rows.filter(processing="batch")
    assert batch.select("valid_from", "valid_to", "input_usd_per_mtok", "output_usd_per_mtok").rows() == [
        (MAY, JUNE, 1, 2),
        (JUNE, None, 1, 4),
    ]


def test_every_threshold_of_any_rate_is_a_tier() -> None:
    tiered = TieredPrices(Decimal(1), [Tier(200, Decimal(3)), Tier(100, Decimal(2))])
    output = TieredPrices(Decimal(10), [Tier(150, Decimal(20))])
    rows = rows_of(ModelPrice(input_mtok=tiered, output_mtok=output))
    assert rows.select("min_input_tokens", "input_usd_per_mtok", "output_usd_per_mtok").rows() == [
        (0, 1, 10),
        (100, 2, 10),
        (150, 2, 20),
        (200, 3, 20),
    ]


def test_float_noise_of_the_source_is_rounded_at_the_twelfth_decimal() -> None:
    rows = rows_of(ModelPrice(input_mtok=Decimal("0.13999999999999999"), output_mtok=Decimal("0.0833333333333333")))
    assert rows["input_usd_per_mtok"].item() == Decimal("0.14")
    assert rows["output_usd_per_mtok"].item() == Decimal("0.083333333333")


def test_what_is_billed_besides_is_named() -> None:
    extra = {"input_audio_mtok": Decimal(5), "web_searches_kcount": Decimal(10), "requests_kcount": Decimal(12)}
    route = PriceVariant({"route": "eu"}, flat(3))
    rows = rows_of(ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(1), **extra), [route])
    assert rows["not_covered"].to_list() == ["input_audio, web_searches, route"]
    assert rows["request_usd"].to_list() == [Decimal("0.012")]


def test_reasoning_with_a_rate_of_its_own_is_excluded() -> None:
    rows = rows_of(ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(8), output_reasoning_mtok=Decimal(3)))
    assert rows["excluded_reason"].to_list() == ["reasoning or citation tokens have a rate of their own"]


def test_intervals_of_the_snapshot_never_overlap() -> None:
    group = ["provider", "model", "processing", "min_input_tokens"]
    later = (
        price_snapshot().sort(*group, "valid_from").with_columns(next_from=pl.col("valid_from").shift(-1).over(group))
    )
    assert later.filter(pl.col("valid_to") > pl.col("next_from")).is_empty()
    assert later.filter(pl.col("valid_to").is_null() & pl.col("next_from").is_not_null()).is_empty()
