from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from routing.audit.control import conform
from routing.errors import DataError
from schemas.audit import ControlDifference
from tests.audit_frames import booked, call_log

FIRST = datetime(2026, 10, 1, 8, tzinfo=UTC)
YEAR_58718 = pl.Series([1_790_812_800_000_000]).cast(pl.Datetime("ms"))
"""Microseconds taken for milliseconds: Python has no such year."""


def calls(*per_day: int, **row: Any) -> list[dict[str, Any]]:
    """Calls of day after day: 1,000 tokens in, 100 out, $0.002 each."""
    return [
        row | {"called_at": FIRST + timedelta(days=day, minutes=n)}
        for day, count in enumerate(per_day)
        for n in range(count)
    ]


def compared(
    folder: Path, control: pl.DataFrame, *rows: dict[str, Any]
) -> tuple[list[tuple[str, str, str]], int | None]:
    """(key, measure, difference) of each difference, and the keys compared."""
    found = booked(call_log(*rows), folder, part_rows=100, control=control).reconciliation
    return [(item.key, item.measure, str(item.difference)) for item in found.control], found.control_keys


def test_totals_that_agree_have_no_differences(tmp_path: Path) -> None:
    control = pl.DataFrame(
        {
            "day": [date(2026, 10, 1), date(2026, 10, 2)],
            "calls": [3, 2],
            "input_tokens": [3_000, 2_000],
            "output_tokens": [300, 200],
            "usd": [0.006, 0.004],
        }
    )
    assert compared(tmp_path, control, *calls(3, 2)) == ([], 2)


def test_only_what_differs_is_listed(tmp_path: Path) -> None:
    control = pl.DataFrame(
        {"day": [date(2026, 10, 1), date(2026, 10, 2)], "calls": [3, 4], "input_tokens": [2_999, 2_000]}
    )
    found = booked(call_log(*calls(3, 2)), tmp_path, control=control).reconciliation
    assert found.control == [
        ControlDifference(
            key="2026-10-01",
            measure="input_tokens",
            logged=Decimal(3_000),
            control=Decimal(2_999),
            difference=Decimal(1),
        ),
        ControlDifference(
            key="2026-10-02", measure="calls", logged=Decimal(2), control=Decimal(4), difference=Decimal(-2)
        ),
    ]


def test_without_control_totals_nothing_was_compared(tmp_path: Path) -> None:
    found = booked(call_log(*calls(3)), tmp_path).reconciliation
    assert (found.control, found.control_keys) == ([], None)


def test_by_model_and_by_day_and_model(tmp_path: Path) -> None:
    rows = [*calls(2, 1), *calls(1, model="big"), *calls(1, model=None)]
    by_model = pl.DataFrame({"model": ["small", "big", None, "gone"], "calls": [3, 1, 1, 5]})
    assert compared(tmp_path, by_model, *rows) == ([("gone", "calls", "-5")], 4)
    both = pl.DataFrame(
        {"model": ["small", "small", "big"], "day": ["2026-10-01", "2026-10-02", "2026-10-01"], "calls": [2, 9, 1]}
    )
    differences = [("2026-10-01 / (no model)", "calls", "1"), ("2026-10-02 / small", "calls", "-8")]
    assert compared(tmp_path, both, *rows) == (differences, 4)


def test_rows_of_one_key_are_added_up(tmp_path: Path) -> None:
    control = pl.DataFrame({"day": [date(2026, 10, 1)] * 3, "calls": [1, 1, 1]})
    assert compared(tmp_path, control, *calls(3)) == ([], 1)


def test_days_that_the_control_does_not_span_are_not_compared(tmp_path: Path) -> None:
    control = pl.DataFrame({"day": [date(2026, 10, 2), date(2026, 10, 4), date(2026, 10, 5)], "calls": [2, 4, 5]})
    differences = [("2026-10-03", "calls", "3"), ("2026-10-05", "calls", "-5")]
    assert compared(tmp_path, control, *calls(1, 2, 3, 4)) == (differences, 4)


def test_only_what_a_provider_saw_is_compared(tmp_path: Path) -> None:
    rows = [
        *calls(1),
        *calls(1, billed=False),
        *calls(1, outcome="failed", input_tokens=None, output_tokens=None),
        *calls(1, outcome="failed", input_tokens=0, output_tokens=0),
        *calls(1, outcome="failed"),  # its tokens were billed
        *calls(1, model="mystery"),  # unpriced: seen, but no cost is known
    ]
    control = pl.DataFrame(
        {"day": [date(2026, 10, 1)], "calls": [3], "input_tokens": [3_000], "usd": [Decimal("0.004")]}
    )
    assert compared(tmp_path, control, *rows) == ([], 1)


@pytest.mark.parametrize(
    ("usd", "differs"),
    [("0.007", False), ("0.006999", True), ("0.017", False), ("0.017001", True), (None, True)],
)
def test_money_may_be_rounded_to_the_cent(tmp_path: Path, usd: str | None, *, differs: bool) -> None:
    # Six calls: $0.012.
    control = pl.DataFrame({"day": ["2026-10-01"], "usd": [usd]}, schema={"day": pl.String, "usd": pl.String})
    if usd is None:
        with pytest.raises(DataError, match="usd has 1 values"):
            compared(tmp_path, control, *calls(6))
    else:
        assert bool(compared(tmp_path, control, *calls(6))[0]) is differs


def test_money_may_be_off_by_one_part_in_a_thousand(tmp_path: Path) -> None:
    million = calls(1, input_tokens=100_000_000, output_tokens=0)  # $100
    for usd, found in ((100.1, 0), (100.2, 1)):
        control = pl.DataFrame({"day": [date(2026, 10, 1)], "usd": [usd]})
        assert len(compared(tmp_path, control, *million)[0]) == found


@pytest.mark.parametrize(
    "day",
    [
        pl.Series([date(2026, 10, 1)]),
        pl.Series(["2026-10-01"]),
        pl.Series(["2026-10-01T00:00:00Z"]),
        pl.Series([datetime(2026, 10, 1)]),  # noqa: DTZ001
        pl.Series([datetime(2026, 10, 1, 5, tzinfo=UTC)]).dt.convert_time_zone("Asia/Tokyo"),
        pl.Series([1_790_812_800]),
        pl.Series([1_790_812_800_000]),
        pl.Series([1_790_812_800.0]),
        pl.Series(["1790812800"]),
        pl.Series(["2026-09-30T23:30:00-05:00"]),
        pl.Series(["2026-10-02 01:00:00+09"]),
    ],
)
def test_days_are_read_as_exports_write_them(tmp_path: Path, day: pl.Series) -> None:
    assert compared(tmp_path, pl.DataFrame({"day": day, "calls": [2]}), *calls(2)) == ([], 1)


@pytest.mark.parametrize(
    ("control", "complaint"),
    [
        ({"calls": [1]}, "need one or both of day, model"),
        ({"day": [date(2026, 10, 1)]}, "at least one of calls, input_tokens"),
        (
            {"day": ["first of October"], "calls": [1]},
            "day has 1 values that are no day from 2000 to 2099, e.g. 'first of October'",
        ),
        ({"day": [20_261_001], "calls": [1]}, "no day from 2000 to 2099, e.g. 20261001"),
        ({"day": [date(1970, 1, 1)], "calls": [1]}, "no day from 2000 to 2099, e.g. 1970-01-01"),
        ({"day": YEAR_58718, "calls": [1]}, "no day from 2000 to 2099, e.g. \\+58718-08"),
        ({"day": [date(2026, 10, 1)], "calls": ["many"]}, "calls has 1 values that are no Int64, e.g. 'many'"),
    ],
)
def test_control_totals_that_cannot_be_read(tmp_path: Path, control: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        compared(tmp_path, pl.DataFrame(control), *calls(1))


@pytest.mark.parametrize("schema", [{"day": pl.Date, "calls": pl.Int64}, {"model": pl.String, "usd": pl.Float64}])
def test_an_export_without_rows_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="hold no rows"):
        conform(pl.DataFrame(schema=schema))


def test_totals_of_other_days_are_compared_with_nothing(tmp_path: Path) -> None:
    for day, found in (
        ("2026-09-30", ([], 0)),
        ("2026-10-03", ([], 0)),
        ("2026-10-02", ([("2026-10-02", "calls", "1")], 1)),
    ):
        control = pl.DataFrame({"day": [day], "calls": [0]})
        assert compared(tmp_path, control, *calls(1, 1)) == found


def test_a_hole_in_the_log_is_compared(tmp_path: Path) -> None:
    control = pl.DataFrame({"day": ["2026-10-02", "2026-10-03"], "calls": [7, 0]})
    assert compared(tmp_path, control, *calls(1, 0, 0, 1)) == ([("2026-10-02", "calls", "-7")], 2)
