"""How a page writes numbers: one function for all of them, and where each one stands in the JSON."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Unit = Literal["ratio", "share", "difference", "p", "count", "usd", "times"]
"""`ratio` .603, `share` .30, `difference` +.021, `p` .193 or < .001, `count` 13,937, `usd` exact, `times` 1.35."""

NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_DECIMALS = {"ratio": 3, "difference": 3, "p": 3, "share": 2, "times": 2}


def written(value: float | None, unit: Unit) -> str:
    """Return a number as a page writes it: no zero before the point, a true minus, a dash where there is none."""
    if value is None:
        return NONE
    if unit == "p" and value < 0.001:
        return "< .001"
    if unit == "count":
        return f"{value:,.0f}"
    if unit == "usd":
        return _usd(value)
    body = f"{abs(value):,.{_DECIMALS[unit]}f}"
    if unit != "times":
        body = body.removeprefix("0")
    if not any(digit in body for digit in "123456789"):
        return body
    return (MINUS if value < 0 else "+" if unit == "difference" else "") + body


def rounded_usd(value: float) -> str:
    """Return dollars that the page worked out itself, to three significant digits and at least whole cents."""
    digits = max(2, 2 - Decimal(repr(value)).adjusted()) if value else 2
    return _usd(round(value, digits))


@dataclass(frozen=True, slots=True)
class Number:
    """A number on a page."""

    text: str
    value: float | None
    path: str = ""
    """JSON pointer (RFC 6901) into the report; empty where the page worked the number out."""

    @property
    def raw(self) -> str:
        """The number in full, for machines."""
        return "" if self.value is None else repr(self.value)


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


Cell = str | Number | Estimate
"""What stands in a table; a str is untrusted and escaped."""


def pointer(*steps: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of a place in the report."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def number(value: float | None, unit: Unit, *path: str | int) -> Number:
    """Return a number of the report with its place in it; without a path, one that the page worked out."""
    return Number(written(value, unit), value, pointer(*path))


def _usd(value: float) -> str:
    exact = Decimal(repr(value))
    exponent = exact.as_tuple().exponent
    places = max(2, -exponent) if isinstance(exponent, int) else 2
    return f"{MINUS if exact < 0 else ''}${abs(exact):,.{places}f}"
