import json
from pathlib import Path
from typing import Any

import pytest

from jobs.audit_calls import store_calls
from tests.unit.call_logs.support import DATA, assert_calls, opened, read

GPT = {"provider": "openai", "model": "gpt-4o-2024-08-06", "requested_model": "gpt-4o", "operation": "chat"}
CLAUDE = {
    "provider": "anthropic",
    "model": "claude-sonnet-4-20250514",
    "operation": "chat",
    "input_tokens": 3_100,
    "cached_tokens": 2_000,
    "cache_write_tokens": 1_000,
    "output_tokens": 200,
    "tenant": "checkout",
}
FIRST = GPT | {
    "call_id": "chatcmpl-0",
    "called_at": "2026-08-20 10:00:00",
    "processing": "priority",
    "input_tokens": 1_200,
    "cached_tokens": 1_000,
    "output_tokens": 300,
    "reasoning_tokens": 120,
    "latency_s": 1.5,
}
SHORT = GPT | {"input_tokens": 9, "output_tokens": 4, "latency_s": 0.7, "tenant": "search"}
ROWS: list[dict[str, Any]] = [
    FIRST
    | {
        "row": 0,
        "base_url": "https://api.openai.com",
        "tenant": "checkout",
        "prompt": "Weather in Paris?\n\nAnd tomorrow?",
    },
    CLAUDE
    | {
        "row": 1,
        "call_id": "eee19b7ec3c1b171",
        "called_at": "2026-08-20 10:01:00",
        "requested_model": "claude-sonnet-4",
        "latency_s": 0.9,
        "prompt": "Structured turn",
    },
    CLAUDE
    | {
        "row": 2,  # names of old, and cache tokens that were not added up
        "call_id": "eee19b7ec3c1b172",
        "called_at": "2026-08-20 10:02:00",
        "requested_model": "claude-sonnet-4-20250514",
        "latency_s": 0.8,
        "prompt": "Old style\n\nOther order",
    },
    # Row 3 is an agent around its calls, row 4 a plain HTTP span.
    {
        "row": 5,
        "call_id": "eee19b7ec3c1b175",
        "called_at": "2026-08-20 10:02:30",
        "provider": "azure.ai.openai",
        "base_url": "https://eu.openai.azure.com:8443",
        "model": "gpt-4o",
        "requested_model": "gpt-4o",
        "operation": "chat",
        "outcome": "failed",
        "error_code": "timeout",
        "latency_s": 30.0,
        "tenant": "search",
    },
    SHORT
    | {
        "row": 6,
        "call_id": "eee19b7ec3c1b176",
        "called_at": "2026-08-20 10:02:40",
        "prompt": "By event\n\nAs JSON",
    },
    SHORT | {"row": 7, "call_id": "eee19b7ec3c1b177", "called_at": "2026-08-20 10:02:50", "prompt": "In one event"},
    {
        "row": 8,
        "call_id": "eee19b7ec3c1b178",
        "called_at": "2026-08-20 10:03:00",
        "provider": "openai",
        "model": "text-embedding-3-small",
        "requested_model": "text-embedding-3-small",
        "operation": "embedding",
        "input_tokens": 8,
        "output_tokens": 0,
        "latency_s": 0.1,
        "tenant": "search",
    },
    FIRST | {"row": 9, "tenant": "search"},
]
TORN = {"row": 10}


def test_json_lines_of_a_collector() -> None:
    assert_calls(read("otel.jsonl"), [*ROWS, TORN])


def test_one_document() -> None:
    assert_calls(read("otel.json"), ROWS)


def test_tenants_and_columns_are_attributes() -> None:
    found = read("otel.jsonl", tenant=["service.name", "server.port"], columns={"error_code": "http.request.method"})
    assert found["tenant"].to_list()[:3] == ["checkout / 443", "checkout / -", "checkout / -"]
    assert found["error_code"].null_count() == found.height


def test_odd_spans_are_no_crash(tmp_path: Path) -> None:
    """Attributes without a key, nulls for lists, counts as text: what can be read is."""
    line = json.loads((DATA / "otel.jsonl").read_text().splitlines()[0])
    span = line["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    odd = span | {
        "attributes": [
            *(pair for pair in span["attributes"] if pair["key"] != "gen_ai.usage.output_tokens"),
            {"value": {"stringValue": "no key"}},
            {"key": "gen_ai.usage.output_tokens", "value": {"stringValue": "12"}},
            {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "13"}},
            {"key": "flag", "value": {"boolValue": True}},
            {"key": "nothing", "value": None},
        ],
        "events": None,
        "startTimeUnixNano": 0,
        "status": None,
    }
    empty = {"resourceSpans": [{"resource": None, "scopeSpans": None}, {"scopeSpans": [{"spans": None}]}]}
    line["resourceSpans"][0]["scopeSpans"][0]["spans"] = [odd, {}]
    (tmp_path / "odd.jsonl").write_text("\n".join(json.dumps(item) for item in (empty, line)))
    found = read("odd.jsonl", base=tmp_path)
    first = found.row(0, named=True)
    assert (first["output_tokens"], first["input_tokens"], str(first["called_at"])) == (
        133,  # 120 of reasoning do not fit into 13
        1_200,
        "2026-08-20 10:00:01.500000+00:00",
    )


def spans(path: Path, *attributes: dict[str, str | int]) -> Path:
    """A line with a span for each of the attributes."""

    def value(given: str | int) -> dict[str, str]:
        return {"intValue": str(given)} if isinstance(given, int) else {"stringValue": given}

    start = {"startTimeUnixNano": "1785000000000000000", "endTimeUnixNano": "1785000001000000000"}
    made: list[dict[str, Any]] = [
        {**start, "spanId": f"s{n}", "attributes": [{"key": key, "value": value(given)} for key, given in one.items()]}
        for n, one in enumerate(attributes)
    ]
    path.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": made}]}]}))
    return path


USAGE: dict[str, str | int] = {"gen_ai.usage.input_tokens": 1_000, "gen_ai.usage.output_tokens": 100}
MODEL: dict[str, str | int] = {"gen_ai.request.model": "gpt-4o"}
CALLS: list[dict[str, str | int]] = [
    USAGE,
    MODEL,
    {"gen_ai.operation.name": "chat"},
    {"gen_ai.operation.name": "generate_content", "gen_ai.agent.name": "helper"},
    {"llm.request.type": "completion"},
    *(MODEL | {"gen_ai.operation.name": name} for name in ("rerank", "planning_chat", "multitask", "reagent")),
    MODEL | {"gen_ai.agent.name": "helper"},
]
OTHERS: list[dict[str, str | int]] = [
    {},
    {"http.request.method": "GET"},
    {"gen_ai.operation.name": "rerank"},
    *(
        {"gen_ai.operation.name": name} | MODEL | USAGE
        for name in ("invoke_agent", "create_agent", "execute_tool", "invoke_workflow", "retrieval", "search_memory")
    ),
    *({"gen_ai.operation.name": name} | MODEL | USAGE for name in ("Agent", "tool", "plan", "run task")),
    USAGE | {"gen_ai.agent.name": "helper"},
    USAGE | {"agent_name": "helper"},
]


@pytest.mark.parametrize(("attributes", "is_call"), [*((one, 1) for one in CALLS), *((one, 0) for one in OTHERS)])
def test_calls_and_the_spans_around_them(tmp_path: Path, attributes: dict[str, str | int], is_call: int) -> None:
    assert read(spans(tmp_path / "one.jsonl", attributes)).height == is_call


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    log = opened(spans(tmp_path / "all.jsonl", *OTHERS, *CALLS, *OTHERS))
    stored = store_calls(log, tmp_path / "work", part_rows=3)
    assert (stored.read, stored.left_out) == (len(CALLS), 2 * len(OTHERS))


@pytest.mark.parametrize(
    ("more", "outcome", "code"),
    [
        ({}, "ok", None),
        ({"http.response.status_code": 200}, "ok", None),
        ({"http.response.status_code": 399}, "ok", None),
        ({"http.response.status_code": 429}, "failed", "429"),
        ({"http.response.status_code": 500, "error.type": "timeout"}, "failed", "timeout"),
    ],
)
def test_a_status_of_http_is_an_outcome(tmp_path: Path, more: dict[str, str | int], outcome: str, code: str) -> None:
    found = read(spans(tmp_path / "one.jsonl", MODEL | USAGE | more))
    assert found.select("outcome", "error_code").row(0) == (outcome, code)
