"""The colours of the pages: light and dark, readable (WCAG 2.2 AA) and told apart by colour-blind readers.

A chart is drawn once and names colours as CSS variables, so the reader's scheme, or paper, decides. A router also has a
dash and a symbol of its own: nothing is said by colour alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LIGHT: Final[Mapping[str, str]] = {
    "paper": "#ffffff", "panel": "#f6f5f2", "ink": "#1c1b19", "ink-2": "#56534e", "rule": "#d9d6d0", "link": "#00589c",
    "band": "#e9e6e0", "good": "#00694b", "bad": "#a93a00",
    "s0": "#0064ac", "s1": "#e63017", "s2": "#00835f", "s3": "#ad488b",
    "s4": "#6d8420", "s5": "#5c47c9", "base": "#6b6862",
    "t0": "#0a3d68", "t1": "#2f6ea6", "t2": "#6b9cc7", "t3": "#a9c6e0", "rest": "#d3d0ca", "wash": "#dbe7f1",
}  # fmt: skip
DARK: Final[Mapping[str, str]] = {
    "paper": "#15171a", "panel": "#1d2024", "ink": "#eceae6", "ink-2": "#b3afa8", "rule": "#3a3e44", "link": "#7cc0f5",
    "band": "#2d3137", "good": "#5fd0a5", "bad": "#ff9d6b",
    "s0": "#55b2d6", "s1": "#e9703f", "s2": "#42e08e", "s3": "#edc4d2",
    "s4": "#d8c61d", "s5": "#a184f7", "base": "#a19d96",
    "t0": "#b9dcf5", "t1": "#7cb4dc", "t2": "#4c87b4", "t3": "#2f5f86", "rest": "#54585e", "wash": "#22323f",
}  # fmt: skip

_SERIES = 6
_DASHES: Final = ("", "7 2", "3 2", "9 2 2 2", "1 2")
_SYMBOLS: Final = ("circle", "square", "triangle", "diamond", "cross", "wedge", "bar")
"""The numbers of colours, dashes and symbols share no factor: the same three meet again after 210 routers."""
_BASELINES: Final = {"length": "5 3", "oracle": "1 3", "random": "2 2", "constant": "8 4"}


@dataclass(frozen=True, slots=True)
class Look:
    """How a router is drawn, the same in every chart of a page."""

    colour: str
    """A CSS value."""
    dash: str
    """SVG stroke-dasharray; empty for a whole line."""
    symbol: str
    """A key of `jobs.report.charts.SYMBOLS`."""


def router_look(position: int) -> Look:
    """Return the look of the router at a position of the report, baselines not counted."""
    return Look(
        colour=f"var(--s{position % _SERIES})",
        dash=_DASHES[position % len(_DASHES)],
        symbol=_SYMBOLS[position % len(_SYMBOLS)],
    )


def baseline_look(name: str) -> Look:
    """Return the look of a baseline: grey and dashed."""
    return Look(colour="var(--base)", dash=_BASELINES.get(name, "6 2"), symbol="ring")


def css(colours: Mapping[str, str]) -> str:
    """Return a palette as CSS declarations."""
    return " ".join(f"--{name}: {value};" for name, value in colours.items())
