"""What several pages say in the same way: moments, shares that a page works out, money that is not known."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from jobs.report.numbers import Number, number


def moment(at: datetime | None) -> str:
    """Write a moment to the minute, in UTC; one without a zone is written as it is."""
    if at is None:
        return "unknown"
    return f"{at:%Y-%m-%d %H:%M}" if at.tzinfo is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def share(part: float | Decimal, whole: float | Decimal) -> Number:
    """Return a share that the page worked out; a dash of nothing."""
    return number(float(part) / float(whole) if whole else None, "percent")


def plural(count: float, one: str, many: str = "") -> str:
    """Return a word in the number of what is counted."""
    return one if count == 1 else many or f"{one}s"


def unless_unpriced(cost: Number, calls: int, unpriced: int) -> Number:
    """Return what calls cost; where none of them has a price that is unknown, and not $0."""
    return replace(cost, text="unpriced") if calls and unpriced == calls else cost
