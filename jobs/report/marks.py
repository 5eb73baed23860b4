"""SVG marks, the frame that data are drawn in, and axes: what `jobs.report.charts` is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Final

from jobs.report.numbers import MINUS, Unit, written
from jobs.report.palette import Look

SYMBOLS: Final = {
    "circle": "M-4.2 0a4.2 4.2 0 1 0 8.4 0a4.2 4.2 0 1 0-8.4 0Z",
    "square": "M-3.8-3.8h7.6v7.6h-7.6Z",
    "triangle": "M0-4.8L4.6 3.4H-4.6Z",
    "diamond": "M0-5.2L5.2 0L0 5.2L-5.2 0Z",
    "cross": "M-1.5-4.6h3v3.1h3.1v3h-3.1v3.1h-3v-3.1h-3.1v-3h3.1Z",
    "wedge": "M0 4.8L4.6-3.4H-4.6Z",
    "bar": "M-2-5h4v10h-4Z",
    "ring": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0ZM-2 0a2 2 0 1 1 4 0a2 2 0 1 1-4 0Z",
}
_TICK_WIDTH: Final = 52
"""Room that a tick and its label need along the horizontal axis."""
_TICK_HEIGHT: Final = 42
_LETTER: Final = 6.6
"""Generous width of a letter of the charts' 12 px type."""

Pair = tuple[float, float]
Attributes = Mapping[str, str | float]


@dataclass(frozen=True, slots=True)
class Mark:
    """One SVG element."""

    tag: str
    attributes: Attributes
    text: str = ""
    tooltip: str = ""
    children: tuple["Mark", ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and how large it is where nothing forces it to be smaller."""

    width: float
    height: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows."""

    title: str
    domain: Pair
    unit: Unit = "share"


@dataclass(frozen=True, slots=True)
class Frame:
    """The rectangle that data are drawn in."""

    left: float
    top: float
    width: float
    height: float
    x: Pair
    y: Pair = (0.0, 1.0)

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Where it ends."""
        return self.top + self.height

    def at_x(self, value: float) -> float:
        """Return the horizontal place of a value."""
        return round(self.left + self.width * (value - self.x[0]) / (self.x[1] - self.x[0]), 2)

    def at_y(self, value: float) -> float:
        """Return the vertical place of a value."""
        return round(self.top + self.height * (self.y[1] - value) / (self.y[1] - self.y[0]), 2)

    def clipped(self, marks: Sequence[Mark]) -> Mark:
        """Cut marks off at the frame; a nested svg needs no id, and ids of two charts could meet."""
        box = f"{self.left} {self.top} {self.width} {self.height}"
        place = {"x": self.left, "y": self.top, "width": self.width, "height": self.height}
        return Mark("svg", {**place, "viewBox": box}, children=tuple(marks))


def ticks(domain: Pair, count: int) -> list[float]:
    """Return about `count` round numbers (1, 2, 2.5 or 5 times a power of ten apart) inside a domain."""
    low, high = domain
    rough = (high - low) / count
    power = 10.0 ** floor(log10(rough))
    step = min((s * power for s in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - rough))
    first = -floor(-low / step + 1e-9)
    last = floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def padded(values: Sequence[float], *, include: Sequence[float] = (), limits: Pair | None = None) -> Pair:
    """Return a domain around values, a twentieth wider at both ends, inside the limits; never an empty one."""
    every = [*values, *include]
    low, high = min(every), max(every)
    margin = max((high - low or abs(high) or 1.0) / 20, 1e-9)
    low, high = low - margin, high + margin
    if limits is None:
        return low, high
    inside = max(low, limits[0]), min(high, limits[1])
    return inside if inside[0] < inside[1] else limits


def line(x1: float, y1: float, x2: float, y2: float, kind: str, **more: str) -> Mark:
    """Return a straight line."""
    return Mark("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": kind, **more})


def shape(d: str, kind: str, *, tooltip: str = "", **more: str) -> Mark:
    """Return a path."""
    return Mark("path", {"d": d, "class": kind, **more}, tooltip=tooltip)


def moving(marks: Sequence[Mark], places: Sequence[Pair], index: int) -> Mark:
    """Return marks drawn around (0, 0) that a slider moves: they stand at one of the places."""
    written_places = [f"{x:g} {y:g}" for x, y in places]
    place = {"transform": f"translate({written_places[index]})", "data-places": ";".join(written_places)}
    return Mark("g", {"class": "moving", **place}, children=tuple(marks))


def rect(
    x: float, y: float, width: float, height: float, kind: str, *, fill: str | None = None, tooltip: str = ""
) -> Mark:
    """Return a rectangle; without a fill its class decides."""
    place: Attributes = {"x": x, "y": y, "width": width, "height": height, "class": kind}
    return Mark("rect", {**place, "fill": fill} if fill else place, tooltip=tooltip)


def text(
    x: float, y: float, words: str, kind: str, *, anchor: str = "start", turn: float = 0, tooltip: str = ""
) -> Mark:
    """Return text; `turn` is in degrees, clockwise."""
    place: Attributes = {"transform": f"translate({x} {y}) rotate({turn})"} if turn else {"x": x, "y": y}
    return Mark("text", {**place, "text-anchor": anchor, "class": kind}, text=words, tooltip=tooltip)


def symbol(look: Look, x: float, y: float, tooltip: str = "") -> Mark:
    """Return a dot in a look."""
    place = {"d": SYMBOLS[look.symbol], "transform": f"translate({x} {y})"}
    return Mark("path", {**place, "class": "dot", "fill": look.colour, "fill-rule": "evenodd"}, tooltip=tooltip)


def x_axis(frame: Frame, axis: Axis) -> list[Mark]:
    """Return the horizontal axis with its grid."""
    marks = []
    for tick, label in _fitting(axis, frame.width):
        x = frame.at_x(tick)
        marks.append(line(x, frame.top, x, frame.bottom + 4, "grid"))
        marks.append(text(x, frame.bottom + 17, label, "tick", anchor="middle"))
    middle = round(frame.left + frame.width / 2, 2)
    title = text(middle, frame.bottom + 36, axis.title, "title", anchor="middle")
    return [*marks, line(frame.left, frame.bottom, frame.right, frame.bottom, "axis"), title]


def y_axis(frame: Frame, axis: Axis) -> list[Mark]:
    """Return the vertical axis with its grid."""
    marks = []
    for tick, label in _labelled(axis, int(frame.height / _TICK_HEIGHT)):
        y = frame.at_y(tick)
        marks.append(line(frame.left, y, frame.right, y, "grid"))
        marks.append(text(frame.left - 6, round(y + 4, 2), label, "tick", anchor="end"))
    return [*marks, text(11, frame.top + frame.height / 2, axis.title, "title", anchor="middle", turn=-90)]


def _fitting(axis: Axis, width: float) -> list[tuple[float, str]]:
    """Ticks that are as far apart as their labels are wide."""
    for count in range(max(2, int(width / _TICK_WIDTH)), 1, -1):
        found = _labelled(axis, count)
        if len(found) * (_LETTER * max((len(label) for _, label in found), default=0) + 10) <= width * 1.15:
            break
    return found


def y_letters(axis: Axis, height: float) -> int:
    """Return the length of the longest label of a vertical axis."""
    return max((len(label) for _, label in _labelled(axis, int(height / _TICK_HEIGHT))), default=0)


def _labelled(axis: Axis, count: int) -> list[tuple[float, str]]:
    """Ticks with what is written at them: no more decimals than the ticks' own values need."""
    found = ticks(axis.domain, max(2, count))
    unit = axis.unit
    if unit == "money":
        places = next((d for d in (0, 2, 3, 4, 6) if all(abs(tick - round(tick, d)) < 1e-9 for tick in found)), 9)
        return [(tick, f"{MINUS if tick < 0 else ''}${abs(tick):,.{places}f}") for tick in found]
    if unit in ("ratio", "share"):
        unit = "share" if all(abs(tick - round(tick, 2)) < 1e-9 for tick in found) else "ratio"
    return [(tick, written(tick, unit)) for tick in found]
