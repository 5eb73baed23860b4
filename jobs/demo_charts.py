"""The demo's chart as a Vega-Lite specification: cost against quality, the current alpha marked on each router."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from jobs.demo_figures import LENGTH, Curve
from jobs.report.marks import padded
from jobs.report.numbers import written
from jobs.report.palette import DARK, LIGHT

RANDOM: Final = "at random"
_DASHES: Final = {LENGTH: [5, 3], RANDOM: [2, 2]}
"""Baseline -> its dashes; the lines of routers are whole."""
_POINTS: Final = 250
"""Points of a line that are drawn: more cannot be seen."""
_SERIES: Final = ("s0", "s1", "s2", "s3", "s4", "s5")
_HEIGHT: Final = 340
"""Axes and legend included."""

Json = dict[str, Any]


def curve_chart(
    routers: Mapping[str, Curve],
    marked: Mapping[str, int],
    *,
    length: Curve,
    alpha: float,
    quality: str,
    first: int = 0,
    dark: bool = False,
) -> Json:
    """Return the specification of a chart of routers, the baselines length and random, and the point of alpha on each.

    Args:
        routers: Name -> curve; all have the same ends.
        marked: Name -> the point at which alpha cuts.
        length: The curve of the baseline.
        alpha: The cost threshold.
        quality: Title of the vertical axis.
        first: Position of the first router among all, so that it has the same colour in every chart.
        dark: Whether the page is dark.
    """
    colours = DARK if dark else LIGHT
    ends = next(iter(routers.values()))
    lines = [
        *_rows(RANDOM, ends, [0, len(ends.quality) - 1]),
        *_rows(LENGTH, length, _drawn(length)),
        *(row for name, curve in routers.items() for row in _rows(name, curve, _drawn(curve))),
    ]
    words = f"alpha {written(alpha, 'ratio')}"
    marks = [row | {"words": words} for name, curve in routers.items() for row in _rows(name, curve, [marked[name]])]
    place = _axes(lines, quality, priced=ends.usd_per_1000 is not None)
    tooltip = [
        {"field": "curve", "type": "nominal"},
        {"field": "share", "type": "quantitative", "title": "strong share", "format": ".1%"},
        {"field": "x", "type": "quantitative", "title": place["x"]["title"], "format": ".4~f"},
        {"field": "y", "type": "quantitative", "title": quality, "format": ".4f"},
    ]
    series = _series(list(routers), colours, first)
    told = "; ".join(
        f"{row['curve']}: strong share {written(row['share'], 'ratio')}, {quality} {written(row['y'], 'ratio')}"
        for row in marks
    )
    return {
        "description": f"{quality} over {place['x']['title']}. At {words}: {told}",
        "height": _HEIGHT,
        "config": {
            "axis": {"labelColor": colours["ink-2"], "titleColor": colours["ink-2"]},
            "legend": {"labelColor": colours["ink"]},
        },
        "layer": [
            {
                "data": {"values": lines},
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": {**place, **series, "order": {"field": "share"}, "tooltip": tooltip},
            },
            {
                "data": {"values": marks},
                "mark": {"type": "rule", "strokeDash": [2, 3], "color": colours["ink-2"]},
                "encoding": {"x": place["x"]},
            },
            {
                "data": {"values": marks},
                "mark": {"type": "point", "size": 110, "filled": True, "opacity": 1, "stroke": colours["paper"]},
                "encoding": {**place, "color": series["color"], "tooltip": tooltip},
            },
            _label(marks[0], place, colours["ink"]),
        ],
    }


def _drawn(curve: Curve) -> list[int]:
    """Points of a curve to draw, both ends among them."""
    n = len(curve.quality)
    return [int(point) for point in np.unique(np.linspace(0, n - 1, min(n, _POINTS)).round())]


def _rows(name: str, curve: Curve, points: Sequence[int]) -> list[Json]:
    x = curve.strong_share if curve.usd_per_1000 is None else curve.usd_per_1000
    return [
        {"curve": name, "share": float(curve.strong_share[k]), "x": float(x[k]), "y": float(curve.quality[k])}
        for k in points
    ]


def _axes(lines: Sequence[Json], quality: str, *, priced: bool) -> Json:
    def axis(field: str, title: str, number: str) -> Json:
        domain = list(padded([row[field] for row in lines]))
        scale = {"domain": domain, "nice": False, "zero": False}
        return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": {"format": number}}

    x = axis("x", "USD per 1,000 prompts", "$.3~r") if priced else axis("x", "Strong share", ".0%")
    return {"x": x, "y": axis("y", quality, ".3f")}


def _series(routers: Sequence[str], colours: Mapping[str, str], first: int) -> Json:
    """Colour and dash of each line."""
    names = [*routers, *_DASHES]
    series = [colours[_SERIES[(first + place) % len(_SERIES)]] for place in range(len(routers))]
    field = {"field": "curve", "type": "nominal", "title": None}
    colour = {"domain": names, "range": [*series, *(colours["base"] for _ in _DASHES)]}
    dash = {"domain": names, "range": [*([1, 0] for _ in routers), *_DASHES.values()]}
    legend = {"orient": "top", "columns": 2, "labelLimit": 300, "symbolType": "stroke"}
    return {"color": {**field, "scale": colour, "legend": legend}, "strokeDash": {**field, "scale": dash}}


def _label(mark: Json, place: Json, ink: str) -> Json:
    """The word beside the rule of alpha, at the foot of the chart, on the side where there is room."""
    low, high = place["x"]["scale"]["domain"]
    side = {"align": "left", "dx": 6} if mark["x"] < (low + high) / 2 else {"align": "right", "dx": -6}
    floor = mark | {"y": place["y"]["scale"]["domain"][0]}
    return {
        "data": {"values": [floor]},
        "mark": {"type": "text", **side, "baseline": "bottom", "dy": -4, "color": ink, "fontWeight": 600},
        "encoding": {**place, "text": {"field": "words", "type": "nominal"}},
    }
