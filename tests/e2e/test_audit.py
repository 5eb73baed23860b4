"""`nightroute audit` from the command line: the example log with its faults, gates, bad input, kills."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from examples.audit_faults import audit_of, findings
from examples.make_log import make_log
from jobs.audit_config import load_audit
from jobs.rundir import RunDir, locked
from schemas.audit import AuditReport
from tests.e2e.audit_desk import STAGING, Desk, calls, start
from tests.e2e.desk import assert_told
from tests.e2e.harness import ROOT, Ended

EXAMPLE = ROOT / "examples" / "audit.toml"
ROWS = 20_000


@pytest.fixture
def table(tmp_path: Path) -> Desk:
    """A desk with a hundred calls that cost $0.20."""
    desk = Desk(tmp_path)
    desk.put(calls(100))
    return desk


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The example log in `log/`, and the faults in it."""
    folder = tmp_path_factory.mktemp("example")
    return folder, make_log(folder / "log", rows=ROWS)


@pytest.fixture(scope="module")
def audited(example: tuple[Path, dict[str, Any]]) -> tuple[Path, Ended]:
    """The example, audited by the real command with two gates, one of which holds."""
    folder = example[0]
    log = folder / "log"
    keys = {
        "output": folder / "out",
        "log.path": log / "spend_logs" / "*.parquet",
        "log.part_rows": 4_000,
        "control.path": log / "usage.csv",
        "what_if.labels.path": log / "labels.parquet",
    }
    sets = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    gates = ["--fail-if", "duplicated_share > 0.5", "--fail-if", "stale_calls > 0 and cost_usd > 1"]
    with start(EXAMPLE, *sets, *gates) as process:
        stdout, stderr = process.communicate(timeout=180)
    return folder / "out", Ended(process.returncode, json.loads(stdout.decode().splitlines()[-1]), stderr.decode())


def test_every_fault_of_the_example_is_found(example: tuple[Path, dict[str, Any]], audited: tuple[Path, Ended]) -> None:
    report = AuditReport.model_validate_json((audited[0] / "report.json").read_bytes())
    found = findings(report, example[1])
    assert [finding for finding in found if not finding.ok] == []
    assert len(found) > 20


def test_a_gate_that_holds_exits_1_after_everything_is_written(audited: tuple[Path, Ended]) -> None:
    out, ended = audited
    assert ended.exit_code == ended.summary["exit_code"] == 1
    assert [gate.partition(" (")[0] for gate in ended.summary["broken_gates"]] == ["stale_calls > 0 and cost_usd > 1"]
    assert "stale_calls is" in ended.stderr
    assert {"report.json", "report.html", "tables", "csv", "focus"} <= {path.name for path in out.iterdir()}
    assert not (out / STAGING).exists()


def test_focus_rows_sum_to_what_was_paid(audited: tuple[Path, Ended]) -> None:
    out, _ = audited
    report = AuditReport.model_validate_json((out / "report.json").read_bytes())
    rows = pl.read_parquet(out / "focus" / "focus.parquet")
    assert rows["BilledCost"].sum() == report.paid.total.cost_usd
    metered = rows.filter(ConsumedUnit="Tokens")["ConsumedQuantity"].sum()
    daily = pl.read_parquet(out / "tables" / "daily.parquet").drop_nulls("price_id")
    assert metered == daily.select(pl.sum("input_tokens") + pl.sum("output_tokens")).item()


def test_tables_agree_with_the_report(audited: tuple[Path, Ended]) -> None:
    out, _ = audited
    report = AuditReport.model_validate_json((out / "report.json").read_bytes())
    tables = {path.stem: pl.read_parquet(path) for path in (out / "tables").iterdir()}
    assert tables["daily"]["calls"].sum() == tables["hourly"]["calls"].sum() == report.reconciliation.rows.kept
    assert tables["tenants"]["cost_usd"].sum() == report.paid.total.cost_usd
    assert tables["daily"]["cost_usd"].sum() == report.paid.total.cost_usd
    assert report.what_if is not None
    curve = tables["what_if_curve"]
    assert curve["cost_usd"].to_list() == [point.cost_usd.value for point in report.what_if.sweep.points]
    at = tables["what_if_groups"].group_by("point").agg(pl.sum("cost_usd")).sort("point")["cost_usd"]
    assert (at - curve["cost_usd"]).abs().max() < 1e-6 * report.what_if.sweep.strong.cost_usd.value  # type: ignore[operator]


def test_a_tenant_like_a_formula_is_inert_in_csv_and_itself_in_parquet(audited: tuple[Path, Ended]) -> None:
    out, _ = audited
    assert "+one-bank" in pl.read_parquet(out / "tables" / "tenants.parquet")["key"].to_list()
    lines = (out / "csv" / "tenants.csv").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith('"\'+one-bank",') for line in lines)
    for path in (*(out / "csv").iterdir(), out / "focus" / "focus.csv"):
        text = path.read_text(encoding="utf-8")
        assert '"+' not in text.replace('""', ""), path
        assert '"=' not in text.replace('""', ""), path


def test_the_example_config_is_read() -> None:
    job = load_audit(EXAMPLE)
    assert job.config.what_if is not None
    assert audit_of(Path("/a"), Path("/b")).config.output == "/b"


def test_a_plain_table_is_added_up(table: Desk) -> None:
    ended = table.audit()
    assert ended.exit_code == 0, ended.stderr
    assert ended.summary["cost_usd"] == "0.200000000000"
    assert table.report().paid.total.calls == 100
    assert table.report().what_if is None


def test_a_gate_on_what_the_audit_does_not_know_is_broken(table: Desk) -> None:
    ended = table.audit("--fail-if", "saving_share < 0.2")
    assert ended.exit_code == 1
    assert ended.summary["broken_gates"] == ["saving_share < 0.2 (saving_share is not known)"]
    assert table.report().paid.total.calls == 100


def test_a_log_without_prompts_is_audited_all_the_same(table: Desk) -> None:
    """Nothing can be routed, and what was paid is known: the report says both, and why."""
    pair: dict[str, Any] = {"what_if__strong": {"name": "gpt-4.1"}, "what_if__weak": {"name": "gpt-4.1-nano"}}
    pair["what_if__replaces"] = ["gpt4.1*", "gpt-4.1*"]
    ended = table.audit("--fail-if", "saving_share < 0.2", "--fail-if", "cost_usd > 1", **pair)
    assert ended.exit_code == 1, ended.stderr
    assert ended.summary["broken_gates"] == ["saving_share < 0.2 (saving_share is not known)"]
    assert ended.summary["cost_usd"] == "0.200000000000"
    advice = ended.summary["advice"]
    assert advice.startswith("No call of this log could be routed (no prompt text: 100). A router reads prompts")
    assert "let the log hold them" in " ".join(ended.stderr.split())
    found = table.report().what_if
    assert found is not None
    assert (found.advice, found.sweep.points, found.routed_calls) == (advice, [], 0)
    assert [note.partition(",")[0] for note in table.report().notes] == ["what_if.replaces names 'gpt4.1*'"]
    assert [(row.reason, row.calls, str(row.cost_usd)) for row in found.unrouted] == [
        ("no prompt text", 100, "0.200000000000")
    ]
    page = (table.out / "report.html").read_text(encoding="utf-8")
    assert advice in page
    assert '<input type="range"' not in page
    for name in ("what_if_curve", "what_if_groups", "what_if_days"):
        assert pl.read_parquet(table.out / "tables" / f"{name}.parquet").is_empty()
        assert (table.out / "csv" / f"{name}.csv").read_text(encoding="utf-8").count("\n") == 1


def test_a_gate_that_does_not_hold_exits_0(table: Desk) -> None:
    assert table.audit("--fail-if", "cost_usd > 0.2 or gap_hours > 0").exit_code == 0
    assert table.audit("--fail-if", "cost_usd >= 0.2").exit_code == 1


@pytest.mark.parametrize("gate", ["saving_shre < 0.2", "cost_usd", "__import__('os') < 1"])
def test_a_gate_that_is_none_stops_before_any_work(table: Desk, gate: str) -> None:
    assert_told(table.audit("--fail-if", gate), 2, "--fail-if")
    assert not table.out.exists()


def test_the_date_is_filled_in(table: Desk) -> None:
    days = {"output": "out/{date}", "log__path": "log/{date}/*.parquet"}
    for number in (1, 2):
        table.put(calls(number), f"2026-10-0{number}/a.parquet")
    ended = table.audit("--date", "2026-10-02", **days)
    assert ended.exit_code == 0, ended.stderr
    assert ended.summary["rows"]["read"] == 2
    assert (table.out / "2026-10-02" / "report.json").exists()
    assert_told(table.audit("--date", "2026-10-03", **days), 66, "2026-10-03")
    assert_told(table.audit(**days), 2, "--date")


def test_an_empty_log_is_nothing_to_do(table: Desk) -> None:
    table.put(calls(0))
    ended = table.audit()
    assert ended.exit_code == ended.summary["exit_code"] == 99
    assert "no rows" in ended.stderr
    assert not list(table.out.rglob("*.parquet"))
    assert not (table.out / "report.json").exists()


def test_a_log_of_another_format_is_told_by_its_name(example: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    path = str(example[0] / "log" / "spend_logs")
    assert_told(desk.audit(log__path=path, log__format="langfuse", log__columns=None), 65, "looks like", "litellm")


def test_a_table_of_no_known_format_is_told(table: Desk) -> None:
    assert_told(table.audit(log__format=None, log__columns=None), 65, "log.format")


def test_a_damaged_log_is_told(table: Desk) -> None:
    (table.folder / "log" / "zz.parquet").write_bytes(b"PAR1 but no more")
    assert_told(table.audit(), 65, "zz.parquet")


@pytest.mark.parametrize(
    ("changes", "exit_code", "needles"),
    [
        ({"log__pth": "log"}, 78, ["log.pth", "path"]),
        ({"log__path": "nowhere"}, 66, ["nowhere"]),
        ({"log__format": "litelm"}, 78, ["litelm", "litellm"]),
        ({"page__top": 0}, 78, ["page.top"]),
        ({"control": {"path": "none.csv", "columns": {"day": "d"}}}, 66, ["none.csv", "control.path"]),
        (
            {"what_if__quality_floor": 0.9, "what_if__strong": {"name": "a"}, "what_if__weak": {"name": "b"}},
            78,
            ["labels"],
        ),
        ({"log__columns": {"called_at": "when", "model": "model"}}, 78, ["when"]),
    ],
)
def test_a_wrong_config_is_told(table: Desk, changes: dict[str, Any], exit_code: int, needles: list[str]) -> None:
    assert_told(table.audit(**changes), exit_code, *needles)
    assert not (table.out / "report.json").exists()


@pytest.mark.parametrize(
    ("changes", "exit_code", "needles"),
    [
        ({"what_if__weak": {"name": "gpt-4.1-nanoo"}}, 78, ["'gpt-4.1-nanoo'", "correct its name", "[[prices]]"]),
        ({"what_if__labels": {"path": "none.csv"}}, 66, ["none.csv is missing", "labels"]),
        ({"what_if__history": "none.parquet"}, 66, ["what_if.history", "none.parquet"]),
        ({"what_if__router": {"artifact": "builtin:none"}}, 78, ["builtin:none"]),
    ],
)
def test_what_a_what_if_lacks_is_told_before_the_log_is_read(
    table: Desk, changes: dict[str, Any], exit_code: int, needles: list[str]
) -> None:
    pair: dict[str, Any] = {"what_if__strong": {"name": "gpt-4.1"}, "what_if__weak": {"name": "gpt-4.1-nano"}}
    ended = table.audit(**pair | changes)
    assert_told(ended, exit_code, *needles)
    assert "log:" not in ended.stderr


def test_control_totals_that_lack_a_column_are_told(table: Desk) -> None:
    pl.DataFrame({"day": [date(2026, 10, 5)], "n": [100]}).write_csv(table.folder / "usage.csv")
    columns = {"day": "day", "calls": "requests"}
    assert_told(table.audit(control={"path": "usage.csv", "columns": columns}), 65, "requests")
    ended = table.audit(control={"path": "usage.csv", "columns": columns | {"calls": "n"}})
    assert ended.exit_code == 0, ended.stderr
    assert table.report().reconciliation.control == []
    assert table.report().reconciliation.control_keys == 1


@pytest.mark.parametrize("header", ["day,calls", "model,usd"])
def test_control_totals_without_a_row_let_no_gate_pass(table: Desk, header: str) -> None:
    (table.folder / "usage.csv").write_text(header + "\n", encoding="utf-8")
    control = {"path": "usage.csv", "columns": {name: name for name in header.split(",")}}
    ended = table.audit("--fail-if", "control_differences > 0", control=control)
    assert_told(ended, 65, "usage.csv", "hold no rows")
    assert "log: 1 file" not in ended.stderr, "it is told before the log is read"


def test_control_totals_of_another_month_let_no_gate_pass(table: Desk) -> None:
    pl.DataFrame({"day": [date(2026, 9, 5)], "calls": [0]}).write_csv(table.folder / "usage.csv")
    control = {"path": "usage.csv", "columns": {"day": "day", "calls": "calls"}}
    ended = table.audit("--fail-if", "control_differences > 0", control=control)
    assert ended.exit_code == 1
    assert "CONTROL: the totals are of other days than the log" in ended.stderr
    assert ended.summary["broken_gates"] == ["control_differences > 0 (control_differences is not known)"]


def test_an_override_that_prices_nothing_is_told(table: Desk) -> None:
    price = {"model": "gpt-4", "input_usd_per_mtok": "1", "output_usd_per_mtok": "4"}
    ended = table.audit(prices=[price])
    note = "[[prices]] of 'gpt-4' priced no call: it holds for exactly this name, and the log has 'gpt-4.1'."
    assert table.report().notes == [note]
    assert note in " ".join(ended.stderr.split())


def test_a_second_audit_of_one_output_waits_for_no_one(table: Desk) -> None:
    table.out.mkdir()
    with locked(RunDir(table.out)):
        assert_told(table.audit(), 75, "locked")
    assert table.audit().exit_code == 0


def test_an_override_gives_a_price_to_what_had_none(table: Desk) -> None:
    table.put(calls(10, model=["in-house"] * 10), "own.parquet")
    assert table.audit().summary["rows"]["unpriced"] == 10
    price = {"model": "in-house", "input_usd_per_mtok": "1", "output_usd_per_mtok": "4"}
    ended = table.audit(prices=[price])
    assert ended.summary["rows"]["unpriced"] == 0
    assert ended.summary["cost_usd"] == "0.210000000000"
