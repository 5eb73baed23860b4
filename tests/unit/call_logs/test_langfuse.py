import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.unit.call_logs.support import assert_calls, lines, read

CHAT = {"operation": "chat", "latency_s": 1.5, "tenant": "u-1"}
GPT = {"model": "gpt-4o", "requested_model": "gpt-4o"}
CLAUDE = {"model": "claude-sonnet-4-20250514", "requested_model": "claude-sonnet-4-20250514"}
BUCKETS = {  # 86 fresh and 17,817 cached; 150 and 38 of reasoning
    "input_tokens": 17_903,
    "cached_tokens": 17_817,
    "output_tokens": 188,
    "reasoning_tokens": 38,
    "logged_usd": "0.0228",
}
WHOLE = {
    "input_tokens": 1_200,
    "cached_tokens": 1_000,
    "output_tokens": 300,
    "reasoning_tokens": 120,
    "logged_usd": "0.005",
}
ROWS: list[dict[str, Any]] = [
    {
        "row": 0,
        "call_id": "obs-0",
        "called_at": "2026-08-20 10:00:00.250",
        "prompt": "First question\n\nSecond question",
    }
    | CHAT
    | GPT
    | BUCKETS,
    {
        "row": 1,  # Anthropic's own counts, without a total
        "call_id": "obs-1",
        "called_at": "2026-08-21 10:00:00.250",
        "input_tokens": 3_100,
        "cached_tokens": 2_000,
        "cache_write_tokens": 1_000,
        "output_tokens": 200,
        "logged_usd": "0.00765",
        "prompt": "Plain text question",
    }
    | CHAT
    | CLAUDE,
    # The total says that the cached tokens lie in the input and the reasoning in the output; then only the latter.
    {"row": 2, "call_id": "obs-2", "called_at": "2026-08-22 10:00:00.250"} | CHAT | GPT | WHOLE | {"tenant": None},
    {"row": 3, "call_id": "obs-3", "called_at": "2026-08-23 10:00:00.250"} | CHAT | GPT | WHOLE,
    # Row 4 is a span.
    {
        "row": 5,
        "call_id": "obs-5",
        "called_at": "2026-08-25 10:00:00.250",
        "model": "text-embedding-3-small",
        "requested_model": "text-embedding-3-small",
        "operation": "embedding",
        "input_tokens": 15,
        "output_tokens": 0,
        "logged_usd": "0.0000003",
        "latency_s": 1.5,
        "tenant": "u-1",
    },
    {
        "row": 6,
        "call_id": "obs-6",
        "called_at": "2026-08-26 10:00:00.250",
        "model": "gpt-4o-mini",
        "requested_model": "gpt-4o-mini",
        "processing": "flex",
        "operation": "chat",
        "outcome": "failed",
        "tenant": "u-1",
        "prompt": "Hi",
    },
    {"row": 7, "call_id": "obs-0", "called_at": "2026-08-20 10:00:00.250", "prompt": "First question"}
    | CHAT
    | GPT
    | BUCKETS,
    {
        "row": 8,  # no id, usage as a gateway has it, torn input, and a cost of 0 that nobody computed
        "called_at": "2026-08-28 10:00:00",
        "input_tokens": 40,
        "output_tokens": 10,
        "latency_s": 0.5,
    }
    | GPT
    | {"operation": "chat", "tenant": "u-1"},
]
TORN = {"row": 9}


def test_json_lines_export() -> None:
    assert_calls(read("langfuse.jsonl"), [*ROWS, TORN])


def test_csv_export() -> None:
    assert_calls(read("langfuse.csv"), ROWS)


@pytest.mark.parametrize("kind", ["map", "struct", "text"])
def test_parquet_export(tmp_path: Path, kind: str) -> None:
    """Usage as the map that Langfuse writes, as the struct or the text that other tools make of it."""
    keys = sorted({key for row in lines("langfuse.jsonl") for key in row["usage_details"]})
    usage: dict[str, pl.DataType] = {
        "map": pl.Map(pl.String, pl.UInt64),
        "struct": pl.Struct(dict.fromkeys(keys, pl.Int64)),
        "text": pl.String(),
    }
    rows = []
    for row in lines("langfuse.jsonl"):
        counts = json.dumps(row["usage_details"]) if kind == "text" else row["usage_details"]
        times = {key: moment(row[key]) for key in ("start_time", "end_time")}
        rows.append(row | times | {"usage_details": counts, "cost_details": None})
    schema = {
        "start_time": pl.Datetime("us", "UTC"),
        "end_time": pl.Datetime("us", "UTC"),
        "total_cost": pl.Decimal(18, 12),
    }
    overrides = schema | {"usage_details": usage[kind], "cost_details": pl.Map(pl.String, pl.Decimal(18, 12))}
    pl.DataFrame(rows, schema_overrides=overrides, infer_schema_length=None).write_parquet(tmp_path / "obs.parquet")
    expected = [
        row | ({"logged_usd": "0"} if row["row"] == 8 else {}) for row in ROWS
    ]  # here no part says "not computed"
    assert_calls(read("obs.parquet", base=tmp_path), expected)


def moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    value = datetime.fromisoformat(text)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def test_dump_of_the_api(tmp_path: Path) -> None:
    """Camel case, a page of observations under `data`."""
    observation = {
        "id": "o",
        "type": "GENERATION",
        "traceId": "t",
        "startTime": "2026-08-20T10:00:00.000Z",
        "endTime": "2026-08-20T10:00:01.000Z",
        "providedModelName": "gpt-4o",
        "usageDetails": {"input": 7, "output": 3, "total": 10},
        "costDetails": {"total": 0.5},
        "userId": "u",
        "input": [{"role": "user", "content": "As a list"}],
    }
    (tmp_path / "page.json").write_text(json.dumps({"data": [observation], "meta": {"cursor": None}}))
    row = {"row": 0, "call_id": "o", "called_at": "2026-08-20 10:00:00", "operation": "chat", "input_tokens": 7}
    more = {"output_tokens": 3, "logged_usd": "0.5", "latency_s": 1.0, "tenant": "u", "prompt": "As a list"}
    assert_calls(read("page.json", base=tmp_path), [row | GPT | more])


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"input": 10, "output": 5}, (10, 5)),
        ({"input": 10, "input_cached_tokens": 4, "output": 5, "total": 19}, (14, 5)),
        ({"input": 10, "input_cached_tokens": 4, "output": 5, "total": 15}, (10, 5)),
        (
            {"input": 10, "input_cached_tokens": 40, "output": 5, "total": 15},
            (50, 5),
        ),  # a part is no larger than the whole
        ({"input": 10, "output": 5, "output_reasoning_tokens": 3, "total": 18}, (10, 8)),
        ({"input": 10, "output": 5, "output_reasoning_tokens": 3, "total": 15}, (10, 5)),
        ({"input": 10, "input_cached_tokens": 4, "output": 5, "output_reasoning_tokens": 3, "total": 19}, (14, 5)),
        ({"input": 10, "input_cached_tokens": 4, "output": 5, "output_reasoning_tokens": 3, "total": 18}, (10, 8)),
        ({"input": 10, "input_cached_tokens": 4, "output": 5, "output_reasoning_tokens": 3, "total": 22}, (14, 8)),
        ({"input": 10, "input_audio_tokens": 2, "output": 5, "output_audio_tokens": 1}, (12, 6)),
        ({"input": 10, "output": 5, "web_search_requests": 2}, (10, 5)),
        ({"input_cached_tokens": 4}, (4, 0)),
        ({"total": 15}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_a_total_tells_whether_buckets_overlap(
    tmp_path: Path, usage: dict[str, int], tokens: tuple[object, object]
) -> None:
    row = {"id": "a", "type": "GENERATION", "start_time": "2026-08-20 10:00:00", "usage_details": usage}
    (tmp_path / "one.jsonl").write_text(json.dumps(row) + "\n")
    assert read("one.jsonl", base=tmp_path).select("input_tokens", "output_tokens").row(0) == tokens


SPLIT = "input_ephemeral_5m_input_tokens"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input": 10, "input_cache_creation": 500}, (510, 500, None)),
        ({"input": 10, SPLIT: 500}, (510, 500, None)),
        ({"input": 10, "input_cache_creation": 0, SPLIT: 500, "total": 510}, (510, 500, None)),
        # The same tokens under two names are counted once.
        ({"input": 10, "input_cache_creation": 500, SPLIT: 500}, (510, 500, None)),
        (
            {"input": 10, "cache_creation_input_tokens": 500, "cache_creation.ephemeral_5m_input_tokens": 500},
            (510, 500, None),
        ),
        (
            {"input": 10, "input_cache_creation": 500, SPLIT: 300, "input_ephemeral_1h_input_tokens": 200},
            (510, 500, 200),
        ),
        ({"input": 10, "input_ephemeral_1h_input_tokens": 0}, (10, 0, 0)),
        # As Langfuse itself stores what Anthropic's SDK says: the first is what is of neither age.
        (
            {"input": 10, "input_cache_creation": 0, "input_cache_creation_5m": 300, "input_cache_creation_1h": 200},
            (510, 500, 200),
        ),
    ],
)
def test_tokens_written_to_the_cache(tmp_path: Path, usage: dict[str, int], expected: tuple[int | None, ...]) -> None:
    row = {"id": "a", "type": "GENERATION", "start_time": "2026-08-20 10:00:00", "usage_details": usage | {"output": 0}}
    (tmp_path / "one.jsonl").write_text(json.dumps(row) + "\n")
    found = read("one.jsonl", base=tmp_path)
    assert found.select("input_tokens", "cache_write_tokens", "cache_write_1h_tokens").row(0) == expected
