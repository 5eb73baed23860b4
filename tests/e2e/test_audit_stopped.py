"""An audit that is killed, stopped, or told to write where somebody else's files are."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.audit_desk import STAGING, Desk, calls, start
from tests.e2e.desk import assert_told
from tests.e2e.harness import wait_for

SECRET = "the patient's name is"


@pytest.fixture
def table(tmp_path: Path) -> Desk:
    """A desk with fifty thousand calls, enough to be stopped at."""
    desk = Desk(tmp_path)
    desk.put(calls(50_000))
    desk.write_config(log__part_rows=2_000)
    return desk


def whole(out: Path) -> list[str]:
    """Names of the finished files; each is read to its end."""
    names = []
    for path in (path for path in out.rglob("*") if path.is_file() and STAGING not in path.parts):
        if path.suffix == ".parquet":
            pl.read_parquet(path)
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".csv":
            assert path.read_bytes().endswith(b"\n")
        names.append(path.name)
    return names


def killed_when(reached: Callable[[], bool], desk: Desk) -> bool:
    """SIGKILL an audit at a moment; false: it was quicker."""
    shutil.rmtree(desk.out, ignore_errors=True)
    with start(desk.config_file) as process:
        wait_for(lambda: process.poll() is not None or reached(), timeout_s=60)
        alive = process.poll() is None
        if alive:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return alive and not (desk.out / "report.json").exists()


@pytest.mark.parametrize("moment", ["store", "write"])
def test_a_killed_audit_leaves_whole_files_and_can_be_run_again(table: Desk, moment: str) -> None:
    reached: dict[str, Callable[[], bool]] = {
        "store": lambda: any((table.out / STAGING).rglob("*.parquet")),
        "write": lambda: (table.out / "tables" / "daily.parquet").exists(),
    }
    # On a busy machine the audit may end before it is killed: another try then.
    assert any(killed_when(reached[moment], table) for _ in range(5))
    assert (table.out / STAGING).exists()
    assert "report.json" not in whole(table.out)
    assert table.audit().exit_code == 0
    assert "report.json" in whole(table.out)
    assert table.report().paid.total.calls == 50_000
    assert not (table.out / STAGING).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_audit_says_so_and_leaves_no_prompts(table: Desk, number: signal.Signals) -> None:
    def stopped() -> tuple[int, bytes, bytes]:
        shutil.rmtree(table.out, ignore_errors=True)
        with start(table.config_file) as process:
            wait_for(lambda: process.poll() is not None or any((table.out / STAGING).rglob("*.parquet")), timeout_s=60)
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=60)
        return process.returncode, stdout, stderr

    # On a busy machine the audit may end before it is stopped: another try then.
    code, stdout, stderr = next(ended for ended in (stopped() for _ in range(5)) if ended[0])
    assert code == 130, stderr.decode()
    assert json.loads(stdout.splitlines()[-1])["exit_code"] == 130
    assert b"error: interrupted; run the same command again to go on" in stderr
    assert not (table.out / STAGING).exists()
    assert not (table.out / "report.json").exists()


@pytest.mark.parametrize("folder", ["csv", "tables", "focus", "cache"])
def test_a_log_and_other_files_beside_the_results_stay(tmp_path: Path, folder: str) -> None:
    """`output = "."` in a folder that has a `csv/` of its own."""
    desk = Desk(tmp_path)
    (tmp_path / folder).mkdir()
    log, other = tmp_path / folder / "2026-11.csv", tmp_path / folder / "2026-10.csv"
    calls(100).write_csv(log)
    calls(50).write_csv(other)
    before = log.read_bytes(), other.read_bytes()
    for _ in range(2):
        ended = desk.audit(output=".", log__path=f"{folder}/2026-11.csv")
        assert ended.exit_code == 0, ended.stderr
        assert ended.summary["cost_usd"] == "0.200000000000"
        assert (log.read_bytes(), other.read_bytes()) == before


def test_the_results_of_an_audit_are_no_log_of_the_next(tmp_path: Path) -> None:
    """`path = "."` and `output = "."`."""
    desk = Desk(tmp_path)
    calls(100).write_csv(tmp_path / "2026-11.csv")
    for _ in range(2):
        ended = desk.audit(output=".", log__path=".")
        assert ended.exit_code == 0, ended.stderr
        assert ended.summary["cost_usd"] == "0.200000000000"
        assert (tmp_path / "csv" / "daily.csv").exists()


def test_a_staging_folder_of_somebody_else_is_not_emptied(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    (tmp_path / STAGING).mkdir()
    log = tmp_path / STAGING / "calls.csv"
    calls(100).write_csv(log)
    for _ in range(2):
        told = ("staging holds files that nightroute did not write", "theirs alone")
        assert_told(desk.audit(output=".", log__path="staging/calls.csv"), 78, *told)
        assert pl.read_csv(log).height == 100


def test_without_excerpts_no_prompt_is_left_anywhere(tmp_path: Path) -> None:
    """Not even those of rejected rows."""
    desk = Desk(tmp_path)
    desk.put(calls(100, prompt=[f"{SECRET} {i}" for i in range(100)], input_tokens=[-1] + [600] * 99))
    columns = {name: name for name in (*calls(1).columns, "prompt")}
    for excerpts in (True, False):
        ended = desk.audit(page__excerpts=excerpts, log__columns=columns)
        assert ended.exit_code == 0, ended.stderr
        assert ended.summary["rows"]["rejected"] == 1, ended.summary
        rejected = pl.read_parquet(desk.out / "rejected.parquet")
        assert ("prompt" in rejected.columns) == excerpts
        texts = [
            path.read_text(encoding="utf-8")
            for ending in ("json", "html", "csv")
            for path in desk.out.rglob(f"*.{ending}")
        ]
        texts += [str(pl.read_parquet(path).rows()) for path in desk.out.rglob("*.parquet")]
        assert any(SECRET in text for text in texts) == excerpts
