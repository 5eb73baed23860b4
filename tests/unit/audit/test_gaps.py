from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from routing.audit.gaps import LONGEST_HOURS, find_gaps
from schemas.audit import Gap
from schemas.daily import Hourly

MONDAY = datetime(2026, 6, 1, tzinfo=UTC)


def hours(count: int, calls: Callable[[datetime], int], *, silent: list[tuple[int, int]] | None = None) -> pl.DataFrame:
    """HOURLY of so many hours from a Monday on; `silent` are (first, end) hours without a call."""
    moments = [MONDAY + timedelta(hours=n) for n in range(count)]
    off = {n for start, end in silent or [] for n in range(start, end)}
    rows = [(moment, calls(moment)) for n, moment in enumerate(moments) if n not in off and calls(moment)]
    return pl.DataFrame(rows, schema=Hourly.create_empty().schema, orient="row")


def gap(start: int, end: int, expected: float) -> Gap:
    return Gap(
        start=MONDAY + timedelta(hours=start),
        end=MONDAY + timedelta(hours=end),
        hours=end - start,
        expected_calls=expected,
    )


def always(calls: int) -> Callable[[datetime], int]:
    return lambda _: calls


def office(moment: datetime) -> int:
    """Weekdays from 8 to 18."""
    return 50 if moment.weekday() < 5 and 8 <= moment.hour < 18 else 0


def nightly(moment: datetime) -> int:
    return 10_000 if moment.hour == 2 else 0


def test_a_silent_hour_among_busy_ones() -> None:
    assert find_gaps(hours(24 * 60, always(100), silent=[(700, 701)])) == [gap(700, 701, 100.0)]


def test_no_gap_in_a_log_without_one() -> None:
    for calls in (always(100), always(1), office, nightly):
        assert find_gaps(hours(24 * 60, calls)) == []


@pytest.mark.parametrize(("calls", "found"), [(13, 0), (14, 1)])
def test_a_silence_has_to_be_less_likely_than_one_in_a_million(calls: int, found: int) -> None:
    # exp(-13) = 2.3e-6, exp(-14) = 8.3e-7
    assert len(find_gaps(hours(24 * 60, always(calls), silent=[(700, 701)]))) == found


def test_a_quiet_log_needs_a_longer_silence() -> None:
    assert find_gaps(hours(24 * 60, always(2), silent=[(700, 706)])) == []
    assert find_gaps(hours(24 * 60, always(2), silent=[(700, 707)])) == [gap(700, 707, 14.0)]


def test_nights_and_weekends_are_no_gaps_and_an_outage_is_cut_to_working_hours() -> None:
    # From Wednesday 0:00 to Friday 0:00 of the fourth week: two working days, 8 to 18.
    start = 24 * (3 * 7 + 2)
    assert find_gaps(hours(24 * 60, office, silent=[(start, start + 48)])) == [gap(start + 8, start + 42, 1_000.0)]


def test_a_night_that_did_not_run_is_one_hour() -> None:
    start = 24 * 30
    assert find_gaps(hours(24 * 60, nightly, silent=[(start, start + 24)])) == [gap(start + 2, start + 3, 10_000.0)]


def test_a_growing_service_is_measured_by_its_own_time() -> None:
    def growing(moment: datetime) -> int:
        return 1 if moment < MONDAY + timedelta(days=60) else 1_000

    assert find_gaps(hours(24 * 120, growing, silent=[(500, 501)])) == []
    assert find_gaps(hours(24 * 120, growing, silent=[(2_500, 2_501)])) == [gap(2_500, 2_501, 1_000.0)]


def test_a_long_silence_is_not_measured_by_itself() -> None:
    # Ten of twenty-eight days.
    assert find_gaps(hours(24 * 28, always(5), silent=[(240, 480)])) == [gap(240, 480, 5.0 * 240)]


def test_a_short_log_is_measured_by_its_days_then_by_its_hours() -> None:
    def by_day(moment: datetime) -> int:
        return 100 if moment.hour >= 12 else 0

    # Five days: too few weeks. Monday to Friday at 15:00.
    assert find_gaps(hours(24 * 5, by_day, silent=[(63, 64)])) == [gap(63, 64, 100.0)]
    # Ten hours: too few days.
    assert find_gaps(hours(10, always(20), silent=[(4, 6)])) == [gap(4, 6, 40.0)]
    # Two hours with calls are nothing to measure by.
    assert find_gaps(hours(3, always(1_000), silent=[(1, 2)])) == []


def test_a_silence_of_more_than_a_year_is_no_gap() -> None:
    for longer, found in ((0, 1), (1, 0)):
        end = 24 * 30 + LONGEST_HOURS + longer
        log = hours(end + 24 * 30, always(100), silent=[(24 * 30, end)])
        assert len(find_gaps(log)) == found


def test_two_silences_are_two_gaps_in_order() -> None:
    found = find_gaps(hours(24 * 60, always(100), silent=[(700, 703), (100, 101)]))
    assert found == [gap(100, 101, 100.0), gap(700, 703, 300.0)]


def test_a_log_without_calls() -> None:
    assert find_gaps(Hourly.create_empty()) == []
    assert find_gaps(hours(1, always(1))) == []


def test_the_ends_of_a_log_are_not_judged() -> None:
    # Two weeks that end at 6:00 on the last day: broken off, or exported then.
    assert find_gaps(hours(24 * 13 + 6, always(100))) == []
    page = (Path(__file__).parents[3] / "docs" / "audit-exports.md").read_text(encoding="utf-8")
    [row] = [line for line in page.splitlines() if line.startswith("| `gap_hours` |")]
    assert "between the first call and the last" in row
