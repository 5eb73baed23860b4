"""`nightroute study` as a command: a literal table, killed with SIGKILL, and run again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.train
pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("transformers", reason="needs the extra `train`")

from tests.e2e.harness import ROOT  # noqa: E402
from tests.unit.training.conftest import encoder_folder  # noqa: E402, F401  # the tiny encoder

EASY, HARD = ("hello hello hello", "what is the sum"), ("prime prime prime", "write write write")
"""Openings of the questions that both models answer, and of those that only the strong one answers."""
COMMON = """
name = "tiny"
output = "router"
threads = 1
device = "cpu"

[encoder]
path = "{encoder}"

[pair]
strong = "big"
weak = "small"

[[sources]]
path = "votes.csv"
licence = "made up"

[split]
held_out_share = 0.2

[card]
description = "d"
trained_pair = "big over small"
licence = "made up"
limits = ["none"]

[embedder]
kind = "static"
dim = 16
"""
STUDY = """
name = "tiny"
output = "out"
data = "data"
resamples = 100

[[benchmarks]]
name = "quiz"
path = "quiz.csv"
strong = "Big"
weak = "Small"
sizes = [40, 80]
draws = 3

[[arms]]
name = "votes"
sources = ["votes"]

[[arms]]
name = "labels"
in_domain = true

[[kinds]]
name = "linear"
config = "linear.toml"

[[kinds]]
name = "length"
config = "length.toml"
"""


def question(number: int) -> str:
    opening = (HARD if number % 2 else EASY)[number // 2 % 2]
    return f"{opening} w{number % 200} w{number // 2} w{3 * number % 200} ?"


@pytest.fixture
def desk(tmp_path: Path, encoder_folder: Path) -> Path:  # noqa: F811
    data = tmp_path / "data"
    data.mkdir()
    # Every eighth hard question defeats both, every ninth question of all is lost by the strong model alone.
    quiz = ["prompt,model,score"]
    for number in range(200):
        hard, lost = number % 2 == 1, number % 9 == 0
        quiz += [
            f"{question(number)},Big,{int(not lost and number % 16 != 1)}",
            f"{question(number)},Small,{int(not hard)}",
        ]
    (data / "quiz.csv").write_text("\n".join(quiz))
    votes = ["prompt,model_a,model_b,winner"]
    votes += [
        f"{question(n)},big,small,{'model_a' if n % 2 else 'tie' if n % 3 else 'model_b'}" for n in range(300, 400)
    ]
    (data / "votes.csv").write_text("\n".join(votes))
    (tmp_path / "common.toml").write_text(COMMON.format(encoder=encoder_folder))
    (tmp_path / "linear.toml").write_text('extends = "common.toml"\nkind = "linear"\n')
    length = COMMON.format(encoder=encoder_folder).split("[embedder]")[0]
    (tmp_path / "length.toml").write_text(f'kind = "length"\n{length}')
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


def start(desk: Path, output: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jobs", "study", "-c", str(desk / "study.toml"), "--output", str(desk / output)]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def ended(running: subprocess.Popen[str], code: int = 0) -> dict[str, object]:
    out, err = running.communicate(timeout=100)
    assert running.returncode == code, err
    return dict(json.loads(out.splitlines()[-1]))


def result(folder: Path) -> dict[str, object]:
    return {key: value for key, value in json.loads((folder / "study.json").read_text()).items() if key != "created_at"}


def test_a_study_killed_in_the_middle_ends_like_one_that_was_not(desk: Path) -> None:
    said = ended(start(desk, "quiet"))
    assert said == {
        "job": "study", "study": "tiny", "folder": str(desk / "quiet"), "rows": 3 + 2 * 3, "fitted": 2 * (1 + 6),
        "kept": 0, "failed": 0, "status": "studied", "exit_code": 0,
    }  # fmt: skip
    figures = {(row["kind"], row["data"], row["n_labels"]): row for row in result(desk / "quiet")["label_study"]}  # type: ignore[attr-defined]
    assert figures["linear", "labels", 80]["low"] > 0.5
    assert figures["linear", "labels", 80]["apgr"] <= figures["oracle", "none", 0]["apgr"]

    running, cells = start(desk, "killed"), desk / "killed" / "cells"
    while len(list(cells.glob("*.json"))) < 4:
        assert running.poll() is None, running.communicate()
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    kept = len(list(cells.glob("*.json")))
    assert kept < 14
    assert not (desk / "killed" / "study.json").exists()

    again = ended(start(desk, "killed"))
    assert (again["fitted"], again["kept"]) == (14 - kept, kept)
    assert result(desk / "killed") == result(desk / "quiet")
    for name in ("study.parquet", "study.md"):
        assert (desk / "killed" / name).read_bytes() == (desk / "quiet" / name).read_bytes()


def test_a_config_that_is_wrong_is_told_with_its_code(desk: Path) -> None:
    config = desk / "study.toml"
    config.write_text(STUDY.replace('sources = ["votes"]', 'sources = ["fights"]'))
    said = ended(start(desk, "out"), 78)
    assert "arm 'votes' names the sources ['fights']" in str(said["error"])
    assert not (desk / "out").exists()
