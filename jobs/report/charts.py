"""Charts as SVG, worked out when the page is made: sharp on paper, in the reader's colours, without a script.

A chart is a list of plain marks, which `templates/charts.html.j2` writes out escaped. Every size is fixed here, in CSS
pixels, and no layout hangs on a font.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from jobs.report.marks import (
    SYMBOLS,
    Axis,
    Chart,
    Frame,
    Mark,
    Pair,
    line,
    moving,
    rect,
    shape,
    symbol,
    text,
    x_axis,
    y_axis,
    y_letters,
)
from jobs.report.numbers import written
from jobs.report.palette import Look

WIDTH: Final = 460
"""Of a chart: two stand side by side on a screen, one on a phone."""
SMALL: Final = 226
"""Of a small multiple."""
WIDE: Final = 1_016
"""Of a chart that takes the whole page; a phone scrolls it."""

_ARROWS: Final = {-1: "M-7 0l6-4v8Z", 1: "M7 0l-6-4v8Z"}
_LETTER: Final = 6.6
"""Generous width of a letter of the charts' 12 px type: margins are made of it."""
_BESIDE, _ABOVE = 28, 66
"""Letters of a label that fit beside a row, and above one."""
_AXIS_HEIGHT: Final = 44


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart."""

    look: Look
    x: Sequence[float]
    y: Sequence[float]
    tooltip: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """A dot with the vertical interval around it."""

    look: Look
    x: float
    y: float
    low: float
    high: float
    tooltip: str = ""


@dataclass(frozen=True, slots=True)
class Area:
    """What lies between two lines; its class (`area`, `observed`) decides how it is filled."""

    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    kind: str = "area"
    tooltip: str = ""


@dataclass(frozen=True, slots=True)
class Track:
    """Where the current point of a curve may stand: a rule with a dot, moved by a slider."""

    x: Sequence[float]
    y: Sequence[float]
    index: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a dot or bar chart; without a look it is a heading, without a value an empty row."""

    label: str
    look: Look | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    text: str = ""
    """The value as it is written."""

    @property
    def tooltip(self) -> str:
        """Label and value."""
        return f"{self.label}: {self.text}"


@dataclass(frozen=True, slots=True)
class Word:
    """Text inside a chart."""

    x: float
    y: float
    text: str
    anchor: Literal["start", "middle", "end"] = "start"


def line_chart(
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    *,
    points: Sequence[Point] = (),
    rules: Sequence[float] = (),
    words: Sequence[Word] = (),
    areas: Sequence[Area] = (),
    track: Track | None = None,
) -> Chart:
    """Return lines and points over two axes, with horizontal rules and words; what leaves the domains is cut off."""
    height = 270
    left = left_room(y, height)
    frame = Frame(left=left, top=12, width=WIDTH - left - 14, height=height, x=x.domain, y=y.domain)
    marks = [
        *([frame.clipped([_area(frame, area) for area in areas])] if areas else []),
        *y_axis(frame, y),
        *x_axis(frame, x),
        *(line(frame.left, frame.at_y(at), frame.right, frame.at_y(at), "reference") for at in rules),
        frame.clipped([_path(frame, drawn) for drawn in lines]),
        *(mark for point in points for mark in _point(frame, point)),
        *(text(frame.at_x(w.x), frame.at_y(w.y) - 5, w.text, "word", anchor=w.anchor) for w in words),
        *([] if track is None else _current(frame, track)),
    ]
    return Chart(WIDTH, frame.bottom + _AXIS_HEIGHT, tuple(marks))


def dot_chart(rows: Sequence[Row], x: Axis, *, reference: float | None = None, band: Pair | None = None) -> Chart:
    """Return a dot with its interval for each row; an arrow at the edge stands for what leaves the domain.

    Labels stand beside their rows, or above them where one is too long for that.

    Args:
        rows: From top to bottom.
        x: The values' axis.
        reference: A vertical line.
        band: A range shaded behind all rows.
    """
    frame, pitch = _rows_frame(rows, x)
    marks: list[Mark] = []
    if band is not None:
        left, right = (frame.at_x(min(max(edge, x.domain[0]), x.domain[1])) for edge in band)
        marks.append(rect(left, frame.top, right - left, frame.height, "band"))
    marks += [*x_axis(frame, x), *_reference(frame, reference)]
    for k, row in enumerate(rows):
        marks += _label(frame, row, frame.top + pitch * k, pitch)
        y = frame.top + pitch * (k + 1) - 10.5
        marks += _dot(frame, row, y)
        if row.text:
            marks.append(text(frame.right + 10, y + 4, row.text, "value"))
    return Chart(WIDTH, frame.bottom + _AXIS_HEIGHT, tuple(marks))


def matrix_chart(columns: Sequence[tuple[str, Sequence[Row]]], x: Axis, *, reference: float | None = None) -> Chart:
    """Return dot charts side by side that share their labels: what is compared stands in one row.

    Args:
        columns: Heading and rows of each; all have the rows of the first, in its order.
        x: The values' axis, the same for all.
        reference: A vertical line.
    """
    labels = [row.label for row in columns[0][1]]
    left, gap, pitch, top = 16 + (_LETTER + 0.4) * max(len(shortened(label)) for label in labels), 18, 17.0, 24
    width = max(96.0, (WIDE - left) / len(columns) - gap)
    right = left + (width + gap) * len(columns) - gap
    marks = []
    for k, label in enumerate(labels):
        y = round(top + pitch * (k + 0.5), 2)
        marks.append(line(left, y, right, y, "grid"))
        marks.append(text(left - 10, y + 4, shortened(label), "label", anchor="end", tooltip=label))
    for i, (heading, rows) in enumerate(columns):
        frame = Frame(round(left + i * (width + gap), 2), top, round(width, 2), pitch * len(labels), x.domain)
        marks.append(text(frame.left, top - 10, shortened(heading, int(width / _LETTER)), "heading", tooltip=heading))
        marks += [*x_axis(frame, x), *_reference(frame, reference)]
        marks += [mark for k, row in enumerate(rows) for mark in _dot(frame, row, round(top + pitch * (k + 0.5), 2))]
    return Chart(round(right + 8, 2), top + pitch * len(labels) + _AXIS_HEIGHT, tuple(marks))


def bar_chart(rows: Sequence[Row], x: Axis) -> Chart:
    """Return a bar from zero for each row, its value written at its end."""
    frame, pitch = _rows_frame(rows, x)
    marks = x_axis(frame, x)
    for k, row in enumerate(rows):
        y = frame.top + pitch * (k + 1) - 10.5
        marks += _label(frame, row, frame.top + pitch * k, pitch)
        if row.look is not None and row.value is not None:
            start, end = frame.at_x(0.0), frame.at_x(row.value)
            marks.append(
                rect(start, y - 6, round(end - start, 2), 12, "bar", fill=row.look.colour, tooltip=row.tooltip)
            )
            marks.append(text(end + 6, y + 4, row.text, "value"))
    return Chart(WIDTH, frame.bottom + _AXIS_HEIGHT, tuple(marks))


def reliability_chart(points: Sequence[Point], x: Axis, y: Axis) -> Chart:
    """Return observed over predicted, with the diagonal on which the two are equal."""
    side = SMALL - 52 - 8
    frame = Frame(left=52, top=8, width=side, height=side, x=x.domain, y=y.domain)
    low, high = max(x.domain[0], y.domain[0]), min(x.domain[1], y.domain[1])
    diagonal = line(frame.at_x(low), frame.at_y(low), frame.at_x(high), frame.at_y(high), "reference")
    dots = [mark for point in points for mark in _point(frame, point)]
    marks = [*y_axis(frame, y), *x_axis(frame, x), *([diagonal] if low < high else []), *dots]
    return Chart(SMALL, frame.bottom + _AXIS_HEIGHT, tuple(marks))


def histogram(edges: Sequence[float], counts: Sequence[int], look: Look, x: Axis) -> Chart:
    """Return bars of counts between edges; only their shape is read, so there is no vertical axis."""
    frame = Frame(left=12, top=6, width=SMALL - 24, height=96, x=x.domain, y=(0.0, float(max([*counts, 1]))))
    marks = x_axis(frame, x)
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        left, top = frame.at_x(low), frame.at_y(count)
        width, height = round(max(frame.at_x(high) - left - 0.5, 0.5), 2), round(frame.bottom - top, 2)
        tooltip = f"{written(low, 'ratio')} to {written(high, 'ratio')}: {written(count, 'count')} prompts"
        if count:
            marks.append(rect(left, top, width, height, "bar", fill=look.colour, tooltip=tooltip))
    return Chart(SMALL, frame.bottom + _AXIS_HEIGHT, tuple(marks))


def score_chart(counts: Sequence[int], alphas: Sequence[float | None], index: int, x: Axis) -> Chart:
    """Return calls by win rate in bins of equal width over [0, 1], with the alpha that a slider moves.

    Args:
        counts: One a bin.
        alphas: Of every point; null is above every win rate. None at all: no alpha is drawn.
        index: Where the slider stands.
        x: The axis of win rates.
    """
    height, width = 254, 1 / len(counts)
    y = Axis("calls", (0.0, max([*counts, 1]) * 1.05), "count")
    left = left_room(y, height)
    frame = Frame(left=left, top=28, width=WIDTH - left - 14, height=height, x=x.domain, y=y.domain)
    places = [(frame.at_x(1.0 if alpha is None else alpha), 0.0) for alpha in alphas]
    below, above = [], []
    if places:
        ground = moving([rect(0, frame.top, frame.width, frame.height, "strong-side")], places, index)
        words = [text(-6, 16, "weak", "heading", anchor="end"), text(6, 16, "strong", "heading")]
        below = [frame.clipped([ground])]
        above = [moving([line(0, 20, 0, frame.bottom, "current"), *words], places, index)]
    bars = [
        rect(
            frame.at_x(k * width), frame.at_y(count), round(max(frame.width * width - 1, 0.5), 2),
            round(frame.bottom - frame.at_y(count), 2), "bar", fill="var(--s0)",
            tooltip=f"{written(k * width, 'ratio')} to {written((k + 1) * width, 'ratio')}: {written(count, 'count')}",
        )
        for k, count in enumerate(counts)
        if count
    ]  # fmt: skip
    marks = [*below, *y_axis(frame, y), *x_axis(frame, x), *bars, *above]
    return Chart(WIDTH, frame.bottom + _AXIS_HEIGHT, tuple(marks))


def swatch(look: Look) -> Chart:
    """Return the sample of a look that stands in a legend."""
    return Chart(34, 14, (line(1, 7, 33, 7, "series", **_stroke(look)), symbol(look, 17, 7)))


def shortened(label: str, letters: int = _BESIDE) -> str:
    """Return a label that fits into some letters."""
    return label if len(label) <= letters else label[: max(letters - 1, 1)].rstrip() + "…"


def _rows_frame(rows: Sequence[Row], x: Axis) -> tuple[Frame, float]:
    """Frame and height of a row: 21, or 36 where labels stand above their rows."""
    longest = max((len(row.label) for row in rows if row.look is not None), default=0)
    above = longest > _BESIDE
    left = 8 if above else 14 + _LETTER * longest
    right = 14 + _LETTER * max((len(row.text) for row in rows), default=0)
    pitch = 36.0 if above else 21.0
    return Frame(round(left, 2), 6, round(WIDTH - left - right, 2), pitch * max(len(rows), 1), x.domain), pitch


def _label(frame: Frame, row: Row, top: float, pitch: float) -> list[Mark]:
    above = pitch > 30
    if row.look is not None and not above:
        return [text(frame.left - 10, top + 14.5, row.label, "label", anchor="end")]
    label = shortened(row.label, _ABOVE)
    kind, y = ("heading", top + pitch - 6.5) if row.look is None else ("label", top + 13)
    return [rect(0, y - 12, round(_LETTER * len(label), 2), 16, "ground"), text(0, y, label, kind, tooltip=row.label)]


def _reference(frame: Frame, at: float | None) -> list[Mark]:
    return [] if at is None else [line(frame.at_x(at), frame.top, frame.at_x(at), frame.bottom, "reference")]


def _dot(frame: Frame, row: Row, y: float) -> list[Mark]:
    if row.look is None or row.value is None:
        return []
    marks = []
    (low, high), ends = frame.x, (row.low, row.high)
    if ends[0] is not None and ends[1] is not None and ends[1] >= low and ends[0] <= high:
        start, end = frame.at_x(max(ends[0], low)), frame.at_x(min(ends[1], high))
        marks.append(line(start, y, end, y, "interval", stroke=row.look.colour))
    reaches = [v for v in (row.value, *ends) if v is not None]
    for side, edge, reach in ((-1, low, min(reaches)), (1, high, max(reaches))):
        if (reach - edge) * side > 0:
            place = {"d": _ARROWS[side], "transform": f"translate({frame.at_x(edge)} {y})", "fill": row.look.colour}
            marks.append(Mark("path", {**place, "class": "arrow"}, tooltip=row.tooltip))
    if low <= row.value <= high:
        marks.append(symbol(row.look, frame.at_x(row.value), y, row.tooltip))
    return marks


def _point(frame: Frame, point: Point) -> list[Mark]:
    x = frame.at_x(point.x)
    low, high = (frame.at_y(min(max(end, frame.y[0]), frame.y[1])) for end in (point.low, point.high))
    interval = line(x, low, x, high, "interval", stroke=point.look.colour)
    return [interval, symbol(point.look, x, frame.at_y(point.y), point.tooltip)]


def _path(frame: Frame, drawn: Line) -> Mark:
    corners = "L".join(f"{frame.at_x(x)} {frame.at_y(y)}" for x, y in zip(drawn.x, drawn.y, strict=True))
    return Mark("path", {"class": "series", "d": f"M{corners}", **_stroke(drawn.look)}, tooltip=drawn.tooltip)


def left_room(y: Axis, height: float) -> float:
    """Return the room that the labels of a vertical axis need beside its title, a phone's larger type included."""
    return max(58, round(26 + 1.12 * _LETTER * y_letters(y, height), 2))


def _area(frame: Frame, area: Area) -> Mark:
    there = [f"{frame.at_x(x)} {frame.at_y(y)}" for x, y in zip(area.x, area.high, strict=True)]
    back = [f"{frame.at_x(x)} {frame.at_y(y)}" for x, y in zip(area.x, area.low, strict=True)]
    return shape(f"M{'L'.join([*there, *reversed(back)])}Z", area.kind, tooltip=area.tooltip)


def _current(frame: Frame, track: Track) -> list[Mark]:
    at = [(frame.at_x(x), frame.at_y(y)) for x, y in zip(track.x, track.y, strict=True)]
    rule = moving([line(0, frame.top, 0, frame.bottom, "current")], [(x, 0.0) for x, _ in at], track.index)
    return [rule, moving([shape(SYMBOLS["circle"], "current-dot")], at, track.index)]


def _stroke(look: Look) -> dict[str, str]:
    return {"stroke": look.colour, "stroke-dasharray": look.dash or "none"}
