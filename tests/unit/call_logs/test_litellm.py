import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.unit.call_logs.support import as_text, assert_calls, lines, read

OPENAI = {"provider": "openai", "base_url": "https://api.openai.com/v1", "requested_model": "smart"}
CLAUDE = {
    "provider": "anthropic",
    "base_url": "https://api.anthropic.com",
    "model": "claude-sonnet-4-20250514",
    "requested_model": "smart",
    "operation": "chat",
    "input_tokens": 3_100,  # 100 fresh, 2,000 read, 1,000 written, whatever the release made of them
    "cached_tokens": 2_000,
    "cache_write_tokens": 1_000,
    "output_tokens": 200,
    "logged_usd": "0.0195",
    "latency_s": 2.0,
}
FIRST = OPENAI | {
    "call_id": "chatcmpl-0",
    "called_at": "2026-08-20 10:00:00.250",
    "model": "gpt-5-mini",
    "processing": "priority",
    "operation": "chat",
    "input_tokens": 1_200,
    "cached_tokens": 1_000,
    "output_tokens": 300,
    "reasoning_tokens": 120,
    "logged_usd": "0.00425",
    "attempts": 3,
    "latency_s": 2.125,
    "tenant": "search",
    "prompt": "What is this?\n\nAnswer in one word.\n\nWhich breed?",
}
ROWS: list[dict[str, Any]] = [
    {"row": 0} | FIRST,
    {"row": 1, "call_id": "chatcmpl-1", "called_at": "2026-08-21 10:00:00.250", "attempts": 1, "tenant": "support"}
    | CLAUDE,
    {"row": 2, "call_id": "chatcmpl-2", "called_at": "2026-08-22 10:00:00.250", "tenant": "support"} | CLAUDE,
    {"row": 3, "call_id": "chatcmpl-3", "called_at": "2026-08-23 10:00:00.250", "prompt": "Summarise the contract."}
    | CLAUDE,
    OPENAI
    | {
        "row": 4,
        "call_id": "chatcmpl-4_cache_hit1787306400.25",
        "called_at": "2026-08-24 10:00:00.250",
        "model": "gpt-4o",
        "operation": "chat",
        "input_tokens": 50,
        "output_tokens": 20,
        "logged_usd": "0",
        "billed": False,
        "latency_s": 2.0,
        "tenant": "search",
    },
    {
        "row": 5,  # its request_id is the text None
        "called_at": "2026-08-25 10:00:00.250",
        "provider": "azure",
        "base_url": "https://eu.openai.azure.com",
        "model": "gpt-4o",
        "requested_model": "smart",
        "operation": "chat",
        "input_tokens": 0,
        "output_tokens": 0,
        "logged_usd": "0",
        "outcome": "failed",
        "error_code": "429",
        "attempts": 4,
        "latency_s": 30.0,
    },
    {"row": 6} | FIRST,
    {
        "row": 7,  # metadata and messages are torn, every empty string is null
        "call_id": "chatcmpl-7",
        "called_at": "2026-08-27 10:00:00",
        "provider": "openai",
        "base_url": "https://api.openai.com/v1",
        "model": "gpt-4o-mini",
        "input_tokens": 12,
        "output_tokens": 3,
        "logged_usd": "0.000015",
        "latency_s": 1.0,
    },
    OPENAI
    | {
        "row": 8,
        "call_id": "batch_1_batch_cost",
        "called_at": "2026-08-28 10:00:00.250",
        "model": "gpt-4o",
        "processing": "batch",
        "operation": "aretrieve_batch",
        "input_tokens": 900,
        "output_tokens": 90,
        "logged_usd": "0.0015",
        "latency_s": 2.0,
    },
    OPENAI
    | {
        "row": 9,  # no time; its prompt was redacted
        "call_id": "chatcmpl-9",
        "model": "text-embedding-3-small",
        "operation": "embedding",
        "input_tokens": 8,
        "output_tokens": 0,
        "logged_usd": "0.00000016",
    },
]
TORN = {"row": 10}


def test_csv_dump() -> None:
    assert_calls(read("litellm.csv"), ROWS)


def test_json_lines_dump() -> None:
    assert_calls(read("litellm.jsonl"), [*ROWS, TORN])


def parquet(path: Path) -> pl.DataFrame:
    """The same rows with the types that a dump of the database gives its columns."""
    objects = ("metadata", "messages", "response", "proxy_server_request", "request_tags")
    rows = [row | {name: as_text(row[name]) for name in objects} for row in lines("litellm.jsonl")]
    time = pl.col("startTime", "endTime").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="ms")
    frame = pl.DataFrame(rows, infer_schema_length=None, strict=False).with_columns(
        time, pl.col("spend").cast(pl.Float64), pl.col("prompt_tokens", "completion_tokens").cast(pl.Int32)
    )
    frame.write_parquet(path)
    return frame


def test_parquet_dump(tmp_path: Path) -> None:
    parquet(tmp_path / "logs.parquet")
    typed = ROWS[:7] + ROWS[8:]  # the times of row 7 have zones, which such a column cannot hold
    found = read("logs.parquet", base=tmp_path).filter(pl.col("row") != 7)
    assert_calls(found, typed)


def test_tables_without_metadata_and_prompts_are_read_too(tmp_path: Path) -> None:
    frame = parquet(tmp_path / "all.parquet")
    frame.select("request_id", "startTime", "call_type", "prompt_tokens", "completion_tokens").write_parquet(
        tmp_path / "few.parquet"
    )
    found = read("few.parquet", base=tmp_path)
    # Without a status, an answer without a token cannot be told from a failure: its tokens are unknown.
    assert found["input_tokens"].to_list() == [tokens or None for tokens in frame["prompt_tokens"]]
    assert found["cached_tokens"].null_count() == found.height
    assert found["model"].null_count() == found.height


@pytest.mark.parametrize("hit", ["True", "true", True, 1])
def test_an_answer_of_the_gateways_cache_was_not_billed(tmp_path: Path, hit: object) -> None:
    row = {
        "request_id": "a",
        "startTime": datetime(2026, 1, 1, tzinfo=UTC),
        "call_type": "completion",
        "cache_hit": hit,
    }
    pl.DataFrame([row]).write_parquet(tmp_path / "hit.parquet")
    assert read("hit.parquet", base=tmp_path)["billed"].to_list() == [False]


def test_counts_in_text_of_the_users_are_not_taken_for_usage(tmp_path: Path) -> None:
    usage = '{"prompt_tokens_details":{"cached_tokens":5},"completion_tokens_details":{"reasoning_tokens":1}}'
    note = r'"note":"a { brace and \"usage_object\":{\"prompt_tokens_details\":{\"cached_tokens\":9}}"'
    row = {
        "request_id": "a",
        "startTime": datetime(2026, 1, 1, tzinfo=UTC),
        "call_type": "completion",
        "prompt_tokens": 10,
        "metadata": f'{{{note}, "usage_object" : {usage}, "cached_tokens": 9}}',
    }
    pl.DataFrame([row]).write_parquet(tmp_path / "note.parquet")
    assert read("note.parquet", base=tmp_path).select("cached_tokens", "reasoning_tokens").row(0) == (5, 1)


USAGE = {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": None}


@pytest.mark.parametrize("theirs", ["spend_logs_metadata", "requester_metadata", "user_api_key_metadata"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize(
    "note",
    [
        {"service_tier": "flex"},
        {"usage_object": {"service_tier": "flex", "prompt_tokens_details": {"cached_tokens": 9}}},
        {"deep": {"deeper": {"cost_breakdown": {"service_tier": "gold"}, "attempted_retries": 8}}},
        {"error_information": {"error_code": "500"}, "text": '} "usage_object": {'},
    ],
)
def test_metadata_of_the_users_is_left_alone(tmp_path: Path, kind: str, theirs: str, note: dict[str, Any]) -> None:
    metadata = {"status": "success", theirs: note, "usage_object": USAGE}
    row = {"request_id": "a", "startTime": "2026-11-20T10:00:00Z", "call_type": "completion", "prompt_tokens": 10}
    path = tmp_path / f"log.{kind}"
    if kind == "jsonl":
        path.write_text(json.dumps(row | {"metadata": metadata}))
    else:
        frame = pl.DataFrame([row | {"metadata": json.dumps(metadata)}])
        frame.write_csv(path) if kind == "csv" else frame.write_parquet(path)
    found = read(path).row(0, named=True)
    read_as = [found[name] for name in ("cached_tokens", "processing", "attempts", "error_code")]
    assert read_as == [5, None, None, None]


@pytest.mark.parametrize(
    ("more", "tier"),
    [
        ({"metadata": {"usage_object": USAGE | {"service_tier": "flex"}}}, "flex"),
        ({"metadata": {"usage_object": USAGE, "cost_breakdown": {"service_tier": "priority"}}}, "priority"),
        ({"metadata": {"usage_object": USAGE}, "response": {"id": "x", "service_tier": "flex"}}, "flex"),
        ({"metadata": {}, "response": {"usage": {"service_tier": "priority"}}}, "priority"),
        ({"metadata": {}, "response": {"metadata": {"service_tier": "flex"}, "service_tier": None}}, None),
        ({"metadata": {"usage_object": USAGE | {"service_tier": "default"}}}, None),
    ],
)
def test_where_the_tier_is_found(tmp_path: Path, more: dict[str, Any], tier: str | None) -> None:
    row = {"request_id": "a", "startTime": "2026-11-20T10:00:00Z", "call_type": "completion", "prompt_tokens": 10}
    (tmp_path / "a.jsonl").write_text(json.dumps(row | more))
    pl.DataFrame([row | {name: json.dumps(value) for name, value in more.items()}]).write_csv(tmp_path / "b.csv")
    assert read(tmp_path)["processing"].to_list() == [tier, tier]


@pytest.mark.parametrize(
    ("host", "model", "expected"),
    [
        (None, "openai/gpt-4o", ("openai", "gpt-4o")),
        ("", "fireworks_ai/accounts/x", ("fireworks", "accounts/x")),
        (None, "meta-llama/Llama-3", (None, "meta-llama/Llama-3")),
        ("openrouter", "openai/gpt-4o", ("openrouter", "openai/gpt-4o")),
        ("openrouter", "openrouter/openai/gpt-4o", ("openrouter", "openai/gpt-4o")),
    ],
)
def test_a_prefix_names_the_provider(tmp_path: Path, host: str | None, model: str, expected: Any) -> None:
    row = {"request_id": "a", "startTime": "2026-11-20", "spend": 1, "custom_llm_provider": host, "model": model}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert read(tmp_path).select("provider", "model").row(0) == expected
