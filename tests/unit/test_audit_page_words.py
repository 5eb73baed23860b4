"""What the page of an audit says where words could mislead: savings that are none, ends of the curve, long names."""

import json
import re
from decimal import Decimal

import pytest

from jobs.report.audit import audit_page
from schemas import audit as a
from schemas import sweep as s
from tests.audit_reports import small_report, what_if
from tests.pages import Element, parsed
from tests.report_pages import check_numbers, section


def table(page: Element, caption: str) -> Element:
    (found,) = [t for t in page.all("table") if caption in t.one("caption").words]
    return found


def test_a_long_name_hides_no_cost() -> None:
    """It is clamped where it heads a row, whole in its title; short ones stand as they are."""
    name = "x" * 400
    spends = [small_report().paid.tenants[0].model_copy(update={"key": key}) for key in (name, "short")]
    paid = small_report().paid
    days = [day.model_copy(update={"groups": [Decimal(1), Decimal(2)]}) for day in paid.days]
    page = parsed(audit_page(small_report(paid=paid.model_copy(update={"tenants": spends, "days": days}))))
    heads = [row.one("th") for row in table(page, "What was paid by tenant").one("tbody").all("tr")]
    (clamped,) = [head.one("span", class_="long") for head in heads if head.all("span", class_="long")]
    assert (clamped.words, clamped.attributes["title"]) == (name, name)
    (figure,) = page.all("figure")
    assert name not in figure.words
    assert "x" * 31 + "…" in figure.one("div", class_="legend").words
    assert ".long { display: -webkit-box" in page.one("style").text


def cold(found: a.WhatIf) -> a.WhatIf:
    """At the ends of the curve every call goes to one model with a cold cache: that costs a tenth more."""
    points = list(found.sweep.points)
    for k, single in ((0, found.sweep.weak), (-1, found.sweep.strong)):
        usd = 1.1 * single.cost_usd.value
        saved = s.Estimate(value=-0.1, low=-0.12, high=-0.08)
        points[k] = points[k].model_copy(
            update={"cost_usd": s.Estimate(value=usd, low=usd, high=usd), "saving_share": saved}
        )
    return found.model_copy(update={"sweep": found.sweep.model_copy(update={"points": points})})


def test_the_first_tile_says_what_one_model_alone_costs() -> None:
    found = cold(what_if(small_report().paid, graded=False, recommended=False))
    report = small_report(what_if=found)
    page = parsed(audit_page(report))
    tile = section(page, "verdict").one("dl").all("div")[1]
    places = [data.attributes.get("data-json") for data in tile.all("data")][1:3]
    assert places == [f"/what_if/sweep/{side}/cost_usd/value" for side in ("weak", "strong")]
    check_numbers(json.loads(report.model_dump_json()), page)


@pytest.mark.parametrize(("index", "words"), [(10, "more"), (5, "less")])
def test_what_costs_more_is_not_less_than_nothing(index: int, words: str) -> None:
    found = cold(what_if(small_report().paid)).model_copy(update={"recommended": index})
    report = small_report(what_if=found)
    page = parsed(audit_page(report))
    check_numbers(json.loads(report.model_dump_json()), page)
    told = page.one("p", id="told").words
    assert re.search(rf"that is \$[\d.]+ {words} than was paid and [\d.]+ % {words} than all strong", told)
    assert not re.search(r"\N{MINUS SIGN}\S+( %)? less", page.words)
    assert not re.search(r"less than (paid|all strong|the best single)( \S+)? \N{MINUS SIGN}", page.words)


@pytest.mark.parametrize("graded", [True, False])
def test_what_the_ends_of_the_curve_are(graded: bool) -> None:
    """One model alone only where its cache makes no difference."""
    warm = what_if(small_report().paid, graded=graded, recommended=graded)
    for found, alone in ((warm, True), (cold(warm), False)):
        words = parsed(audit_page(small_report(what_if=found))).words
        assert ("Both ends are one model alone." in words) == alone
        assert ("Both ends go through the router, with cold caches" in words) == (not alone)
