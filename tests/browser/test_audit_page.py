"""The page of an audit in a headless browser: the slider moves every number, and nothing else happens."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.report.audit import audit_page
from jobs.report.environment import script
from jobs.report.numbers import NONE, Unit, written
from schemas import audit as a
from tests.audit_reports import FORMULA, HOSTILE, large_report, poisoned, small_report, what_if
from tests.browser.keyboard import tabbed
from tests.browser.slider import check_point
from tests.browser.snippets import AGAINST_JSON, CONTRASTS, FOCUSED, MARKS, SMALLEST_TYPE

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def report() -> a.AuditReport:
    return large_report()


@pytest.fixture(scope="module")
def html(report: a.AuditReport) -> str:
    return audit_page(report)


def test_it_renders_alone(opened: Open, html: str) -> None:
    page = opened(html)
    assert page.title() == "Platform, autumn quarter · audit"
    assert page.locator("h2").first.inner_text() == "Verdict"
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 1280


def test_every_chart_has_marks_that_are_seen(opened: Open, html: str) -> None:
    charts = opened(html).evaluate(MARKS)
    assert [chart["label"] for chart in charts] == [
        "Cost by day", "Cost", "Quality kept", "Where the win rates lie", "Quality over cost",
    ]  # fmt: skip
    for chart in charts:
        assert chart["width"] > 300, chart
        assert chart["height"] > 200, chart
        assert chart["seen"] == chart["marks"] > 0, chart


def test_the_page_says_what_the_json_says(opened: Open, html: str, document: Any) -> None:
    page = opened(html)
    n_cells, wrong = page.evaluate(AGAINST_JSON)
    assert wrong == []
    assert n_cells > 4_500
    assert json.loads(page.locator("#report").text_content()) == document
    assert check_point(page, 51, document) > 500


def test_the_slider_by_keyboard(opened: Open, html: str, document: Any) -> None:
    page = opened(html)
    slider = page.locator("#point")
    slider.focus()
    assert page.evaluate(FOCUSED)[::2] == ["INPUT", "solid"]
    for key, index in (
        ("ArrowRight", 52),
        ("ArrowLeft", 51),
        ("Home", 0),
        ("ArrowUp", 1),
        ("End", 100),
        ("PageDown", 90),
    ):
        page.keyboard.press(key)
        assert slider.input_value() == str(index), key
        check_point(page, index, document)
    words = slider.get_attribute("aria-valuetext")
    point = document["what_if"]["sweep"]["points"][90]
    assert words == f"alpha {written(point['alpha'], 'alpha')}, strong share {written(point['strong_share'], 'share')}"


def test_the_slider_by_dragging(opened: Open, html: str, document: Any) -> None:
    page = opened(html)
    slider = page.locator("#point")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.51, middle)
    page.mouse.down()
    seen = set()
    for share in (0.42, 0.2, 0.77):
        page.mouse.move(box["x"] + box["width"] * share, middle, steps=4)
        index = int(slider.input_value())
        assert abs(index - 100 * share) < 3
        check_point(page, index, document)
        seen.add(index)
    page.mouse.up()
    assert len(seen) == 3
    assert int(slider.input_value()) == index


def test_the_slider_by_its_buttons(opened: Open, html: str, document: Any) -> None:
    page = opened(html)
    shown = page.locator("[data-only]:visible")
    assert shown.all_inner_texts() == [", recommended"]
    page.get_by_role("button", name="all weak, routed").click()
    assert (page.locator("#point").input_value(), shown.all_inner_texts()) == ("0", [", all weak, routed"])
    check_point(page, 0, document)
    assert page.locator("#point-name").inner_text() == "alpha above every win rate, strong share .00"
    page.get_by_role("button", name="recommended").click()
    check_point(page, 51, document)
    page.locator("#point").press("ArrowRight")
    assert shown.count() == 0


def test_what_a_screen_reader_hears(opened: Open, html: str) -> None:
    """The point while the slider moves; its consequences once, when it rests."""
    page = opened(html)
    said = page.locator("#said")
    assert (said.get_attribute("role"), said.text_content()) == ("status", "")
    page.evaluate("window.spoken = 0; new MutationObserver(() => spoken++).observe(said, {childList: true})")
    page.locator("#point").focus()
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    page.locator("#said", has_text="Alpha").wait_for(state="attached")
    assert page.evaluate("spoken") == 1
    point = large_report().what_if.sweep.points[45]  # type: ignore[union-attr]
    text = said.text_content()
    assert text.startswith(f"Alpha {written(point.alpha, 'alpha')} sends {point.n_strong:,} calls to the strong model.")
    assert written(point.cost_usd.value, "about") in text
    assert text.endswith("of the strong model's quality is kept.")


def test_numbers_are_written_as_python_writes_them(opened: Open, html: str) -> None:
    """Ties, exponents, the largest and the smallest: the same characters."""
    page = opened(html)
    values = [
        0.0, 0.125, 0.375, 2.5, 3.5, 0.5, 1.5, -0.125, 0.0625, 0.0005, 0.00049, 0.0004999, 1e-7, 5e-324, 1e21, 1.5e22,
        -1e21, 0.1, 0.0999999, 0.001, 0.00099999, 99.995, 99.999, 100.0, 100.5, 101.5, 999_999.5, 123_456.789, 1 / 3,
        2 / 3, 0.9995, 0.99949999, 1e15 + 0.5, 4.35, 1.005, 8.345, 0.045, 0.055,
        *((7_919 * k % 100_003) / 2 ** (k % 13) for k in range(400)),
        *((-1) ** k * (7_919 * k % 100_003) * 10.0 ** (k % 17 - 11) for k in range(400)),
    ]  # fmt: skip
    units: list[Unit] = ["ratio", "alpha", "share", "count", "money", "about", "percent"]
    for unit in units:
        found = page.evaluate("([values, unit]) => values.map(value => written(value, unit))", [values, unit])
        assert found == [written(value, unit) for value in values], unit


def test_without_scripts_the_page_stays_at_the_point(opened: Open, html: str, document: Any) -> None:
    page = opened(html, java_script_enabled=False)
    assert not page.locator("#point").is_visible()
    assert page.get_by_role("button").count() == 0
    dial = page.locator(".dial").inner_text()
    point = document["what_if"]["sweep"]["points"][51]
    assert ", recommended" in dial
    assert written(point["cost_usd"]["value"], "about") in dial
    page.get_by_text("All points of the curve", exact=True).first.click()
    assert page.locator("details[open] tbody tr").count() == 101


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(opened: Open, html: str, scheme: str) -> None:
    page = opened(html, scheme=scheme)
    found = page.evaluate(CONTRASTS)
    assert len(found) > 5_000
    assert [text for text in found if text[0] < 4.5] == []


def test_paper_holds_the_current_point(opened: Open, html: str, document: Any) -> None:
    page = opened(html, scheme="dark", width=720)
    page.locator("#point").press("Home")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#point").is_visible()
    assert not page.locator("nav").is_visible()
    dial = page.locator(".dial").inner_text()
    assert "above every win rate" in dial
    assert written(document["what_if"]["sweep"]["points"][0]["cost_usd"]["value"], "about") in dial
    tall = page.locator(".tall").first
    assert tall.evaluate("e => e.scrollHeight <= e.clientHeight + 1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    assert [text for text in page.evaluate(CONTRASTS) if text[0] < 4.5] == []
    assert page.pdf().startswith(b"%PDF")


def test_the_keyboard_reaches_everything(opened: Open, html: str) -> None:
    page = opened(html)

    def in_sight(what: str) -> None:
        hidden = page.evaluate("""() => {
          const e = document.activeElement, box = e.getBoundingClientRect(), dial = document.querySelector('.dial')
          const over = dial.getBoundingClientRect()
          return !dial.contains(e) && box.bottom <= over.bottom && box.top >= over.top && over.top <= 0 }""")
        assert not hidden, what

    seen = tabbed(page, in_sight)
    assert seen[:7] == ["A"] * 7
    assert (seen.count("INPUT"), seen.count("BUTTON")) == (1, 3)


def test_the_slider_stays_in_sight(opened: Open, html: str) -> None:
    """While the charts and the tenants below it are read."""
    page = opened(html)
    page.get_by_role("heading", name="For whom").scroll_into_view_if_needed()
    assert page.locator("#point").evaluate("e => e.getBoundingClientRect().top") >= 0
    assert page.locator(".dial").evaluate("e => e.getBoundingClientRect().height") < 220


def test_a_phone_shows_it_without_sideways_scrolling(opened: Open, html: str, document: Any) -> None:
    page = opened(html, width=360, height=740, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate(SMALLEST_TYPE) >= 9
    captions = page.evaluate("[...document.querySelectorAll('caption span')].map(c => c.getBoundingClientRect().width)")
    assert max(captions) <= 330
    page.locator("#point").press("End")
    check_point(page, 100, document)


def test_hostile_text_does_nothing(opened: Open, document: Any) -> None:
    """A script in a prompt, a formula in a tenant's name: text, before and after the slider moves."""
    report = a.AuditReport.model_validate(poisoned(document))
    page = opened(audit_page(report))
    assert page.title().startswith("<script>alert")
    assert page.locator("h1").inner_text().startswith("<script>alert")
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    page.locator("#point").press("Home")
    check_point(page, 0, json.loads(report.model_dump_json()))
    assert page.locator("th", has_text="HYPERLINK").first.inner_text().endswith(FORMULA)
    assert page.locator("a[href^=http]").count() == 0
    assert page.locator("tbody th", has_text="search").first.text_content() == f"{HOSTILE}search"


@pytest.mark.parametrize("guarded", [True, False])
def test_only_our_script_runs(browser: Any, tmp_path: Path, html: str, guarded: bool) -> None:
    """A script put into the page does not run, unless the policy is taken out; ours does in both."""
    attacked = html.replace("</main>", "<script>document.title = 'owned'</script></main>")
    path = tmp_path / "page.html"
    path.write_text(attacked if guarded else attacked.replace("Content-Security-Policy", "none"), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri(), wait_until="load")
    title, visible = page.title(), page.locator("#point").is_visible()
    page.close()
    assert (title, visible) == ("Platform, autumn quarter · audit" if guarded else "owned", True)
    assert script("numbers.js", "slider.js").source in html.replace("&#39;", "'")


def test_the_slider_without_grades(opened: Open) -> None:
    report = small_report(what_if=what_if(small_report().paid, points=101, graded=False, recommended=False))
    page = opened(audit_page(report))
    page.locator("#point").press("End")
    check_point(page, 100, json.loads(report.model_dump_json()))
    assert page.locator(".dial .tiles div", has_text="quality kept").locator("dd").first.inner_text() == NONE


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("light", {}),
        ("dark", {"scheme": "dark"}),
        ("phone", {"width": 360, "height": 740, "is_mobile": True}),
        ("print", {"width": 720}),
    ],
)
@pytest.mark.parametrize("size", ["large", "small"])
def test_pictures(opened: Open, html: str, tmp_path: Path, size: str, name: str, more: dict[str, Any]) -> None:
    """Pictures to look at, in NIGHTROUTE_SHOTS if it is set."""
    page = opened(html if size == "large" else audit_page(small_report()), **more)
    if name == "print":
        page.emulate_media(media="print")
    path = Path(os.environ.get("NIGHTROUTE_SHOTS", tmp_path)) / f"audit-{size}-{name}.png"
    page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 60_000
