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
        identical_null_ids=0,
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


def test_rows_without_an_id_that_are_alike_are_kept_and_counted(tmp_path: Path) -> None:
    # Two dumps that overlap: three rows stand in both.
    rows: list[Row] = [{"call_id": None, "output_tokens": n} for n in range(5)]
    found = booked(call_log(*rows, *rows[2:], {}, {}), tmp_path)
    counts = found.reconciliation.rows
    assert (counts.null_ids, counts.identical_null_ids, counts.duplicated, counts.kept) == (8, 3, 0, 10)
    assert "call_id" not in found.daily.columns


def test_a_log_of_users_has_a_thousand_tenants_and_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are the last, whatever they cost together, and no dollar is lost; the daily table names them all."""
    monkeypatch.setattr("routing.audit.spend.MAX_GROUPS", 3)
    names = [None, *"abcdefgh"]
    rows: list[Row] = [
        {"tenant": name, "called_at": NOON + timedelta(days=day), "input_tokens": 10_000 * (9 - k)}
        for k, name in enumerate(names)
        for day in range(1 + k % 2)
    ]
    books = booked(call_log(*rows), tmp_path)
    paid = books.paid
    assert [tenant.key for tenant in paid.tenants] == ["a", "c", None, "(6 others)"]
    assert paid.tenants[-1].calls == len(rows) - 5
    for field in ("calls", "cost_usd", "input_tokens", "unpriced_calls"):
        assert sum(getattr(tenant, field) for tenant in paid.tenants) == getattr(paid.total, field)
    assert [sum(day.groups) for day in paid.days] == [day.spend.cost_usd for day in paid.days]
    assert [sum(day.groups[k] for day in paid.days) for k in range(4)] == [one.cost_usd for one in paid.tenants]
    assert books.daily["tenant"].n_unique() == 9
