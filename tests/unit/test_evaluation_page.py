"""The page of an evaluation says what its JSON says, whatever the JSON holds."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from jobs.report.evaluation import evaluation_page
from schemas import evaluation as e
from tests.evaluation_reports import BASELINES, ROUTERS, SUBJECTS, large_report, one, small_report
from tests.pages import Element, parsed
from tests.report_pages import at, check_inert, check_readable, leaves

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation-page.txt"
MEASURED = (
    "figures", "comparisons", "reliability", "histograms", "agreement", "transfer", "transfer_summaries", "robustness",
    "drift", "label_study",
)  # fmt: skip
FIXED = {"created_at", "bins", "kind"}
HOSTILE = "<script>alert('x')</script>\"'&</style><!--\u2028]]>{{ 7*7 }}{% raw %}"


@pytest.fixture(scope="module")
def report() -> e.EvaluationReport:
    return large_report()


@pytest.fixture(scope="module")
def html(report: e.EvaluationReport) -> str:
    return evaluation_page(report)


@pytest.fixture(scope="module")
def page(html: str) -> Element:
    return parsed(html)


def check_numbers(report: e.EvaluationReport, page: Element) -> set[str]:
    """Compare every number of the page that has a place in the JSON; returns the places."""
    document = json.loads(report.model_dump_json())
    shown = [element for element in page.all("data") if "data-json" in element.attributes]
    for element in shown:
        place, text = element.attributes["data-json"], element.text
        value = at(document, place)
        if value is None:
            assert (text, element.attributes["value"]) == ("\N{EN DASH}", ""), place
            continue
        assert float(element.attributes["value"]) == value, place
        if text == "< .001":
            assert value < 0.001, place
            continue
        number = text.replace(",", "").replace("\N{MINUS SIGN}", "-").replace("+", "").replace("$", "")
        decimals = len(number.partition(".")[2])
        assert abs(float(number) - value) <= 0.5000001 * 10**-decimals, (place, text, value)
        assert not number.lstrip("-").startswith("0.") or text.startswith("$"), (place, text)
        assert decimals == expected_decimals(report, place, value), (place, text)
    return {element.attributes["data-json"] for element in shown}


def expected_decimals(report: e.EvaluationReport, place: str, value: float) -> int:
    """Dollars are exact, counts whole, CPT has two decimals, all else three."""
    if place.endswith("_usd"):
        return max(2, len(repr(value).partition(".")[2]))
    if isinstance(value, int) and re.search(r"/(n|counts/\d+|pairs|n_labels|draws|resamples|categories/.*)$", place):
        return 0
    if place.startswith("/figures/"):
        return 2 if re.fullmatch(r"(usd_)?cpt\d+", report.figures[int(place.split("/")[2])].metric) else 3
    return 2 if place.endswith("cpt50") else 3


def test_the_numbers_in_the_page_are_those_in_the_json(report: e.EvaluationReport, page: Element) -> None:
    assert len(check_numbers(report, page)) > 3_000


def test_every_measured_number_is_in_the_page(report: e.EvaluationReport, page: Element) -> None:
    shown = check_numbers(report, page)
    document = json.loads(report.model_dump_json())
    missing = {
        place
        for part in MEASURED
        for place in leaves(document[part], f"/{part}")
        if place not in shown
        and not re.fullmatch(r"/figures/\d+/n|/reliability/\d+/ece", place)  # of the benchmark; in the heading
        and not re.fullmatch(r"/histograms/\d+/(edges/\d+|counts/\d+)", place)  # empty bins are left out
    }
    assert missing == set()
    for k, histogram in enumerate(report.histograms):
        for i, count in enumerate(histogram.counts):
            assert (f"/histograms/{k}/counts/{i}" in shown) == (count > 0)
    headings = [heading.words for heading in page.all("h4")]
    for curve in report.reliability:
        assert f"{curve.router}, ECE {curve.ece:.3f}".replace("0.", ".") in headings
    for k, benchmark in enumerate(report.benchmarks):
        for name in ("n", "strong_quality", "weak_quality", *(("all_strong_usd", "all_weak_usd") if k == 1 else ())):
            assert getattr(benchmark, name) is not None
            assert f"/benchmarks/{k}/{name}" in shown
    assert {f"/benchmarks/0/categories/{subject}" for subject in SUBJECTS} <= shown


def test_the_page_holds_the_report(report: e.EvaluationReport, page: Element) -> None:
    assert e.EvaluationReport.model_validate_json(page.one("script", id="report").text) == report


def test_the_same_report_gives_the_same_page(html: str) -> None:
    evaluation_page(small_report())
    assert evaluation_page(large_report()) == html


def test_the_page_is_small_and_fetches_nothing(html: str, page: Element) -> None:
    assert len(html.encode()) < 1_500_000
    check_inert(html, page, script=False)


def test_the_page_can_be_read_without_seeing_it(page: Element) -> None:
    assert page.one("head").one("title").text == "Routers of November · evaluation"
    assert [heading.words for heading in page.all("h1")] == ["Routers of November"]
    check_readable(page)


def test_every_chart_has_its_numbers_as_a_table(page: Element) -> None:
    """The forest plot's are in the table of metrics above it."""
    for plate in page.all("figure"):
        if plate.one("figcaption").words.startswith("APGR with intervals"):
            assert not plate.all("details")
        else:
            assert plate.one("details").all("table")


def test_charts_and_sections_are_there(page: Element) -> None:
    assert [heading.words for heading in page.all("h2")] == [
        "Summary", "MMLU", "GSM8K", "MT-Bench", "Transfer to other pairs of models", "Robustness to changed prompts",
        "Other groups of prompts", "What labels are worth", "How to read it", "Provenance",
    ]  # fmt: skip
    titles = [heading.words for heading in page.all("h3")]
    for title, count in {
        "Quality over the strong share": 3, "Quality over dollars": 1, "APGR with intervals": 3, "By category": 1,
        "Does a win rate mean what it says?": 3, "Where the win rates lie": 3, "Compared in pairs": 3,
        "Do they agree?": 1,
    }.items():  # fmt: skip
        assert titles.count(title) == count, title


def test_curves_are_drawn_from_the_report(report: e.EvaluationReport, page: Element) -> None:
    """Ends and one inner point of every drawn curve, by the frame of the chart: 388 x 270 from (58, 12)."""
    first = page.one("section", aria_labelledby="benchmark-1")
    chart = first.all("svg", class_="chart")[0]
    paths = {path.one("title").text: path.attributes["d"] for path in chart.all("path", class_="series")}
    assert set(paths) == {"random", *ROUTERS, "length", "oracle"}
    (frame,) = chart.all("svg")
    assert frame.attributes["viewbox"] == "58 12 388 270"
    highest = max(max(curve.pgr) for curve in report.curves if curve.benchmark == "MMLU")
    lowest = min(min(curve.pgr) for curve in report.curves if curve.benchmark == "MMLU")
    margin = (max(highest, 1) - min(lowest, 0)) / 20
    low, high = min(min(lowest, 0) - margin, -0.02), min(max(highest, 1) + margin, 1.5)
    for curve in report.curves:
        if curve.benchmark == "MMLU" and curve.router in {*ROUTERS, "length", "oracle"}:
            corners = [tuple(map(float, corner.split())) for corner in paths[curve.router][1:].split("L")]
            assert len(corners) == len(curve.pgr)
            for k in (0, 40, -1):
                x, y = 58 + 388 * curve.strong_share[k], 12 + 270 * (high - curve.pgr[k]) / (high - low)
                assert corners[k] == pytest.approx((x, y), abs=0.01)


def test_the_tables_of_curves_keep_to_the_share_and_to_the_money(report: e.EvaluationReport, page: Element) -> None:
    shares = [t for t in page.all("table") if t.one("caption").words.startswith("PGR at the largest")]
    assert len(shares) == 3
    names = [head.words for head in shares[0].one("thead").all("th")][1:]
    for row in shares[0].one("tbody").all("tr"):
        limit = float(row.one("th").words)
        for name, cell in zip(names, row.all("td"), strict=True):
            curve = next(c for c in report.curves if (c.benchmark, c.router) == ("MMLU", name))
            reached = [p for s, p in zip(curve.strong_share, curve.pgr, strict=True) if s <= limit + 1e-9]
            assert float(cell.one("data").attributes["value"]) == reached[-1]
    (dollars,) = [t for t in page.all("table") if t.one("caption").words.startswith("Quality at the last point")]
    half = next(row for row in dollars.one("tbody").all("tr") if row.one("th").words == ".50")
    curve = next(c for c in report.curves if (c.benchmark, c.router) == ("GSM8K", "cluster-mmlu"))
    budget = (11.48262 + 0.2917284) / 2
    assert curve.usd is not None
    paid = [q for usd, q in zip(curve.usd, curve.quality, strict=True) if usd <= budget]
    assert float(half.all("td")[0].one("data").attributes["value"]) == paid[-1]


def test_what_was_not_measured_is_absent() -> None:
    page = parsed(evaluation_page(small_report()))
    assert [heading.words for heading in page.all("h2")] == ["Summary", "tickets", "How to read it", "Provenance"]
    assert [figure.one("h3").words for figure in page.all("figure")] == ["APGR with intervals"]
    assert "dollar" not in page.words
    assert "Not told" not in page.words


def test_an_empty_report_is_a_page() -> None:
    empty = e.EvaluationReport.model_validate(
        {"name": "", "created_at": "2026-11-22T00:00:00", "seed": 0, "resamples": 0, "machine": ""}
    )
    page = parsed(evaluation_page(empty))
    assert "No trained router has an APGR on any benchmark" in page.words
    assert "2026-11-22 00:00 ·" in page.words
    assert not page.all("figure")


def test_null_values_are_dashes() -> None:
    figures = [
        *one(router="mine", value=None),
        *one(router="mine", metric="cpt80", value=None),
        *one(router="mine", metric="apgr", category="a", value=None),
        *one(router="mine", metric="apgr", category="b", value=0.5, low=0.4, high=0.6),
    ]
    report = small_report(figures=figures)
    page = parsed(evaluation_page(report))
    assert check_numbers(report, page)
    assert page.one("figure", class_="wide").all("path", class_="dot")
    assert "No trained router has an APGR" in page.words


@pytest.mark.parametrize(
    "parts", [(), ("curves",), ("figures",), ("benchmarks",), ("routers",), ("comparisons", "reliability")]
)
def test_any_part_may_be_missing(report: e.EvaluationReport, parts: tuple[str, ...]) -> None:
    page = parsed(evaluation_page(report.model_copy(update={part: [] for part in parts})))
    assert page.one("h1").words == "Routers of November"


def test_many_metrics_are_two_tables(report: e.EvaluationReport) -> None:
    more = [
        e.Figure(benchmark="GSM8K", router="linear", metric=f"m{k}", bins=bins, value=0.5, n=9)
        for k in range(3)
        for bins in ("ranks", "routellm")
    ]
    wider = report.model_copy(update={"figures": [*report.figures, *more]})
    page = parsed(evaluation_page(wider))
    gsm8k = page.one("section", aria_labelledby="benchmark-2").all("caption")
    told = "Metrics on GSM8K, curves read {}; brackets are 95 % bootstrap intervals."
    assert [caption.words for caption in gsm8k[:2]] == [
        told.format(how) for how in ("over all ranks", "at RouteLLM's ten bins")
    ]
    mmlu = page.one("section", aria_labelledby="benchmark-1").all("table")[0]
    assert [head.words for head in mmlu.all("th", class_="group")] == ["over all ranks", "at RouteLLM's ten bins"]
    check_numbers(wider, page)


def test_no_baselines(report: e.EvaluationReport) -> None:
    kept: dict[str, list[BaseModel]] = {
        part: [row for row in getattr(report, part) if row.router not in BASELINES] for part in ("figures", "curves")
    }
    page = parsed(evaluation_page(report.model_copy(update={**kept, "routers": report.routers[:4], "comparisons": []})))
    chart = page.one("section", aria_labelledby="benchmark-1").all("svg", class_="chart")[0]
    assert {path.one("title").text for path in chart.all("path", class_="series")} == {"random", *ROUTERS}
    assert not page.all("rect", class_="band")


def test_a_hundred_categories_and_very_long_names() -> None:
    names = [f"category {k} " + "of a very long name " * 12 for k in range(100)]
    router = "a-router-" * 40
    figures = [
        e.Figure(
            benchmark="tickets", category=name, router=router, metric="apgr", n=40,
            value=k / 50 - 0.5, low=k / 50 - 0.9, high=k / 50,
        )
        for k, name in enumerate(names)
    ]  # fmt: skip
    figures += one(router=router, value=0.6, low=0.5, high=0.7)
    benchmark = small_report().benchmarks[0].model_copy(update={"categories": dict.fromkeys(names, 40)})
    report = small_report(
        routers=[e.EvaluatedRouter(name=router, kind="linear")], figures=figures, benchmarks=[benchmark]
    )
    page = parsed(evaluation_page(report))
    check_numbers(report, page)
    (chart,) = page.one("figure", class_="wide").all("svg", class_="chart")
    labels = chart.all("text", class_="label")
    assert len(labels) == 100
    assert all(len(label.content[-1]) <= 28 for label in labels if isinstance(label.content[-1], str))
    assert {label.one("title").text for label in labels} == set(names)


def poisoned(document: Any) -> Any:
    """The same JSON with hostile text wherever text is free, keys of free dictionaries included."""
    if isinstance(document, dict):
        free = not set(document) & {"name", "benchmark", "router", "kind", "n"}
        return {
            f"{HOSTILE}{key}" if free else key: value if key in FIXED else poisoned(value)
            for key, value in document.items()
        }
    if isinstance(document, list):
        return [poisoned(value) for value in document]
    return f"{HOSTILE}{document}" if isinstance(document, str) else document


def test_untrusted_text_stays_inert(report: e.EvaluationReport, page: Element) -> None:
    document = poisoned(json.loads(report.model_dump_json()))
    hostile = e.EvaluationReport.model_validate(document)
    poison = evaluation_page(hostile)
    read = parsed(poison)
    assert [script.attributes for script in read.all("script")] == [{"type": "application/json", "id": "report"}]
    assert e.EvaluationReport.model_validate_json(read.one("script").text) == hostile
    assert poison.count("<script") == poison.count("</script") == 1
    assert poison.count("<style") == poison.count("</style") == 1
    assert "<!--" not in poison
    assert "\u2028" not in read.one("script").text
    assert "49" not in read.one("h1").text
    assert read.one("h1").text == f"{HOSTILE}Routers of November"
    assert {element.tag for element in read.all()} <= {element.tag for element in page.all()}
    assert not [name for element in read.all() for name in element.attributes if name.startswith("on")]
    check_numbers(hostile, read)


def test_the_small_page_in_words() -> None:
    """NIGHTROUTE_GOLDEN=write writes the file instead."""
    report = small_report(
        figures=[
            *small_report().figures,
            *one(router="mine", metric="cpt50", value=0.312, low=0.26, high=0.37),
            *one(router="random", value=0.5, low=0.46, high=0.54),
            *one(router="length", value=0.55, low=0.51, high=0.59),
        ],
        notes=["Read with care."],
    )
    body = parsed(evaluation_page(report)).one("body")
    words = [
        element.words
        for element in body.all()
        if element.tag in ("h1", "h2", "h3", "p", "li", "dt", "dd", "tr", "caption", "text")
    ]
    told = "\n".join(line for line in words if line) + "\n"
    if os.environ.get("NIGHTROUTE_GOLDEN") == "write":
        GOLDEN.write_text(told, encoding="utf-8")
    assert told == GOLDEN.read_text(encoding="utf-8")
