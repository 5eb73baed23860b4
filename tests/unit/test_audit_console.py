"""What an audit says on stderr."""

from decimal import Decimal
from pathlib import Path

import pytest

from jobs.audit_console import show
from schemas import audit as a
from tests.audit_reports import large_report, reconciled, small_report, what_if


def told(report: a.AuditReport, capsys: pytest.CaptureFixture[str]) -> list[str]:
    show(report, [], {"store": 1.0}, Path("out"))
    return capsys.readouterr().err.splitlines()


def cells(lines: list[str], name: str) -> list[str]:
    [row] = [line for line in lines if line.startswith(f"│ {name} ")]
    return [cell.strip() for cell in row.strip("│").split("│")]


def test_what_was_logged_stands_beside_what_it_cost(capsys: pytest.CaptureFixture[str]) -> None:
    """Spend that was logged for calls without a price is no part of a total that they are not in."""
    base = small_report()
    total = base.paid.total.model_copy(
        update={"calls": 300, "unpriced_calls": 20, "cost_usd": Decimal("20.64"), "logged_usd": Decimal("31.97")}
    )
    unpriced = a.UnpricedCalls(
        reason="no price for model 'x'", calls=20, input_tokens=900, output_tokens=100, logged_usd=Decimal("1.52")
    )
    books = base.reconciliation.model_copy(update={"unpriced": [unpriced]})
    report = small_report(paid=base.paid.model_copy(update={"total": total}), reconciliation=books)
    lines = told(report, capsys)
    tokens = total.input_tokens + total.output_tokens - 1_000
    assert cells(lines, "all with a price") == ["all with a price", "280", f"{tokens:,}", "$20.64", "$30.45"]
    assert cells(lines, "without a price") == ["without a price", "20", "1,000", "unpriced", "$1.520000"]
    assert not any("total" in line for line in lines)


def test_a_log_that_says_no_cost_has_no_column_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(small_report(), capsys)
    assert cells(lines, "total")[3:] == ["$11.55"]
    assert not any("logged" in line for line in lines)
    assert any("cost ┃" in line and "logged" in line for line in told(large_report(days=2, points=2), capsys))


def test_a_log_with_prices_for_all_has_one_total(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(small_report(), capsys)
    assert cells(lines, "total")[3] == "$11.55"
    assert not any("without a price" in line for line in lines)


@pytest.mark.parametrize(
    ("gaps", "words"), [([5], "5 hours"), ([1], "1 hour"), ([5, 13], "18 hours")], ids=["one", "an hour", "two"]
)
def test_gaps_are_counted_in_words(gaps: list[int], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    gap = large_report(days=2, points=2).reconciliation.gaps[0]
    found = [gap.model_copy(update={"hours": hours}) for hours in gaps]
    [line] = [line for line in told(reconciled(gaps=found), capsys) if line.startswith("GAPS")]
    many = "1 gap" if len(gaps) == 1 else "2 gaps"
    assert line == f"GAPS: {words} without a call where there should have been some, in {many}"


def test_the_recommendation_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    found = what_if(small_report().paid)
    assert found.recommended is not None
    lines = told(small_report(what_if=found), capsys)
    assert lines.count(found.advice) == 1
    assert sum("alpha" in line.lower() for line in lines) == 1


def test_what_failed_calls_are_counted_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert not any(line.startswith("FAILED") for line in told(small_report(), capsys))
    [line] = [line for line in told(large_report(days=2, points=2), capsys) if line.startswith("FAILED")]
    assert line.startswith("FAILED: $211.43 of the total is for failed calls")
    assert "map billed under log.columns" in line
