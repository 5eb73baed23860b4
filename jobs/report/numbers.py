"""How a page writes numbers: one function for all of them, and where each one stands in the JSON.

`templates/numbers.js` writes those that a slider moves; a test holds the two against each other.
"""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from schemas.sweep import Basis

Unit = Literal[
    "ratio",
    "alpha",
    "share",
    "difference",
    "p",
    "count",
    "usd",
    "times",
    "money",
    "about",
    "balance",
    "percent",
    "tokens",
]
"""`ratio` .603, `alpha` .60349 (all digits of a win rate),
`share` .30, `difference` +.021, `p` .193 or < .001, `count` 13,937, `usd` exact, `times` 1.35;
`money` $1,204.50 that was paid, to the cent; `about` $1,204 of a model; `balance` +$3.10; `percent` 38.2 %;
`tokens` 1.20 B."""

NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
PERCENT = "\N{NO-BREAK SPACE}%"
_DECIMALS = {"ratio": 3, "alpha": 6, "difference": 3, "p": 3, "share": 2, "times": 2}
_CENTS_FROM = ((0.1, 2), (0.001, 4))
_WHOLE_FROM = 100
"""Dollars from which a model's cents mean nothing."""
_SUFFIXES = ((1e9, "B"), (1e6, "M"), (1e3, "k"))

Value = float | Decimal | None


def written(value: Value, unit: Unit) -> str:
    """Return a number as a page writes it: no zero before the point, a true minus, a dash where there is none."""
    if value is None:
        return NONE
    if unit == "count":
        body = f"{abs(value):,.0f}"
        return MINUS + body if value < 0 and body != "0" else body
    if unit == "usd":
        return _usd(value)
    if unit in ("money", "about", "balance"):
        return _money(value, whole=unit == "about", plus="+" if unit == "balance" else "")
    if unit == "percent":
        return _above_nothing(100 * value, 1, "", PERCENT)
    if unit == "tokens":
        return _tokens(float(value))
    return _plain(value, unit)


def _plain(value: float | Decimal, unit: Unit) -> str:
    if unit == "p" and value < 0.001:
        return "< .001"
    body = f"{abs(value):,.{_DECIMALS[unit]}f}"
    if unit == "alpha":
        body = body.rstrip("0").rstrip(".")
    if unit != "times" and "." in body:
        body = body.removeprefix("0")
    if not any(digit in body for digit in "123456789"):
        return body
    return (MINUS if value < 0 else "+" if unit == "difference" else "") + body


def rounded_usd(value: float) -> str:
    """Return dollars that the page worked out itself, to three significant digits and at least whole cents."""
    digits = max(2, 2 - Decimal(repr(value)).adjusted()) if value else 2
    return _usd(round(value, digits))


@dataclass(frozen=True, slots=True)
class Moves:
    """How a slider moves a number: the same is written by Python at one index and by the page's script at every."""

    at: str
    """JSON pointer with `*` where the index stands."""
    unit: Unit
    how: Literal["", "less", "saved"] = ""
    """What is shown of the value there: itself, `of` minus it, or the share of `of` that it saves."""
    of: str = ""
    """JSON pointer."""
    none: str = NONE
    """What stands where there is no value."""
    shown: Literal["", "size", "word"] = ""
    """Of a saving in a sentence: its size without a sign, or the word `less` or `more` that stands for the sign."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number on a page."""

    text: str
    value: float | None
    path: str = ""
    """JSON pointer (RFC 6901) into the report; empty where the page worked the number out."""
    basis: Basis | None = None
    """Whether it was observed or modelled, where a page has both."""
    moves: Moves | None = None
    exact: str = ""
    """All digits of a Decimal."""

    @property
    def raw(self) -> str:
        """The number in full, for machines."""
        return self.exact or ("" if self.value is None else repr(self.value))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval."""

    value: Number
    low: Number
    high: Number

    @property
    def bounded(self) -> bool:
        """Whether there is an interval to show."""
        return self.low.value is not None and self.high.value is not None


def less_or_more(saving: Number) -> list[Number]:
    """Return a moving saving as words, `2.2 % more`: its size, then `less` or `more`."""
    assert saving.moves is not None
    value, moves = saving.value, saving.moves
    size = saving if value is None else replace(saving, text=written(abs(value), moves.unit))
    word = "more" if value is not None and value < 0 else "less"
    return [
        replace(size, moves=replace(moves, shown="size")),
        Number(word, None, "", saving.basis, replace(moves, shown="word")),
    ]


def pointer(*steps: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of a place in the report."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def number(value: Value, unit: Unit, *path: str | int) -> Number:
    """Return a number of the report with its place in it; without a path, one that the page worked out."""
    if isinstance(value, Decimal):
        return Number(written(value, unit), float(value), pointer(*path), exact=str(value))
    return Number(written(value, unit), value, pointer(*path))


def observed(value: Value, unit: Unit, *path: str | int) -> Number:
    """Return a number that was counted or paid."""
    return replace(number(value, unit, *path), basis="observed")


def modelled(value: Value, unit: Unit, *path: str | int) -> Number:
    """Return a number that a model gave."""
    return replace(number(value, unit, *path), basis="modelled")


def _usd(value: float | Decimal) -> str:
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    exponent = exact.as_tuple().exponent
    places = max(2, -exponent) if isinstance(exponent, int) else 2
    return f"{MINUS if exact < 0 else ''}${abs(exact):,.{places}f}"


def _money(value: float | Decimal, *, whole: bool, plus: str) -> str:
    size = abs(float(value))
    if whole and size >= _WHOLE_FROM:
        places = 0
    else:
        places = 2 if not size else next((places for least, places in _CENTS_FROM if size >= least), 6)
    return _above_nothing(value, places, "$", "", plus)


def _above_nothing(value: float | Decimal, places: int, before: str, after: str, plus: str = "") -> str:
    """Write a number rounded; one that would round to nothing is written as less than the smallest that would not."""
    body = f"{abs(value):,.{places}f}"
    sign = MINUS if value < 0 else plus if value else ""
    if value and not any(digit in body for digit in "123456789"):
        return f"{'>' if value < 0 else '<'} {sign}{before}{10.0**-places:.{places}f}{after}"
    return f"{sign}{before}{body}{after}"


def _tokens(value: float) -> str:
    """Three significant digits: 1.20 B, 42.7 M, 318 k, 512."""
    for size, suffix in _SUFFIXES:
        if value >= size * 0.9995:
            count = value / size
            places = 2 if count < 9.995 else 1 if count < 99.95 else 0
            return f"{count:,.{places}f}\N{NO-BREAK SPACE}{suffix}"
    return f"{value:,.0f}"
