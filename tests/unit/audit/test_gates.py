from decimal import Decimal

import pytest

from routing.audit.gates import FIGURES, broken_gates, check_gates, figures
from routing.errors import UsageError
from schemas.audit import PriceChange
from tests.audit_reports import large_report, reconciled, row_counts, small_report

KNOWN = {"saving_share": 0.1, "cost_usd": 500.0, "quality_share": None}


@pytest.mark.parametrize(
    ("gate", "broken"),
    [
        ("saving_share < 0.2", True),
        ("saving_share<0.1", False),
        ("saving_share <= 0.1", True),
        ("saving_share > 0.1", False),
        ("saving_share >= 0.1", True),
        ("cost_usd == 500", True),
        ("cost_usd != 5e2", False),
        ("cost_usd > -.5e-3", True),
        ("  cost_usd>+499.5  ", True),
        ("saving_share < 0.2 and cost_usd > 1000", False),
        ("saving_share < 0.2 and cost_usd > 100", True),
        ("saving_share < 0.05 or cost_usd > 100", True),
        ("saving_share < 0.05 and cost_usd > 100 or cost_usd == 500", True),  # (a and b) or c
        ("cost_usd == 500 or saving_share < 0.05 and cost_usd > 1000", True),  # a or (b and c)
    ],
)
def test_a_gate_holds_or_not(gate: str, broken: bool) -> None:
    assert bool(broken_gates([gate], KNOWN)) is broken


def test_what_is_not_known_breaks_its_gate() -> None:
    assert broken_gates(["quality_share < 0.9"], KNOWN) == ["quality_share < 0.9 (quality_share is not known)"]
    assert broken_gates(["quality_share < 0.9 and cost_usd > 1000"], KNOWN)
    assert broken_gates(["cost_usd > 1000 or quality_share != 0"], KNOWN)


def test_broken_gates_tell_their_figures_in_order() -> None:
    gates = ["cost_usd > 1 or saving_share < 1", "cost_usd < 1", "saving_share<0.2"]
    assert broken_gates(gates, KNOWN) == [
        "cost_usd > 1 or saving_share < 1 (cost_usd is 500, saving_share is 0.1)",
        "saving_share<0.2 (saving_share is 0.1)",
    ]


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ("", "got ''"),
        ("saving_share", "got 'saving_share'"),
        ("saving_share <", "got 'saving_share <'"),
        ("0.2 > saving_share", "got '0.2 > saving_share'"),
        ("saving_share = 0.2", "got 'saving_share = 0.2'"),
        ("saving_share < cost_usd", "got 'saving_share < cost_usd'"),
        ("saving_share < 1e999", "1e999"),
        ("saving_share < nan", "nan"),
        ("saving_share < 0.2 and", "nothing follows 'and'"),
        ("saving_share < 0.2 or or cost_usd > 1", "got 'or cost_usd >'"),
        ("saving_share < 0.2 cost_usd > 1", "'cost_usd' stands where"),
        ("saving_share < 0.2)", "')' stands where"),
        ("__import__('os').system('true') < 1", "got \"__import__ ( '"),
        ("saving_share < 0.2 and exec < 1", "no figure 'exec'"),
        ("saving_share < \u0662", "got"),
    ],
)
def test_nonsense_is_refused_before_any_work(gate: str, told: str) -> None:
    with pytest.raises(UsageError, match="--fail-if") as refused:
        check_gates(["cost_usd > 1", gate])
    assert told in str(refused.value)
    assert "joined by `and` or `or`" in str(refused.value)


def test_a_misspelt_figure_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'saving_share'"):
        check_gates(["savings_share < 0.2"])


def test_a_very_long_gate_is_quoted_in_part() -> None:
    with pytest.raises(UsageError) as refused:
        check_gates(["x" * 10_000])
    assert len(str(refused.value)) < 500


def test_all_figures_of_a_full_report_are_known() -> None:
    report = large_report()
    found = figures(report)
    assert set(found) == set(FIGURES)
    assert [name for name, value in found.items() if value is None] == []
    assert report.what_if is not None
    assert report.what_if.recommended is not None
    point = report.what_if.sweep.points[report.what_if.recommended]
    assert found["saving_share"] == point.saving_share.value
    assert found["saving_share_low"] == point.saving_share.low
    assert found["strong_share"] == point.strong_share
    assert found["cost_usd"] == float(report.paid.total.cost_usd)
    assert found["duplicated_share"] == 12_514 / 1_268_411
    assert found["unpriced_share"] == 8_731 / 1_251_995
    assert found["max_day_usd"] == max(float(day.spend.cost_usd) for day in report.paid.days)
    assert found["last_day_usd"] == float(report.paid.days[-1].spend.cost_usd)
    assert found["saving_vs_paid_share"] == 1 - point.cost_usd.value / float(report.what_if.routed_paid_usd)


def test_a_figure_is_null_where_the_audit_does_not_know_it() -> None:
    found = figures(small_report())
    for name in ("saving_share", "saving_usd", "quality_share", "strong_share", "routed_share", "difference_share"):
        assert found[name] is None
    assert found["control_differences"] == 0
    assert figures(reconciled(control_keys=None))["control_differences"] is None
    without_point = large_report()
    assert without_point.what_if is not None
    unadvised = without_point.what_if.model_copy(update={"recommended": None})
    assert figures(without_point.model_copy(update={"what_if": unadvised}))["saving_share"] is None


def test_figures_of_trust() -> None:
    changes = [
        PriceChange(
            provider=None,
            model="m",
            processing="standard",
            changed_at=large_report().created_at,
            before_price_id="a",
            after_price_id="b",
            calls_before=1,
            calls_after=9,
            stale_calls=stale,
        )
        for stale in (3, 4)
    ]
    rows = row_counts(read=400, rejected=4, duplicated=96, null_ids=30, reused_ids=3, failed=6, unbilled=15)
    found = figures(reconciled(rows=rows, price_changes=changes))
    assert found["stale_calls"] == 7
    assert found["rejected_share"] == 0.01
    assert found["duplicated_share"] == 0.24
    assert (found["null_id_share"], found["reused_id_share"]) == (0.1, 0.01)
    assert (found["failed_share"], found["unbilled_share"]) == (0.02, 0.05)
    assert found["gap_hours"] == 0
    assert found["difference_usd"] == Decimal(0)
