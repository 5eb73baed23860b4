"""The slider of a page, and the figures that are read first."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.report.numbers import Estimate, Number
from jobs.report.views import Emphasis, Words
from schemas.sweep import Basis


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure that is read first."""

    label: str
    value: Words
    note: Words = ()
    basis: Basis | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """A point that has a name and a button."""

    name: str
    index: int


@dataclass(frozen=True, slots=True)
class Dial:
    """The slider with what it says."""

    last: int
    index: int
    name: Words
    """The point in a few words, spoken while the slider moves."""
    told: Words
    """The point in a sentence, spoken when the slider rests."""
    tiles: Sequence[Tile]
    stops: Sequence[Stop]

    @property
    def spoken(self) -> str:
        """The name as text."""
        return "".join(piece if isinstance(piece, str) else _text(piece) for piece in self.name)

    def place(self, index: int) -> float:
        """Where a point stands on the slider, in percent."""
        return round(100 * index / max(self.last, 1), 2)


def _text(piece: Number | Estimate | Emphasis) -> str:
    return piece.value.text if isinstance(piece, Estimate) else piece.text
