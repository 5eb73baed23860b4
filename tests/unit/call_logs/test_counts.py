"""Rules that hold for every format: outcomes, tokens that are unknown, reasoning that is apart."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from jobs.audit_calls import store_calls
from routing.call_logs.layout import outcome
from routing.prices import price_snapshot
from tests.unit.call_logs.support import opened, read

GOOD = [
    "ok",
    "SUCCESS",
    "successful",
    "succeeded",
    "complete",
    "completed",
    "done",
    "finished",
    "true",
    "t",
    "yes",
    "1",
]
ENDS = ["stop", "length", "end_turn", "stop_sequence", "MAX_TOKENS", "tool_calls", "tool_use", "content_filter"]
CODES = ["200", "201", "202", " 204 ", "206", "299", "200.0", "1.0"]
BAD = ["error", "failure", "cancelled", "false", "f", "no", "0", "0.0", "199", "300", "404.0", "429", "500", "nan"]


def test_words_and_statuses() -> None:
    good = [*GOOD, *ENDS, *CODES, None]
    words = pl.DataFrame({"word": [*good, *BAD]})
    found = words.select(outcome(pl.col("word"))).to_series().to_list()
    assert found == ["ok"] * len(good) + ["failed"] * len(BAD)


def test_statuses_in_a_column_of_floats(tmp_path: Path) -> None:
    statuses = [200.0, 200.0, None, 429.0, 204.0]
    pl.DataFrame({"ts": ["2026-11-20"] * 5, "st": statuses}).write_parquet(tmp_path / "log.parquet")
    found = read("log.parquet", base=tmp_path, columns={"called_at": "ts", "outcome": "st"})
    assert found["outcome"].to_list() == ["ok", "ok", "ok", "failed", "ok"]
    assert found["error_code"].to_list() == [None, None, None, "429", None]


def test_a_status_is_the_error_where_no_other_is_told(tmp_path: Path) -> None:
    rows = [("503", "overloaded"), (" 503 ", ""), ("error", ""), ("0", ""), ("200", "")]
    (tmp_path / "log.csv").write_text("\n".join(["ts,st,why", *(f"2026-11-20,{st},{why}" for st, why in rows)]))
    columns = {"called_at": "ts", "outcome": "st"}
    assert read("log.csv", base=tmp_path, columns=columns)["error_code"].to_list() == ["503", "503", None, None, None]
    found = read("log.csv", base=tmp_path, columns=columns | {"error_code": "why"})
    assert found["error_code"].to_list() == ["overloaded", "503", None, None, None]


def litellm(folder: Path, *rows: dict[str, Any]) -> Path:
    given = {"startTime": "2026-11-20T10:00:00Z", "call_type": "acompletion", "model": "gpt-4o", "status": "success"}
    lines = [json.dumps({**given, "request_id": f"r{n}", **row}) for n, row in enumerate(rows)]
    (folder / "log.jsonl").write_text("\n".join(lines))
    return folder / "log.jsonl"


NOTHING = {"prompt_tokens": 0, "completion_tokens": 0}


@pytest.mark.parametrize(
    ("row", "tokens", "reason"),
    [
        ({}, (None, None), "tokens unknown"),
        ({"status": "failure"}, (0, 0), None),
        ({"cache_hit": "True"}, (0, 0), None),
        ({"prompt_tokens": 7}, (7, 0), None),
        ({"completion_tokens": 7}, (0, 7), None),
    ],
)
def test_an_answer_without_a_token_is_not_free(tmp_path: Path, row: Any, tokens: Any, reason: str | None) -> None:
    stored = store_calls(opened(litellm(tmp_path, NOTHING | row)), tmp_path / "work", part_rows=10)
    [found] = stored.kept(price_snapshot(), ["input_tokens", "output_tokens", "unpriced_reason"])
    assert found.row(0) == (*tokens, reason)


@pytest.mark.parametrize(("reasoning", "output"), [(900, 1_000), (100, 100), (0, 100), (None, 100)])
def test_reasoning_beyond_the_answer_is_apart(tmp_path: Path, reasoning: int | None, output: int) -> None:
    row = {"ts": "2026-11-20", "in": 1_000, "out": 100, "think": reasoning}
    (tmp_path / "log.jsonl").write_text(json.dumps(row))
    mapping = {"called_at": "ts", "input_tokens": "in", "output_tokens": "out", "reasoning_tokens": "think"}
    found = read("log.jsonl", base=tmp_path, columns=mapping)
    assert found.select("output_tokens", "reasoning_tokens").row(0) == (output, reasoning)


@pytest.mark.parametrize("late", [False, True])
def test_prompts_beside_empty_ones(tmp_path: Path, late: bool) -> None:
    """LiteLLM writes `{}` where it keeps no messages, however many lines before the first prompt."""
    tokens = {"prompt_tokens": 1, "completion_tokens": 1}
    without: list[dict[str, Any]] = [tokens | {"messages": {}}] * 250
    held: list[dict[str, Any]] = [
        tokens | {"messages": [{"role": "user", "content": f'"messages": {{}} {n}'}]} for n in range(50)
    ]
    found = read(litellm(tmp_path, *(without + held if late else held + without)))
    assert found["prompt"].drop_nulls().to_list() == [f'"messages": {{}} {n}' for n in range(50)]


def test_an_object_of_another_kind_is_no_prompt(tmp_path: Path) -> None:
    odd: list[dict[str, Any]] = [
        {"messages": {"role": "user"}},
        {"messages": [{"role": "user", "content": "hi"}]},
        {"messages": {}},
    ]
    assert read(litellm(tmp_path, *odd))["prompt"].to_list() == [None, "hi", None]


def anthropic(hour: int) -> dict[str, Any]:
    split = {"ephemeral_5m_input_tokens": 10 - hour, "ephemeral_1h_input_tokens": hour}
    return {"input_tokens": 1, "cache_creation_input_tokens": 10, "cache_creation": split, "output_tokens": 1}


def written(path: Path) -> list[tuple[int | None, ...]]:
    return read(path).select("input_tokens", "cache_write_tokens", "cache_write_1h_tokens").rows()


HOURS = (0, 10, 4)
WRITTEN = [(11, 10, hour) for hour in HOURS]


def test_what_is_kept_for_an_hour_is_told_apart(tmp_path: Path) -> None:
    """Of each format that says it; the first call wrote for five minutes."""
    splits = [anthropic(hour)["cache_creation"] for hour in HOURS]
    details = [{"cache_creation_tokens": 10, "cache_creation_token_details": split} for split in splits]
    usage = [{"metadata": {"usage_object": {"prompt_tokens_details": one}}, "prompt_tokens": 11} for one in details]
    assert written(litellm(tmp_path, *usage)) == WRITTEN
    given = {"request_created_at": "2026-11-20T10:00:00Z", "response_status": 200, "prompt_tokens": 1}
    rows = [given | {"response_body": {"usage": anthropic(hour)}} for hour in HOURS]
    (tmp_path / "helicone.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert written(tmp_path / "helicone.jsonl") == WRITTEN
    bodies = [{"status_code": 200, "body": {"created": 1_785_000_000, "usage": anthropic(hour)}} for hour in HOURS]
    (tmp_path / "batch.jsonl").write_text(
        "\n".join(json.dumps({"id": f"b{n}", "custom_id": "c", "response": body}) for n, body in enumerate(bodies))
    )
    assert written(tmp_path / "batch.jsonl") == WRITTEN


def test_steps_of_an_answer_are_not_counted_again(tmp_path: Path) -> None:
    """In whatever file: PostgreSQL sorts the keys of JSONB by their length, so that steps come first."""
    steps = [anthropic(4), anthropic(10) | {"input_tokens": 100}]
    whole = {"input_tokens": 101, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 20, "output_tokens": 2}
    split = {"ephemeral_1h_input_tokens": 14, "ephemeral_5m_input_tokens": 6}
    body = {"usage": {"iterations": steps} | whole | {"cache_creation": split}}
    helicone = {"request_created_at": "2026-11-20T10:00:00Z", "response_status": 200, "response_body": body}
    details = {"cached_tokens": 7, "cache_creation_tokens": 20, "cache_creation_token_details": split}
    usage = {"iterations": steps, "prompt_tokens_details": details}
    spend: dict[str, Any] = {"request_id": "r", "startTime": "2026-11-20T10:00:00Z", "call_type": "acompletion"}
    spend |= {"status": "success", "prompt_tokens": 128, "metadata": {"usage_object": usage}}
    rows: list[dict[str, Any]] = [helicone | {"prompt_tokens": 1}, spend]
    for row in rows:
        (tmp_path / "log.jsonl").write_text(json.dumps(row))
        as_text = {key: json.dumps(value) if isinstance(value, dict) else value for key, value in row.items()}
        pl.DataFrame([as_text]).write_csv(tmp_path / "log.csv")
        assert written(tmp_path / "log.jsonl") == written(tmp_path / "log.csv") == [(128, 20, 14)]


def test_what_is_kept_for_an_hour_was_written(tmp_path: Path) -> None:
    """Also where the log has no sum of both ages."""
    usage = anthropic(4)
    del usage["cache_creation_input_tokens"]
    body = {"status_code": 200, "body": {"created": 1_785_000_000, "usage": usage}}
    (tmp_path / "batch.jsonl").write_text(json.dumps({"id": "b", "custom_id": "c", "response": body}))
    assert written(tmp_path / "batch.jsonl") == [(11, 10, 4)]
    details = {"cache_creation_token_details": anthropic(10)["cache_creation"]}
    row = {"metadata": {"usage_object": {"prompt_tokens_details": details}}, "prompt_tokens": 11}
    assert written(litellm(tmp_path, row)) == [(11, 10, 10)]
