from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from jobs.audit_config import PageSection
from routing.audit import cube
from schemas.audit import RowCounts
from schemas.daily import Hourly
from tests.audit_frames import NOON, Row, booked, call_log


def test_every_row_of_the_log_is_accounted_for(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"prompt": "hello"},
        {"prompt": "hello", "call_id": "twice"},
        {"prompt": "hello", "call_id": "twice"},
        {"call_id": "reused"},
        {"call_id": "reused", "output_tokens": 101},
        {"call_id": None},
        {"call_id": None, "outcome": "failed"},
        {"model": "mystery"},
        {"billed": False, "prompt": "\n"},
        {"attempts": -1},
    ]
    assert booked(call_log(*rows), tmp_path, part_rows=3).reconciliation.rows == RowCounts(
        read=10,
        rejected=1,
        duplicated=1,
        kept=8,
        null_ids=2,
        reused_ids=2,
        unpriced=1,
        unbilled=1,
        failed=1,
        missing_prompts=6,
    )


def test_the_books_span_the_kept_calls(tmp_path: Path) -> None:
    rows: list[Row] = [{"called_at": NOON + timedelta(minutes=n)} for n in (0, 59, -1, 61)]
    rows.append({"called_at": NOON - timedelta(days=9), "attempts": -1})
    books = booked(call_log(*rows), tmp_path)
    assert (books.first_called_at, books.last_called_at) == (NOON - timedelta(minutes=1), NOON + timedelta(minutes=61))
    assert Hourly.is_valid(books.hourly)
    assert books.hourly.rows() == [
        (NOON - timedelta(hours=1), 1),
        (NOON, 2),
        (NOON + timedelta(hours=1), 1),
    ]


@pytest.mark.parametrize("rows", [[], [{"attempts": -1}] * 3])
def test_a_log_without_a_good_row_has_empty_books(tmp_path: Path, rows: list[Row]) -> None:
    control = pl.DataFrame({"day": ["2026-10-05"], "calls": [3]})
    books = booked(call_log(*rows), tmp_path, control=control)
    assert (books.first_called_at, books.last_called_at) == (None, None)
    assert books.paid.total.calls == 0
    assert [*books.paid.days, *books.paid.tenants, *books.paid.prompt_groups, *books.reconciliation.models] == []
    assert (books.daily.height, books.hourly.height) == (0, 0)
    assert [str(item.difference) for item in books.reconciliation.control] == ["-3"]


def test_the_page_says_how_much_of_prompts_is_shown(tmp_path: Path) -> None:
    rows: list[Row] = [{"prompt": "one"}, {"prompt": "two", "model": "big"}, {"prompt": "three"}, {"prompt": "three"}]
    shown = booked(call_log(*rows), tmp_path, page=PageSection(top=2)).paid.prompt_groups
    assert [(group.excerpt, group.calls) for group in shown] == [("two", 1), ("three", 2)]
    hidden = booked(call_log(*rows), tmp_path, page=PageSection(top=2, excerpts=False)).paid.prompt_groups
    assert [group.excerpt for group in hidden] == [None, None]
    assert [group.template_sha256 for group in hidden] == [group.template_sha256 for group in shown]


def test_sums_are_exact(tmp_path: Path) -> None:
    # One token at $1 a million, a thousand times: floats would not give 0.001.
    rows: list[Row] = [{"input_tokens": 1, "output_tokens": 0, "logged_usd": Decimal("0.000000100001")}] * 1_000
    total = booked(call_log(*rows), tmp_path, part_rows=300).paid.total
    assert (total.cost_usd, total.logged_usd) == (Decimal("0.001"), Decimal("0.000100001"))


def test_the_largest_amounts_that_are_kept_do_not_overflow(tmp_path: Path) -> None:
    rows: list[Row] = [{"input_tokens": 10**10, "output_tokens": 10**10, "logged_usd": Decimal(10**9)}] * 900
    total = booked(call_log(*rows), tmp_path, part_rows=300).paid.total
    assert total.input_tokens == 900 * 10**10
    assert total.cost_usd == 900 * 110_000
    assert total.logged_usd == 900 * 10**9


def test_a_tally_merges_as_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cube, "_MERGE_ROWS", 10)
    heights = []

    def merge(frame: pl.DataFrame) -> pl.DataFrame:
        heights.append(frame.height)
        return cube.merge_hourly(frame)

    tally = cube.Tally(merge)
    for n in range(40):
        tally.add(pl.DataFrame([(NOON + timedelta(hours=n % 4), 1)], schema=Hourly.create_empty().schema, orient="row"))
    assert tally.total()["calls"].to_list() == [10, 10, 10, 10]
    assert max(heights) <= 11
