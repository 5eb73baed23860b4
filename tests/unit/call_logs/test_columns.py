from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from routing.call_logs.columns import Columns
from routing.call_logs.tokens import counts_cache_apart, inclusive_input


def read(how: str, values: list[Any], dtype: Any = None, name: str = "c") -> list[Any]:
    frame = pl.DataFrame({"c": pl.Series(values, dtype=dtype)})
    expr: pl.Expr = getattr(Columns(frame.schema), how)(name)
    return frame.select(expr.alias("c"))["c"].to_list()


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["5", " 6 ", "7.0", "1e3", "", "x", None], pl.String, [5, 6, 7, 1_000, None, None, None]),
        ([5, None], pl.UInt64, [5, None]),
        ([2**63], pl.UInt64, [None]),
        ([5.0, float("nan"), float("inf")], pl.Float64, [5, None, None]),
        ([Decimal("5.0")], pl.Decimal(10, 2), [5]),
        ([True], pl.Boolean, [None]),
        ([[1]], pl.List(pl.Int64), [None]),
        ([None], pl.Null, [None]),
        (["5"], pl.Categorical, [5]),
    ],
)
def test_integers(values: list[Any], dtype: Any, expected: list[int | None]) -> None:
    assert read("integer", values, dtype) == expected


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (
            ["0.1", "1e-07", "$2.50", "x", "", "99999999999999999999999999999999"],
            pl.String,
            ["0.1", "1e-07", "2.5", None, None, None],
        ),
        (
            [0.1, 1e-7, 0.1 + 0.2, float("nan"), 1e30, 123.456789],
            pl.Float64,
            ["0.1", "1e-07", "0.3", None, None, "123.456789"],
        ),
        ([3], pl.Int32, ["3"]),
        ([Decimal("0.000000000001")], pl.Decimal(38, 12), ["0.000000000001"]),
        ([False], pl.Boolean, [None]),
    ],
)
def test_money_is_exact(values: list[Any], dtype: Any, expected: list[str | None]) -> None:
    assert read("usd", values, dtype) == [None if value is None else Decimal(value) for value in expected]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["True", "false", "1", "no", "", "None"], pl.String, [True, False, True, False, None, None]),
        ([0, 2], pl.Int64, [False, True]),
        ([True, None], pl.Boolean, [True, None]),
        ([[True]], pl.List(pl.Boolean), [None]),
    ],
)
def test_flags(values: list[Any], dtype: Any, expected: list[bool | None]) -> None:
    assert read("flag", values, dtype) == expected


def test_text_and_numbers() -> None:
    assert read("text", ["a", "", None]) == ["a", None, None]
    assert read("text", [1, None]) == ["1", None]
    assert read("text", [b"a", b"", None]) == ["a", None, None]
    assert read("text", [b"a", b"\xff"]) == ["a", "\ufffd"]
    assert read("text", [{"a": 1}]) == [None]
    assert read("text", [["a", 'b"'], [], None], pl.List(pl.String)) == ['["a","b\\""]', "[]", None]
    assert read("number", ["1.5", "nan", "x", " 2 "]) == [1.5, None, None, 2.0]
    assert read("number", [float("inf"), 1.0]) == [None, 1.0]
    assert read("number", [True]) == [None]


def test_names_are_looked_up_inside_structs_maps_and_json() -> None:
    assert read("integer", [{"a": {"b": "5"}}], name="c.a.b") == [5]
    assert read("integer", [{"a.b": 5}], name="c.a.b") == [5]
    assert read("integer", [{"a": "5"}], pl.Map(pl.String, pl.String), name="c.a") == [5]
    assert read("integer", ['{"a": {"b": 5}}', "torn {", None], name="c.a.b") == [5, None, None]
    assert read("text", ['{"it\'s": "x"}'], name="c.it's") == ["x"]
    assert read("integer", [{"a": 1}], name="c.b") == [None]
    assert read("integer", [{"a": 1}], name="c.a.b") == [None]
    assert read("integer", [5], name="c.a") == [None]
    assert read("integer", [5], name="d") == [None]


def test_the_first_name_with_a_value_counts() -> None:
    frame = pl.DataFrame({"a": [None, "1", ""], "b": [2, 3, 4]})
    assert frame.select(Columns(frame.schema).text("x", "a", "b"))["a"].to_list() == ["2", "1", "4"]


def test_pairs_of_whatever_holds_them() -> None:
    pairs = [{"input": "5", "output": None}]
    assert read("pairs", ['{"input": 5, "output": null}']) == pairs
    assert read("pairs", [{"input": 5, "output": None}]) == pairs
    assert read("pairs", [{"input": 5, "output": None}], pl.Map(pl.String, pl.Int64)) == pairs
    assert read("pairs", [[{"key": "input", "value": 5}, {"key": "output", "value": None}]]) == pairs
    assert read("pairs", [5]) == [None]
    assert read("json", [{"a": 1}]) == ['{"a":1}']
    assert read("json", ["{}"]) == ["{}"]
    assert read("json", [5]) == [None]


@pytest.mark.parametrize(
    ("provider", "model", "apart"),
    [
        ("anthropic", "claude-sonnet-4", True),
        ("ANTHROPIC", None, True),
        ("aws.bedrock", "amazon.nova-pro-v1:0", True),
        ("vertex_ai", "claude-sonnet-4@20250514", True),
        ("vertex_ai", "gemini-2.5-pro", False),
        (None, "claude-sonnet-4", True),
        (None, None, False),
        ("openrouter", "anthropic/claude-sonnet-4", False),
        ("openai", "gpt-4o", False),
    ],
)
def test_who_counts_the_cache_apart(provider: str | None, model: str | None, apart: bool) -> None:
    frame = pl.DataFrame({"p": [provider], "m": [model]}, schema={"p": pl.String, "m": pl.String})
    assert frame.select(counts_cache_apart(pl.col("p"), pl.col("m"))).item() is apart


@pytest.mark.parametrize(
    ("tokens", "cached", "written", "apart", "expected"),
    [
        (100, 40, 10, False, 100),
        (100, 40, 10, True, 150),
        (10, 40, 10, False, 60),
        (None, 40, 10, True, None),
        (7, None, None, True, 7),
    ],
)
def test_input_with_its_parts(
    tokens: int | None, cached: int | None, written: int | None, apart: bool, expected: int | None
) -> None:
    frame = pl.DataFrame({"t": [tokens], "c": [cached], "w": [written]}, schema=dict.fromkeys("tcw", pl.Int64))
    found = frame.select(inclusive_input(pl.col("t"), cached=pl.col("c"), written=pl.col("w"), apart=apart))
    assert found.item() == expected
