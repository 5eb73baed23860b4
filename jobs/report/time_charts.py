"""Money over time: stacked bars with what happened on the way, and the small line that stands in a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from jobs.report.charts import WIDE, left_room
from jobs.report.marks import Axis, Chart, Frame, Mark, line, rect, shape, text, y_axis

_SPARK: Final = (96.0, 18.0)
_SHARE: Final = (72.0, 12.0)
_TICK_WIDTH: Final = 64
_LETTER: Final = 7
"""Width of one below the axis, in pixels."""
_STEPS: Final = tuple(
    timedelta(seconds=s)
    for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200)
)
_DAY: Final = timedelta(days=1)
_DAYS: Final = (1, 2, 7, 14)
_MONTHS: Final = (1, 2, 3, 6, *(12 * years * power for power in (1, 10, 100, 1_000) for years in (1, 2, 5)))


@dataclass(frozen=True, slots=True)
class Stack:
    """One layer of the bars, from below."""

    name: str
    fill: str
    """A CSS value."""
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a moment; its mark stands above the bars."""

    at: datetime
    letter: str
    about: str


def time_chart(
    starts: Sequence[datetime],
    width: timedelta,
    stacks: Sequence[Stack],
    tooltips: Sequence[str],
    *,
    title: str,
    events: Sequence[Event] = (),
    gaps: Sequence[tuple[datetime, datetime]] = (),
) -> Chart:
    """Return bars of equal width in time, stacked.

    Args:
        starts: First instant of each bar, rising, at least one.
        width: Of a bar.
        stacks: Their values are as many as the bars.
        tooltips: What a bar says on hovering.
        title: Of the vertical axis, in dollars.
        events: Marked by letters above the bars.
        gaps: Shaded behind them.
    """
    begin, end = starts[0], _later(starts[-1], width)
    highest = max(map(sum, zip(*(stack.values for stack in stacks), strict=True)), default=0.0)
    x = begin.timestamp(), end.timestamp()
    y, height = Axis(title, (0.0, highest * 1.04 or 1.0), "money"), 224
    left = left_room(y, height)
    frame = Frame(left=left, top=26, width=WIDE - left - 8, height=height, x=x, y=y.domain)
    marks = [*_shaded(frame, gaps), *y_axis(frame, y), *_time_axis(frame, begin, end, width)]
    bar = frame.width * width.total_seconds() / (x[1] - x[0])
    inner = min(max(bar * 0.86, min(bar, 1.0)), 60.0)
    places = [frame.at_x(start.timestamp()) + (bar - inner) / 2 for start in starts]
    base = [0.0] * len(starts)
    for stack in stacks:
        pieces = [
            f"M{at:.2f} {frame.at_y(low)}h{inner:.2f}V{frame.at_y(low + value)}h{-inner:.2f}Z"
            for at, low, value in zip(places, base, stack.values, strict=True)
            if value > 0
        ]
        base = [low + value for low, value in zip(base, stack.values, strict=True)]
        marks.append(shape("".join(pieces) or "M0 0", "layer", tooltip=stack.name, fill=stack.fill))
    marks += [
        rect(round(frame.at_x(s.timestamp()), 2), frame.top, round(bar, 2), frame.height, "hover", tooltip=words)
        for s, words in zip(starts, tooltips, strict=True)
    ]
    marks += [mark for event in events if begin <= event.at <= end for mark in _event(frame, event)]
    return Chart(WIDE, frame.bottom + 26, tuple(marks))


def spark(values: Sequence[float]) -> Chart:
    """Return a line from zero to its own highest value."""
    width, height = _SPARK
    highest = max([*values, 0.0]) or 1.0
    step = width / max(len(values) - 1, 1)
    corners = [f"{k * step:.1f} {height - 1 - (height - 3) * value / highest:.1f}" for k, value in enumerate(values)]
    d = f"M{'L'.join(corners)}" if len(corners) > 1 else f"M0 {height - 1}h{width}"
    return Chart(width, height, (shape(d, "spark"),))


def share_bar(share: float) -> Chart:
    """Return a bar as long as a share of the whole, 0..1."""
    width, height = _SHARE
    long = round(width * min(max(share, 0.0), 1.0), 1)
    return Chart(width, height, (rect(0, 2, width, height - 4, "whole"), rect(0, 2, long, height - 4, "part")))


def fill_swatch(fill: str) -> Chart:
    """Return the sample of a layer that stands in a legend."""
    return Chart(16, 12, (rect(1, 1, 14, 10, "layer", fill=fill),))


def time_ticks(begin: datetime, end: datetime, width: timedelta, count: int) -> list[tuple[datetime, str]]:
    """Return at most about `count` round moments in UTC with what is written at them, at least a bar apart."""
    span = end - begin
    for step in _STEPS:
        if width <= step and span / step <= count:
            return _clock_ticks(begin, end, step)
    for days in _DAYS:
        if span / (days * _DAY) <= count:
            return _day_ticks(begin, end, days)
    return _month_ticks(begin, end, next((m for m in _MONTHS if span / (m * 30 * _DAY) <= count), _MONTHS[-1]))


def _clock_ticks(begin: datetime, end: datetime, step: timedelta) -> list[tuple[datetime, str]]:
    midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    at = midnight + -(-(begin - midnight) // step) * step
    moments = [at + k * step for k in range((end - at) // step + 1)]
    return [(at, f"{at:%H:%M:%S}" if step < timedelta(minutes=1) else f"{at:%H:%M}") for at in moments]


def _day_ticks(begin: datetime, end: datetime, days: int) -> list[tuple[datetime, str]]:
    at = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    at += _DAY * (at < begin)
    if days >= 7:  # a week begins on Monday
        at += _DAY * (-at.weekday() % 7)
    return [(at + k * _DAY, f"{at + k * _DAY:%-d %b}") for k in range(0, (end - at) // _DAY + 1, days)]


def _month_ticks(begin: datetime, end: datetime, months: int) -> list[tuple[datetime, str]]:
    month = begin.year * 12 + begin.month - 1
    month = -(-month // months) * months
    found = []
    while month // 12 <= end.year:
        at = datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)
        if begin <= at <= end:
            found.append((at, f"{at:%b %Y}"))
        month += months
    return found


def _later(at: datetime, width: timedelta) -> datetime:
    """End of a bar; a log may hold any date, the last one that there is included."""
    return at + width if at <= datetime.max.replace(tzinfo=UTC) - width else datetime.max.replace(tzinfo=UTC)


def _time_axis(frame: Frame, begin: datetime, end: datetime, width: timedelta) -> list[Mark]:
    marks = [line(frame.left, frame.bottom, frame.right, frame.bottom, "axis")]
    for at, label in time_ticks(begin, end, width, int(frame.width / _TICK_WIDTH)):
        if at == end:
            continue
        x = frame.at_x(at.timestamp())
        marks.append(line(x, frame.bottom, x, frame.bottom + 5, "axis"))
        if x + 4 + _LETTER * len(label) <= WIDE:
            marks.append(text(x + 4, frame.bottom + 17, label, "tick"))
    return marks


def _shaded(frame: Frame, gaps: Sequence[tuple[datetime, datetime]]) -> list[Mark]:
    marks = []
    for start, end in gaps:
        low, high = (min(max(at.timestamp(), frame.x[0]), frame.x[1]) for at in (start, end))
        if low < high:
            left = frame.at_x(low)
            wide = max(round(frame.at_x(high) - left, 2), 2.0)
            marks.append(rect(left, frame.top, wide, frame.height, "band", tooltip=f"gap of {end - start}"))
    return marks


def _event(frame: Frame, event: Event) -> list[Mark]:
    x = frame.at_x(event.at.timestamp())
    return [
        line(x, frame.top - 8, x, frame.bottom, "reference"),
        text(x, frame.top - 12, event.letter, "heading", anchor="middle", tooltip=event.about),
    ]
