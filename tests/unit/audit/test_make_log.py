"""The example log: as deterministic, as realistic and as faulty as it says."""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from examples import log_traffic as traffic
from examples.make_log import (
    DUPLICATED,
    NEW_NAME,
    NULL_IDS,
    OUTAGE,
    PRICE_CHANGED_AT,
    make_calls,
    make_log,
    usage_export,
)
from examples.spend_logs import PROVIDERS
from routing.matching import resolve_models, served_names
from routing.prices import price_snapshot
from routing.pricing import price

ROWS = 20_000
DATA = Path(os.environ.get("NIGHTROUTE_DATA", Path(__file__).parents[4] / "shared" / "data")) / "query_logs"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data (or NIGHTROUTE_DATA)")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("log")
    return folder, make_log(folder, rows=ROWS)


@pytest.fixture(scope="module")
def log(made: tuple[Path, dict[str, Any]]) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted((made[0] / "spend_logs").iterdir())])


@pytest.fixture(scope="module")
def calls() -> pl.DataFrame:
    return make_calls(ROWS, 20260707, traffic.prompt_pool())


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_one_seed_one_log(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    make_log(tmp_path, rows=ROWS)
    assert digests(tmp_path) == digests(made[0])
    assert len(digests(tmp_path)) == 7


def test_another_seed_another_log(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "spend_logs").mkdir()
    (tmp_path / "spend_logs/2020-01.parquet").write_bytes(b"of an earlier log")
    assert make_log(tmp_path, rows=ROWS, seed=7) != made[1]
    assert not (tmp_path / "spend_logs/2020-01.parquet").exists()


def test_faults_can_be_counted_in_the_log_itself(made: tuple[Path, dict[str, Any]], log: pl.DataFrame) -> None:
    """With other means than those that put them in."""
    faults = json.loads((made[0] / "faults.json").read_text(encoding="utf-8"))
    assert faults == made[1]
    assert faults["read"] == log.height == faults["kept"] + faults["duplicated"] + faults["rejected"]
    assert faults["rejected"] == log["startTime"].null_count() > 0
    whole = log.filter(pl.col("startTime").is_not_null())
    assert faults["null_ids"] == whole["request_id"].null_count()
    named = whole.drop_nulls("request_id")
    assert faults["duplicated"] == named.height - named.unique().height
    once = pl.concat([named.unique(), whole.filter(pl.col("request_id").is_null())])
    assert faults["kept"] == once.height
    reused = named.unique().filter(pl.len().over("request_id") > 1)
    assert faults["reused_ids"] == reused.height > 1
    assert faults["missing_prompts"] == once.filter(messages="{}", proxy_server_request="{}").height
    assert faults["failed"] == once.filter(status="failure").height
    assert faults["unbilled"] == once.filter(cache_hit="True").height
    assert faults["unpriced"] == once.filter(model="harbour-7b").height
    renamed = once.filter(model=NEW_NAME)
    assert faults["rename"]["calls_after"] == renamed.height
    assert datetime.fromisoformat(faults["rename"]["changed_at"]).replace(tzinfo=None) == renamed["startTime"].min()
    assert once.filter(model="claude-haiku-4-5")["startTime"].max() < renamed["startTime"].min()  # type: ignore[operator]


def test_shares_are_those_asked_for(made: tuple[Path, dict[str, Any]]) -> None:
    faults = made[1]
    assert faults["duplicated"] == pytest.approx(DUPLICATED * ROWS, rel=0.01)
    assert faults["null_ids"] == pytest.approx(NULL_IDS * ROWS, rel=0.05)
    assert faults["missing_prompts"] == pytest.approx((0.02 + 0.05) * ROWS, rel=0.1)  # embeddings have none either


def test_repeated_rows_stand_near_their_first_and_at_the_end(log: pl.DataFrame) -> None:
    again = log.with_row_index("at").drop_nulls("request_id").filter(pl.col("request_id") != "cmpl-0")
    apart = (
        again.group_by("request_id").agg(pl.len(), gap=pl.max("at") - pl.min("at")).filter(pl.col("len") == 2)["gap"]
    )
    assert (apart <= 100).sum() > 0.8 * len(apart)
    assert (apart > 1_000).sum() > 5


def test_lost_calls_are_in_the_usage_export_alone(made: tuple[Path, dict[str, Any]], log: pl.DataFrame) -> None:
    lost = made[1]["lost"]
    export = pl.read_csv(made[0] / "usage.csv")
    paid = log.unique().filter(pl.col("startTime").is_not_null(), status="success", cache_hit="None")
    for measure, column in (("requests", pl.len()), ("output_tokens", pl.sum("completion_tokens"))):
        logged = paid.select(column).item()
        assert export[measure].sum() - logged == lost["calls" if measure == "requests" else measure]
    assert lost["calls"] > 20
    assert len(lost["keys"]) == 3


def test_the_proxy_learns_the_new_price_late(calls: pl.DataFrame) -> None:
    wrong = calls.filter((pl.col("usd") - pl.col("spend")).abs() > 1e-9)
    assert set(wrong["name"]) == {"gpt-5.6-sol"}
    assert wrong["called_at"].min() >= PRICE_CHANGED_AT  # type: ignore[operator]
    assert wrong["called_at"].max() < datetime(2026, 9, 4, tzinfo=UTC)  # type: ignore[operator]


def test_what_calls_cost_is_what_dated_prices_say(calls: pl.DataFrame) -> None:
    """Up to floats: the rates of the generator are those of genai-prices, at every date."""
    charged = calls.filter(~pl.col("failed"), ~pl.col("cache_hit"), pl.col("model") != traffic.OWN)
    usage = charged.with_columns(
        provider=pl.Series(PROVIDERS).gather(charged["model"]),
        base_url=pl.lit(None, pl.String),
        processing=pl.lit(None, pl.String),
        cache_write_1h_tokens=pl.lit(None, pl.Int64),
        model="name",
    )
    prices = price_snapshot()
    cost = price(usage, prices, resolve_models(served_names(usage), prices))["cost_usd"].cast(pl.Float64)
    assert cost.null_count() == 0
    assert (cost - charged["usd"]).abs().max() < 1e-9  # type: ignore[operator]


def test_prompts_move_with_the_upgrade_and_reading_them_gives_the_text(log: pl.DataFrame) -> None:
    older = log.filter(pl.col("startTime") < datetime(2026, 8, 20))  # noqa: DTZ001  # naive, as in PostgreSQL
    newer = log.filter(pl.col("startTime") >= datetime(2026, 8, 20))  # noqa: DTZ001
    assert set(older["proxy_server_request"]) == set(newer["messages"]) == {"{}"}
    pool = set(traffic.prompt_pool()["prompt"])
    texts = [json.loads(text)[1]["content"] for text in older["messages"] if text != "{}"]
    texts += [json.loads(text)["messages"][1]["content"] for text in newer["proxy_server_request"] if text != "{}"]
    assert all(text.partition(": ")[2] in pool if text.startswith("Ticket #") else text in pool for text in texts)
    tickets = sum(text.startswith("Ticket #") for text in texts)
    assert tickets == pytest.approx(traffic.TICKETS * len(texts), rel=0.1)


def test_usage_in_the_metadata_fits_the_columns(log: pl.DataFrame) -> None:
    written = [0, 0]
    for row in log.filter(pl.col("model").str.starts_with("claude"), status="success").iter_rows(named=True):
        usage = json.loads(row["metadata"])["usage_object"]
        details = usage["prompt_tokens_details"]
        assert usage["prompt_tokens"] == row["prompt_tokens"]
        assert usage["completion_tokens"] == row["completion_tokens"]
        assert usage["total_tokens"] == row["total_tokens"] == row["prompt_tokens"] + row["completion_tokens"]
        assert details["cached_tokens"] == usage["cache_read_input_tokens"] <= row["prompt_tokens"]
        upgraded = details["cache_creation_tokens"] is not None
        if upgraded:
            assert details["cache_creation_tokens"] == usage["cache_creation_input_tokens"] <= row["prompt_tokens"]
        written[upgraded] += usage["cache_creation_input_tokens"] > 0
    assert min(written) > 5


def test_nobody_calls_while_the_proxy_is_down(calls: pl.DataFrame) -> None:
    hours = calls.group_by(hour=pl.col("called_at").dt.truncate("1h")).len()
    assert hours.filter(pl.col("hour").is_between(*OUTAGE, closed="left")).is_empty()
    assert calls["called_at"].is_sorted()
    assert calls["called_at"].min() >= traffic.START  # type: ignore[operator]


def test_weeks_days_and_growth_show(calls: pl.DataFrame) -> None:
    at = calls["called_at"]
    assert (at.dt.weekday() > 5).mean() == pytest.approx(0.12, abs=0.03)
    by_hour = np.bincount(at.dt.hour().to_numpy(), minlength=24)
    assert by_hour[8:17].sum() > 2 * by_hour[:7].sum()
    by_week = np.bincount((at - traffic.START).dt.total_days().to_numpy() // 7)
    assert by_week[8:12].sum() > 1.05 * by_week[:4].sum()


def test_tenants_follow_the_zipf_exponent(calls: pl.DataFrame) -> None:
    sizes = np.sort(np.bincount(calls["tenant"], minlength=len(traffic.TENANTS)))[::-1]
    ranks = np.arange(1, len(sizes) + 1)
    slope = np.polyfit(np.log(ranks), np.log(sizes), 1)[0]
    assert slope == pytest.approx(-traffic.ZIPF_EXPONENT, abs=0.05)
    assert len(set(traffic.TENANTS)) == 100


def ks(sample: Any, drawn: Any) -> float:
    """Largest distance between two empirical distribution functions."""
    grid = np.unique(sample)
    first, second = (np.searchsorted(np.sort(x), grid, side="right") / len(x) for x in (sample, drawn))
    return float(np.abs(first - second).max())


@needs_data
@pytest.mark.parametrize(
    ("file", "column", "knots"),
    [
        ("azurellminferencetrace_conv", "ContextTokens", traffic.CONVERSATION_INPUT),
        ("azurellminferencetrace_conv", "GeneratedTokens", traffic.CONVERSATION_OUTPUT),
        ("azurellminferencetrace_code", "ContextTokens", traffic.CODE_INPUT),
        ("azurellminferencetrace_code", "GeneratedTokens", traffic.CODE_OUTPUT),
        ("prompts", "chars", traffic.PROMPT_CHARS),
    ],
)
def test_quantiles_are_those_of_the_data(file: str, column: str, knots: tuple[int, ...]) -> None:
    sample = pl.read_parquet(DATA / f"{file}.parquet")[column].to_numpy()
    assert tuple(np.quantile(sample, traffic.KNOTS).round().astype(int)) == knots
    drawn = traffic.quantile(knots, np.random.default_rng(0).random(100_000)).round()
    assert ks(sample, drawn) < 0.04


@needs_data
@pytest.mark.parametrize(
    ("file", "shape"),
    [
        ("azurellminferencetrace_conv", traffic.CONVERSATION_BURSTS),
        ("azurellminferencetrace_code", traffic.CODE_BURSTS),
    ],
)
def test_bursts_are_those_of_the_data(file: str, shape: float) -> None:
    """A Poisson rate times a gamma of mean 1 and shape k has variance mean + mean**2 / k."""
    stamps = pl.read_parquet(DATA / f"{file}.parquet")["TIMESTAMP"]
    at = stamps.str.slice(0, 26).str.to_datetime("%Y-%m-%d %H:%M:%S%.f").sort()
    minutes = np.bincount((at - at[0]).dt.total_minutes().to_numpy())[:-1]
    assert minutes.mean() ** 2 / (minutes.var() - minutes.mean()) == pytest.approx(shape, rel=0.01)


@needs_data
def test_the_skew_is_that_of_the_categories() -> None:
    sizes = pl.read_parquet(DATA / "prompts.parquet")["category"].drop_nulls().value_counts()["count"]
    large = np.sort(sizes.filter(sizes >= 5).to_numpy())[::-1]
    slope = np.polyfit(np.log(np.arange(1, len(large) + 1)), np.log(large), 1)[0]
    assert slope == pytest.approx(-traffic.ZIPF_EXPONENT, abs=0.01)


def test_the_export_counts_what_providers_saw(calls: pl.DataFrame) -> None:
    export = usage_export(calls)
    seen = calls.filter(~pl.col("failed"), ~pl.col("cache_hit"))
    assert export["requests"].sum() == seen.height
    assert export["usd"].sum() == pytest.approx(seen["usd"].sum(), abs=1e-3)
    assert export.select("day", "model").is_unique().all()
