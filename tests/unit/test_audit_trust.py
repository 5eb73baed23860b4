"""Can the log be trusted? What an audit's page concludes from what was found."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from jobs.report.audit import audit_page
from jobs.report.audit_trust import trust
from jobs.report.numbers import Estimate
from schemas import audit as a
from tests.audit_reports import large_report, reconciled, row_counts, small_report
from tests.pages import parsed

START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)


def said(report: a.AuditReport) -> list[str]:
    """The findings as text."""
    return [
        "".join(
            piece if isinstance(piece, str) else piece.value.text if isinstance(piece, Estimate) else piece.text
            for piece in finding.said
        )
        for finding in trust(report).findings
    ]


def control(measure: str, logged: int, true: int) -> a.ControlDifference:
    return a.ControlDifference(
        key="2026-11-01", measure=measure, logged=Decimal(logged), control=Decimal(true),
        difference=Decimal(logged - true),
    )  # fmt: skip


def gap(calls: float) -> a.Gap:
    return a.Gap(start=START, end=END, hours=6, expected_calls=calls)


def test_nothing_wrong() -> None:
    found = trust(small_report())
    assert (found.level, found.findings) == ("holds", [])
    assert "nothing that was looked for speaks against it" in parsed(audit_page(small_report())).words


def test_many_remarks_do_not_break_a_log() -> None:
    found = trust(large_report())
    assert (found.level, found.breaking, len(found.findings)) == ("holds with remarks", 0, 9)
    assert said(large_report())[:4] == [
        "It differs from the control totals at 2 of 90 keys, by 80 calls (< 0.1\N{NO-BREAK SPACE}%), "
        "104,880 input tokens (< 0.1\N{NO-BREAK SPACE}%) of the log's.",
        "3,902 rows (0.3\N{NO-BREAK SPACE}%) broke a rule of the format and are in no number.",
        "2 gaps of 18 hours in all: about 9,107 calls (0.7\N{NO-BREAK SPACE}%) would have been there by the same hours "
        "of other weeks.",
        "8,731 calls (0.7\N{NO-BREAK SPACE}%) have no price. That is not $0: the cost is unknown and in no sum.",
    ]


@pytest.mark.parametrize(
    ("changes", "breaks"),
    [
        ({"rows": row_counts(read=10_000, rejected=100, kept=9_900)}, False),
        ({"rows": row_counts(read=10_000, rejected=101, kept=9_899)}, True),
        ({"rows": row_counts(kept=10_000, unpriced=100)}, False),
        ({"rows": row_counts(kept=10_000, unpriced=101)}, True),
        ({"gaps": [gap(3.0)]}, False),
        ({"gaps": [gap(3.0), gap(0.1)]}, True),
        ({"control": [control("calls", 297, 300)]}, False),  # of 300 calls in all
        ({"control": [control("calls", 296, 300)]}, True),
        ({"control": [control("calls", 98, 100), control("calls", 102, 100)]}, True),  # not made up elsewhere
        ({"control": [control("usd", 10, 11)]}, True),
        ({"control": [control("output_tokens", 1_000, 2_000)]}, False),
        ({"control": [control("output_tokens", 10_000, 20_000)]}, True),
        ({"rows": row_counts(read=300, duplicated=200, kept=100)}, False),  # they are counted once
        ({"rows": row_counts(null_ids=300)}, False),
    ],
)
def test_what_breaks_a_log(changes: dict[str, Any], breaks: bool) -> None:
    """More than one part in a hundred missing or unclear."""
    found = trust(reconciled(**changes))
    assert found.level == ("does not hold" if breaks else "holds with remarks")
    assert [finding.breaks for finding in found.findings] == [breaks]
    words = parsed(audit_page(reconciled(**changes))).words
    assert ("Breaks it:" in words, "does not hold" in words) == (breaks, breaks)


def test_what_breaks_it_comes_first() -> None:
    found = trust(reconciled(rows=row_counts(read=400, rejected=1, kept=300, unpriced=30)))
    assert [finding.breaks for finding in found.findings] == [True, False]
    assert (found.breaking, found.level) == (1, "does not hold")
    words = parsed(audit_page(reconciled(rows=row_counts(read=400, rejected=1, kept=300, unpriced=30)))).words
    assert "1 of 2 remarks breaks it" in words


def test_without_control_totals_nobody_can_tell_what_is_missing() -> None:
    assert said(reconciled(control_keys=None)) == [
        "No control totals were given: from the log alone nobody can tell whether calls are missing from it."
    ]
    assert "differences from the control totals" not in parsed(audit_page(reconciled(control_keys=None))).words


def test_logged_spend_is_compared_never_trusted() -> None:
    row = {
        "provider": "openai", "model": "m", "calls": 10, "compared_calls": 9, "logged_usd": "5",
        "recomputed_usd": "4.5", "difference_usd": "0.5", "differing_calls": 3, "first_called_at": START,
        "last_called_at": END,
    }  # fmt: skip
    report = reconciled(models=[a.LoggedSpend.model_validate(row)])
    assert said(report) == [
        "The spend that the log states is wrong for 3 of 9 calls: $5.00 logged, $4.50 recomputed (+$0.50)."
    ]
    assert trust(reconciled(models=[a.LoggedSpend.model_validate(row | {"differing_calls": 0})])).level == "holds"


def test_old_prices_and_changes_of_model() -> None:
    report = large_report()
    told = said(report)
    assert "41,204 calls are logged at a price that no longer held." in told
    assert told[-1] == "gpt-5-2025-08-07 gives way to gpt-5.2-2026-05-20 on 2026-10-04."
    twice = reconciled(model_changes=report.reconciliation.model_changes * 2)
    assert said(twice)[-1].endswith("on 2026-10-04, and 1 more change of model.")


def test_ids() -> None:
    both = said(reconciled(rows=row_counts(null_ids=3, reused_ids=1)))
    assert both == [
        "3 calls (1.0\N{NO-BREAK SPACE}%) have no id: whether they repeat other ones cannot be told. 1 call stands "
        "under the id of another call and is counted."
    ]


def test_an_empty_log_is_not_divided_by() -> None:
    assert trust(reconciled(rows=row_counts(read=0, kept=0), gaps=[gap(0.0)])).level == "holds with remarks"
