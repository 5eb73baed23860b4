"""The page of an audit says what its JSON says, whatever the JSON holds."""

import json
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobs.report.audit import audit_page
from schemas import audit as a
from tests.audit_reports import (
    FORMULA,
    HOSTILE,
    STRONG,
    large_report,
    poisoned,
    row_counts,
    small_report,
    sweep,
    what_if,
)
from tests.pages import Element, parsed
from tests.report_pages import at, cells, check_inert, check_numbers, check_readable, leaves, section, table, told

GOLDEN = Path(__file__).parents[1] / "golden"
ONLY_IN_JSON = (
    r"/format_version",
    r"/paid/.*/(cached_tokens|reasoning_tokens)",  # shown as shares
    r"/paid/days/\d+/groups/\d+",  # the dearest four are shown, the others are drawn
    r"/what_if/sweep/points/\d+/(expected_wins|saving_vs_best_share/\w+)",  # with grades; the best single is the strong
    r"/what_if/sweep/points/\d+/\w+/(low|high)",  # where the ends are equal
    r"/what_if/sweep/(strong|weak)/\w+/(low|high)",
    r"/what_if/sweep/groups/\d+/(strong_share|cost_usd|quality)/\d+",  # those of the other points
    r"/what_if/(quality_floor|recommended)",  # in a sentence; an index
    r"/what_if/sweep/histogram/counts/\d+",  # empty ones
)


@pytest.fixture(scope="module")
def report() -> a.AuditReport:
    return large_report()


@pytest.fixture(scope="module")
def html(report: a.AuditReport) -> str:
    return audit_page(report)


@pytest.fixture(scope="module")
def page(html: str) -> Element:
    return parsed(html)


def test_the_numbers_in_the_page_are_those_in_the_json(document: Any, page: Element) -> None:
    assert len(check_numbers(document, page)) > 4_500


def test_every_number_is_in_the_page(document: Any, page: Element) -> None:
    shown = check_numbers(document, page)
    missing = [place for place in leaves(document) if place not in shown]
    unexpected = [place for place in missing if not any(re.fullmatch(pattern, place) for pattern in ONLY_IN_JSON)]
    assert unexpected == []
    assert {f"/paid/days/89/groups/{k}" for k in range(4)} <= shown
    for k, count in enumerate(document["what_if"]["sweep"]["histogram"]["counts"]):
        assert (f"/what_if/sweep/histogram/counts/{k}" in shown) == (count > 0)


def test_every_number_says_whether_it_was_observed(page: Element) -> None:
    for element in page.all("data"):
        place = element.attributes.get("data-json", "")
        if place.startswith(("/paid", "/reconciliation", "/what_if/sweep")):
            assert element.attributes["data-basis"] in ("observed", "modelled"), place
        if place.startswith("/paid"):
            assert element.attributes["data-basis"] == "observed", place
        if re.fullmatch(r"/what_if/sweep/.*/(low|high)", place):
            assert element.attributes["data-basis"] == "modelled", place
    for found in page.all("table"):
        if any("data-basis" in number.attributes for number in found.all("data")):
            heads = [head.words for head in found.all("th", class_="group")]
            caption = found.one("caption").words
            assert caption.startswith(("observed", "modelled")) or any(
                head.startswith(("observed", "modelled")) for head in heads
            ), caption
    for name in ("verdict", "what-if"):
        assert section(page, name).all(class_="modelled")


def test_the_page_holds_the_report(report: a.AuditReport, page: Element) -> None:
    assert a.AuditReport.model_validate_json(page.one("script", id="report").text) == report


def test_the_same_report_gives_the_same_page(html: str) -> None:
    audit_page(small_report())
    assert audit_page(large_report()) == html


def test_size(html: str, document: Any) -> None:
    """100 tenants on 90 days at 101 points, in unrounded numbers."""
    assert (len(document["paid"]["tenants"]), len(document["paid"]["days"])) == (100, 90)
    assert len(document["what_if"]["sweep"]["points"]) == 101
    assert len(document["what_if"]["sweep"]["groups"]) == 100
    assert len(html.encode()) < 3_000_000


def test_it_is_inert_and_readable(html: str, page: Element) -> None:
    check_inert(html, page, script=True)
    check_readable(page)
    assert page.one("head").one("title").text == "Platform, autumn quarter · audit"
    assert [heading.words for heading in page.all("h2")] == [
        "Verdict", "Can the log be trusted?", "What was paid", "What if", "How to read it", "Provenance",
    ]  # fmt: skip


def test_it_opens_with_the_verdict(report: a.AuditReport, page: Element) -> None:
    tiles = {tile.one("dt").words: tile for tile in section(page, "verdict").one("dl", class_="tiles").all("div")}
    assert list(tiles) == ["was paid", "routing would have saved", "quality kept", "can the log be trusted?"]
    assert tiles["was paid"].one(class_="figure").words == "$48,213.56"
    assert report.what_if is not None
    point = report.what_if.sweep.points[51]
    assert report.what_if.recommended == 51
    saved = [float(d.attributes["value"]) for d in tiles["routing would have saved"].one(class_="figure").all("data")]
    paid = float(report.what_if.routed_paid_usd)
    assert saved == pytest.approx([paid - point.cost_usd.value, paid - point.cost_usd.high, paid - point.cost_usd.low])
    assert point.quality_share is not None
    assert tiles["quality kept"].one(class_="figure").words == "97.6 % [97.0 %, 98.3 %]"
    assert tiles["can the log be trusted?"].one(class_="figure").words == "yes, with remarks"


def test_reconciliation_comes_first(page: Element) -> None:
    names = [found.attributes["aria-labelledby"] for found in page.all("section")]
    assert names[:3] == ["verdict", "log", "paid"]
    rows = [cells(row) for row in table(page, "What became of the rows.").one("tbody").all("tr")]
    assert rows[0][:2] == ["read", "1,268,411"]
    assert rows[1][:3] == ["that are no calls", "48,210", ""]
    assert rows[2][:3] == ["rejected", "3,902", "0.3 %"]
    assert [row[0] for row in rows if row[4] == "of rows read"] == ["rejected", "duplicated", "kept"]


def test_money_that_was_paid_is_exact(report: a.AuditReport, page: Element) -> None:
    """To the cent on the page, to the last digit in its value."""
    by_tenant = table(page, "What was paid by tenant")
    rows = by_tenant.one("tbody").all("tr")
    assert len(rows) == 101
    assert cells(rows[0])[:2] == ["all", "$48,213.56"]
    values = [row.all("td")[0].one("data").attributes["value"] for row in rows]
    assert values == [str(report.paid.total.cost_usd), *(str(tenant.cost_usd) for tenant in report.paid.tenants)]
    assert cells(rows[-1])[0] == "(no tenant)"
    assert len(by_tenant.all("svg", class_="sample")) == 201  # a bar each, and the days of each tenant


def test_days_are_stacked(report: a.AuditReport, page: Element) -> None:
    """Each layer's heights are the costs, by the frame of the chart: 224 px for 1.04 of the dearest day."""
    chart = next(c for c in page.all("svg", class_="chart") if c.attributes["aria-label"] == "Cost by day")
    layers = chart.all("path", class_="layer")
    assert [layer.one("title").text for layer in layers] == [
        "search", "assistant", "support-desk", "billing", "all others",
    ]  # fmt: skip
    highest = 1.04 * max(float(sum(day.groups)) for day in report.paid.days)
    bars = re.findall(r"M[\d.]+ ([\d.]+)h[\d.]+V([\d.]+)", layers[0].attributes["d"])
    first = [(float(bottom), float(top)) for bottom, top in bars]
    assert len(first) == 90
    for (bottom, top), day in zip(first, report.paid.days, strict=True):
        assert bottom - top == pytest.approx(224 * float(day.groups[0]) / highest, abs=0.02)
    assert [mark.one("title").text for mark in chart.all("text", class_="heading")] == [
        f"gpt-5-2025-08-07 gives way to {STRONG}", "new price of claude-sonnet-4-5-20250929",
    ]  # fmt: skip
    assert len(chart.all("rect", class_="hover")) == 90
    assert chart.all("rect", class_="hover")[0].one("title").text.startswith("Mon 2026-08-24: $")
    assert len(chart.all("rect", class_="band")) == 2


def test_the_curve_is_drawn_from_the_report(report: a.AuditReport, page: Element) -> None:
    """Corners of the line and every place of the slider, by the frame of the chart."""
    assert report.what_if is not None
    points = report.what_if.sweep.points
    chart = next(c for c in page.all("svg", class_="chart") if c.attributes["aria-label"] == "Quality kept")
    (line,) = chart.all("path", class_="series")
    corners = [tuple(map(float, corner.split())) for corner in line.attributes["d"][1:].split("L")]
    frame = chart.all("svg")[-1].attributes["viewbox"].split()
    left, top, width, height = map(float, frame)
    shares = [p.quality_share for p in points if p.quality_share is not None]
    low, high = min(s.low for s in shares), max(s.high for s in shares)
    low, high = low - (high - low) / 20, high + (high - low) / 20
    assert len(corners) == 101
    for k in (0, 33, 100):
        x = left + width * points[k].strong_share
        y = top + height * (high - shares[k].value) / (high - low)
        assert corners[k] == pytest.approx((x, y), abs=0.02)
    rule, dot = chart.all("g", class_="moving")
    assert [tuple(map(float, p.split())) for p in dot.attributes["data-places"].split(";")] == corners
    assert [float(p.split()[0]) for p in rule.attributes["data-places"].split(";")] == [x for x, _ in corners]
    assert dot.attributes["transform"] == f"translate({dot.attributes['data-places'].split(';')[51]})"


def test_the_slider_opens_at_the_recommended_point(document: Any, page: Element) -> None:
    """Every number that moves names its pattern; the page shows the one at the point."""
    slider = page.one("input")
    assert (slider.attributes["value"], slider.attributes["max"]) == ("51", "100")
    assert slider.attributes["aria-valuetext"] == "alpha .445678, strong share .51"
    moving = [element for element in page.all("data") if "data-at" in element.attributes]
    assert len(moving) > 500
    for element in moving:
        pattern = element.attributes["data-at"]
        assert pattern.count("*") == 1
        assert at(document, pattern.replace("*", "0")) is not None or pattern.endswith("/alpha")
        if "data-how" not in element.attributes:
            assert element.attributes["data-json"] == pattern.replace("*", "51")
    named = [part.words for part in page.all("strong", class_="") if "data-only" in part.attributes]
    hidden = [part.words for part in page.all("strong") if "hidden" in part.attributes]
    assert (named, hidden) == (
        [", recommended", ", all weak, routed", ", all strong, routed"],
        [", all weak, routed", ", all strong, routed"],
    )


def test_tenants_at_the_point(report: a.AuditReport, page: Element) -> None:
    assert report.what_if is not None
    group = report.what_if.sweep.groups[3]
    row = table(page, "By tenant, dearest first. Strong share").one("tbody").all("tr")[3]
    values = [float(d.attributes["value"]) for d in row.all("data")]
    cost, paid, strong = group.cost_usd[51], group.routed_paid_usd, group.all_strong_usd
    assert group.quality is not None
    assert values == pytest.approx([
        group.calls, group.routed_calls, group.paid_usd, paid, strong, group.strong_share[51], cost, paid - cost,
        1 - cost / strong, group.quality[51],
    ])  # fmt: skip


def test_without_grades_the_page_says_why() -> None:
    report = small_report()
    page = parsed(audit_page(small_report(what_if=what_if(report.paid, graded=False, recommended=False))))
    assert "Quality is not known. no labels were given: add [what_if.labels]" in section(page, "what-if").words
    tiles = [tile.words for tile in section(page, "verdict").one("dl").all("div")]
    assert re.fullmatch(
        r"routing would have saved . From \$[\d.]+ \(all weak\) to \$[\d.]+ \(all strong\) instead of \$9.94, as "
        "modelled. No alpha is recommended: .*",
        tiles[1],
    )
    assert tiles[2].startswith("quality kept \N{EN DASH} not known: no labels were given")
    titles = [figure.one("h3").words for figure in page.all("figure")]
    assert titles == ["Cost by day", "Cost", "Where the win rates lie", "The router's claim over cost"]
    assert page.one("input").attributes["value"] == "5"  # half of the calls
    assert "expected wins" in table(page, "11 of 11 points").words


def test_without_a_what_if_nothing_runs() -> None:
    html = audit_page(small_report())
    page = parsed(html)
    check_inert(html, page, script=False)
    check_readable(page)
    assert not page.all("input")
    assert "Nothing was asked." in section(page, "what-if").words
    assert "All calls have one tenant: (no tenant), one provider: openai and one tier: standard." in page.words


def test_alphas_are_written_so_that_they_can_be_typed(report: a.AuditReport, page: Element) -> None:
    assert report.what_if is not None
    rows = table(page, "All points of the curve").one("tbody").all("tr")
    written = [cells(row)[0] for row in rows]
    for text, point in zip(written[1:], report.what_if.sweep.points[1:], strict=True):
        assert point.alpha is not None
        assert float(text.split()[0]) == round(point.alpha, 6)
    assert len(set(written)) == 101


def test_the_best_single_model_may_be_the_weak_one() -> None:
    found = what_if(small_report().paid)
    weak = found.model_copy(update={"sweep": found.sweep.model_copy(update={"best_single": "x-1"})})
    page = parsed(audit_page(small_report(what_if=weak)))
    labels = [label.words for label in page.all("dl", class_="tiles")[1].all("dt")]
    assert labels == [
        "cost", "saved against paid", "saved against all strong", "saved against the best single", "quality kept",
    ]  # fmt: skip
    assert "against x-1 alone" in section(page, "verdict").words


def test_an_unpriced_log_did_not_cost_nothing() -> None:
    """Unpriced is not $0."""
    report = small_report()
    spend = report.paid.total.model_copy(update={"unpriced_calls": report.paid.total.calls, "cost_usd": Decimal(0)})
    paid = report.paid.model_copy(update={"total": spend, "models": [spend], "days": []})
    changed = small_report(paid=paid)
    page = parsed(audit_page(changed))
    assert section(page, "verdict").one("dl").all("div")[0].one(class_="figure").words == "unpriced"
    assert "$0.00" not in section(page, "verdict").words
    assert {cells(row)[1] for row in table(page, "What was paid by model").one("tbody").all("tr")} == {"unpriced"}
    check_numbers(json.loads(changed.model_dump_json()), page)


def test_an_empty_log_is_a_page() -> None:
    nothing = Decimal(0)
    spend = a.Spend(
        key=None, calls=0, failed_calls=0, unpriced_calls=0, input_tokens=0, cached_tokens=0, output_tokens=0,
        reasoning_tokens=0, cost_usd=nothing, logged_usd=nothing,
    )  # fmt: skip
    waste = small_report().paid.waste
    paid = a.Paid(total=spend, days=[], tenants=[], models=[], providers=[], tiers=[], prompt_groups=[], waste=waste)
    books = small_report().reconciliation.model_copy(update={"rows": row_counts(read=0, kept=0)})
    page = parsed(audit_page(small_report(paid=paid, reconciliation=books, first_called_at=None, last_called_at=None)))
    assert "calls from unknown to unknown" in page.words
    assert not page.all("figure")


def test_long_tables_end() -> None:
    spends = [small_report().paid.models[0].model_copy(update={"key": f"model {k}"}) for k in range(3_000)]
    paid = small_report().paid.model_copy(update={"models": spends})
    page = parsed(audit_page(small_report(paid=paid)))
    found = table(page, "What was paid by model")
    assert len(found.one("tbody").all("tr")) == 251
    assert found.one("caption").words.endswith("2,750 more rows are in the JSON.")


def test_untrusted_text_stays_inert(document: Any, page: Element) -> None:
    hostile = a.AuditReport.model_validate(poisoned(document))
    html = audit_page(hostile)
    read = parsed(html)
    check_inert(html, read, script=True)
    assert a.AuditReport.model_validate_json(read.one("script", id="report").text) == hostile
    assert read.one("h1").text == f"{HOSTILE}Platform, autumn quarter"
    assert "49" not in read.one("h1").text
    assert "\u2028" not in read.one("script", id="report").text
    assert {element.tag for element in read.all()} <= {element.tag for element in page.all()}
    assert read.all("script")[1].text == page.all("script")[1].text
    check_numbers(json.loads(hostile.model_dump_json()), read)


def test_a_formula_is_text(page: Element) -> None:
    rows = [cells(row)[0] for row in table(page, "Dearest groups of prompts").one("tbody").all("tr")]
    assert FORMULA in rows
    assert " ".join(HOSTILE.split()) in rows
    assert "template 0000000000000000" in rows


def test_constant_curves_are_drawn() -> None:
    flat = sweep(0.0, [0.0], calls=300, points=2)
    found = what_if(small_report().paid).model_copy(update={"sweep": flat, "recommended": 1})
    page = parsed(audit_page(small_report(what_if=found)))
    assert len(page.all("figure")) == 5


def test_the_small_page_in_words() -> None:
    """NIGHTROUTE_GOLDEN=write writes the file instead."""
    base = small_report()
    report = small_report(what_if=what_if(base.paid, points=5), notes=["Read with care."])
    words = told(parsed(audit_page(report)))
    path = GOLDEN / "audit-page.txt"
    if os.environ.get("NIGHTROUTE_GOLDEN") == "write":
        path.write_text(words, encoding="utf-8")
    assert words == path.read_text(encoding="utf-8")
