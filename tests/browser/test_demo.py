"""`nightroute demo` as people use it: the real command, a real browser, nothing beyond this machine."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import polars as pl
import pytest

from jobs.demo_figures import Choice, costs, outcome
from jobs.report.numbers import rounded_usd, written
from routing.artifact import BUILTIN, load
from routing.metrics import cost_quality_curve
from routing.prices import price_snapshot
from routing.routers import OnnxRouter, WinRates

HOSTILE = "<script>document.title = 'owned'</script><img src=x onerror=alert(1)> ![x](http://evil.example/a.png)"
FORMULA = '=HYPERLINK("http://evil.example","click")'
PROMPTS = [
    HOSTILE,
    "Hello!",
    "Prove that there are infinitely many primes that leave remainder 3 when divided by 4.",
    FORMULA,
    "A train leaves at 9:40 and travels 210 km at 84 km/h. When does it arrive?",
]
PAIR = Choice("gpt-4-turbo", "openai", 264), Choice("mixtral-8x7b", "mistral", 264)

GRID = """() => {
  const texts = (row, kind) => [...row.querySelectorAll(kind)].map(cell => cell.textContent)
  const tables = [...document.querySelectorAll('[data-testid=stDataFrame] table')]
  const table = tables.find(table => texts(table, 'th')[0] === 'prompt')
  return table ? [texts(table, 'th'), [...table.querySelectorAll('tbody tr')].map(row => texts(row, 'td'))] : [[], []]
}"""
DROP = """([name, text]) => {
  const data = new DataTransfer()
  data.items.add(new File([text], name))
  const zone = document.querySelector('[data-testid=stFileUploaderDropzone]')
  for (const kind of ['dragenter', 'dragover', 'drop'])
    zone.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}))
}"""


@contextmanager
def running(*args: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command in a session of its own, so that Ctrl-C can be sent to it alone; its line of JSON."""
    command = [sys.executable, "-m", "jobs", "demo", "--no-open", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    pytest.importorskip("streamlit", reason="streamlit is not installed: pip install '.[demo]'")
    with running() as (_, line):
        yield line["url"]


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open the page; another host than this machine is refused, and asking for one is a failure."""
    bad: list[str] = []
    contexts: list[Any] = []

    def local(url: str) -> bool:
        parts = urlsplit(url)
        return parts.scheme in ("data", "blob") or parts.netloc == urlsplit(address).netloc

    def guard(route: Any) -> None:
        if local(route.request.url):
            route.continue_()
        else:
            bad.append(route.request.url)
            route.abort()

    def dismiss(dialog: Any) -> None:
        bad.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open_page(*, width: int = 1400, height: int = 1000, scheme: str = "light", **more: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **more)
        contexts.append(context)
        context.set_default_timeout(20_000)
        context.route("**/*", guard)
        page = context.new_page()
        page.on("websocket", lambda ws: None if local(ws.url) else bad.append(ws.url))
        page.on("pageerror", lambda error: bad.append(f"error: {error}"))
        page.on("console", lambda message: bad.append(message.text) if message.type == "error" else None)
        page.on("dialog", dismiss)
        page.goto(address)
        page.get_by_role("heading", name="Prompt by prompt").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert bad == []


def rows(page: Any, prompts: list[str], more: Mapping[str, list[str]] | None = None) -> list[dict[str, str]]:
    """The table of prompts, once it holds these, and more columns of these texts."""
    page.wait_for_function(
        f"""wanted => {{
          const [names, rows] = ({GRID})()
          const texts = name => JSON.stringify(rows.map(row => row[names.indexOf(name)]))
          return wanted.every(([name, column]) => texts(name) === JSON.stringify(column))
        }}""",
        arg=[["prompt", prompts], *(more or {}).items()],
    )
    names, cells = page.evaluate(GRID)
    return [dict(zip(names, row, strict=True)) for row in cells]


def typed(page: Any, prompts: list[str]) -> list[dict[str, str]]:
    box = page.get_by_role("textbox", name="Prompts")
    box.fill("\n".join(prompts))
    box.press("Control+Enter")
    return rows(page, prompts)


def metric(page: Any, label: str) -> str:
    found = page.locator('[data-testid="stMetric"]', has_text=label).locator('[data-testid="stMetricValue"]')
    text: str = found.first.inner_text()
    return text


def chart(page: Any, told: str) -> Any:
    """The first chart, once it is drawn and its description says something."""
    found = page.locator(f'[data-testid="stVegaLiteChart"][aria-label*="{told}"]').first
    found.locator("g.mark-line path").nth(2).wait_for(state="attached")
    return found


def alpha(page: Any) -> float:
    return float(page.get_by_role("slider").input_value())


def ratio(value: float) -> str:
    return written(value, "ratio")


def scored(name: str = "static-mf", prompts: list[str] = PROMPTS) -> WinRates:
    return OnnxRouter(load(BUILTIN / name)).win_rates(prompts)


def bill(rates: WinRates, at: float) -> str:
    """What the page should show for an alpha."""
    priced = costs(rates.tokens, *PAIR, price_snapshot(), at=datetime.now(UTC))
    return rounded_usd(float(outcome(rates.win_rate, priced, at).usd or -1))


def by_alpha(rates: WinRates, at: float) -> list[str]:
    return ["strong" if rate >= at else "weak" for rate in rates.win_rate]


def test_typed_prompts_have_the_routers_win_rates(opened: Callable[..., Any]) -> None:
    page, known = opened(), scored()
    table = typed(page, PROMPTS)
    assert [float(row["static-mf win rate"]) for row in table] == known.win_rate.tolist()
    assert [int(row["tokens"]) for row in table] == (known.tokens + 7).tolist()
    assert [row["static-mf route"] for row in table] == by_alpha(known, alpha(page))
    assert metric(page, "Cost, modelled") == bill(known, alpha(page))
    priced = costs(known.tokens, *PAIR, price_snapshot(), at=datetime.now(UTC))
    assert [float(row["strong USD"]) for row in table] == priced["strong_usd"].cast(pl.Float64).to_list()
    assert page.title() == "nightroute demo"
    assert page.locator("img[src='x'], img[src*='evil']").count() == 0


def test_the_slider_moves_routes_cost_and_curve_by_keyboard(opened: Callable[..., Any]) -> None:
    page, known = opened(), scored()
    typed(page, PROMPTS)
    slider = page.get_by_role("slider")
    bills = set()
    for key in ("Home", "ArrowRight", "PageUp", "End"):
        slider.focus()
        page.keyboard.press(key)
        share = float((known.win_rate >= alpha(page)).mean())
        chart(page, f"At alpha {ratio(alpha(page))}: static-mf: strong share {ratio(share)}")
        routes = by_alpha(known, alpha(page))
        rows(page, PROMPTS, {"static-mf route": routes})
        assert metric(page, "Cost, modelled") == bill(known, alpha(page))
        bills.add(metric(page, "Cost, modelled"))
    assert len(bills) >= 2
    assert set(routes) == {"weak"}


def test_the_curve_is_drawn_with_alpha_on_it(opened: Callable[..., Any]) -> None:
    page = opened()
    at = f"alpha {ratio(alpha(page))}"
    drawing = chart(page, f"Quality it expects over USD per 1,000 prompts. At {at}: static-mf")
    assert drawing.locator("g.mark-line path").count() == 3  # the router and two baselines
    assert drawing.locator("g.layer_1_marks line").count() == 1
    assert drawing.get_by_text(at, exact=True).count() == 1
    page.get_by_text("The curves in numbers").click()
    page.locator('[data-testid="stExpander"] [data-testid="stDataFrame"]:visible').wait_for()


def test_a_second_router_is_opt_in(opened: Callable[..., Any]) -> None:
    page = opened()
    typed(page, PROMPTS)
    assert "bert-minilm win rate" not in page.evaluate(GRID)[0]
    page.get_by_text("bert-minilm", exact=True).click()
    known = scored("bert-minilm")
    table = rows(page, PROMPTS, {"bert-minilm route": by_alpha(known, alpha(page))})
    assert [float(row["bert-minilm win rate"]) for row in table] == known.win_rate.tolist()
    assert page.locator('[data-testid="stVegaLiteChart"]').count() == 2


def test_a_csv_is_dropped(opened: Callable[..., Any]) -> None:
    page = opened()
    page.get_by_text("Drop a file").click()
    page.locator('[data-testid="stFileUploaderDropzone"]').wait_for()
    table = pl.DataFrame({"![x](http://evil.example/b.png)": ["note"] * 5, "question": PROMPTS})
    page.evaluate(DROP, ["<b>mine</b>.csv", table.write_csv()])
    found, known = rows(page, PROMPTS), scored()
    assert [float(row["static-mf win rate"]) for row in found] == known.win_rate.tolist()
    page.get_by_role("combobox", name="Column with the prompts").click()
    page.get_by_role("option", name="![x](http://evil.example/b.png)").click()
    rows(page, ["note"] * 5)
    assert page.title() == "nightroute demo"
    assert page.locator("img[src*='evil'], b:text('mine')").count() == 0


def test_a_parquet_with_grades_is_measured(opened: Callable[..., Any]) -> None:
    page = opened()
    prompts = [f"What is {k} times {k + 3}? {'Explain every step of it. ' * (k % 4)}".strip() for k in range(40)]
    strong, weak = [1.0] * 40, [float(k % 4 < 2) for k in range(40)]
    file = io.BytesIO()
    pl.DataFrame({"prompt": prompts, "strong_score": strong, "weak_score": weak}).write_parquet(file)
    page.get_by_text("Drop a file").click()
    upload = {"name": "graded.parquet", "mimeType": "application/octet-stream", "buffer": file.getvalue()}
    page.locator('[data-testid="stFileUploaderDropzoneInput"]').set_input_files(upload)
    chart(page, "Quality over USD")
    known = scored(prompts=prompts).win_rate
    curve = cost_quality_curve(known, np.array(strong), np.array(weak))
    share = float((known >= alpha(page)).mean())
    quality = ratio(float(curve.quality[np.abs(curve.strong_share - share).argmin()]))
    chart(page, f"strong share {ratio(share)}, Quality {quality}")
    assert metric(page, "Quality") == quality
    assert page.get_by_text(f"Over all alphas (APGR): {ratio(curve.apgr)}").count() == 1


def test_a_model_that_nobody_prices(opened: Callable[..., Any]) -> None:
    page = opened()
    box = page.get_by_role("combobox", name="Who answers as the strong model")
    box.click()
    box.fill("my-own <b>model</b> ![x](http://evil.example/c.png)")
    box.press("Enter")
    warning = page.locator('[data-testid="stAlert"]')
    warning.wait_for()
    assert warning.inner_text().replace("\N{WORD JOINER}", "") == (
        "no price for model 'my-own <b>model</b> ![x](http://evil.example/c.png)': its cost is unknown, which is not $0"
    )
    assert warning.locator("a, b, img").count() == 0
    chart(page, "over Strong share")
    assert metric(page, "Cost, modelled") == "unpriced"


def test_prompts_cannot_be_exported_as_live_formulas(opened: Callable[..., Any]) -> None:
    """Streamlit's CSV of a table leaves `=...` as it is; the demo has no such button."""
    page = opened()
    typed(page, PROMPTS)
    page.locator('[data-testid="stDataFrame"]:visible').first.hover()
    page.get_by_role("button", name="Search").first.wait_for()
    assert page.get_by_role("button", name=re.compile("csv", re.IGNORECASE)).count() == 0


def test_a_phone_shows_it_without_sideways_scrolling(opened: Callable[..., Any]) -> None:
    page = opened(width=390, height=844, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures(opened: Callable[..., Any], tmp_path: Path, scheme: str) -> None:
    """Pictures to look at, in NIGHTROUTE_SHOTS if it is set."""
    page = opened(scheme=scheme, height=1_650)
    ground = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 23, 26)"}[scheme]
    line = chart(page, "At alpha").locator("g.mark-line path").nth(2)
    assert line.evaluate("e => getComputedStyle(e).stroke") == {
        "light": "rgb(0, 100, 172)", "dark": "rgb(85, 178, 214)",
    }[scheme]  # fmt: skip
    path = Path(os.environ.get("NIGHTROUTE_SHOTS", tmp_path)) / f"demo-{scheme}.png"
    page.screenshot(path=path)
    assert path.stat().st_size > 80_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_and_takes_its_server_with_it(address: str, number: int) -> None:
    port = urlsplit(address).port
    taken = subprocess.run(
        [sys.executable, "-m", "jobs", "demo", "--no-open", "--port", str(port)], capture_output=True, text=True
    )
    assert taken.returncode == 78
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in taken.stderr
    with running() as (process, line):
        os.kill(process.pid, number)
        assert process.wait(20) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", urlsplit(line["url"]).port), 5).close()


def test_another_name_for_this_machine_is_refused(address: str) -> None:
    """DNS rebinding: a page of evil.example that resolves to 127.0.0.1 cannot talk to the demo."""
    port = urlsplit(address).port
    answers = {}
    for host in ("evil.example", f"127.0.0.1:{port}"):
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            lines = [
                "GET /_stcore/stream HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
                "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", f"Origin: http://{host}",
            ]  # fmt: skip
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            answers[host] = connection.recv(100).split()[1]
    assert answers == {"evil.example": b"403", f"127.0.0.1:{port}": b"101"}
