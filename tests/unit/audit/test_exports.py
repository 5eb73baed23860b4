import csv
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from jobs.audit_config import ExportSection
from jobs.audit_exports import inert, table_of, write_csv, write_exports
from jobs.audit_results import NAMES
from jobs.audit_what_if import WhatIfResult
from routing.audit.what_if_sweep import unrouted
from routing.errors import ConfigError
from schemas.audit import AuditReport, DaySpend, Spend
from schemas.sweep import SweepPoint
from tests.audit_frames import NOON, PRICES, booked, call_log
from tests.audit_reports import FORMULA, large_report, small_report

TABLES = {"daily", "hourly", "tenants", "models", "providers", "tiers", "prompt_groups", "unpriced", "logged_spend"}
TABLES |= {"control"}
WHAT_IF = {"what_if_curve", "what_if_groups", "what_if_days"}
BY_DAY = pl.DataFrame({"alpha": [0.5], "tenant": [FORMULA], "cost_usd": [1.5]})


@pytest.fixture(scope="module")
def report() -> AuditReport:
    return large_report(tenants=5, days=4, points=7)


def exported(report: AuditReport, folder: Path, *, focus: bool = True, as_csv: bool = True) -> list[Path]:
    calls = call_log({"tenant": FORMULA}, {"model": "big", "called_at": NOON.replace(hour=15)}, {"model": "?"})
    found = None if report.what_if is None else WhatIfResult(report.what_if, BY_DAY, {})
    section = ExportSection(focus=focus, csv=as_csv)
    return write_exports(report, booked(calls, folder), found, folder / "out", section, prices=PRICES)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_table_is_there_as_parquet_and_csv_beside_focus(report: AuditReport, tmp_path: Path) -> None:
    written = exported(report, tmp_path)
    assert set(NAMES) == TABLES | WHAT_IF
    assert {path.stem for path in (tmp_path / "out/tables").iterdir()} == TABLES | WHAT_IF
    assert {path.stem for path in (tmp_path / "out/csv").iterdir()} == TABLES | WHAT_IF
    assert {path.name for path in (tmp_path / "out/focus").iterdir()} == {"focus.csv", "focus.parquet"}
    assert sorted(written) == sorted(path for path in (tmp_path / "out").rglob("*.*") if "staging" not in path.parts)
    for table in (tmp_path / "out/tables").iterdir():
        rows = rows_of(tmp_path / "out/csv" / f"{table.stem}.csv")
        frame = pl.read_parquet(table)
        assert len(rows) == frame.height
        assert not rows or list(rows[0]) == frame.columns


def test_what_is_not_wanted_is_not_written_and_older_files_go(report: AuditReport, tmp_path: Path) -> None:
    exported(report, tmp_path)
    (tmp_path / "out/notes.txt").write_text("mine", encoding="utf-8")
    for folder in ("tables", "csv", "focus"):
        (tmp_path / "out" / folder / "mine.csv").touch()
    exported(small_report(), tmp_path, focus=False, as_csv=False)
    assert {path.stem for path in (tmp_path / "out/tables").iterdir()} == {*TABLES, "mine"}
    assert [path.name for path in (tmp_path / "out/csv").iterdir()] == ["mine.csv"]
    assert [path.name for path in (tmp_path / "out/focus").iterdir()] == ["mine.csv"]
    assert (tmp_path / "out/notes.txt").read_text(encoding="utf-8") == "mine"


def test_the_curve_is_the_sweep_of_the_report(report: AuditReport, tmp_path: Path) -> None:
    exported(report, tmp_path)
    assert report.what_if is not None
    curve = pl.read_parquet(tmp_path / "out/tables/what_if_curve.parquet")
    points = report.what_if.sweep.points
    assert curve["point"].to_list() == list(range(len(points)))
    assert curve["alpha"].to_list() == [point.alpha for point in points]
    assert curve["cost_usd"].to_list() == [point.cost_usd.value for point in points]
    assert curve["saving_share_low"].to_list() == [point.saving_share.low for point in points]
    assert curve["quality_high"].to_list() == [point.quality.high for point in points if point.quality]
    assert curve.filter("recommended")["point"].to_list() == [report.what_if.recommended]
    alone = report.what_if.model_copy(update={"alone": report.what_if.sweep.weak.model, "recommended": 0})
    exported(report.model_copy(update={"what_if": alone}), tmp_path)
    assert not pl.read_parquet(tmp_path / "out/tables/what_if_curve.parquet")["recommended"].any()


def test_a_what_if_without_points_leaves_tables_without_rows(report: AuditReport, tmp_path: Path) -> None:
    assert report.what_if is not None
    nothing = report.what_if.model_copy(update={"sweep": unrouted("big", "small"), "recommended": None})
    for name, one in (("full", report), ("empty", report.model_copy(update={"what_if": nothing}))):
        (tmp_path / name).mkdir()
        exported(one, tmp_path / name)
    for name in ("what_if_curve", "what_if_groups"):
        full, empty = (pl.read_parquet(tmp_path / one / f"out/tables/{name}.parquet") for one in ("full", "empty"))
        assert full.height > 0
        assert (empty.height, empty.schema) == (0, full.schema)
        header, *lines = (tmp_path / f"empty/out/csv/{name}.csv").read_text(encoding="utf-8").splitlines()
        assert header.replace('"', "").split(",") == full.columns
        assert lines == []


def test_groups_are_one_row_a_group_and_point(report: AuditReport, tmp_path: Path) -> None:
    exported(report, tmp_path)
    assert report.what_if is not None
    sweep = report.what_if.sweep
    groups = pl.read_parquet(tmp_path / "out/tables/what_if_groups.parquet")
    assert groups.height == len(sweep.groups) * len(sweep.points)
    for group in sweep.groups:
        mine = groups.filter(pl.col("group").eq_missing(pl.lit(group.group)))
        assert mine["cost_usd"].to_list() == group.cost_usd
        assert mine["strong_share"].to_list() == group.strong_share
        assert mine["quality"].to_list() == group.quality
        assert mine["alpha"].to_list() == [point.alpha for point in sweep.points]
        assert set(mine["calls"]) == {group.calls}


def test_without_labels_quality_is_a_column_of_nulls(report: AuditReport, tmp_path: Path) -> None:
    assert report.what_if is not None
    sweep = report.what_if.sweep
    blind = sweep.model_copy(
        update={
            "points": [point.model_copy(update={"quality": None, "quality_share": None}) for point in sweep.points],
            "groups": [group.model_copy(update={"quality": None}) for group in sweep.groups],
        }
    )
    unknown = report.what_if.model_copy(update={"sweep": blind, "recommended": None})
    exported(report.model_copy(update={"what_if": unknown}), tmp_path)
    curve = pl.read_parquet(tmp_path / "out/tables/what_if_curve.parquet")
    groups = pl.read_parquet(tmp_path / "out/tables/what_if_groups.parquet")
    assert curve["quality"].null_count() == curve["quality_low"].null_count() == curve.height
    assert groups["quality"].null_count() == groups.height
    assert not curve["recommended"].any()


def test_money_in_tables_is_exact(report: AuditReport, tmp_path: Path) -> None:
    exported(report, tmp_path)
    tenants = pl.read_parquet(tmp_path / "out/tables/tenants.parquet")
    assert tenants["cost_usd"].to_list() == [tenant.cost_usd for tenant in report.paid.tenants]
    assert tenants.schema["cost_usd"] == pl.Decimal(38, 12)
    texts = [row["cost_usd"] for row in rows_of(tmp_path / "out/csv/tenants.csv")]
    assert [Decimal(text) for text in texts] == tenants["cost_usd"].to_list()


def test_empty_tables_have_their_columns(tmp_path: Path) -> None:
    exported(small_report(), tmp_path)
    groups = pl.read_parquet(tmp_path / "out/tables/prompt_groups.parquet")
    assert groups.is_empty()
    assert groups.schema["cost_usd"] == pl.Decimal(38, 12)
    assert "excerpt" in groups.columns


def test_focus_of_the_books(report: AuditReport, tmp_path: Path) -> None:
    exported(report, tmp_path)
    rows = pl.read_parquet(tmp_path / "out/focus/focus.parquet")
    assert set(rows["x_Model"]) == {"small", "big"}  # nobody has a price for `?`
    assert rows["BilledCost"].sum() == Decimal("0.022")
    assert set(rows["BillingAccountId"]) == {report.name}
    first = rows_of(tmp_path / "out/focus/focus.csv")[0]
    assert first["ChargePeriodStart"] == "2026-10-05T00:00:00Z"
    assert first["ChargeClass"] == first["InvoiceId"] == ""


def test_lists_are_left_out_of_tables() -> None:
    day = DaySpend(day=NOON.date(), spend=small_report().paid.total, groups=[Decimal(1)])
    assert table_of(DaySpend, [day]).columns == ["day"]
    assert "key" in table_of(Spend, []).columns
    assert table_of(SweepPoint, []).columns[:4] == ["alpha", "strong_share", "n_strong", "cost_usd"]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30", "'+49 30"),
        ("-2", "'-2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("\nx", "'\nx"),
        ("  =1", "'  =1"),
        ("\u00a0=1", "'\u00a0=1"),
        ("\uff1d1", "'\uff1d1"),
        ("a;=1", "a;'=1"),
        ("a\t=1", "a\t'=1"),
        ("a\r\n@b", "a\r\n'@b"),
        ("a=b", "a=b"),
        ("a, -b", "a, -b"),
        ("'=1", "'=1"),
        ("", ""),
        ("1e5", "1e5"),
    ],
)
def test_text_like_a_formula_is_made_inert(text: str, cell: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", pl.DataFrame({"a": [text], "n": [-1.5]}), tmp_path / "staging")
    assert rows_of(tmp_path / "x.csv") == [{"a": cell, "n": "-1.5"}]


@given(st.lists(st.text(alphabet=" \t\r\n;,\"'=+-@ab\uff0b\u2003", max_size=8), max_size=20))
def test_no_cell_begins_like_a_formula_however_it_is_cut(texts: list[str]) -> None:
    frame = pl.DataFrame({"a": texts}, schema={"a": pl.String})
    for text, cell in zip(texts, inert(frame)["a"], strict=True):
        assert cell.replace("'", "") == text.replace("'", "")
        assert not cell.startswith(("\t", "\r", "\n"))
        for piece in cell.replace("\t", ";").replace("\r", ";").replace("\n", ";").split(";"):
            assert not piece.strip().startswith(("=", "+", "-", "@", "\uff0b"))


def test_numbers_stay_numbers_and_null_is_not_empty_text(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "text": ["", None, "-1"],
            "usd": [Decimal("-0.000000000001"), None, Decimal("12.5")],
            "share": [1e-7, -2.0, None],
            "at": [datetime(2026, 8, 21, 9, 30, tzinfo=UTC)] * 3,
            "kind": pl.Series(["=a", "b", "=a"], dtype=pl.Enum(["=a", "b"])),
        }
    )
    write_csv(tmp_path / "x.csv", frame, tmp_path / "staging")
    lines = (tmp_path / "x.csv").read_text(encoding="utf-8").splitlines()
    assert lines == [
        '"text","usd","share","at","kind"',
        '"",-0.000000000001,0.0000001,"2026-08-21T09:30:00Z","\'=a"',
        ',,-2,"2026-08-21T09:30:00Z","b"',
        '"\'-1",12.500000000000,,"2026-08-21T09:30:00Z","\'=a"',
    ]
    assert_frame_equal(pl.read_csv(tmp_path / "x.csv").select("share"), frame.select("share"))


def test_a_disk_that_refuses_is_told(report: AuditReport, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/tables").write_text("in the way", encoding="utf-8")
    with pytest.raises(ConfigError, match="tables is a file or lies below one"):
        exported(report, tmp_path)
