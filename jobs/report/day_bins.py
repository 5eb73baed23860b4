"""Days of a long log, added up to weeks, months or years, so that a bar is wide enough to be seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Final

from routing.audit.spend import merged
from schemas.audit import DaySpend

MOST_BARS: Final = 200


@dataclass(frozen=True, slots=True)
class Bin:
    """A stretch of time that stands as one bar."""

    name: str
    width: timedelta
    """Of a bar; months and years are longer by days that nobody sees."""
    pattern: str
    """How one is written in a table."""
    told: str
    """And alone."""
    begin: Callable[[date], date]
    """First day of the one that a day is in."""


BINS: Final = (
    Bin("day", timedelta(days=1), "%Y-%m-%d", "%a %Y-%m-%d", lambda day: day),
    Bin("week", timedelta(days=7), "%Y-%m-%d", "week of %Y-%m-%d", lambda day: day - timedelta(days=day.weekday())),
    Bin("month", timedelta(days=28), "%Y-%m", "%b %Y", lambda day: day.replace(day=1)),
    Bin("year", timedelta(days=365), "%Y", "%Y", lambda day: day.replace(month=1, day=1)),
)


def binned(days: Sequence[DaySpend]) -> tuple[Bin, Sequence[DaySpend]]:
    """Return the finest bin of which at most 200 lie between the first and the last day, and what each one cost.

    Args:
        days: In order, at least one.
    """
    span = days[-1].day - days[0].day
    found = next((one for one in BINS if span / one.width <= MOST_BARS), BINS[-1])
    if found is BINS[0]:
        return found, days
    return found, [_added(begin, list(inside)) for begin, inside in groupby(days, lambda one: found.begin(one.day))]


def _added(begin: date, days: Sequence[DaySpend]) -> DaySpend:
    groups = [sum(costs, Decimal(0)) for costs in zip(*(one.groups for one in days), strict=True)]
    return DaySpend(day=begin, spend=merged([one.spend for one in days], None), groups=groups)
