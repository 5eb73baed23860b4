"""One function writes every number of a page."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.report.numbers import MINUS, Unit, Value, number, observed, pointer, rounded_usd, written


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.60349, "ratio", ".603"),
        (1.0, "ratio", "1.000"),
        (-0.0126, "ratio", f"{MINUS}.013"),
        (-0.0001, "ratio", ".000"),
        (0.0, "ratio", ".000"),
        (10.5, "ratio", "10.500"),
        (0.641234, "alpha", ".641234"),
        (0.5, "alpha", ".5"),
        (0.1234564999, "alpha", ".123456"),
        (1.0, "alpha", "1"),
        (0.0, "alpha", "0"),
        (0.000001, "alpha", ".000001"),
        (1e-9, "alpha", "0"),
        (-0.25, "alpha", f"{MINUS}.25"),
        (10.0, "alpha", "10"),
        (0.304, "share", ".30"),
        (0.0214, "difference", "+.021"),
        (-0.0214, "difference", f"{MINUS}.021"),
        (0.00001, "difference", ".000"),
        (0.1934, "p", ".193"),
        (0.001, "p", ".001"),
        (0.00099, "p", "< .001"),
        (1.0, "p", "1.000"),
        (13_937, "count", "13,937"),
        (0.9214, "times", "0.92"),
        (0.2917284, "usd", "$0.2917284"),
        (1234.5, "usd", "$1,234.50"),
        (12, "usd", "$12.00"),
        (1e-7, "usd", "$0.0000001"),
        (1e16, "usd", "$10,000,000,000,000,000.00"),
        (-0.5, "usd", f"{MINUS}$0.50"),
        (None, "ratio", "\N{EN DASH}"),
        (Decimal("48213.558123456789"), "money", "$48,213.56"),
        (0.125, "money", "$0.12"),
        (0.375, "money", "$0.38"),
        (0.0512, "money", "$0.0512"),
        (0.00012345, "money", "$0.000123"),
        (1e-9, "money", "< $0.000001"),
        (-1e-9, "money", f"> {MINUS}$0.000001"),
        (Decimal("0E-12"), "money", "$0.00"),
        (99.995, "about", "$100.00"),
        (100.0, "about", "$100"),
        (48_213.56, "about", "$48,214"),
        (-1234.5, "about", f"{MINUS}$1,234"),
        (Decimal("3.1"), "balance", "+$3.10"),
        (Decimal("-3.1"), "balance", f"{MINUS}$3.10"),
        (Decimal(0), "balance", "$0.00"),
        (0.3821, "percent", "38.2\N{NO-BREAK SPACE}%"),
        (1.0, "percent", "100.0\N{NO-BREAK SPACE}%"),
        (0.0003, "percent", "< 0.1\N{NO-BREAK SPACE}%"),
        (-0.0003, "percent", f"> {MINUS}0.1\N{NO-BREAK SPACE}%"),
        (0.0, "percent", "0.0\N{NO-BREAK SPACE}%"),
        (512, "tokens", "512"),
        (9_994, "tokens", "9.99\N{NO-BREAK SPACE}k"),
        (999_600, "tokens", "1.00\N{NO-BREAK SPACE}M"),
        (42_749_000, "tokens", "42.7\N{NO-BREAK SPACE}M"),
        (1_311_000_000, "tokens", "1.31\N{NO-BREAK SPACE}B"),
        (-40, "count", f"{MINUS}40"),
        (-0.0, "count", "0"),
    ],
)
def test_how_a_number_is_written(value: Value, unit: Unit, text: str) -> None:
    assert written(value, unit) == text


@given(st.integers(0, 1_000_000))
def test_a_typed_alpha_is_the_one_that_is_shown(millionths: int) -> None:
    """Win rates have six decimals."""
    alpha = round(millionths / 1e6, 6)
    assert float(written(alpha, "alpha")) == alpha


@given(st.floats(min_value=0, max_value=1e9, allow_nan=False))
def test_dollars_are_exact(value: float) -> None:
    assert Decimal(written(value, "usd").replace("$", "").replace(",", "")) == Decimal(repr(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.8923, "$3.89"), (0.0, "$0.00"), (0.0048817, "$0.00488"), (1234.567, "$1,234.57"), (0.999999, "$1.00")],
)
def test_dollars_that_the_page_works_out_are_rounded(value: float, text: str) -> None:
    assert rounded_usd(value) == text


def test_a_number_knows_its_place_in_the_json() -> None:
    shown = number(0.25, "share", "robustness", 3, "flips", "0.2/0~1")
    assert (shown.text, shown.raw, shown.path) == (".25", "0.25", "/robustness/3/flips/0.2~10~01")
    assert number(None, "share").raw == ""
    assert pointer() == ""


def test_money_keeps_all_its_digits() -> None:
    exact = observed(Decimal("48213.558123456789"), "money", "paid", "total")
    assert (exact.text, exact.raw, exact.basis) == ("$48,213.56", "48213.558123456789", "observed")
    assert observed(Decimal("0E-12"), "money").raw == "0E-12"


@given(st.floats(min_value=-1e12, max_value=1e12, allow_nan=False))
def test_nothing_is_written_for_what_is_something(value: float) -> None:
    """A dollar or a share that rounds to nothing is told apart from none at all."""
    units: tuple[Unit, ...] = ("money", "about", "percent")
    for unit in units:
        assert (value == 0) == (not any(digit in written(value, unit) for digit in "123456789"))
