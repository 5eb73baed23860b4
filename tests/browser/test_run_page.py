"""The page of a run in a headless browser: the slider moves every number, and nothing else happens."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.report.run import run_page
from jobs.run_report import run_report
from schemas.run_report import RunReport
from tests.browser.keyboard import tabbed
from tests.browser.slider import check_point
from tests.browser.snippets import AGAINST_JSON, CONTRASTS, MARKS, SMALLEST_TYPE
from tests.run_reports import NOW, large_run, table, write_run

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    return large_run(tmp_path_factory.mktemp("night"))


@pytest.fixture(scope="module")
def html(report: RunReport) -> str:
    return run_page(report)


def test_it_renders_alone(opened: Open, html: str, document: Any) -> None:
    page = opened(html)
    assert page.title() == "first-night · run"
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 1280
    n_cells, wrong = page.evaluate(AGAINST_JSON)
    assert (wrong, n_cells > 1_500) == ([], True)
    assert json.loads(page.locator("#report").text_content()) == document


def test_every_chart_has_marks_that_are_seen(opened: Open, html: str) -> None:
    charts = opened(html).evaluate(MARKS)
    assert [chart["label"] for chart in charts] == [
        "From rows to answers", "Cost over time", "Cost", "Where the win rates lie", "The router's claim over cost",
    ]  # fmt: skip
    for chart in charts:
        assert chart["seen"] == chart["marks"] > 0, chart


def test_the_slider_starts_where_the_run_was_cut(opened: Open, html: str, document: Any) -> None:
    page = opened(html)
    slider, at_run = page.locator("#point"), document["at_run"]
    assert slider.input_value() == str(at_run)
    check_point(page, at_run, document)
    assert page.locator("[data-only]:visible").all_inner_texts() == [", as it ran"]
    slider.focus()
    for key, index in {"ArrowRight": at_run + 1, "Home": 0, "End": len(document["sweep"]["points"]) - 1}.items():
        page.keyboard.press(key)
        check_point(page, index, document)
    page.get_by_role("button", name="as it ran").click()
    check_point(page, at_run, document)


def test_the_slider_by_dragging(opened: Open, html: str, document: Any) -> None:
    page = opened(html)
    slider, last = page.locator("#point"), len(document["sweep"]["points"]) - 1
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * document["at_run"] / last, middle)
    page.mouse.down()
    for share in (0.7, 0.15):
        page.mouse.move(box["x"] + box["width"] * share, middle, steps=4)
        index = int(slider.input_value())
        assert abs(index - last * share) < 4
        check_point(page, index, document)
    page.mouse.up()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(opened: Open, html: str, scheme: str) -> None:
    found = opened(html, scheme=scheme).evaluate(CONTRASTS)
    assert len(found) > 1_500
    assert [text for text in found if text[0] < 4.5] == []


def test_paper_and_phone(opened: Open, html: str) -> None:
    page = opened(html, width=720)
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    assert not page.locator("#point").is_visible()
    phone = opened(html, width=360, height=740, is_mobile=True)
    assert phone.evaluate("document.documentElement.scrollWidth") == 360
    assert phone.evaluate(SMALLEST_TYPE) >= 9


def test_the_keyboard_reaches_everything(opened: Open, html: str) -> None:
    seen = tabbed(opened(html))
    assert (seen.count("INPUT"), seen.count("BUTTON")) == (1, 3)


def test_a_run_without_a_curve_needs_no_script(opened: Open, tmp_path: Path) -> None:
    report = run_report(write_run(tmp_path, table().filter(status="failed")), now=NOW)
    page = opened(run_page(report))
    assert page.locator("script").count() == 1
    assert page.locator("#point").count() == 0


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("light", {}),
        ("dark", {"scheme": "dark"}),
        ("phone", {"width": 360, "height": 740, "is_mobile": True}),
        ("print", {"width": 720}),
    ],
)
def test_pictures(opened: Open, html: str, tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    """Pictures to look at, in NIGHTROUTE_SHOTS if it is set."""
    page = opened(html, **more)
    if name == "print":
        page.emulate_media(media="print")
    path = Path(os.environ.get("NIGHTROUTE_SHOTS", tmp_path)) / f"run-{name}.png"
    page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 100_000
