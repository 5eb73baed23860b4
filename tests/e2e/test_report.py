"""The page of a real night: what it says is what the night published, and a resplit moves the run along the curve."""

import json
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from tests.e2e.desk import Desk, assert_told, questions
from tests.e2e.harness import STRONG, WEAK
from tests.pages import parsed
from tests.report_pages import check_inert, check_numbers

PRICES = [
    {"model": STRONG, "input_usd_per_mtok": "2", "output_usd_per_mtok": "8"},
    {"model": WEAK, "input_usd_per_mtok": "0.1", "output_usd_per_mtok": "0.4"},
]


def page_of(night: Desk, *args: str) -> Any:
    """Report JSON of the page that `nightroute report` writes, held against the page itself."""
    ended = night.of_run("report", *args)
    assert ended.exit_code == 0, ended.stderr
    html = (night.run_dir / "report.html").read_text(encoding="utf-8")
    page = parsed(html)
    check_inert(html, page, script=True)
    report = json.loads(page.one("script", id="report").text)
    assert check_numbers(report, page)
    return report


@pytest.fixture
def finished(night: Desk) -> Desk:
    table = questions(60).with_columns(tenant=pl.Series(["acme", "bolt", "cargo"] * 20))
    night.put(table)
    night.write_config(prices=PRICES, output__partition_by=["tenant"])
    assert night.run().exit_code == 0
    return night


def test_the_page_says_what_was_published(finished: Desk) -> None:
    report, table = page_of(finished, "--group", "tenant"), finished.published()
    assert report["manifest"] == finished.manifest()
    assert sum(flow["queries"] for flow in report["flows"]) == 60
    assert (
        Decimal(report["compared_usd"]) == table["cost_usd"].sum() == Decimal(report["manifest"]["totals"]["cost_usd"])
    )
    assert [group["queries"] for group in report["groups"]] == [20, 20, 20]
    assert sum(Decimal(group["cost_usd"]) for group in report["groups"]) == table["cost_usd"].sum()
    assert sum(piece["queries"] for piece in report["slices"]) == 60


def test_a_resplit_lands_where_the_curve_said(finished: Desk) -> None:
    """All strong was modelled before it was paid; what did not move costs to the last digit what it did before."""
    before = page_of(finished)
    alpha = before["sweep"]["points"][-1]["alpha"]
    assert finished.of_run("resplit", "--alpha", str(alpha)).exit_code == 0
    after = page_of(finished)
    assert (after["manifest"]["revision"], after["at_run"]) == (2, len(after["sweep"]["points"]) - 1)
    said, paid = before["sweep"]["points"][-1]["cost_usd"], float(after["compared_usd"])
    assert said["low"] <= paid <= said["high"]
    point = after["sweep"]["points"][after["at_run"]]
    assert point["cost_usd"]["low"] == point["cost_usd"]["high"] == pytest.approx(paid)
    assert before["at_run"] < len(before["sweep"]["points"]) - 1


def test_a_night_that_is_only_planned(night: Desk) -> None:
    night.put(questions(5))
    assert night.run(command="plan").exit_code == 0
    assert_told(night.of_run("report"), 75, "is not published yet", "nightroute resume")
