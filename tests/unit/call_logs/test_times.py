from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from routing.call_logs.times import UTC_US, moment, seconds


def read(values: list[Any], dtype: pl.DataType | None = None, zone: str = "UTC") -> list[str | None]:
    frame = pl.DataFrame({"t": pl.Series(values, dtype=dtype)})
    found = frame.select(moment(pl.col("t"), frame.schema["t"], zone).alias("t"))
    assert found.schema["t"] == UTC_US
    return [None if value is None else value.isoformat(" ").removesuffix("+00:00") for value in found["t"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-08-20 10:00:00", "2026-08-20 10:00:00"),
        ("2026-08-20T10:00:00Z", "2026-08-20 10:00:00"),
        ("2026-08-20T10:00:00.5Z", "2026-08-20 10:00:00.500000"),
        ("2026-08-20 10:00:00.123456789 UTC", "2026-08-20 10:00:00.123456"),
        ("2026-08-20 12:00:00+02", "2026-08-20 10:00:00"),
        ("2026-08-20T04:30:00-0530", "2026-08-20 10:00:00"),
        ("2026-08-20 12:00:00,25+02:00", "2026-08-20 10:00:00.250000"),
        ("2026-08-20T10:00", "2026-08-20 10:00:00"),
        ("2026-08-20", "2026-08-20 00:00:00"),
        (" 2026-08-20 ", "2026-08-20 00:00:00"),
        ("1787220000", "2026-08-20 10:00:00"),
        ("1787220000.25", "2026-08-20 10:00:00.250000"),
        ("1787220000123", "2026-08-20 10:00:00.123000"),
        ("1787220000123456", "2026-08-20 10:00:00.123456"),
        ("1787220000123456789", "2026-08-20 10:00:00.123456"),
        ("0", None),
        ("-5", None),
        ("nan", None),
        ("2026-13-20 10:00:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_text(text: str, expected: str | None) -> None:
    assert read([text, None]) == [expected, None]


def test_text_of_several_kinds_in_one_column() -> None:
    texts = ["2026-08-20 12:00:00", "2026-08-20T12:00:00Z", "1787220000"]
    assert read(texts, zone="Europe/Berlin") == ["2026-08-20 10:00:00", "2026-08-20 12:00:00", "2026-08-20 10:00:00"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_787_220_000, "2026-08-20 10:00:00"),
        (1_787_220_000_123, "2026-08-20 10:00:00.123000"),
        (1_787_220_000_123_456, "2026-08-20 10:00:00.123456"),
        (1_787_220_000_123_456_789, "2026-08-20 10:00:00.123456"),
        (1_787_220_000.25, "2026-08-20 10:00:00.250000"),
        (1_787_220_000_123.0, "2026-08-20 10:00:00.123000"),
        (0, None),
        (-1, None),
        (float("inf"), None),
    ],
)
def test_numbers(value: float, expected: str | None) -> None:
    assert read([value]) == [expected]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_typed_columns(unit: Any) -> None:
    at = datetime(2026, 8, 20, 12, tzinfo=UTC)
    assert read([at], pl.Datetime(unit, "UTC")) == ["2026-08-20 12:00:00"]
    assert read([at], pl.Datetime(unit, "America/New_York")) == ["2026-08-20 12:00:00"]
    assert read([at.replace(tzinfo=None)], pl.Datetime(unit), zone="Europe/Berlin") == ["2026-08-20 10:00:00"]
    assert read([date(2026, 8, 20)], zone="Europe/Berlin") == ["2026-08-19 22:00:00"]


def test_hours_that_come_twice_or_never() -> None:
    texts = ["2026-10-25 02:30:00", "2026-03-29 02:30:00", "2026-03-29 03:30:00"]
    assert read(texts, zone="Europe/Berlin") == ["2026-10-25 00:30:00", None, "2026-03-29 01:30:00"]


def test_other_columns_are_no_times() -> None:
    assert read([True]) == [None]
    assert read([[1]]) == [None]


def test_seconds_are_what_they_would_be_written_as() -> None:
    frame = pl.DataFrame({"a": [0] * 4, "b": [900_000, 100_000, 1_234_567, 3_600_000_000]}).cast(pl.Datetime("us"))
    assert frame.select(seconds(pl.col("a"), pl.col("b"))).to_series().to_list() == [0.9, 0.1, 1.234567, 3_600.0]
