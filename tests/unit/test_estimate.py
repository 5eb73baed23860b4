from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from routing.estimate import DISPATCH, FORECAST, SPLIT, Pricing, estimate, fit_answer_length
from routing.prices import price_snapshot
from schemas.billing import USD, PriceOverride
from schemas.run import AnswerLength
from tests.fakes import scored

NIGHT = datetime(2026, 11, 1, 2, tzinfo=UTC)
PRICES = price_snapshot(
    [
        PriceOverride(
            model="big", input_usd_per_mtok=Decimal(10), output_usd_per_mtok=Decimal(30), request_usd=Decimal("0.001")
        )
    ]
)
QUERIES = scored([0.5] * 3).with_columns(
    prompt_tokens=pl.Series([1000, 1000, 7], dtype=pl.Int64),
    max_output_tokens=pl.Series([None, 50, 1000], dtype=pl.Int64),
)


def estimated(table: pl.DataFrame = QUERIES, **fields: Any) -> pl.DataFrame:
    default: dict[str, Any] = {
        "model": "big",
        "base_url": "https://api.example/v1",
        "provider": None,
        "expected_output_tokens": 200,
        "output_limit": None,
    }
    columns = dict.fromkeys([*SPLIT, *FORECAST, *DISPATCH])
    return estimate(table, PRICES, Pricing(**{**default, **fields}), prefix="s", at=NIGHT, columns=list(columns))


def usd(table: pl.DataFrame, column: str) -> list[Decimal]:
    assert table.schema[column] == USD
    return table[column].to_list()


def per_call(input_tokens: int, output_tokens: int) -> Decimal:
    return (input_tokens * Decimal(10) + output_tokens * Decimal(30)) / 1_000_000 + Decimal("0.001")


def test_expected_cost_is_prompt_plus_expected_answer_within_the_row_limit() -> None:
    assert usd(estimated(), "s_usd") == [per_call(1000, 200), per_call(1000, 50), per_call(7, 200)]


def test_the_interval_spreads_tokenizer_and_answer_length() -> None:
    table = estimated()
    # 20 % fewer tokens, half the answer; 7 * 0.8 = 5.6 tokens are rounded up.
    assert usd(table, "s_low_usd") == [per_call(800, 100), per_call(800, 50), per_call(6, 100)]
    # 20 % more tokens, twice the answer; 7 * 1.2 = 8.4.
    assert usd(table, "s_high_usd") == [per_call(1200, 400), per_call(1200, 50), per_call(9, 400)]


def test_the_ceiling_is_the_limit_or_four_expected_answers() -> None:
    assert usd(estimated(), "s_ceiling_usd") == [per_call(1200, 800), per_call(1200, 50), per_call(9, 1000)]


def test_the_row_limit_comes_before_the_models() -> None:
    table = estimated(output_limit=100)
    assert usd(table, "s_usd") == [per_call(1000, 100), per_call(1000, 50), per_call(7, 200)]
    assert usd(table, "s_ceiling_usd") == [per_call(1200, 100), per_call(1200, 50), per_call(9, 1000)]


def test_tokens_to_reserve_are_prompt_plus_expected_answer() -> None:
    assert estimated()["s_tokens"].to_list() == [1200, 1050, 207]
    assert estimated(output_limit=100)["s_tokens"].to_list() == [1100, 1050, 207]


def test_low_expected_high_and_ceiling_are_in_order() -> None:
    table = estimated()
    ordered = pl.col("s_low_usd") <= pl.col("s_usd"), pl.col("s_usd") <= pl.col("s_high_usd")
    assert table.select(pl.all_horizontal(*ordered, pl.col("s_usd") <= pl.col("s_ceiling_usd")).all()).item()


@pytest.mark.parametrize("columns", [SPLIT, FORECAST, DISPATCH, ()])
def test_only_what_is_asked_for_is_added(columns: tuple[str, ...]) -> None:
    pricing = Pricing("big", "https://api.example/v1", None, 200, None)
    table = estimate(QUERIES, PRICES, pricing, prefix="weak", at=NIGHT, columns=columns)
    assert table.columns == [*QUERIES.columns, *(f"weak_{name}" for name in columns)]
    assert_frame_equal(table.select(QUERIES.columns), QUERIES)


def test_a_model_without_a_price_has_null_cost_and_known_tokens() -> None:
    table = estimated(model="nobody-knows-me")
    for name in ("usd", "low_usd", "high_usd", "ceiling_usd"):
        assert usd(table, f"s_{name}") == [None] * 3
    assert table["s_tokens"].to_list() == [1200, 1050, 207]


def test_an_empty_table_has_empty_estimates() -> None:
    assert estimated(scored([])).is_empty()


# ---- answers whose length follows the prompt ------------------------------------------------------------------------


def test_a_power_law_of_the_prompt_goes_before_the_mean() -> None:
    table = estimated(answer_length=AnswerLength(scale=2.0, power=0.5))
    # 2 * sqrt(1000) = 63.2..., up to 64; the row's own limit of 50; 2 * sqrt(7) = 5.29.
    assert usd(table, "s_usd") == [per_call(1000, 64), per_call(1000, 50), per_call(7, 6)]
    assert usd(table, "s_low_usd") == [per_call(800, 32), per_call(800, 32), per_call(6, 3)]
    assert table["s_tokens"].to_list() == [1064, 1050, 13]


def test_a_length_without_power_is_the_mean() -> None:
    assert usd(estimated(answer_length=AnswerLength(scale=200.0)), "s_usd") == usd(estimated(), "s_usd")


def test_the_power_law_that_made_the_answers_is_found() -> None:
    rng = np.random.default_rng(0)
    asked = rng.uniform(10, 2_000, 5_000).round()
    written = 12.0 * asked**0.5 * rng.lognormal(0.0, 0.4, 5_000)
    found = fit_answer_length(asked, written)
    assert found.power == pytest.approx(0.5, abs=0.02)
    assert found.answers == 5_000
    # The bill is what it is for: predicted and observed tokens add up to the same.
    assert (found.scale * asked**found.power).sum() == pytest.approx(written.sum())


def test_few_answers_give_their_mean_alone() -> None:
    asked = np.arange(1.0, 30.0)
    assert fit_answer_length(asked, 3 * asked) == AnswerLength(scale=45.0, power=0.0, answers=29)
    assert fit_answer_length(np.full(100, 7.0), np.arange(100.0)).power == 0.0


def test_answers_never_grow_faster_than_their_prompts() -> None:
    asked = np.arange(1.0, 101.0)
    assert fit_answer_length(asked, asked**2).power == 1.0
    assert fit_answer_length(asked, 1e6 / asked**2).power == -1.0
