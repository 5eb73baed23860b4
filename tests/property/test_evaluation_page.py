"""Any text is shown as it is, any finite number leaves the page well formed."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.evaluate_config import BASELINES
from jobs.report.evaluation import evaluation_page
from schemas import evaluation as e
from tests.evaluation_reports import small_report
from tests.pages import parsed

PLACES = {"x", "y", "x1", "x2", "y1", "y2", "width", "height", "d", "transform", "viewbox"}
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=40)
NAME = TEXT.filter(lambda name: name not in BASELINES)  # a config may not call a router so
NUMBER = st.one_of(st.floats(-3, 3), st.floats(allow_nan=False, allow_infinity=False, width=32))


@settings(max_examples=25)
@given(st.lists(NAME, min_size=5, max_size=5, unique=True))
def test_text_is_shown_as_it_is(words: list[str]) -> None:
    name, router, category, strong, note = words
    report = small_report(
        name=name,
        notes=[note],
        routers=[e.EvaluatedRouter(name=router, kind="linear")],
        benchmarks=[small_report().benchmarks[0].model_copy(update={"strong": strong, "categories": {category: 3}})],
        figures=[
            e.Figure(benchmark="tickets", router=router, category=c, metric="apgr", value=0.6, low=0.5, high=0.7, n=3)
            for c in (None, category)
        ],
    )
    page = parsed(evaluation_page(report))
    assert page.one("h1").text == name
    assert page.one("ul", class_="notes").one("li").text == note
    assert {row.one("th").text.strip() for row in page.all("tbody")[0].all("tr")} == {router.strip()}
    (plate,) = page.all("figure", class_="wide")
    assert plate.one("text", class_="label").one("title").text == category
    assert e.EvaluationReport.model_validate_json(page.one("script").text) == report


@settings(max_examples=40)
@given(st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=1, max_size=6), st.lists(NUMBER, min_size=2, max_size=5))
def test_any_number_can_be_drawn(found: list[tuple[float, float, float]], values: list[float]) -> None:
    shares = [k / (len(values) - 1) for k in range(len(values))]
    report = small_report(
        figures=[
            e.Figure(
                benchmark="tickets", router="mine", category=c, metric="apgr", value=value, low=low, high=high, n=1
            )
            for k, (value, low, high) in enumerate(found)
            for c in (None if k == 0 else f"c{k}",)
        ],
        curves=[
            e.Curve(benchmark="tickets", router="mine", strong_share=shares, quality=values, pgr=values, usd=values)
        ],
        label_study=[
            e.LabelStudy(
                kind="linear",
                benchmark="tickets",
                data="in-domain",
                n_labels=k,
                draws=1,
                apgr=value,
                low=low,
                high=high,
                protocol="",
            )
            for k, (value, low, high) in enumerate(found)
        ],
        drift=[e.Drift(router="mine", group="g", n=1, mean=values[0], quantiles=values, strong_share=0.5)],
    )
    page = parsed(evaluation_page(report))
    for chart in page.all("svg", class_="chart"):
        for element in chart.all():
            places = [value for name, value in element.attributes.items() if name in PLACES]
            assert not re.search("nan|inf", " ".join(places)), element.attributes
