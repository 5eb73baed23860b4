"""Helpers of the labelling tests: a sandbox whose judge can be foretold, and a labelling job on disk."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from tests.e2e.harness import ROOT, Ended, Server, serving, wait_for

STRONG, WEAK, JUDGE = "strong-1", "weak-1", "judge-1"
RATES = {STRONG: ("2", "8"), WEAK: ("0.1", "0.4"), JUDGE: ("0.4", "1.6")}
LONG = "I weigh one side against the other, and then the other against the one, for a very long time. [[A]]"
JUDGE_TOKENS = 16
"""Limit of a judgement: `LONG` is cut before its verdict, and all others fit."""

WINNER_OF = {"strong": "model_a", "weak": "model_b", "even": "tie", "first": "tie", "fickle": "tie", "mute": None,
             "long": None}  # fmt: skip
"""Kind of a question -> who wins it: `first` follows the position, `fickle` says tie in one order."""
_SCRIPT = (
    (STRONG, "", "STRONG has thought about it."),
    (WEAK, "", "WEAK is quick."),
    (JUDGE, "kind mute", "I cannot decide."),
    (JUDGE, "kind long", LONG),
    (JUDGE, "kind first", "The first. [[A]]"),
    (JUDGE, "kind even", "Neither. [[C]]"),
    (JUDGE, r"(?s)kind strong.*<answer_a>\s*STRONG", "Not [[B]] but [[A]]"),
    (JUDGE, r"(?s)kind strong.*<answer_a>\s*WEAK", "[[B]]"),
    (JUDGE, r"(?s)kind weak.*<answer_a>\s*STRONG", "[[B]]"),
    (JUDGE, r"(?s)kind weak.*<answer_a>\s*WEAK", "[[A]]"),
    (JUDGE, r"(?s)kind fickle.*<answer_a>\s*STRONG", "[[A]]"),
    (JUDGE, r"(?s)kind fickle.*<answer_a>\s*WEAK", "[[C]]"),
)


@contextmanager
def judging(folder: Path, *, latency_s: float = 0.0, faults: str = "") -> Iterator[Server]:
    """Run a sandbox with a journal, the three models with prices, and the script."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["seed = 5"]
    for model, (input_rate, output_rate) in RATES.items():
        lines += ["[[models]]", f'name = "{model}"', f"latency_s = {latency_s}"]
        lines += [f"input_usd_per_mtok = {input_rate}", f"output_usd_per_mtok = {output_rate}"]
    for model, pattern, reply in _SCRIPT:
        lines += ["[[scripted]]", f'model = "{model}"']
        lines += [f"pattern = {json.dumps(pattern)}", f"reply = {json.dumps(reply)}"]
    config = folder / "sandbox.toml"
    config.write_text("\n".join([*lines, "[faults]", faults]), encoding="utf-8")
    with serving(folder, args=["--config", str(config)]) as server:
        yield server


def asked(server: Server, since: int = 0) -> pl.DataFrame:
    """One row a request: model, digest of its prompt, status and cost, as the sandbox saw them."""
    events = pl.read_ndjson(server.journal.read_bytes()[since:], infer_schema_length=None)
    came = events.filter(event="received").select("ordinal", "model", "prompt_sha256", "client_request_id")
    went = events.filter(event="finished").select("ordinal", "status", pl.col("cost_usd").cast(pl.Decimal(38, 12)))
    return came.join(went, on="ordinal", how="left", maintain_order="left")


def table(rows: int) -> pl.DataFrame:
    """Questions of every kind in turn, with a column to stratify by and right answers for a golden run."""
    kinds = [list(WINNER_OF)[i % len(WINNER_OF)] for i in range(rows)]
    return pl.DataFrame(
        {
            "id": [f"q{i:04d}" for i in range(rows)],
            "question": [f"Question {i} of kind {kind}: {{answer_b}}?" for i, kind in enumerate(kinds)],
            "kind": kinds,
            "answer": ["strong has  thought about it." if i % 2 else "nobody knows" for i in range(rows)],
        }
    )


@dataclass(frozen=True, slots=True)
class LabelDesk:
    """A labelling job on disk: config, run folder and battle table in one folder."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "label.toml"

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def output(self) -> Path:
        return self.folder / "labels.parquet"

    def start(self, *args: str) -> "subprocess.Popen[bytes]":
        """Start `nightroute label` in a group of its own."""
        command = [sys.executable, "-m", "jobs", "label", "--config", str(self.config), *args]
        return subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def label(self, *args: str) -> Ended:
        """Run `nightroute label` in a process of its own, to its end."""
        with self.start(*args) as process:
            stdout, stderr = process.communicate(timeout=120)
        lines = stdout.decode().splitlines()
        return Ended(process.returncode, json.loads(lines[-1]) if lines else {}, stderr.decode())

    def killed_when(self, condition: Callable[[], bool], *args: str) -> bool:
        """Start and SIGKILL as soon as the condition holds; false: it ended before."""
        with self.start(*args) as process:
            wait_for(lambda: process.poll() is not None or condition(), timeout_s=60)
            alive = process.poll() is None
            if alive:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        return alive and process.returncode == -signal.SIGKILL

    def labels(self) -> pl.DataFrame:
        """The published battle table."""
        return pl.read_parquet(self.output)

    def manifest(self) -> dict[str, Any]:
        """The manifest of the last publication."""
        manifest: dict[str, Any] = json.loads((self.run_dir / "manifest.json").read_text(encoding="utf-8"))
        return manifest


def write_label(
    folder: Path, queries: pl.DataFrame, base_url: str, *, size: int, max_in_flight: int = 4, extra: str = ""
) -> LabelDesk:
    """Write a table and the config that labels a sample of it."""
    folder.mkdir(parents=True)
    queries.write_parquet(folder / "queries.parquet")
    params = {STRONG: "{}", WEAK: "{}", JUDGE: f"{{ max_completion_tokens = {JUDGE_TOKENS} }}"}
    models = "\n".join(
        f'[models.{role}]\nname = "{name}"\nbase_url = "{base_url}"\nparams = {params[name]}\n'
        f"max_in_flight = {max_in_flight}\nexpected_output_tokens = 10\n"
        for role, name in (("strong", STRONG), ("weak", WEAK), ("judge", JUDGE))
    )
    prices = "\n".join(
        f'[[prices]]\nmodel = "{model}"\ninput_usd_per_mtok = {rates[0]}\noutput_usd_per_mtok = {rates[1]}\n'
        for model, rates in RATES.items()
    )
    text = f"""run_dir = "run"
[input]
path = "queries.parquet"
columns = {{ query_id = "id", prompt = "question" }}
[sample]
size = {size}
seed = 3
{models}
{prices}
[output]
path = "labels.parquet"
{extra}
"""
    desk = LabelDesk(folder)
    desk.config.write_text(text, encoding="utf-8")
    return desk
