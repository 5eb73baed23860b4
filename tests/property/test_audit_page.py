"""Any text is shown as it is, any finite number leaves the page well formed and is the one in the JSON."""

import json
import re
from datetime import date
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.report.audit import audit_page
from schemas import audit as a
from schemas import sweep as s
from tests.audit_reports import small_report, what_if
from tests.pages import parsed
from tests.report_pages import check_inert, check_numbers

PLACES = {"x", "y", "x1", "x2", "y1", "y2", "width", "height", "d", "transform", "viewbox", "data-places"}
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=40)
# Above a billion, a hundred times a float is no longer exact to the decimal that a percentage shows.
NUMBER = st.one_of(st.floats(-3, 3), st.floats(-1e9, 1e9, allow_nan=False))
MONEY = st.decimals(0, 10**9, places=12, allow_nan=False)
COUNT = st.integers(0, 10**12)


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXT, min_size=8, max_size=8, unique=True))
def test_text_is_shown_as_it_is(words: list[str]) -> None:
    name, note, tenant, model, excerpt, error, strong, reason = words
    base = small_report()
    spend = base.paid.total
    waste = base.paid.waste.model_copy(
        update={"errors": [a.ErrorCount(error_code=error, calls=1, cost_usd=Decimal(1))]}
    )
    group = a.PromptGroup(
        template_sha256="f" * 64, excerpt=excerpt, calls=1, input_tokens=1, output_tokens=1, cost_usd=Decimal(1)
    )
    paid = base.paid.model_copy(
        update={
            "tenants": [spend.model_copy(update={"key": key}) for key in (tenant, None)],
            "models": [spend.model_copy(update={"key": model})],
            "prompt_groups": [group],
            "waste": waste,
            "days": [day.model_copy(update={"groups": [Decimal(1), Decimal(2)]}) for day in base.paid.days],
        }
    )
    found = what_if(paid, points=3)
    found = found.model_copy(
        update={
            "unrouted": [a.UnroutedCalls(reason=reason, calls=1, cost_usd=Decimal(1))],
            "sweep": found.sweep.model_copy(update={"strong": found.sweep.strong.model_copy(update={"model": strong})}),
        }
    )
    report = small_report(name=name, notes=[note], paid=paid, what_if=found)
    html = audit_page(report)
    page = parsed(html)
    check_inert(html, page, script=True)
    assert page.one("h1").text == name
    assert page.all("ul", class_="notes")[0].one("li").text == note
    heads = {head.text for table in page.all("tbody") for row in table.all("tr") for head in row.all("th")}
    for text in (tenant, model, excerpt, error, strong, reason):
        assert text in heads
    assert a.AuditReport.model_validate_json(page.one("script", id="report").text) == report


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=2, max_size=6),
    st.lists(st.tuples(st.dates(), MONEY, COUNT), min_size=1, max_size=4, unique_by=lambda day: day[0]),
    st.lists(COUNT, min_size=1, max_size=5),
    st.booleans(),
)
def test_any_number_can_be_drawn(
    found: list[tuple[float, float, float]],
    days: list[tuple[date, Decimal, int]],
    counts: list[int],
    graded: bool,
) -> None:
    base = small_report()
    spends = [
        base.paid.total.model_copy(update={"cost_usd": usd, "calls": calls, "input_tokens": calls, "unpriced_calls": 0})
        for _, usd, calls in days
    ]
    paid = base.paid.model_copy(
        update={
            "days": [
                a.DaySpend(day=day, spend=spend, groups=[usd])
                for (day, usd, _), spend in sorted(zip(days, spends, strict=True), key=lambda pair: pair[0][0])
            ],
            "models": spends,
        }
    )
    points = [
        s.SweepPoint(
            alpha=None if k == 0 else value, strong_share=k / (len(found) - 1), n_strong=k,
            cost_usd=s.Estimate(value=value, low=low, high=high), observed_usd=low,
            saving_usd=s.Estimate(value=low, low=value, high=high),
            saving_share=s.Estimate(value=high, low=low, high=value),
            saving_vs_best_share=s.Estimate(value=value, low=low, high=high),
            quality=s.Estimate(value=value, low=low, high=high) if graded else None,
            quality_share=s.Estimate(value=high, low=low, high=high) if graded else None, expected_wins=low,
        )
        for k, (value, low, high) in enumerate(found)
    ]  # fmt: skip
    group = s.GroupSweep(
        group=None, calls=1, routed_calls=1, paid_usd=found[0][0], routed_paid_usd=found[0][1],
        all_strong_usd=found[0][2], strong_share=[0.5] * len(found), cost_usd=[value for value, _, _ in found],
        quality=[low for _, low, _ in found] if graded else None,
    )  # fmt: skip
    whole = what_if(base.paid, points=3)
    curve = whole.sweep.model_copy(
        update={"points": points, "groups": [group], "histogram": s.Histogram(counts=counts)}
    )
    report = small_report(paid=paid, what_if=whole.model_copy(update={"sweep": curve, "recommended": len(found) - 1}))
    page = parsed(audit_page(report))
    for chart in [*page.all("svg", class_="chart"), *page.all("svg", class_="sample")]:
        for element in chart.all():
            places = [value for name, value in element.attributes.items() if name in PLACES]
            assert not re.search("nan|inf", " ".join(places)), element.attributes
    assert check_numbers(json.loads(report.model_dump_json()), page)
