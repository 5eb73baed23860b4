"""Hours without a call where there should have been some: the log, or what it logs, was down.

What is expected of an hour is the median of the same hour of the week, in up to four weeks before and four weeks after
the silence around it; where the log has fewer than three such, of the same hour of the day, seven days before and
after; where it has fewer than three of those, of the twelve hours before and after. Medians follow a nightly batch (no
calls by day, none expected) and a growing service, and a silence is never measured by itself.

A silence is a gap where so many calls were expected in it that, if calls came independently of each other at that rate,
it would happen by chance less than once in a million times (Poisson: exp(-expected) < 1e-6, 13.8 calls).

A gap lies between two calls. What was before the first and after the last is not judged: a log that broke off looks
like one that was exported then. Control totals by day tell the two apart.
"""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import log

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.audit import Gap

CHANCE = 1e-6
LONGEST_HOURS = 366 * 24
"""A longer silence is where one log ends and another begins, or a call with a wrong time."""

_COMPARED = ((7 * 24, 4), (24, 7), (1, 12))
"""(hours from one to the next, how many on each side): weeks, days, hours."""
_FEWEST = 3

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def find_gaps(hourly: pl.DataFrame) -> list[Gap]:
    """HOURLY -> gaps, in order of time. Each begins and ends with an hour of which at least one call was expected."""
    if hourly.is_empty():
        return []
    hours = hourly["hour"].dt.epoch("s").to_numpy() // 3_600
    counts = np.zeros(int(hours[-1] - hours[0]) + 1)
    counts[hours - hours[0]] = hourly["calls"].to_numpy()
    busy = np.flatnonzero(counts)
    silences = [
        (int(last) + 1, int(following))
        for last, following in pairwise(busy)
        if 1 < following - last <= LONGEST_HOURS + 1
    ]
    epoch = datetime.fromtimestamp(int(hours[0]) * 3_600, UTC)
    found = (_gap(counts, start, end, epoch) for start, end in silences)
    return [gap for gap in found if gap is not None]


def _gap(counts: Floats, start: int, end: int, epoch: datetime) -> Gap | None:
    expected = _expected(counts, start, end)
    due = np.flatnonzero(expected >= 1.0)
    total = float(expected.sum())
    if not len(due) or total < -log(CHANCE):
        return None
    first, last = start + int(due[0]), start + int(due[-1])
    return Gap(
        start=epoch + timedelta(hours=first),
        end=epoch + timedelta(hours=last + 1),
        hours=last + 1 - first,
        expected_calls=total,
    )


def _expected(counts: Floats, start: int, end: int) -> Floats:
    """Calls expected in each hour of a silence, shape (end - start,)."""
    hours = np.arange(start, end)
    expected = np.full(len(hours), np.nan)
    for period, reach in _COMPARED:
        compared = _outside(counts, hours, period, reach)
        enough = np.isnan(expected) & (np.isfinite(compared).sum(axis=1) >= _FEWEST)
        if enough.any():
            expected[enough] = np.nanmedian(compared[enough], axis=1)
    return np.where(np.isfinite(expected), expected, 0.0)


def _outside(counts: Floats, hours: Ints, period: int, reach: int) -> Floats:
    """Counts of the hours that lie a multiple of `period` away and outside the silence, nan beyond the log.

    Shape (hours, 2 x reach).
    """
    steps = period * np.arange(1, reach + 1)
    back = (hours - hours[0]) // period * period
    ahead = (hours[-1] - hours) // period * period
    places = np.hstack([(hours - back)[:, None] - steps, (hours + ahead)[:, None] + steps])
    inside = (places >= 0) & (places < len(counts))
    compared: Floats = np.where(inside, counts[np.where(inside, places, 0)], np.nan)
    return compared
