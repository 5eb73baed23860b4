"""The page of an evaluation in a headless browser: drawn, readable, printable, inert and alone."""

import itertools
import json
import os
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from jobs.report.evaluation import evaluation_page
from schemas import evaluation as e
from tests.browser.keyboard import tabbed
from tests.browser.snippets import AGAINST_JSON, CONTRASTS, FOCUSED, MARKS, SMALLEST_TYPE
from tests.evaluation_reports import ROUTERS, large_report, small_report

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def report() -> e.EvaluationReport:
    return large_report()


@pytest.fixture(scope="module")
def html(report: e.EvaluationReport) -> str:
    return evaluation_page(report)


def test_it_renders_alone(opened: Open, html: str) -> None:
    page = opened(html)
    assert page.title() == "Routers of November · evaluation"
    assert page.locator("h2").first.inner_text() == "Summary"
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 1280


def test_every_chart_has_marks_that_are_seen(opened: Open, html: str) -> None:
    charts = opened(html).evaluate(MARKS)
    assert len(charts) == 46
    for chart in charts:
        assert chart["width"] > 150, chart
        assert chart["height"] > 80, chart
        assert chart["marks"] > 0, chart
        assert chart["seen"] == chart["marks"], chart


def test_lines_leave_their_chart_nowhere(opened: Open, html: str) -> None:
    """The oracle passes the dollars' axis and is cut off there."""
    page = opened(html)
    dollars = page.locator("figure", has_text="Quality over dollars").first
    clip, oracle = dollars.locator("svg svg"), dollars.locator("path.series", has_text="oracle")
    assert clip.evaluate("e => getComputedStyle(e).overflow") == "hidden"
    assert oracle.evaluate("e => e.getBBox().y") < clip.evaluate("e => e.y.baseVal.value")


def test_a_mark_tells_its_numbers_on_hovering(opened: Open, html: str) -> None:
    page = opened(html)
    forest = page.locator("figure", has_text="APGR with intervals").first
    assert forest.locator("path.dot title").all_text_contents()[0] == "cluster-mmlu: .652 [.636, .669]"


def test_the_tables_say_what_the_json_says(opened: Open, html: str, report: e.EvaluationReport) -> None:
    page = opened(html)
    n_cells, wrong = page.evaluate(AGAINST_JSON)
    assert wrong == []
    assert n_cells > 3_000
    held = json.loads(page.locator("#report").text_content())
    assert held == json.loads(report.model_dump_json())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(opened: Open, html: str, scheme: str) -> None:
    page = opened(html, scheme=scheme)
    found = page.evaluate(CONTRASTS)
    assert len(found) > 3_000
    assert [text for text in found if text[0] < 4.5] == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    assert dark == (scheme == "dark")
    look = page.locator("path.series").nth(1).evaluate("e => getComputedStyle(e).stroke")
    assert look == {"light": "rgb(0, 100, 172)", "dark": "rgb(85, 178, 214)"}[scheme]


def test_paper_is_white_and_prints_what_is_open(opened: Open, html: str) -> None:
    page = opened(html, scheme="dark", width=720)
    page.locator("summary").first.click()
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert page.locator("details").first.is_visible()
    assert not page.locator("details").nth(1).is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    assert [text for text in page.evaluate(CONTRASTS) if text[0] < 4.5] == []
    heights = page.evaluate("[...document.querySelectorAll('svg.chart')].map(c => c.getBoundingClientRect().height)")
    assert max(heights) <= 220 / 25.4 * 96
    assert page.pdf().startswith(b"%PDF")


def test_the_keyboard_reaches_everything_in_order(opened: Open, html: str) -> None:
    page = opened(html)
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == ["A", "Skip to the content", "solid"]
    assert page.locator(".skip").bounding_box()["x"] == 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == ["A", "MMLU", "solid"]
    page = opened(html)
    offsets: list[float] = []
    seen = tabbed(
        page,
        lambda _: offsets.append(page.evaluate("document.activeElement.getBoundingClientRect().top + scrollY")),
    )
    assert seen[:11] == ["A"] * 11
    assert all(later > earlier - 700 for earlier, later in itertools.pairwise(offsets))
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.get_attribute("open") == ""


def test_a_phone_shows_it_without_sideways_scrolling(opened: Open, html: str) -> None:
    page = opened(html, width=360, height=740, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate(SMALLEST_TYPE) >= 9
    wide = page.locator(".wide .panels")
    assert wide.evaluate("e => e.scrollWidth > e.clientWidth")
    assert wide.get_attribute("tabindex") == "0"


def test_hostile_text_does_nothing(opened: Open) -> None:
    bad = "</script></title></style><script>document.title='owned';alert(1)</script><img src=x onerror=alert(2)>\u2028"
    report = small_report(
        name=bad, notes=[bad], machine=bad, versions={bad: bad},
        routers=[e.EvaluatedRouter(name=bad, kind="linear", licence=bad, trained_pair=bad)],
        benchmarks=[
            e.EvaluatedBenchmark(
                name=bad, sha256=bad, strong=bad, weak=bad, n=3, strong_quality=1, weak_quality=0,
                categories={bad: 3}, protocol=bad,
            )
        ],
        figures=[
            e.Figure(benchmark=bad, router=bad, category=c, metric=m, value=0.6, low=0.5, high=0.7, n=3)
            for c in (None, bad) for m in ("apgr", bad)
        ],
        curves=[e.Curve(benchmark=bad, router=bad, strong_share=[0, 1], quality=[0, 1], pgr=[0, 1])],
    )  # fmt: skip
    page = opened(evaluation_page(report))
    assert page.title().startswith("</script></title>")
    assert page.locator("h1").inner_text().startswith("</script></title></style><script>document.title")
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert page.evaluate(AGAINST_JSON)[1] == []


@pytest.mark.parametrize("guarded", [True, False])
def test_the_policy_stops_what_escaping_would_let_through(
    browser: Any, tmp_path: Path, html: str, guarded: bool
) -> None:
    """A script and a picture put into the page: neither runs nor is fetched, unless the policy is taken out."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        picture = f"http://127.0.0.1:{server.server_port}/x.png"
        attack = f"<script>document.title = 'owned'</script><img src='{picture}'>"
        attacked = html.replace("</main>", f"{attack}</main>")
        path = tmp_path / "page.html"
        path.write_text(attacked if guarded else attacked.replace("Content-Security-Policy", "none"), encoding="utf-8")
        page = browser.new_page()
        page.goto(path.as_uri(), wait_until="load")
        title = page.title()
        page.close()
        server.shutdown()
    assert (title, asked) == (("Routers of November · evaluation", []) if guarded else ("owned", ["/x.png"]))


def test_one_router_is_enough(opened: Open) -> None:
    page = opened(evaluation_page(small_report()))
    (chart,) = page.evaluate(MARKS)
    assert (chart["label"], chart["marks"], chart["seen"]) == ("APGR with intervals", 1, 1)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("light", {}),
        ("dark", {"scheme": "dark"}),
        ("phone", {"width": 390, "height": 844, "is_mobile": True}),
        ("print", {"width": 720}),
    ],
)
def test_pictures(opened: Open, html: str, tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    """Pictures to look at, in NIGHTROUTE_SHOTS if it is set."""
    page = opened(html, **more)
    if name == "print":
        page.emulate_media(media="print")
    path = Path(os.environ.get("NIGHTROUTE_SHOTS", tmp_path)) / f"evaluation-{name}.png"
    page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 300_000
    assert set(ROUTERS) <= set(page.locator("tbody th").all_inner_texts())
