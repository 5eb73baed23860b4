import json
from pathlib import Path
from typing import Any

import pytest

from routing.errors import ConfigError, InputMissingError
from tests.unit.call_logs.support import assert_calls, opened, read

GPT = {"model": "gpt-4o-2024-08-06", "processing": "batch", "operation": "chat"}
FAILED = {"processing": "batch", "outcome": "failed"}
SECOND = GPT | {
    "call_id": "batch_req_1",
    "called_at": "2026-08-20 10:00:01",
    "input_tokens": 40,
    "cached_tokens": 0,
    "output_tokens": 7,
    "reasoning_tokens": 0,
}
ROWS: list[dict[str, Any]] = [
    GPT
    | {
        "row": 0,
        "call_id": "batch_req_0",
        "called_at": "2026-08-20 10:00:00",
        "input_tokens": 1_200,
        "cached_tokens": 1_000,
        "output_tokens": 300,
        "reasoning_tokens": 120,
    },
    {"row": 1} | SECOND,
    # Neither an error nor an embedding says when it was: the latest time of the file.
    {"row": 2, "call_id": "batch_req_2", "called_at": "2026-08-20 10:01:40", "error_code": "invalid_request_error"}
    | FAILED,
    {
        "row": 3,
        "call_id": "batch_req_3",
        "called_at": "2026-08-20 10:01:40",
        "model": "gpt-5-mini-2025-08-07",
        "processing": "batch",
        "operation": "chat",
        "input_tokens": 500,
        "cached_tokens": 400,
        "output_tokens": 60,
        "reasoning_tokens": 20,
    },
    {
        "row": 4,
        "call_id": "batch_req_4",
        "called_at": "2026-08-20 10:01:40",
        "model": "text-embedding-3-small",
        "processing": "batch",
        "operation": "embedding",
        "input_tokens": 8,
        "output_tokens": 0,
    },
    {"row": 5} | SECOND,
    {"row": 6} | FAILED,  # a torn line has no time
    {"row": 7, "call_id": "batch_req_5", "called_at": "2026-08-20 10:01:40", "error_code": "batch_expired"} | FAILED,
]
ASKED = {  # custom_id 1 stands in two input files, with two prompts
    0: {"requested_model": "gpt-4o", "prompt": "First\n\nwith a part"},
    1: {"requested_model": "gpt-4o"},
    2: {"requested_model": "gpt-4o", "model": "gpt-4o", "prompt": "Third"},
    3: {"requested_model": "gpt-5-mini", "prompt": "Fourth"},
    4: {"requested_model": "text-embedding-3-small", "prompt": "Fifth"},
    5: {"requested_model": "gpt-4o"},
    6: {},
    7: {"requested_model": "gpt-4o", "model": "gpt-4o", "prompt": "Sixth"},
}


def test_output_and_error_files() -> None:
    unasked = [row | ({"requested_model": row["model"]} if "model" in row else {}) for row in ROWS]
    log = opened("batch")
    assert [file.name for file in log.files] == ["output.jsonl", "output_errors.jsonl"]
    assert not log.has_prompts
    assert_calls(log.calls.collect(), unasked)


def test_input_files_add_prompts_and_models() -> None:
    log = opened("batch", prompts="batch_input.jsonl")
    assert log.has_prompts
    assert_calls(log.calls.collect(engine="streaming"), [row | ASKED[number] for number, row in enumerate(ROWS)])


def test_a_batch_that_only_failed_has_no_time(tmp_path: Path) -> None:
    """Nothing in it says when it was: its rows are rejected, and so counted."""
    line = {"id": "batch_req_1", "custom_id": "a", "response": None, "error": {"code": "batch_expired", "message": ""}}
    (tmp_path / "errors.jsonl").write_text(json.dumps(line) + "\n")
    found = read("errors.jsonl", base=tmp_path)
    assert found["called_at"].to_list() == [None]
    assert found["outcome"].to_list() == ["failed"]


def test_prompts_are_for_batches_only_and_have_to_be_there() -> None:
    with pytest.raises(
        ConfigError, match=r"log\.prompts is for the format openai_batch; the log is otel: leave it out"
    ):
        opened("otel.jsonl", prompts="batch_input.jsonl")
    with pytest.raises(InputMissingError, match=r"log\.prompts .*nowhere\.jsonl matches no file"):
        opened("batch", prompts="nowhere.jsonl")
