"""The page of an audit where its advice is a single model, or nothing could be routed at all."""

import json

import pytest

from jobs.report.audit import audit_page
from routing.audit.what_if_advice import nothing_routed
from routing.audit.what_if_sweep import unrouted
from schemas import sweep as s
from tests.audit_reports import STRONG, small_report, what_if
from tests.pages import parsed
from tests.report_pages import cells, check_inert, check_numbers, check_readable, section, table


def test_no_call_could_be_routed() -> None:
    found = what_if(small_report().paid)
    advice = nothing_routed(found.unrouted)
    empty = {"sweep": unrouted(STRONG, "small"), "recommended": None, "advice": advice, "routed_calls": 0}
    report = small_report(what_if=found.model_copy(update=empty | {"answer_lengths": [], "assumptions": []}))
    html = audit_page(report)
    page = parsed(html)
    check_inert(html, page, script=False)
    check_readable(page)
    check_numbers(json.loads(report.model_dump_json()), page)
    assert not page.all("input")
    words = section(page, "what-if").words
    assert words.startswith("What if No call of this log could be routed (another model: 23, ")
    assert "Name the models that answered" in words
    rows = [cells(row)[0] for row in table(page, "Calls that stay as they were").one("tbody").all("tr")]
    assert rows == [row.reason for row in found.unrouted]
    tiles = [tile.words for tile in section(page, "verdict").one("dl").all("div")]
    assert tiles[1] == f"routing would have saved \N{EN DASH} {advice}"
    assert tiles[2].startswith("quality kept \N{EN DASH} not known")


@pytest.mark.parametrize(("side", "index"), [("strong", 10), ("weak", 0)])
def test_where_routing_buys_nothing_the_first_tile_says_so(side: str, index: int) -> None:
    """And names what a single model costs, which is not what an end of the curve costs."""
    report = small_report()
    found = what_if(report.paid)
    single = found.sweep.strong if side == "strong" else found.sweep.weak
    cost = s.Estimate(value=7.25, low=7.0, high=7.5)
    single = single.model_copy(update={"cost_usd": cost, "saving_share": cost})
    advised = {
        "sweep": found.sweep.model_copy(update={side: single, "best_single": single.model}), "recommended": index,
        "alone": single.model, "advice": f"routing buys nothing, send every call to {single.model}.",
    }  # fmt: skip
    changed = small_report(what_if=found.model_copy(update=advised))
    page = parsed(audit_page(changed))
    check_numbers(json.loads(changed.model_dump_json()), page)
    tile = section(page, "verdict").one("dl").all("div")[1]
    assert tile.one(class_="figure").words == "nothing"
    alone = f"{single.model} alone is the cheapest that is shown to hold the floor: $7.25 instead of the $9.94 that was"
    beside = "" if side == "strong" else ", a saving of 725.0 % against all strong"
    assert tile.words == f"routing would have saved nothing modelled {alone} paid{beside}."
    assert str(advised["advice"]) in section(page, "what-if").words
    assert page.one("input").attributes["value"] == str(index)
    assert "recommended" not in section(page, "what-if").words
