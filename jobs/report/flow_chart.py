"""Where rows went: ribbons from left to right, as wide as the rows are many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jobs.report.charts import WIDE
from jobs.report.marks import Chart, Mark, rect, shape, text
from jobs.report.numbers import written

_HEIGHT: Final = 190.0
_GAP: Final = 30.0
_THINNEST: Final = 1.0
_NODE: Final = 12.0
_TOP: Final = 10.0
_COLUMNS: Final = (84.0, 400.0, 760.0)


@dataclass(frozen=True, slots=True)
class Node:
    """A place where rows come by."""

    name: str
    label: str
    column: int
    fill: str
    """A CSS value."""


@dataclass(frozen=True, slots=True)
class Ribbon:
    """Rows that go from one node to another."""

    source: str
    target: str
    rows: int


def flow_chart(nodes: Sequence[Node], ribbons: Sequence[Ribbon]) -> Chart:
    """Return nodes in three columns with the ribbons between them; nodes without rows are left out.

    Args:
        nodes: In each column from top to bottom; the first column has one.
        ribbons: From a node to one in the next column.
    """
    rows = {node.name: _rows(node.name, ribbons) for node in nodes}
    scale = _HEIGHT / max(max(rows.values(), default=0), 1)
    placed = _places([node for node in nodes if rows[node.name]], rows, scale)
    out, into = ({name: top for name, (_, top) in placed.items()} for _ in range(2))
    marks: list[Mark] = []
    by_name = {node.name: node for node in nodes}
    for ribbon in ribbons:
        if ribbon.rows:
            source, target = by_name[ribbon.source], by_name[ribbon.target]
            wide = max(ribbon.rows * scale, _THINNEST)
            start = placed[source.name][0] + _NODE, out[source.name]
            end = placed[target.name][0], into[target.name]
            fill = target.fill if source.column == 0 else source.fill
            said = f"{source.label} to {target.label}: {written(ribbon.rows, 'count')}"
            marks.append(shape(_ribbon(start, end, wide), "ribbon", tooltip=said, fill=fill))
            out[source.name] += wide
            into[target.name] += wide
    for node in nodes:
        if node.name in placed:
            marks += _node(node, placed[node.name], rows[node.name], scale)
    lowest = max((top + max(rows[name] * scale, _THINNEST) for name, (_, top) in placed.items()), default=_HEIGHT)
    return Chart(WIDE, round(max(lowest, _HEIGHT) + 22, 2), tuple(marks))


def _rows(name: str, ribbons: Sequence[Ribbon]) -> int:
    """Rows that come by a node: what goes in or, at the first one, out."""
    return max(sum(r.rows for r in ribbons if r.target == name), sum(r.rows for r in ribbons if r.source == name))


def _places(nodes: Sequence[Node], rows: Mapping[str, int], scale: float) -> dict[str, tuple[float, float]]:
    placed = {}
    for column, x in enumerate(_COLUMNS):
        top = _TOP
        for node in nodes:
            if node.column == column:
                placed[node.name] = (x, top)
                top += max(rows[node.name] * scale, _THINNEST) + _GAP
    return placed


def _ribbon(start: tuple[float, float], end: tuple[float, float], wide: float) -> str:
    (x0, y0), (x1, y1) = start, end
    middle = round((x0 + x1) / 2, 1)
    y0, y1, bottom0, bottom1 = (round(y, 2) for y in (y0, y1, y0 + wide, y1 + wide))
    there = f"M{x0} {y0}C{middle} {y0} {middle} {y1} {x1} {y1}"
    return f"{there}L{x1} {bottom1}C{middle} {bottom1} {middle} {bottom0} {x0} {bottom0}Z"


def _node(node: Node, place: tuple[float, float], rows: int, scale: float) -> list[Mark]:
    x, top = place
    tall = max(round(rows * scale, 2), _THINNEST)
    bar = rect(x, round(top, 2), _NODE, tall, "node", fill=node.fill)
    if node.column == 0:
        y = top + tall / 2
        return [bar, text(x - 8, y - 2, node.label, "heading", anchor="end"), _count(x - 8, y + 14, rows, "end")]
    y = round(top + min(tall / 2, _HEIGHT / 2) + 4, 2)
    return [bar, text(x + _NODE + 8, y, f"{node.label} · {written(rows, 'count')}", "flow", tooltip=node.label)]


def _count(x: float, y: float, rows: int, anchor: str) -> Mark:
    return text(x, round(y, 2), written(rows, "count"), "value", anchor=anchor)
