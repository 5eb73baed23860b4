"""The page of a run says what its JSON says, whatever the JSON holds."""

import json
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from jobs.report.flow_chart import Node, Ribbon, flow_chart
from jobs.report.run import run_page
from jobs.run_report import run_report
from schemas.run_report import RunReport
from tests.audit_reports import HOSTILE, poisoned
from tests.pages import Element, parsed
from tests.report_pages import check_inert, check_numbers, check_readable, leaves, told
from tests.run_reports import NOW, large_run, table, write_run

GOLDEN = Path(__file__).parents[1] / "golden" / "run-page.txt"
ONLY_IN_JSON = (
    r"/format_version",
    r"/manifest/(version|revision|models/.*|errors/.*|identity/.*)",
    r"/manifest/rows/(read|strong|weak|ok|truncated)",  # drawn; the tables have the flows
    r"/manifest/split/(n|tie_key_max|n_strong|wanted|expected_usd)",
    r"/manifest/totals/(input|cached|output|reasoning)_tokens",  # by model
    r"/(win_rates|sweep/histogram)/counts/\d+",
    r"/sweep/points/\d+/saving_vs_best_share/\w+",  # the best single model is the strong one
    r"/sweep/points/\d+/\w+/(low|high)",  # where the ends are equal
    r"/sweep/(strong|weak)/\w+/\w+",  # the ends of the curve
    r"/sweep/groups/\d+/(strong_share|cost_usd)/\d+",
    r"/(at_run|slice_s|compared_strong)",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    return large_run(tmp_path_factory.mktemp("night"))


@pytest.fixture(scope="module")
def html(report: RunReport) -> str:
    return run_page(report)


@pytest.fixture(scope="module")
def page(html: str) -> Element:
    return parsed(html)


def test_the_numbers_in_the_page_are_those_in_the_json(document: Any, page: Element) -> None:
    shown = check_numbers(document, page)
    assert len(shown) > 1_500
    missing = [place for place in leaves(document) if place not in shown]
    assert [place for place in missing if not any(re.fullmatch(pattern, place) for pattern in ONLY_IN_JSON)] == []


def test_the_page_holds_the_report(report: RunReport, page: Element) -> None:
    assert RunReport.model_validate_json(page.one("script", id="report").text) == report


def test_it_is_inert_and_readable(html: str, page: Element) -> None:
    check_inert(html, page, script=True)
    check_readable(page)
    assert page.one("head").one("title").text == "first-night · run"
    assert [heading.words for heading in page.all("h2")] == [
        "The night", "Where the queries went", "What was paid", "Another alpha", "How to read it", "Provenance",
    ]  # fmt: skip
    assert len(html.encode()) < 1_000_000


def test_the_night_in_four_figures(report: RunReport, page: Element) -> None:
    tiles = [tile.words for tile in page.all("dl", class_="tiles")[0].all("div")]
    rows, totals = report.manifest.rows, report.manifest.totals
    outcome = f"{rows['truncated']} of them truncated; {rows['failed']} failed, 0 unsent, 3 rows rejected"
    assert rows["truncated"] == 100
    assert tiles[0] == f"answered 95.0 % observed of 3,000 queries, {outcome}"
    calls = f"{totals.attempts:,} calls, {totals.unpriced_rows} answers unpriced"
    assert tiles[1] == f"was paid ${totals.cost_usd:.2f} observed in {calls}"
    assert tiles[2].startswith(f"saved against all strong ${totals.saved_vs_strong_usd:.2f} modelled ")
    assert tiles[3].startswith("strong share .40 observed ")


def test_what_stands_beside_the_bill(page: Element) -> None:
    lines = page.one("section", aria_labelledby="paid").one("dl", class_="facts-list")
    names = [term.words for term in lines.all("dt")]
    assert names == ["embeddings", "unpriced", "unknown calls", "spent in all"]
    told = [line.words for line in lines.all("dd")]
    assert told[0].startswith("$0.0062 for 2,900 prompts, 310 k tokens in 31 requests to text-embedding-3-small; 1")
    assert told[1].startswith("60 answered queries have no price. That is not $0")
    assert told[2].startswith("4 calls were in flight when the run was killed")
    assert told[3].startswith("$1.25, embeddings, earlier revisions")


def test_ribbons_are_as_wide_as_queries_are_many(report: RunReport, page: Element) -> None:
    chart = next(c for c in page.all("svg", class_="chart") if c.attributes["aria-label"] == "From rows to answers")
    wide = {}
    for ribbon in chart.all("path", class_="ribbon"):
        y0, bottom = re.fullmatch(r"M[\d.]+ ([\d.]+)C.* [\d.]+ ([\d.]+)Z", ribbon.attributes["d"]).groups()  # type: ignore[union-attr]
        wide[ribbon.one("title").text] = float(bottom) - float(y0)
    scale = 190 / report.manifest.rows["read"]
    for flow in report.flows:
        model = getattr(report.manifest.identity, flow.route)["name"]
        name = f"{flow.route}: {model} to {flow.status}: {flow.queries:,}"
        assert wide[name] == pytest.approx(max(flow.queries * scale, 1), abs=0.02)
    assert wide["rows read to rejected: 3"] == pytest.approx(1)
    assert len(wide) == len(report.flows) + 3


def test_ribbons_that_nothing_flows_in_are_left_out() -> None:
    nodes = [Node("a", "a", 0, "red"), Node("b", "b", 1, "red"), Node("c", "c", 1, "red")]
    drawn = flow_chart(nodes, [Ribbon("a", "b", 5), Ribbon("a", "c", 0)])
    assert [mark.attributes["class"] for mark in drawn.marks].count("ribbon") == 1
    assert [mark.attributes["class"] for mark in drawn.marks].count("node") == 2
    assert flow_chart(nodes, []).marks == ()


def test_groups_at_the_alpha_of_the_run(report: RunReport, page: Element) -> None:
    """Nothing moved yet: each group costs what it did cost."""
    assert report.sweep is not None
    (found,) = [t for t in page.all("table") if "Strong share, cost and saving" in t.one("caption").words]
    for row, group in zip(found.one("tbody").all("tr"), report.sweep.groups, strict=True):
        values = [float(d.attributes["value"]) for d in row.all("data")]
        assert values[3] == group.routed_paid_usd
        assert values[6] == pytest.approx(group.routed_paid_usd)
        assert values[7] == pytest.approx(0, abs=1e-8)


def test_a_run_without_a_curve(tmp_path: Path) -> None:
    nothing = table().filter(status="failed")
    report = run_report(write_run(tmp_path, nothing), now=NOW)
    html = run_page(report)
    page = parsed(html)
    check_inert(html, page, script=False)
    check_readable(page)
    check_numbers(json.loads(report.model_dump_json()), page)
    first = page.one("section", aria_labelledby="verdict")
    assert first.one("dl", class_="tiles").all("div")[2].words == (
        "saved against all strong \N{EN DASH} modelled nothing was answered"
    )
    n = nothing.height
    assert [note.words for note in first.one("ul", class_="notes").all("li")] == [
        f"Nothing was answered: {n} of {n} queries failed (timeout {n})."
    ]
    assert "Nothing can be said of another alpha: nothing was answered." in page.words
    assert "price on both" not in page.words
    titles = [figure.one("h3").words for figure in page.all("figure")]
    assert titles == ["From rows to answers", "Where the win rates lie"]


def test_a_run_without_prices(tmp_path: Path) -> None:
    unpriced = table().filter(pl.col("unpriced_reason").is_not_null())
    words = parsed(run_page(run_report(write_run(tmp_path, unpriced), now=NOW))).words
    assert "Nothing can be said of another alpha: no answer has a price on both models." in words
    assert "modelled no answer has a price on both models" in words


def test_a_run_that_no_alpha_makes_is_marked_beside_the_curve(tmp_path: Path) -> None:
    before = run_report(write_run(tmp_path / "a", table()), now=NOW).manifest.split.model_dump()
    split = before | {"order": "gain_per_usd", "alpha": None, "min_gain_per_usd": 12.5}
    report = run_report(write_run(tmp_path / "b", table(), split=split), now=NOW)
    page = parsed(run_page(report))
    cost = next(c for c in page.all("svg", class_="chart") if c.attributes["aria-label"] == "Cost")
    assert "as it ran" in [dot.text for dot in cost.all("path", class_="dot")]
    assert "as it ran" not in [button.words for button in page.all("button")]
    assert "at least this gain a dollar: 12.500" in page.words


def test_unpriced_models_did_not_cost_nothing(report: RunReport) -> None:
    routes = [route.model_copy(update={"unpriced": route.queries, "cost_usd": Decimal(0)}) for route in report.routes]
    page = parsed(run_page(report.model_copy(update={"routes": routes})))
    (found,) = [t for t in page.all("table") if "What each model did" in t.one("caption").words]
    assert [row.all("td")[1].words for row in found.one("tbody").all("tr")] == ["unpriced", "unpriced"]


def test_untrusted_text_stays_inert(document: Any, page: Element) -> None:
    safe = {"route", "status"}  # ours
    routes, flows = document["routes"], document["flows"]
    poison = poisoned(document) | {
        "routes": [{k: v if k in safe else poisoned(v) for k, v in row.items()} for row in routes],
        "flows": flows,
        "unpriced": {f"{HOSTILE}{reason}": n for reason, n in document["unpriced"].items()},
    }
    poison["manifest"]["split"]["order"] = "win_rate"
    hostile = RunReport.model_validate(poison)
    html = run_page(hostile)
    read = parsed(html)
    check_inert(html, read, script=True)
    assert RunReport.model_validate_json(read.one("script", id="report").text) == hostile
    assert read.one("h1").text == f"{HOSTILE}first-night"
    assert {element.tag for element in read.all()} <= {element.tag for element in page.all()}
    check_numbers(json.loads(hostile.model_dump_json()), read)


def test_the_page_in_words(tmp_path: Path) -> None:
    """NIGHTROUTE_GOLDEN=write writes the file instead."""
    report = run_report(write_run(tmp_path, table(40)), groups=["tenant"], now=NOW)
    fixed = report.model_copy(update={"nightroute_version": "0.1.0"})
    words = told(parsed(run_page(fixed)))
    if os.environ.get("NIGHTROUTE_GOLDEN") == "write":
        GOLDEN.write_text(words, encoding="utf-8")
    assert words == GOLDEN.read_text(encoding="utf-8")
