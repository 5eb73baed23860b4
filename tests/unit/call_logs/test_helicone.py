import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.call_logs.support import assert_calls, lines, read

GPT = {
    "provider": "OPENAI",
    "base_url": "https://api.openai.com",
    "model": "gpt-4o",
    "requested_model": "gpt-4o",
    "operation": "chat",
    "latency_s": 1.5,
    "tenant": "ann",
}
CLAUDE = {
    "provider": "ANTHROPIC",
    "base_url": "https://api.anthropic.com",
    "model": "claude-sonnet-4-20250514",
    "operation": "chat",
    "input_tokens": 3_100,
    "cached_tokens": 2_000,
    "cache_write_tokens": 1_000,
    "output_tokens": 200,
    "latency_s": 1.5,
    "tenant": "ann",
}
NOTHING = {"input_tokens": 0, "cached_tokens": 0, "cache_write_tokens": 0, "output_tokens": 0, "logged_usd": "0"}
FIRST = GPT | {
    "call_id": "req-0",
    "called_at": "2026-08-20 10:00:00",
    "input_tokens": 1_200,  # 200 and 1,000 from the cache
    "cached_tokens": 1_000,
    "cache_write_tokens": 0,
    "output_tokens": 300,  # 180 and 120 of reasoning
    "reasoning_tokens": 120,
    "logged_usd": "0.00475",
}
ROWS: list[dict[str, Any]] = [
    {"row": 0, "prompt": "Hello\n\nLook"} | FIRST,
    {"row": 1, "call_id": "req-1", "called_at": "2026-08-21 10:00:00", "requested_model": "claude-sonnet-4"}
    | CLAUDE
    | {"logged_usd": "0.00765", "prompt": "Summarise"},
    GPT
    | {
        "row": 2,  # the body says better what the columns say too
        "call_id": "req-2",
        "called_at": "2026-08-22 10:00:00",
        "model": "gpt-5.6-2026-07-01",
        "processing": "priority",
        "input_tokens": 1_200,
        "cached_tokens": 1_000,
        "cache_write_tokens": 150,
        "output_tokens": 300,
        "reasoning_tokens": 120,
        "logged_usd": "0.00475",
        "tenant": None,
    },
    {"row": 3, "call_id": "req-3", "called_at": "2026-08-23 10:00:00", "requested_model": "claude-sonnet-4-20250514"}
    | CLAUDE
    | {"logged_usd": "0"},
    GPT
    | NOTHING
    | {
        "row": 4,
        "call_id": "req-4",
        "called_at": "2026-08-24 10:00:00",
        "outcome": "failed",
        "error_code": "429",
        "latency_s": 0.09,
    },
    GPT
    | NOTHING
    | {"row": 5, "call_id": "req-5", "called_at": "2026-08-25 10:00:00", "billed": False, "latency_s": 0.004},
    GPT
    | NOTHING
    | {
        "row": 6,
        "call_id": "req-6",
        "called_at": "2026-08-26 10:00:00",
        "model": "text-embedding-3-small",
        "requested_model": "text-embedding-3-small",
        "operation": "embedding",
        "input_tokens": 15,
        "logged_usd": "0.0000003",
        "prompt": "one\n\ntwo",
    },
    {"row": 7, "prompt": "Hello"} | FIRST,
    GPT
    | {
        "row": 8,  # no id; the Responses API
        "called_at": "2026-08-28 10:00:00",
        "model": "gpt-5-mini",
        "input_tokens": 500,
        "cached_tokens": 400,
        "output_tokens": 60,
        "reasoning_tokens": 20,
        "logged_usd": "0",
        "prompt": "What now?",
    },
]
TORN = {"row": 9}


def test_json_lines_of_the_export_tool() -> None:
    assert_calls(read("helicone.jsonl"), [*ROWS, TORN])


def test_csv_of_the_export_tool() -> None:
    """It has neither cache nor provider columns, and quotes JSON twice."""
    kept = (
        "called_at",
        "model",
        "requested_model",
        "latency_s",
        "tenant",
        "prompt",
        "outcome",
        "error_code",
        "logged_usd",
    )

    def row(number: int, source: int, call_id: str, tokens: tuple[int, int]) -> dict[str, Any]:
        values = {name: ROWS[source][name] for name in kept if name in ROWS[source]}
        return values | {"row": number, "call_id": call_id, "input_tokens": tokens[0], "output_tokens": tokens[1]}

    expected = [row(0, 0, "resp-0", (200, 180)), row(1, 1, "resp-1", (100, 200)), row(2, 4, "resp-4", (0, 0))]
    assert_calls(read("helicone.csv"), expected)


def test_json_of_the_export_tool(tmp_path: Path) -> None:
    (tmp_path / "output.json").write_text(json.dumps(lines("helicone.jsonl"), indent=2))
    assert_calls(read("output.json", base=tmp_path), ROWS)


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("https://api.openai.com/v1/embeddings", "embedding"),
        ("/v1/responses", "chat"),
        ("/v1beta/models/gemini-2.5-pro:generateContent", "chat"),
        ("/v1/images/generations", "/v1/images/generations"),
    ],
)
def test_operation_by_path(tmp_path: Path, path: str, operation: str) -> None:
    row = lines("helicone.jsonl")[0] | {"request_path": path}
    (tmp_path / "one.jsonl").write_text(json.dumps(row))
    assert read("one.jsonl", base=tmp_path)["operation"].item() == operation


def test_a_tenant_may_be_a_property(tmp_path: Path) -> None:
    rows = [lines("helicone.jsonl")[0] | {"request_properties": {"app": "shop", "x": "1"}}, lines("helicone.jsonl")[1]]
    (tmp_path / "two.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found = read("two.jsonl", base=tmp_path, tenant=["request_properties.app", "request_properties.x"])
    assert found["tenant"].to_list() == ["shop / 1", "search / -"]
    assert read("helicone.csv", tenant=["request_properties.app"])["tenant"].to_list() == ["search"] * 3
