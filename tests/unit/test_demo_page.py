import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

from jobs import demo, demo_data
from routing.artifact import BUILTIN, load
from routing.metrics import cost_quality_curve
from routing.prices import price_snapshot
from routing.routers import OnnxRouter

HOSTILE = (
    "<script>alert(1)</script> ![x](http://evil.example/x.png) [a](javascript:1) $x$ :red[y] *z* `q` <img src=x> "
    "www.evil.example a@evil.example"
)
PUNCTUATION = r"[!-/:-@\[-`{-~]"


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    testing = pytest.importorskip("streamlit.testing.v1", reason="streamlit is not installed: pip install '.[demo]'")
    monkeypatch.setattr(sys, "argv", [str(demo.SCRIPT)])
    monkeypatch.setattr(sys, "path", list(sys.path))
    app = testing.AppTest.from_file(str(demo.SCRIPT), default_timeout=60)
    yield app.run()
    assert not app.exception


def metrics(app: Any) -> list[tuple[str, str]]:
    return [(metric.label, metric.value) for metric in app.metric]


def checkbox(app: Any, label: str) -> Any:
    (found,) = [box for box in app.checkbox if box.label.replace("\\", "") == label]
    return found


def test_the_examples_are_scored_as_the_router_scores_them(app: Any) -> None:
    known = OnnxRouter(load(BUILTIN / "static-mf")).win_rates(demo_data.EXAMPLES)
    table = app.dataframe[-2].value
    assert table["prompt"].to_list() == list(demo_data.EXAMPLES)
    assert table["static-mf win rate"].to_list() == known.win_rate.tolist()
    assert table["tokens"].to_list() == (known.tokens + 7).tolist()
    alpha = app.slider[0].value
    assert alpha == round(float(np.median(known.win_rate)), 3)
    assert table["static-mf route"].to_list() == ["strong" if rate >= alpha else "weak" for rate in known.win_rate]
    assert metrics(app)[0][0] == "Strong share"
    app.slider[0].set_value(app.slider[0].max).run()
    assert set(app.dataframe[-2].value["static-mf route"]) == {"weak"}
    assert dict(metrics(app))["Strong share"] == "0.0\N{NO-BREAK SPACE}%"


def test_hostile_text_is_shown_as_text(app: Any) -> None:
    app.text_area[0].set_value(HOSTILE).run()
    assert app.dataframe[-2].value["prompt"].to_list() == [HOSTILE]
    app.radio[0].set_value("Drop a file").run()
    app.file_uploader[0].set_value(("<i>![x](http://evil.example).csv", b"a\n1\n", "text/csv")).run()
    (error,) = app.error
    assert unescaped(error.value) == "<i>![x](http://evil.example).csv has no column of text; it has {'a': Int64}"


def unescaped(markdown: str) -> str:
    """What Markdown shows; every sign that could mean something has to be escaped."""
    assert not re.search(PUNCTUATION, re.sub(rf"\\{PUNCTUATION}", "", markdown))
    assert not re.search(r"://|www\\\.|@\w", markdown.replace("\\/", "/").replace("\\:", ":"))  # no link by itself
    return re.sub(rf"\\({PUNCTUATION})", r"\1", markdown).replace("\N{WORD JOINER}", "")


@pytest.mark.usefixtures("app")
def test_markdown_is_escaped() -> None:
    from jobs.demo_page import plain

    assert unescaped(plain(HOSTILE)) == HOSTILE
    assert plain("  1. a\n# b ") == "1\\. a \\# b"


def test_a_model_without_a_price_is_unpriced(app: Any) -> None:
    excluded = price_snapshot().filter(pl.col("excluded_reason").is_not_null())
    label = "/".join(excluded.select("provider", "model").row(0))
    assert label in app.selectbox[0].options
    app.selectbox[0].set_value(label).run()
    (warning,) = app.warning
    assert "its cost is unknown, which is not $0" in unescaped(warning.value)
    shown = dict(metrics(app))
    assert (shown["Cost, modelled"], shown["Saved"]) == ("unpriced", "unknown")
    assert set(app.dataframe[-2].value["strong USD"]) == {"unpriced"}
    assert any("All strong unpriced, all weak $0.0012" in unescaped(caption.value) for caption in app.caption[2:4])


def test_nothing_typed_and_nobody_chosen(app: Any) -> None:
    app.text_area[0].set_value("  ").run()
    assert [info.value for info in app.info] == ["Give at least one prompt."]
    checkbox(app, "static-mf").uncheck().run()
    assert [info.value for info in app.info] == ["Choose a router."]


def test_alpha_stays_where_it_was_put(app: Any) -> None:
    low = app.slider[0].min
    app.slider[0].set_value(low + 0.05).run()
    app.text_area[0].set_value("Prove it.\n" + "\n".join(demo_data.EXAMPLES)).run()
    assert app.slider[0].value == pytest.approx(low + 0.05)
    app.text_area[0].set_value(demo_data.EXAMPLES[0]).run()
    assert app.slider[0].min <= app.slider[0].value <= app.slider[0].max


def test_a_dropped_table_with_grades_is_measured(app: Any) -> None:
    prompts = [f"Question {k}: what is {k} times {k + 1}?" for k in range(60)]
    table = pl.DataFrame({"q": prompts, "strong_score": [1.0] * 60, "weak_score": [k % 2 for k in range(60)]})
    app.radio[0].set_value("Drop a file").run()
    assert [info.value for info in app.info] == ["Give at least one prompt."]
    app.file_uploader[0].set_value(("graded.csv", table.write_csv().encode(), "text/csv")).run()
    assert dict(metrics(app))["Quality"] != ""
    known = OnnxRouter(load(BUILTIN / "static-mf")).win_rates(prompts).win_rate
    curve = cost_quality_curve(known, table["strong_score"].to_numpy(), table["weak_score"].cast(pl.Float64).to_numpy())
    share = float((known >= app.slider[0].value).mean())
    measured = float(curve.quality[np.abs(curve.strong_share - share).argmin()])
    assert dict(metrics(app))["Quality"] == f"{measured:.3f}".removeprefix("0")
    assert f"{curve.apgr:.3f}".removeprefix("0") in "".join(c.value.replace("\\", "") for c in app.caption)
    assert app.dataframe[-2].value.columns[-2:].to_list() == ["strong score", "weak score"]
    checkbox(
        app, "Use the grades of both answers (layout golden)"
    ).uncheck().run()  # the same table, but not its grades
    assert "Quality it expects" in dict(metrics(app))
    app.file_uploader[0].set_value(("bad.csv", b"a\n1\n", "text/csv")).run()
    assert [error.value.replace("\\", "") for error in app.error] == [
        "bad.csv has no column of text; it has {'a': Int64}"
    ]
