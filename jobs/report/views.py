"""What a page is made of: tables, and plates (charts with a caption, a legend and the same numbers as tables)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.report.marks import Chart
from jobs.report.numbers import Cell, Estimate


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column."""

    label: str
    group: str = ""
    """Written above neighbours that share it."""
    about: str = ""
    """Shown on hovering."""
    numeric: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of a row is its head."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    """A heading, for a table that stands alone."""

    @property
    def crowded(self) -> bool:
        """Whether intervals have to stand below their figures."""
        return sum(column.numeric for column in self.columns) > 5

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Groups of neighbouring columns with their widths; empty where no column has one."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and found[-1][0] == column.group:
                found[-1] = (column.group, found[-1][1] + 1)
            else:
                found.append((column.group, 1))
        return found if any(name for name, _ in found) else []


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A line of a legend."""

    swatch: Chart
    name: str
    estimate: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart of a plate."""

    chart: Chart
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Plate:
    """Charts that are read together."""

    title: str
    caption: str
    panels: Sequence[Panel]
    tables: Sequence[Table]
    """The numbers of the charts, for readers who do not see them, and for those who want them."""
    legend: Sequence[LegendEntry] = ()
    legend_title: str = ""
    size: Literal["half", "small", "wide"] = "half"
    """Two in a row of the page, small multiples, or one chart as wide as the page."""
