"""What a page is made of: tables, and plates (charts with a caption, a legend and the same numbers as tables)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from jobs.report.marks import Chart
from jobs.report.numbers import Estimate, Number
from schemas.sweep import Basis

MOST_ROWS: Final = 250
"""Rows of a table that may have any number of them: the rest is in the JSON."""


@dataclass(frozen=True, slots=True)
class Emphasis:
    """Words that stand out: said by colour and by the words themselves."""

    text: str
    kind: Literal["good", "bad"]


Cell = str | Number | Estimate | Chart
"""What stands in a table; a str is untrusted and escaped."""

Words = Sequence[str | Number | Estimate | Emphasis]
"""A sentence with its numbers."""


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column."""

    label: str
    group: str = ""
    """Written above neighbours that share it."""
    about: str = ""
    """Shown on hovering."""
    numeric: bool = True
    whole: bool = False
    """Whether its text stays on one line, as a date does."""


BAR: Final = Column("", numeric=False, whole=True)
"""Above small bars."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of a row is its head."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    """A heading, for a table that stands alone."""
    basis: Basis | None = None
    """Where all its numbers are of one kind."""
    total: bool = False
    """Whether the first row adds up the others."""
    marked: Mapping[int, str] = field(default_factory=dict)
    """Row -> what it is called, for those that are looked for."""
    left_out: int = 0
    """Rows that are only in the JSON."""

    @property
    def tall(self) -> bool:
        """Whether it scrolls on a screen; paper holds all of it."""
        return len(self.rows) > 30  # about a screen

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


def most(table: Table) -> Table:
    """Return a table that is no longer than a page bears."""
    rows = table.rows[:MOST_ROWS]
    return replace(table, rows=rows, left_out=len(table.rows) - len(rows))
