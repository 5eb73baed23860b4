"""The command line as people use it: twice, changed in between, interrupted, looked at, split again, limited."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from decimal import Decimal

import polars as pl
import pytest

from tests.e2e.conftest import SLOW
from tests.e2e.desk import Desk, assert_told, nightroute, questions
from tests.e2e.harness import ROOT, STRONG, WEAK, Server, wait_for
from tests.e2e.recorder import recording

# ---- misused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "needles"),
    [
        (["run"], ["config", "see nightroute --help"]),
        (["fly"], ["No such command 'fly'", "see nightroute --help"]),
        (["run", "--bogus"], ["No such option: --bogus", "see nightroute --help"]),
        (["run", "--date"], ["--date", "requires an argument"]),
        (
            ["run", "-c", "x.toml", "--date", "20/11/2026"],
            ["--date wants a calendar date such as 2026-11-20, got '20/11/2026'"],
        ),
        (["run", "-c", "x.toml", "--date", ""], ["--date wants a calendar date such as 2026-11-20, got ''"]),
        (["run", "-c", "x.toml", "--date", "../.."], ["--date wants a calendar date such as 2026-11-20, got '../..'"]),
        (["run", "-c", "x.toml", "--max-usd", "a lot"], ["--max-usd wants dollars, got 'a lot'"]),
        (["resplit"], ["see nightroute --help"]),
        (["resplit", "x", "--alpha", "high"], ["--alpha", "Input should be a valid number"]),
    ],
)
def test_a_command_line_that_cannot_be_understood_is_2(args: list[str], needles: list[str]) -> None:
    assert_told(nightroute(*args), 2, *needles)


@pytest.mark.parametrize(
    ("override", "code", "needle"),
    [
        ("split", 2, "--set wants section.key=value, got 'split'"),
        ("=1", 2, "--set wants section.key=value, got '=1'"),
        ("input.path.x=1", 2, "'path' is no table of the config"),
        ("splt.alpha=1", 78, "splt: unknown key; did you mean 'split'?"),
        ("split.alhpa=1", 78, "split.alhpa: unknown key; did you mean 'alpha'?"),
        ("split.strong_share=half", 78, "split.strong_share: Input should be a valid number"),
    ],
)
def test_a_misspelt_set_is_told(desk: Desk, override: str, code: int, needle: str) -> None:
    desk.put(questions(2))
    assert_told(desk.run("--set", override), code, needle)
    assert not desk.run_dir.exists()


def test_a_date_that_the_config_has_no_place_for_is_2(desk: Desk) -> None:
    desk.put(questions(2))
    assert_told(desk.run("--date", "2026-11-20"), 2, "neither input.date_column nor {date} in input.path; add one")


@pytest.mark.parametrize("command", ["status", "resume", "resplit"])
def test_a_folder_that_is_no_run_is_66(desk: Desk, command: str) -> None:
    args = ["--alpha", "0.5"] if command == "resplit" else []
    assert_told(desk.of_run(command, *args), 66, "cannot be read", "folder of a run")
    assert not desk.run_dir.exists()


def test_the_command_is_a_module_too(desk: Desk) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "jobs", "run", "-c", str(desk.job_file)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 78
    assert ended.stderr.startswith(f"error: config {desk.job_file} cannot be read")
    assert json.loads(ended.stdout)["exit_code"] == 78


# ---- twice, and changed in between ----------------------------------------------------------------------------------


def test_the_same_command_twice_pays_once(night: Desk, sandbox: Server) -> None:
    night.put(questions(4))
    since = sandbox.mark()
    assert night.run().exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in night.output.rglob("*")}
    assert_told(night.run(), 99, "is finished and published at", "nightroute resplit", "another run_dir for a new run")
    assert_told(night.of_run("resume"), 99, "is finished and published at")
    assert {path: path.stat().st_mtime_ns for path in night.output.rglob("*")} == before
    assert sandbox.received(since) == 4


def test_a_published_folder_that_was_removed_is_published_again_for_free(night: Desk, sandbox: Server) -> None:
    night.put(questions(4))
    assert night.run().exit_code == 0
    table = night.published()
    for path in night.output.iterdir():
        path.unlink()
    night.output.rmdir()
    since = sandbox.mark()
    assert night.run().exit_code == 0
    assert night.published().equals(table)
    assert sandbox.received(since) == 0


def test_alpha_changed_between_two_runs_names_resplit(night: Desk) -> None:
    night.put(questions(4))
    assert night.run(command="plan").exit_code == 0
    needles = (
        "was split by strong_share = 0.5, the config now says",
        "alpha = 0.6",
        f"nightroute resplit {night.run_dir}",
    )
    night.write_config(split__strong_share=None, split__alpha=0.6)
    assert_told(night.run(), 78, *needles)
    night.write_config()
    assert night.run().exit_code == 0
    night.write_config(split__strong_share=None, split__alpha=0.6)
    assert_told(night.run(), 78, *needles)


@pytest.mark.parametrize(
    ("change", "needle"),
    [
        ({"models__weak__params": {"temperature": 0.5}}, "weak.params.temperature: was null, is 0.5"),
        ({"models__strong__name": "gpt-4o"}, f'strong.name: was "{STRONG}", is "gpt-4o"'),
        ({"input__part_rows": 7}, "part_rows: was 5000, is 7"),
        (
            {"input__columns": {"prompt": "text"}},
            'columns: was {"query_id": "id", "prompt": "text"}, is {"prompt": "text"}',
        ),
    ],
)
def test_a_resume_of_something_else_names_what_changed(desk: Desk, change: dict[str, object], needle: str) -> None:
    desk.put(questions(4))
    assert desk.run(command="plan").exit_code == 0
    desk.write_config(**change)
    assert_told(desk.run(), 78, needle, "put it back, or give the new run a run_dir of its own")


def test_an_input_that_changed_is_named(desk: Desk) -> None:
    path = desk.put(questions(4), "a.parquet")
    gone = desk.put(questions(4), "b.parquet")
    assert desk.run(command="plan").exit_code == 0
    desk.put(questions(5), "a.parquet")
    gone.rename(desk.data / "c.parquet")
    told = desk.run()
    assert_told(told, 78, f"input file {path} changed", f"input file {gone} is gone", f"{desk.data}/c.parquet is new")


def test_an_output_folder_that_holds_something_else_is_left_alone(desk: Desk) -> None:
    desk.put(questions(2))
    desk.output.mkdir()
    (desk.output / "thesis.txt").write_text("years of work", encoding="utf-8")
    assert_told(desk.run(), 78, "already holds files that nightroute did not publish", "choose another output.path")
    assert (desk.output / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_an_output_folder_of_another_run_is_left_alone(night: Desk) -> None:
    night.put(questions(2))
    run_id = night.run().summary["run_id"]
    night.write_config(run_dir="another")
    assert_told(night.run(), 78, f"already holds the table of run {run_id}", "remove it, or choose another output.path")


# ---- plan and status ------------------------------------------------------------------------------------------------


def test_a_plan_makes_no_call_and_needs_no_key(night: Desk, sandbox: Server) -> None:
    night.put(questions(10))
    night.write_config(models__strong__api_key_env="NIGHTROUTE_NO_KEY")
    since = sandbox.mark()
    ended = night.run(command="plan")
    assert ended.exit_code == 0
    assert ended.summary["rows"] == {"scored": 10, "rejected": 0, "strong": 5, "weak": 5}
    money = {name: Decimal(ended.summary[name]["expected"]) for name in ("all_weak_usd", "cost_usd", "all_strong_usd")}
    assert money["all_weak_usd"] < money["cost_usd"] < money["all_strong_usd"]
    assert sandbox.received(since) == 0
    assert not night.output.exists()


def test_status_of_every_state(night: Desk) -> None:
    night.put(questions(4))
    assert night.run(command="plan").exit_code == 0
    assert night.of_run("status").summary["state"] == "scored"
    night.run_dir.joinpath("split.json").unlink()
    assert night.of_run("status").summary["state"] == "scoring"
    assert night.run().exit_code == 0
    ended = night.of_run("status")
    assert ended.exit_code == 0
    wanted = {"state": "published", "running": False, "queries": 4, "decided": 4, "failed": 0, "parts_scored": 1}
    assert wanted.items() <= ended.summary.items()
    assert "decided 4 of 4 queries, 0 of them failed" in ended.stderr


# ---- interrupted ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_calls_in_flight_and_a_resume_goes_on(
    night: Desk, sandbox: Server, number: signal.Signals
) -> None:
    night.put(questions(12))
    night.write_config(
        split__strong_share=None, split__alpha=1.0, models__weak__name=SLOW, models__weak__max_in_flight=2,
        models__weak__start_in_flight=2,
    )  # fmt: skip
    since = sandbox.mark()
    with subprocess.Popen(
        [sys.executable, "-m", "jobs", "run", "-c", str(night.job_file)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for(lambda: sandbox.received(since) >= 3, timeout_s=60)
        running = night.of_run("status")
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert (running.exit_code, running.summary["running"], running.summary["state"]) == (0, True, "dispatching")
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert f"interrupted; resume with: nightroute resume {night.run_dir}" in stderr
    assert json.loads(stdout.splitlines()[-1])["exit_code"] == 130
    asked = sandbox.settled(since)
    assert asked.height < 12
    stopped = night.of_run("status").summary
    assert (stopped["running"], stopped["decided"], stopped["unknown_calls"]) == (False, asked.height, 0)
    assert not night.output.exists()
    assert night.of_run("resume").exit_code == 0
    assert sandbox.settled(since).height == 12
    assert night.published()["status"].to_list() == ["ok"] * 12


def test_ctrl_c_before_anything_is_in_flight_is_130(desk: Desk) -> None:
    os.mkfifo(desk.job_file)
    command = [sys.executable, "-m", "jobs", "run", "-c", str(desk.job_file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        with desk.job_file.open("w", encoding="utf-8"):  # opens when the job reads its config
            process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "error: interrupted; run the same command again to go on\n"
    assert json.loads(stdout)["exit_code"] == 130


# ---- resplit --------------------------------------------------------------------------------------------------------


def test_resplit_up_and_down_sends_only_what_is_new(night: Desk, sandbox: Server) -> None:
    night.put(questions(8))
    assert night.run().exit_code == 0
    first = night.published()
    since = sandbox.mark()
    up = night.of_run("resplit", "--strong-share", "0.75")
    assert (up.exit_code, up.summary["revision"], up.summary["rows"]["strong"]) == (0, 2, 6)
    assert sandbox.requests(since)["model"].to_list() == [STRONG] * 2
    since = sandbox.mark()
    down = night.of_run("resplit", "--strong-share", "0.25")
    assert (down.exit_code, down.summary["revision"], down.summary["rows"]["strong"]) == (0, 3, 2)
    assert sandbox.requests(since)["model"].to_list() == [WEAK] * 2
    since = sandbox.mark()
    back = night.of_run("resplit", "--strong-share", "0.5")
    assert back.summary["revision"] == 4
    assert sandbox.received(since) == 0
    assert (
        night.published()
        .select("query_id", "model", "answer", "cost_usd")
        .equals(first.select("query_id", "model", "answer", "cost_usd"))
    )
    assert Decimal(back.summary["spent_usd"]) > Decimal(back.summary["cost_usd"])
    assert sorted(path.name for path in night.folder.iterdir()) == ["answers", "data", "job.toml", "run"]
    for args in ((), ("--alpha", "0.5", "--strong-share", "0.5"), ("--alpha", "1.2"), ("--strong-share", "-1")):
        assert_told(night.of_run("resplit", *args), 78)


def test_resplit_by_budget_after_answers_reuses_them(night: Desk) -> None:
    night.put(questions(8))
    plan = night.run(command="plan").summary
    assert night.run().exit_code == 0
    budget = (Decimal(plan["all_weak_usd"]["expected"]) + Decimal(plan["all_strong_usd"]["expected"])) / 2
    ended = night.of_run("resplit", "--split-usd", str(budget))
    assert ended.exit_code == 0, ended.stderr
    assert 0 < ended.summary["rows"]["strong"] < 8


# ---- failures and limits --------------------------------------------------------------------------------------------


def test_retry_failed_sends_only_the_failed(desk: Desk) -> None:
    desk.put(questions(6))
    statuses = iter([200, 200, 422, 422, 422, 422])
    with recording(lambda body: next(statuses, 200)) as (url, bodies):
        desk.write_config(models__strong__base_url=url, models__weak__base_url=url)
        ended = desk.run()
        assert ended.exit_code == 1, ended.stderr
        assert ended.summary["errors"] == {"unprocessable": 4}
        answers = dict(desk.published().filter(status="ok").select("query_id", "answer").iter_rows())
        assert len(bodies) == 6
        assert_told(desk.of_run("resume"), 99, "use --retry-failed to send again what the endpoint failed")
        again = desk.of_run("resume", "--retry-failed")
        assert (again.exit_code, again.summary["revision"], again.summary["rows"]["ok"]) == (0, 2, 6)
        assert len(bodies) == 10
    assert answers.items() <= dict(desk.published().select("query_id", "answer").iter_rows()).items()


def test_a_budget_stops_before_it_is_passed_and_more_of_it_goes_on(night: Desk, sandbox: Server) -> None:
    night.put(questions(30))
    night.write_config(
        split__strong_share=1.0, models__strong__expected_output_tokens=12, models__strong__max_in_flight=2,
        input__columns={"query_id": "id", "prompt": "text"}, models__strong__params={"max_completion_tokens": 30},
    )  # fmt: skip
    since = sandbox.mark()
    limit = Decimal("0.002")
    assert_told(night.run("--max-usd", str(limit)), 75, f"the budget of ${limit} is reached", "--publish-unsent")
    asked = sandbox.settled(since)
    assert 0 < asked.height < 30
    assert spent(night, asked) <= limit
    partly = night.of_run("resume", "--max-usd", str(limit), "--publish-unsent")
    assert partly.exit_code == 1
    assert "the budget of $0.002 is reached" in partly.stderr
    rows = partly.summary["rows"]
    assert (rows["published"], rows["unsent"], rows["ok"] + rows["truncated"]) == (30, 30 - asked.height, asked.height)
    assert Decimal(partly.summary["spent_usd"]) <= limit
    unsent = night.published().filter(pl.col("status") == "unsent")
    assert set(unsent["error_message"]) == {"the run stopped before this query was sent"}
    full = night.of_run("resume", "--max-usd", "1")
    assert full.exit_code == 0, full.stderr
    assert (full.summary["rows"]["unsent"], full.summary["revision"]) == (0, 2)
    assert sandbox.settled(since).height == 30


def spent(night: Desk, asked: pl.DataFrame) -> Decimal:
    """The bill, from the sandbox's token counts and the price snapshot of the run."""
    prices = pl.read_parquet(night.run_dir / "prices.parquet").filter(model=STRONG, provider="openai")
    rates = prices.sort("valid_from", nulls_last=False).row(-1, named=True)
    tokens = asked.select(pl.col("prompt_tokens", "completion_tokens").sum()).row(0)
    return Decimal(tokens[0] * rates["input_usd_per_mtok"] + tokens[1] * rates["output_usd_per_mtok"]) / 1_000_000


def test_an_endpoint_that_is_down_opens_the_breaker_and_says_so(desk: Desk) -> None:
    desk.put(questions(20))
    desk.write_config(dispatch__breaker_window=5, dispatch__max_attempts=2, dispatch__backoff_initial_s=0.0)
    told = desk.run()
    assert_told(
        told, 75, "of the last 5 attempts failed, the last with connection", "Cannot connect to host 127.0.0.1:9"
    )
    assert not desk.output.exists()


def test_a_wrong_key_is_78_and_is_written_nowhere(
    night: Desk, sandbox: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-test-0123456789abcdef"
    monkeypatch.setenv("NIGHTROUTE_TEST_KEY", key)
    night.put(questions(3))
    night.write_config(
        models__weak__api_key_env="NIGHTROUTE_TEST_KEY", models__strong__api_key_env="NIGHTROUTE_TEST_KEY"
    )
    ended = night.run()
    assert ended.exit_code == 0
    files = [path for path in night.folder.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert not [path for path in files if key.encode() in path.read_bytes()]
    assert key not in ended.stderr
    assert key not in json.dumps(ended.summary)


def test_a_ledger_that_is_no_database_is_75(night: Desk) -> None:
    night.put(questions(2))
    assert night.run(command="plan").exit_code == 0
    (night.run_dir / "ledger" / "ledger.sqlite").write_bytes(b"not a database" * 100)
    assert_told(night.run(), 75, "ledger.sqlite cannot be opened: file is not a database")


def test_raw_replies_stay_in_the_ledger(night: Desk) -> None:
    night.put(questions(3))
    assert night.run().exit_code == 0
    with sqlite3.connect(f"file:{night.run_dir}/ledger/ledger.sqlite?mode=ro", uri=True) as ledger:
        bodies = [body for (body,) in ledger.execute("SELECT body FROM replies")]
    ledger.close()
    answers = {json.loads(body)["choices"][0]["message"]["content"] for body in bodies}
    assert answers == set(night.published()["answer"])
