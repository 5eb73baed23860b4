from typing import Any

import polars as pl
import pytest

from jobs.source import _with_messages
from routing.call_logs.prompts import prompt


def read(values: list[Any], *, plain: bool = False, dtype: pl.DataType | None = None) -> list[str | None]:
    frame = pl.DataFrame({"t": pl.Series(values, dtype=dtype)})
    return frame.select(prompt(pl.col("t"), frame.schema["t"], plain=plain)).to_series().to_list()


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("Plain text", "Plain text"),
        ('[{"role":"user","content":"a"},{"role":"assistant","content":"x"},{"role":"user","content":"b"}]', "a\n\nb"),
        ('{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"a"}]}', "a"),
        (
            '{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}},'
            '{"type":"input_text","text":"b"}]}]}',
            "a\n\nb",
        ),
        ('{"input":"a"}', "a"),
        ('{"input":[{"role":"user","content":"a"},{"type":"function_call_output","output":"o"}]}', "a"),
        ('{"input":["a","b"]}', "a\n\nb"),
        ('{"input":[1,2,3]}', None),
        ('{"prompt":"a"}', "a"),
        ('{"prompt":["a","b"]}', "a\n\nb"),
        ('{"contents":[{"role":"user","parts":[{"text":"a"},{"inline_data":{}}]}]}', "a"),
        ('{"role":"user","content":"a"}', "a"),
        ('{"role":"user","content":[{"type":"text","text":"a"}]}', "a"),
        ('{"role":"assistant","content":"a"}', None),
        ('[{"role":"user","parts":[{"type":"text","content":"a"},{"type":"blob","content":"aGk="}]}]', "a"),
        ('[{"role":"user","content":[{"type":"tool_result","content":"r"}]},{"role":"user","content":"a"}]', "a"),
        ('"a text as JSON \\u00e9"', "a text as JSON é"),
        ('"Hello" she said', '"Hello" she said'),
        ("[INST] a [/INST]", "[INST] a [/INST]"),
        ("[1, 2, 3]", None),
        ('{"question": "a"}', None),
        ('{"torn": ', None),
        ('[{"role": "us', None),
        ("null", None),
        ("{}", None),
        ("[]", None),
        ("", None),
        (None, None),
    ],
)
def test_requests_as_text(text: str | None, turns: str | None) -> None:
    assert read([text, "Plain text"]) == [turns, "Plain text"]


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "null", '{"messages":[]}', '"quoted"', "[1, 2]", '[{"a": 1}]', '[{"role": "torn', '{"prompt":"x"}'],
)
def test_a_prompt_that_looks_like_json_stays_what_it_is(text: str) -> None:
    assert read([text], plain=True) == [text]


def test_a_list_of_messages_is_one_all_the_same() -> None:
    assert read(['[{"role": "user", "content": "a"}]', "b"], plain=True) == ["a", "b"]


def test_typed_messages_are_joined_as_the_nightly_job_joins_them() -> None:
    messages = [
        [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        [{"role": "user", "content": "one"}],
        [{"role": "assistant", "content": "x"}],
        None,
    ]
    frame = pl.DataFrame({"messages": messages})
    nightly = _with_messages(pl.DataFrame({"system": [None] * 4}, schema={"system": pl.String}), frame["messages"])
    assert read(messages, plain=True) == ["a\n\nb", "one", None, None]
    assert nightly["prompt"].to_list() == ["a\n\nb", "one", "", None]  # there, a blank prompt is rejected


def test_typed_parts_and_other_columns() -> None:
    part = {"type": "text", "text": "a"}
    assert read([[{"role": "user", "content": [part, {"type": "image_url", "text": None}]}]]) == ["a"]
    assert read(
        [{"messages": [{"role": "user", "content": "a"}], "prompt": "b"}, {"messages": None, "prompt": "b"}]
    ) == ["a", "b"]
    assert read([{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]) == ["a", None]
    assert read([[{"role": "user"}]]) == [None]
    assert read([1]) == [None]
    assert read([{"other": 1}]) == [None]
