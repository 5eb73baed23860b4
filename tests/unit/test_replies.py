import json
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from routing.replies import answer, read_bodies
from schemas.queries import Answered
from tests.fakes import NOON, completion, ledger_replies, routed


def read(body: str | None, **reply: Any) -> dict[str, Any]:
    """Answer one query with one reply."""
    return answer(routed(1), ledger_replies({"call_key": "q0", "body": body, **reply})).row(0, named=True)


def test_an_answer_is_read_with_everything_that_is_billed() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 40,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    row = read(completion("Paris.", model="big-2026-01-01", usage=usage, service_tier="default"), attempts=3)
    wanted = {
        "status": "ok",
        "answer": "Paris.",
        "requested_model": "big",
        "served_model": "big-2026-01-01",
        "service_tier": "default",
        "finish_reason": "stop",
        "input_tokens": 100,
        "cached_tokens": 64,
        "output_tokens": 40,
        "reasoning_tokens": 30,
        "attempts": 3,
        "latency_s": 0.5,
        "answered_at": datetime.fromtimestamp(NOON, UTC),
        "error_code": None,
        "error_message": None,
    }
    assert {name: row[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("body", "status", "code", "text"),
    [
        (completion("Half an", finish_reason="length"), "truncated", "length", "Half an"),
        (completion(None, refusal="I will not."), "failed", "refusal", None),
        (completion("", refusal="I will not."), "failed", "refusal", ""),
        (completion(None, finish_reason="content_filter"), "failed", "content_filter", None),
        (completion("So far", finish_reason="content_filter"), "failed", "content_filter", "So far"),
        (completion(None), "failed", "empty_response", None),
        (completion(" \n"), "failed", "empty_response", " \n"),
        (completion("", finish_reason="length"), "failed", "empty_response", ""),
        ("", "failed", "malformed_response", None),
        ("<html>502</html>", "failed", "malformed_response", None),
        (completion("Paris.")[:-20], "failed", "malformed_response", None),
        ("{}", "failed", "malformed_response", None),
        ('{"choices": []}', "failed", "malformed_response", None),
        ("[1, 2]", "failed", "malformed_response", None),
        ("null", "failed", "malformed_response", None),
    ],
)
def test_what_came_back_is_classified(body: str, status: str, code: str, text: str | None) -> None:
    row = read(body)
    assert (row["status"], row["error_code"], row["answer"]) == (status, code, text)
    assert row["error_message"]


def test_a_refusal_says_what_the_model_said() -> None:
    assert read(completion(None, refusal="I will not."))["error_message"] == "I will not."


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "true",
        "0",
        "[]",
        '{"a": 1}',
        '"quoted"',
        "\\u0041",
        "😀 e\u0301 日本 \u2028 \x00 \x1b[0m",
        "a\r\n\tb\\",
        "</script><script>alert(1)</script>",
        "x" * 200_000,
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_answers_come_through_letter_by_letter(text: str, ascii_only: bool) -> None:
    body = json.dumps(json.loads(completion(text)), ensure_ascii=ascii_only)
    row = read(body)
    assert (row["status"], row["answer"]) == ("ok", text)


def test_an_answer_without_usage_has_unknown_tokens_not_zero() -> None:
    row = read(completion("Paris.", usage={}))
    assert row["status"] == "ok"
    assert [row[f"{name}_tokens"] for name in ("input", "cached", "output", "reasoning")] == [None] * 4


def test_missing_details_are_zero_when_the_rest_is_known() -> None:
    row = read(completion("Paris."))
    assert [row[f"{name}_tokens"] for name in ("input", "cached", "output", "reasoning")] == [10, 0, 5, 0]


@pytest.mark.parametrize("count", ["many", -0.5, None, [], {"n": 1}, 2**70])
def test_a_token_count_that_is_no_integer_is_unknown(count: object) -> None:
    row = read(completion("Paris.", usage={"prompt_tokens": count, "completion_tokens": 5}))
    assert (row["status"], row["input_tokens"], row["output_tokens"]) == ("ok", None, 5)


def test_an_answer_without_a_finish_reason_is_an_answer() -> None:
    assert read(completion("Paris.", finish_reason=None))["status"] == "ok"


def test_the_ledgers_error_stands_whatever_the_body_says() -> None:
    row = read('{"error": {"message": "too long"}}', status=400, error_code="context_length", error_message="too long")
    assert (row["status"], row["error_code"], row["error_message"]) == ("failed", "context_length", "too long")
    assert row["input_tokens"] is None


def test_a_call_that_never_got_a_reply_has_no_body() -> None:
    row = read(None, status=None, error_code="timeout", error_message="no reply within 30 s", attempts=5)
    assert (row["status"], row["error_code"], row["attempts"]) == ("failed", "timeout", 5)


def test_a_query_without_a_decision_is_unsent() -> None:
    row = answer(routed(1), ledger_replies()).row(0, named=True)
    assert (row["status"], row["error_code"], row["attempts"]) == ("unsent", "unsent", 0)
    assert row["error_message"] == "the run stopped before this query was sent"
    assert row["answered_at"] is None


def test_rows_in_equal_rows_out_in_order() -> None:
    rows = [{"call_key": key, "body": completion(key)} for key in ("q3", "q0", "q2")]
    table = answer(routed(4), ledger_replies(*rows))
    assert table["answer"].to_list() == ["q0", None, "q2", "q3"]
    assert table["status"].to_list() == ["ok", "unsent", "ok", "ok"]
    assert table.columns == Answered.column_names()


def test_no_rows_no_answers() -> None:
    assert answer(routed(0), ledger_replies()).schema == Answered.create_empty().schema


def test_bodies_are_read_beside_other_columns() -> None:
    frame = pl.DataFrame({"model": ["m"], "body": [completion("Yes.", model="m-2")]})
    assert read_bodies(frame).select("model", "served_model", "answer").rows() == [("m", "m-2", "Yes.")]


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ('"content": "half a pair \\ud83d."', "half a pair ?."),
        ('"content": "not a number", "score": NaN', "not a number"),
        ('"content": "endless", "score": -Infinity', "endless"),
    ],
)
def test_a_body_that_only_python_reads_is_not_lost(broken: str, text: str) -> None:
    body = '{"choices": [{"message": {' + broken + '}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 7}}'
    row = read(body)
    assert (row["status"], row["answer"], row["input_tokens"]) == ("ok", text, 7)
