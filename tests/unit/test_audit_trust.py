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


def spent(logged: str, recomputed: str, *, model: str = "m") -> a.LoggedSpend:
    difference = Decimal(logged) - Decimal(recomputed)
    return a.LoggedSpend(
        provider="openai", model=model, calls=10, compared_calls=9, logged_usd=Decimal(logged),
        recomputed_usd=Decimal(recomputed), difference_usd=difference, differing_calls=3, first_called_at=START,
        last_called_at=END,
    )  # fmt: skip


def test_nothing_wrong() -> None:
    found = trust(small_report())
    assert (found.level, found.findings) == ("holds", [])
    assert "nothing that was looked for speaks against it" in parsed(audit_page(small_report())).words


def test_many_remarks_do_not_break_a_log() -> None:
    found = trust(large_report())
    assert (found.level, found.breaking, len(found.findings)) == ("holds with remarks", 0, 10)
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
        ({"models": [spent("15", "10")]}, True),
        ({"models": [spent("10.1", "10")]}, False),
        ({"models": [spent("10.11", "10")]}, True),
        ({"models": [spent("9.89", "10")]}, True),
        ({"models": [spent("11", "10"), spent("9", "10", model="n")]}, True),  # not made up by another model
        ({"models": [spent("5", "0")]}, True),
        ({"models": [spent("0", "0")]}, False),
    ],
)
def test_what_breaks_a_log(changes: dict[str, Any], breaks: bool) -> None:
    """More than one part in a hundred missing or unclear."""
    found = trust(reconciled(**changes))
    assert found.level == ("does not hold" if breaks else "holds with remarks")
    assert [finding.breaks for finding in found.findings] == [breaks]
    words = parsed(audit_page(reconciled(**changes))).words
    assert ("Why not:" in words, "can the log be trusted? no" in words) == (breaks, breaks)


def test_what_breaks_it_comes_first() -> None:
    found = trust(reconciled(rows=row_counts(read=400, rejected=1, kept=300, unpriced=30)))
    assert [finding.breaks for finding in found.findings] == [True, False]
    assert (found.breaking, found.level) == (1, "does not hold")
    words = parsed(audit_page(reconciled(rows=row_counts(read=400, rejected=1, kept=300, unpriced=30)))).words
    assert "can the log be trusted? no 1 of 2 things to know makes its totals unreliable" in words


def test_without_control_totals_nobody_can_tell_what_is_missing() -> None:
    assert said(reconciled(control_keys=None)) == [
        "No control totals were given: from the log alone nobody can tell whether calls are missing from it."
    ]
    assert "differences from the control totals" not in parsed(audit_page(reconciled(control_keys=None))).words


def test_control_totals_of_other_days_say_nothing() -> None:
    report = reconciled(control_keys=0)
    assert said(report) == [
        "The control totals are of other days than the log: nothing was compared, and nobody can tell whether calls "
        "are missing from it."
    ]
    assert trust(report).level == "holds with remarks"
    assert "differences from the control totals" not in parsed(audit_page(report)).words


def test_logged_spend_is_compared_never_trusted() -> None:
    report = reconciled(models=[spent("4.53", "4.5")])
    assert said(report) == [
        "The spend that the log states is wrong for 3 of 9 calls: $4.53 logged, $4.50 recomputed (+$0.0300). $0.0300 "
        "(0.7\N{NO-BREAK SPACE}%), not netted between models, has no known reason."
    ]
    [told] = said(reconciled(models=[spent("6.75", "4.5")]))
    assert "$2.25 (50.0\N{NO-BREAK SPACE}%), not netted between models, has no known reason. One of the two" in told
    assert trust(reconciled(models=[spent("5", "4.5").model_copy(update={"differing_calls": 0})])).level == "holds"


@pytest.mark.parametrize(
    ("stale", "model", "breaks"),
    [("5", "m", False), ("4.95", "m", False), ("4.85", "m", True), ("5", "n", True), ("-5", "m", True)],
)
def test_an_old_price_is_a_known_reason(stale: str, model: str, breaks: bool) -> None:
    """Of what the log has too much on the model whose price changed, and of no more than that."""
    change = large_report().reconciliation.price_changes[0].model_copy(
        update={"provider": "openai", "model": model, "stale_calls": 3, "stale_usd": Decimal(stale)}
    )  # fmt: skip
    report = reconciled(models=[spent("15", "10")], price_changes=[change])
    assert trust(report).level == ("does not hold" if breaks else "holds with remarks")
    sign = "\N{MINUS SIGN}" if stale.startswith("-") else "+"
    assert said(report)[-1] == (
        f"3 calls are logged at a price that no longer held ({sign}${abs(Decimal(stale)):.2f})."
    )


def test_failed_calls_with_tokens_are_taken_as_charged() -> None:
    report = small_report()
    waste = report.paid.waste.model_copy(update={"failed_calls": 40, "failed_usd": report.paid.total.cost_usd / 10})
    failed = small_report(paid=report.paid.model_copy(update={"waste": waste}))
    [told] = said(failed)
    assert told.endswith(
        " (10.0\N{NO-BREAK SPACE}%) of what was paid is for failed calls: their tokens are in the log, and it is "
        "assumed that they were charged. Map billed under log.columns if they were not."
    )
    assert trust(failed).level == "holds with remarks"
    words = parsed(audit_page(failed)).words
    assert "40 calls failed; those whose tokens are in the log are counted as charged: " in words
    assert "billed cost" not in words


def test_old_prices_and_changes_of_model() -> None:
    report = large_report()
    told = said(report)
    assert "41,204 calls are logged at a price that no longer held (+$775.65)." in told
    assert told[-2] == "gpt-5-2025-08-07 gives way to gpt-5.2-2026-05-20 on 2026-10-04."
    twice = reconciled(model_changes=report.reconciliation.model_changes * 2)
    assert said(twice)[-1].endswith("on 2026-10-04, and 1 more change of model.")


def test_ids() -> None:
    both = said(reconciled(rows=row_counts(null_ids=3, reused_ids=1)))
    assert both == [
        "3 calls (1.0\N{NO-BREAK SPACE}%) have no id: whether they repeat other ones cannot be told. 1 call stands "
        "under the id of another call and is counted."
    ]
    [alike] = said(reconciled(rows=row_counts(null_ids=3, identical_null_ids=2)))
    assert alike.endswith(
        "cannot be told. 2 of them are like an earlier one in everything and counted twice if it is the same call."
    )


def test_an_empty_log_is_not_divided_by() -> None:
    assert trust(reconciled(rows=row_counts(read=0, kept=0), gaps=[gap(0.0)])).level == "holds with remarks"
