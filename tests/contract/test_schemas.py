"""The tables and files that cross a job boundary: what is published today can be read tomorrow."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from schemas.billing import USD
from schemas.queries import (
    INTERNAL_COLUMNS,
    PUBLISHED_COLUMNS,
    ROUTES,
    STATUSES,
    Answered,
    Costed,
    Queries,
    Routed,
    Scored,
)
from schemas.run import Identity, InputFile, Manifest, Part, Plan, PublishedFile, Record, Split, Totals
from tests.fakes import queries

CHAIN: list[type[dy.Schema]] = [Scored, Routed, Answered, Costed]

# What people have in their dashboards: a change here is a breaking change and belongs into the CHANGELOG.
PUBLISHED = {
    "query_id": pl.String(),
    "win_rate": pl.Float64(),
    "max_output_tokens": pl.Int64(),
    "route": pl.Enum(["weak", "strong"]),
    "model": pl.String(),
    "alpha": pl.Float64(),
    "status": pl.Enum(["ok", "truncated", "failed", "unsent"]),
    "answer": pl.String(),
    "requested_model": pl.String(),
    "served_model": pl.String(),
    "service_tier": pl.String(),
    "finish_reason": pl.String(),
    "input_tokens": pl.Int64(),
    "cached_tokens": pl.Int64(),
    "output_tokens": pl.Int64(),
    "reasoning_tokens": pl.Int64(),
    "attempts": pl.Int64(),
    "latency_s": pl.Float64(),
    "answered_at": pl.Datetime("us", "UTC"),
    "error_code": pl.String(),
    "error_message": pl.String(),
    "cost_usd": USD,
    "price_id": pl.String(),
    "unpriced_reason": pl.String(),
    "strong_cost_usd": USD,
    "weak_cost_usd": USD,
    "saved_vs_strong_usd": USD,
}


def test_the_published_columns_are_pinned() -> None:
    schema = Costed.create_empty().schema
    assert {name: schema[name] for name in PUBLISHED_COLUMNS} == PUBLISHED
    assert list(PUBLISHED_COLUMNS) == list(PUBLISHED)
    assert not set(INTERNAL_COLUMNS) & set(PUBLISHED_COLUMNS)


@pytest.mark.parametrize(("before", "after"), list(pairwise(CHAIN)))
def test_each_contract_is_the_previous_one_plus_columns(before: type[dy.Schema], after: type[dy.Schema]) -> None:
    earlier, later = before.create_empty().schema, after.create_empty().schema
    assert list(later.items())[: len(earlier)] == list(earlier.items())
    assert len(later) > len(earlier)


def test_units_are_in_the_names() -> None:
    for name, dtype in Costed.create_empty().schema.items():
        assert (dtype == USD) == name.endswith("_usd")
        if name.endswith("_tokens"):
            assert dtype == pl.Int64
        if name.endswith("_at"):
            assert dtype == pl.Datetime("us", "UTC")


def test_a_published_file_keeps_its_types(tmp_path: Path) -> None:
    table = Costed.create_empty().select(PUBLISHED_COLUMNS)
    row = pl.DataFrame(
        {name: [value] for name, value in EXAMPLE.items()}, schema={name: PUBLISHED[name] for name in EXAMPLE}
    )
    full = pl.concat([table, row.select(PUBLISHED_COLUMNS)])
    full.write_parquet(tmp_path / "part.parquet")
    assert_frame_equal(pl.read_parquet(tmp_path / "part.parquet"), full)


EXAMPLE: dict[str, Any] = {
    **dict.fromkeys(PUBLISHED),
    "query_id": "q0",
    "win_rate": 0.7,
    "route": "strong",
    "status": "ok",
    "attempts": 1,
    "answered_at": datetime(2026, 11, 1, 2, 3, 4, 567890, tzinfo=UTC),
    "cost_usd": Decimal("0.000000000001"),
    "saved_vs_strong_usd": Decimal("-12345678901234567890.123456789012"),
}


@pytest.mark.parametrize("schema", CHAIN)
def test_routes_and_statuses_are_closed_sets(schema: type[dy.Schema]) -> None:
    columns = schema.create_empty().schema
    assert columns.get("route", pl.Enum(ROUTES)) == pl.Enum(["weak", "strong"])
    assert columns.get("status", pl.Enum(STATUSES)) == pl.Enum(["ok", "truncated", "failed", "unsent"])


# ---- bad rows are data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"prompt": None}, "prompt_not_null"),
        ({"prompt": ""}, "prompt_not_blank"),
        ({"prompt": " \t\n\u2003"}, "prompt_not_blank"),
        ({"prompt": "a", "valid_utf8": False}, "prompt_valid_utf8"),
        ({"prompt": "a", "max_output_tokens": 0}, "max_output_tokens_positive"),
        ({"prompt": "a", "max_output_tokens": -5}, "max_output_tokens_positive"),
        ({"prompt": "a", "has_id": False}, "query_id_not_null"),
    ],
)
def test_a_bad_row_is_set_aside_with_the_rule_it_broke(row: dict[str, Any], rule: str) -> None:
    checked = Queries.filter(queries({"prompt": "good"}, row, {"prompt": "good", "max_output_tokens": 1}))
    assert checked.result["row"].to_list() == [0, 2]
    assert checked.failure.counts() == {rule: 1}


@pytest.mark.parametrize("win_rate", [-0.0001, 1.0001, float("nan"), None])
def test_a_win_rate_is_a_probability(win_rate: float | None) -> None:
    good = {"row": 0, "query_id": "a", "content_sha256": "0", "prompt_tokens": 1, "tie_key": 0}
    table = pl.DataFrame(
        [{**good, "win_rate": 0.0}, {**good, "win_rate": 1.0}, {**good, "win_rate": win_rate}],
        schema=Scored.create_empty().schema,
    )
    assert Scored.filter(table).result["win_rate"].to_list() == [0.0, 1.0]


# ---- files ----------------------------------------------------------------------------------------------------------

IDENTITY = Identity(
    input_path="queries.parquet",
    columns={"prompt": "prompt"},
    drop=[],
    date="2026-11-01",
    date_column="day",
    max_prompt_tokens=1000,
    part_rows=100,
    router_sha256="0" * 64,
    strong={"name": "big"},
    weak={"name": "small"},
)
SPLIT = Split(
    rule="max_usd",
    wanted="1.50",
    alpha=0.30000000000000004,
    tie_key_max=2**64 - 1,
    n=10,
    n_strong=3,
    n_tied=2,
    n_tied_strong=1,
    expected_usd=Decimal("0.100000000001"),
)
FILE = InputFile(path="queries.parquet", rows=10, sha256="1" * 64, partition={"day": "2026-11-01"})
MOMENT = datetime(2026, 11, 1, 2, 3, 4, 567890, tzinfo=UTC)
PLAN = Plan(
    version=1,
    run_id="abc",
    created_at=MOMENT,
    nightroute_version="0.1.0",
    identity=IDENTITY,
    files=[FILE],
    parts=[Part(number=0, file=0, start=0, rows=10)],
)
TOTALS = Totals(
    cost_usd=Decimal("0.000000000001"),
    all_strong_usd=None,
    all_weak_usd=Decimal(2),
    saved_vs_strong_usd=None,
    saved_share=None,
    unpriced_rows=1,
    spent_usd=Decimal("12345678901234567890.123456789012"),
    unknown_calls=0,
    input_tokens=1,
    cached_tokens=0,
    output_tokens=2,
    reasoning_tokens=0,
    attempts=4,
)
MANIFEST = Manifest(
    run_id="abc",
    revision=2,
    started_at=MOMENT,
    published_at=MOMENT,
    nightroute_version="0.1.0",
    versions={"polars": "2.1.0"},
    identity=IDENTITY,
    router={"name": "static-mf"},
    split=SPLIT,
    rows={"read": 10},
    errors={},
    models={"big": {"rows": 3, "cost_usd": "0.1", "mean": 1.5, "none": None}},
    totals=TOTALS,
    prices_sha256="2" * 64,
    input_files=[FILE],
    files=[PublishedFile(path="part-00000.parquet", rows=10, sha256="3" * 64)],
    timings_s={"score": 0.25},
)


@pytest.mark.parametrize("record", [SPLIT, PLAN, TOTALS, MANIFEST], ids=lambda record: type(record).__name__)
def test_a_record_comes_back_from_its_file_exactly(record: Record) -> None:
    assert type(record).model_validate_json(record.model_dump_json(indent=1)) == record


@pytest.mark.parametrize("record", [SPLIT, PLAN, TOTALS, MANIFEST], ids=lambda record: type(record).__name__)
def test_a_record_of_another_version_is_never_half_understood(record: Record) -> None:
    fields = record.model_dump(mode="json")
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        type(record).model_validate({**fields, "from_the_future": 1})
    fields.popitem()
    with pytest.raises(ValidationError, match="Field required"):
        type(record).model_validate(fields)


def test_records_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        SPLIT.alpha = 0.5  # type: ignore[misc]  # that is the point
