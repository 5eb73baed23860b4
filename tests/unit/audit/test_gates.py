from decimal import Decimal

import pytest

from routing.audit.gates import FIGURES, broken_gates, check_gates, figures
from routing.audit.what_if_sweep import unrouted
from routing.errors import UsageError
from schemas.audit import LoggedSpend, PriceChange
from schemas.sweep import Estimate
from tests.audit_reports import large_report, reconciled, row_counts, small_report

ADVISED = [
    "strong_share", "saving_usd", "saving_share", "saving_share_low", "saving_vs_best_share", "saving_vs_paid_share",
    "quality_share", "quality_share_low",
]  # fmt: skip
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
    for keys in (None, 0):  # no totals; totals of other days
        assert figures(reconciled(control_keys=keys))["control_differences"] is None
        assert broken_gates(["control_differences > 0"], figures(reconciled(control_keys=keys)))
    without_point = large_report()
    assert without_point.what_if is not None
    unadvised = without_point.what_if.model_copy(update={"recommended": None})
    assert figures(without_point.model_copy(update={"what_if": unadvised}))["saving_share"] is None


def test_a_what_if_without_a_call_to_route_knows_nothing() -> None:
    report = large_report()
    assert report.what_if is not None
    empty = {"sweep": unrouted("big", "small"), "recommended": None, "routed_calls": 0, "routed_paid_usd": Decimal(0)}
    found = figures(report.model_copy(update={"what_if": report.what_if.model_copy(update=empty)}))
    assert found["routed_share"] == 0.0
    gates = [f"{name} < 0" for name in ADVISED]
    assert broken_gates(gates, found) == [f"{name} < 0 ({name} is not known)" for name in ADVISED]


@pytest.mark.parametrize("side", ["strong", "weak"])
def test_a_single_model_that_is_advised_has_figures_of_its_own(side: str) -> None:
    """Not those of the end of the curve, where every call lost its cache."""
    report = large_report()
    assert report.what_if is not None
    sweep = report.what_if.sweep
    single = sweep.strong if side == "strong" else sweep.weak
    index = 100 if side == "strong" else 0
    single = single.model_copy(update={"cost_usd": Estimate(value=12.5, low=11.0, high=14.0)})
    sweep = sweep.model_copy(update={side: single})
    alone = report.what_if.model_copy(update={"sweep": sweep, "recommended": index, "alone": single.model})
    found = figures(report.model_copy(update={"what_if": alone}))
    point = sweep.points[index]
    assert point.quality_share is not None
    assert {name: found[name] for name in ADVISED} == {
        "strong_share": float(side == "strong"),
        "saving_usd": sweep.strong.cost_usd.value - 12.5,
        "saving_share": single.saving_share.value,
        "saving_share_low": single.saving_share.low,
        "saving_vs_best_share": 0.0,
        "saving_vs_paid_share": 1 - 12.5 / float(alone.routed_paid_usd),
        "quality_share": point.quality_share.value,
        "quality_share_low": point.quality_share.low,
    }
    assert broken_gates(["saving_vs_best_share <= 0"], found)


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
    rows = row_counts(
        read=400, rejected=4, duplicated=96, null_ids=30, identical_null_ids=6, reused_ids=3, failed=6, unbilled=15
    )
    found = figures(reconciled(rows=rows, price_changes=changes))
    assert found["stale_calls"] == 7
    assert found["rejected_share"] == 0.01
    assert found["duplicated_share"] == 0.24
    assert (found["null_id_share"], found["identical_null_id_share"], found["reused_id_share"]) == (0.1, 0.02, 0.01)
    assert (found["failed_share"], found["unbilled_share"]) == (0.02, 0.05)
    assert found["gap_hours"] == 0
    assert found["difference_usd"] == Decimal(0)


def spend(model: str, logged: int, recomputed: int, *, compared: int = 1, differing: int = 1) -> LoggedSpend:
    at = large_report().created_at
    return LoggedSpend(
        provider="openai",
        model=model,
        calls=2,
        compared_calls=compared,
        logged_usd=Decimal(logged),
        recomputed_usd=Decimal(recomputed),
        difference_usd=Decimal(logged - recomputed),
        differing_calls=differing,
        first_called_at=at,
        last_called_at=at,
    )


def test_what_is_wrong_on_one_model_is_not_made_up_by_another() -> None:
    found = figures(
        reconciled(models=[spend("a", 12, 2), spend("b", 0, 10), spend("c", 1, 1, compared=2, differing=0)])
    )
    assert (found["difference_usd"], found["difference_share"]) == (0, 0)
    assert (found["differing_calls"], found["differing_share"]) == (2, 0.5)
    assert broken_gates(["differing_share > 0.01"], found)


def test_logged_spend_that_was_not_compared_is_not_known_to_be_right() -> None:
    for models in ([], [spend("a", 0, 0, compared=0, differing=0)]):
        found = figures(reconciled(models=models))
        assert (found["differing_calls"], found["differing_share"]) == (None, None)
