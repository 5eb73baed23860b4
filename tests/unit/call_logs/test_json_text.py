import json
from typing import Any

import polars as pl
import pytest

from routing.call_logs.json_text import count_at, decode, object_at, without_foreign_keys, word_at

SHAPE = pl.Struct(
    {
        "a": pl.String,
        "n": pl.Struct({"x": pl.String}),
        "l": pl.List(pl.Struct({"y": pl.String})),
        "m": pl.Map(pl.String, pl.String),
    }
)


def one(text: str | None, expr: pl.Expr) -> Any:
    return pl.DataFrame({"t": [text]}, schema={"t": pl.String}).select(expr).item()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"k": {"a": 1}}', '{"a": 1}'),
        ('{"é": 0, "k" : {"a": {"b": {"c": {}}}}, "z": 1}', '{"a": {"b": {"c": {}}}}'),
        ('{"k": {"a": "} \\" {", "b": [{"c": 1}]}}', '{"a": "} \\" {", "b": [{"c": 1}]}'),
        ('{"deep": {"k": {}}}', "{}"),
        ('{"text": "a \\"k\\": {\\"no\\": 1}", "k": {"yes": 1}}', '{"yes": 1}'),
        ('{"k": null}', None),
        ('{"k": {"torn": 1', None),
        ('{"k": {"a": {"b": {"c": {"d": {}}}}}}', None),  # nested too deep
        ("{}", None),
        (None, None),
    ],
)
def test_objects_are_cut_out(text: str | None, found: str | None) -> None:
    assert one(text, object_at(pl.col("t"), "k")) == found


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('{"k":5}', 5),
        ('{"k" : "6"}', 6),
        ('{"k":-7}', -7),
        ('{"k":null}', None),
        ('{"kk":1}', None),
        ('{"a":"\\"k\\":8"}', None),
    ],
)
def test_counts(text: str, count: int | None) -> None:
    assert one(text, count_at(pl.col("t"), "k")) == count


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"k":"429"}', "429"),
        ('{"k": 429}', "429"),
        ('{"k":"RateLimit \\"x"}', "RateLimit"),
        ('{"k":true}', "true"),
        ('{"k":""}', None),
    ],
)
def test_words(text: str, word: str | None) -> None:
    assert one(text, word_at(pl.col("t"), "k")) == word


ODD = [
    '{"a": 1.5e-7, "n": {"x": "y"}, "l": [{"y": 1}, {"y": null}, {}], "m": {"k": "v"}}',
    '{"a": {"o": [1]}, "n": 3, "l": {"y": 1}, "m": []}',
    '{"a": ["x"], "n": "{\\"x\\": 2}", "l": "[{\\"y\\": true}]", "m": "{\\"k\\": {\\"deep\\": 1}}"}',
    '{"a": "x", "extra": [[[]]]}',
    '{"a": NaN, "n": {"x": Infinity}}',
    '{"a": "half \\ud83d"}',
    '{"l": [1, null, {"y": "z"}]}',
    "{torn",
    "[1]",
    "null",
    "",
    "  ",
    None,
]
FITTED: list[Any] = [
    {"a": "1.5e-07", "n": {"x": "y"}, "l": [{"y": "1"}, {"y": None}, {"y": None}], "m": {"k": "v"}},
    {"a": '{"o": [1]}', "n": None, "l": None, "m": None},
    {"a": '["x"]', "n": {"x": "2"}, "l": [{"y": "true"}], "m": {"k": '{"deep": 1}'}},
    {"a": "x", "n": None, "l": None, "m": None},
    {"a": None, "n": {"x": None}, "l": None, "m": None},
    {"a": "half ?", "n": None, "l": None, "m": None},
    {"a": None, "n": None, "l": [None, None, {"y": "z"}], "m": None},
    *[None] * 6,
]


def test_values_of_another_shape_are_fitted_or_null() -> None:
    found = pl.DataFrame({"t": ODD}).select(decode(pl.col("t"), SHAPE))
    assert found["t"].to_list() == FITTED


def test_one_odd_row_changes_no_other_row() -> None:
    """Two thousand rows, one of them broken: all are there, in order."""
    texts = [f'{{"a": "{number}"}}' for number in range(2_000)]
    texts[1_234] = "{"
    found = (
        pl.DataFrame({"t": texts})
        .lazy()
        .select(decode(pl.col("t"), SHAPE).struct.field("a"))
        .collect(engine="streaming")
    )
    assert found["a"].to_list() == [None if number == 1_234 else str(number) for number in range(2_000)]


def test_mend_sees_rows_that_do_not_fit_and_those_that_are_odd() -> None:
    def mend(value: dict[str, Any]) -> dict[str, Any]:
        return {"a": f"mended {json.dumps(value)}"}

    texts = ['{"a": "fits"}', '{"a": "fits", "note": "odd"}']
    frame = pl.DataFrame({"t": texts})
    shape = pl.Struct({"a": pl.String})
    assert frame.select(decode(pl.col("t"), shape, mend=mend))["t"].struct.field("a").to_list() == ["fits", "fits"]
    odd = frame.select(decode(pl.col("t"), shape, mend=mend, odd="odd"))["t"].struct.field("a").to_list()
    assert odd[1] == 'mended {"a": "fits", "note": "odd"}'


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"x_metadata": {"k": 1}, "k": 2}', '{"k":"2"}'),
        ('{"x_metadata": {"a": {"b": {}}, "c": [{"k": 1}]}, "k": 2}', '{"k":"2"}'),
        ('{"_metadata" : { "a": "} {", "k" : 1}}', '{"k":null}'),
        ('{"x_metadata": {}, "y_metadata": {"a": {"k": 1}}}', '{"k":null}'),
        ('{"x_metadata": {"a": {"b": 1}, "kk": 1}, "k": 2}', None),
        ('{"x_metadata": {"a": "\\"k\\": 1", "b": "k"}, "k": 2}', None),
        ('{"x_metadata": {}, "other": {"k": 1}}', None),
        ('{"x_metadata": null, "k": 2}', None),
        ('{"x_metadata": {"torn": 1', None),
        ("{}", None),
    ],
)
def test_only_rows_with_a_key_of_somebody_elses_are_changed(text: str, left: str | None) -> None:
    kept = without_foreign_keys(pl.col("t"), pl.Struct({"k": pl.String}), of="_metadata")
    assert one(text, kept) == (text if left is None else left)
    assert pl.DataFrame({"t": [None, text, "{}"]}).select(kept)["t"].to_list() == [None, left or text, "{}"]
