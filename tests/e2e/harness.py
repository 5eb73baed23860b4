"""Helpers of the end-to-end proofs: a sandbox with a journal, the job as a process, the journal as a table."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from jobs.sandbox import sandbox_process

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.002
QUIET_S = 0.15
STRONG, WEAK = "gpt-4.1", "gpt-4.1-nano"

_NUMBERS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
_EVENT = {
    "event": pl.String, "at": pl.String, "ordinal": pl.Int64, "monotonic_s": pl.Float64, "model": pl.String,
    "client_request_id": pl.String, "in_flight": pl.Int64, "early": pl.Boolean, "not_before_s": pl.Float64,
    "status": pl.Int64, "fault": pl.String, "error_code": pl.String, "finish_reason": pl.String,
    "retry_after_s": pl.Float64, **dict.fromkeys(_NUMBERS, pl.Int64), "cost_usd": pl.String, "connected": pl.Boolean,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ended:
    """A job process that ended by itself."""

    exit_code: int
    summary: dict[str, Any]
    """The JSON line on stdout; empty when there was none."""
    stderr: str


@dataclass(frozen=True, slots=True)
class Server:
    """A sandbox that runs, and its journal."""

    base_url: str
    journal: Path

    @property
    def port(self) -> int:
        return int(self.base_url.removesuffix("/v1").rpartition(":")[2])

    def _lines(self, since: int) -> bytes:
        """The whole lines after a mark: the last one may be half written."""
        if not self.journal.exists():
            return b""
        with self.journal.open("rb") as file:
            file.seek(since)
            lines = file.read()
        return lines[: lines.rfind(b"\n") + 1]

    def mark(self) -> int:
        """Where the journal ends now; the other methods read from there."""
        return len(self._lines(0))

    def received(self, since: int = 0) -> int:
        """Requests that came in after a mark."""
        return self._lines(since).count(b'"event": "received"')

    def requests(self, since: int = 0) -> pl.DataFrame:
        """One row a request that came in after a mark, in order of arrival.

        Columns of the journal, `received_s` and `finished_s` for its clock, `promised_s` for the latest Retry-After
        moment that stood when the request arrived, `not_before_s` for the one that its reply promises, and `call` and
        `attempt`, the two halves of the job's request id.
        """
        lines = self._lines(since)
        events = pl.read_ndjson(lines, schema=_EVENT) if lines else pl.DataFrame(schema=_EVENT)
        came = events.filter(event="received").select(
            "ordinal",
            "at",
            "model",
            "client_request_id",
            "in_flight",
            "early",
            received_s="monotonic_s",
            promised_s="not_before_s",
            call=pl.col("client_request_id").str.head(32),
            attempt=pl.col("client_request_id").str.slice(33).cast(pl.Int64),
        )
        went = events.filter(event="finished").select(
            "ordinal", "status", "fault", "error_code", "finish_reason", "retry_after_s", "not_before_s", *_NUMBERS,
            "connected", pl.col("cost_usd").cast(pl.Decimal(38, 12)), finished_s="monotonic_s",
        )  # fmt: skip
        return came.join(went, on="ordinal", how="left", maintain_order="left", validate="1:1")

    def settled(self, since: int = 0, *, timeout_s: float = 10.0) -> pl.DataFrame:
        """Wait until every request is answered, whether or not its client still lives; then `requests`.

        A killed client may leave requests in the server's socket, so the journal has to be quiet for a while as well.
        """
        quiet_from, seen = time.monotonic(), -1

        def settled() -> bool:
            nonlocal quiet_from, seen
            if (now := self.mark()) != seen:
                quiet_from, seen = time.monotonic(), now
            quiet = time.monotonic() - quiet_from >= QUIET_S
            return quiet and self.requests(since)["finished_s"].null_count() == 0

        wait_for(settled, timeout_s=timeout_s)
        return self.requests(since)


@contextmanager
def serving(folder: Path, *settings: str, args: Sequence[str] = ()) -> Iterator[Server]:
    """Run a sandbox with a journal in `folder`; `settings` are `key=value` as in `nightroute sandbox --set`."""
    journal = folder / "journal.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    sets = [word for setting in settings for word in ("--set", setting)]
    with sandbox_process(["--journal", str(journal), *sets, *args]) as url:
        yield Server(url, journal)


@dataclass(frozen=True, slots=True)
class Job:
    """A job on disk: config, run folder and published table in one folder of its own."""

    folder: Path

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def output(self) -> Path:
        return self.folder / "answers"

    def start(self, command: str, *args: str) -> "subprocess.Popen[bytes]":
        """Start a command (`run` and `plan` take the config, all others the run folder) in a group of its own."""
        of_config = command in ("run", "plan")
        target = ["--config", str(self.folder / "job.toml")] if of_config else [str(self.run_dir)]
        return subprocess.Popen(
            [sys.executable, "-m", "jobs", command, *target, *args],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def carry_out(self, command: str, *args: str, timeout_s: float = 120.0) -> Ended:
        """Run a command to its end."""
        with self.start(command, *args) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        lines = stdout.decode().splitlines()
        return Ended(process.returncode, json.loads(lines[-1]) if lines else {}, stderr.decode())

    def succeed(self, command: str, *args: str, timeout_s: float = 120.0) -> Ended:
        """Run a command that has to exit with 0."""
        ended = self.carry_out(command, *args, timeout_s=timeout_s)
        assert ended.exit_code == 0, ended.stderr
        return ended

    def killed_when(self, condition: Callable[[], bool], command: str, *args: str, timeout_s: float = 60.0) -> bool:
        """Start a command and SIGKILL its process group as soon as the condition holds; false: it ended before."""
        with self.start(command, *args) as process:
            wait_for(lambda: process.poll() is not None or condition(), timeout_s=timeout_s)
            alive = process.poll() is None
            if alive:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        return alive and process.returncode == -signal.SIGKILL

    def published(self) -> pl.DataFrame:
        """The published table, in the order of its parts."""
        return pl.read_parquet(sorted(self.output.glob("*.parquet")))

    def manifest(self) -> dict[str, Any]:
        """The published manifest."""
        manifest: dict[str, Any] = json.loads((self.output / "_manifest.json").read_text(encoding="utf-8"))
        return manifest


def write_job(
    folder: Path,
    queries: pl.DataFrame,
    base_url: str,
    *,
    split: str,
    strong: str = STRONG,
    weak: str = WEAK,
    model: str = "",
    part_rows: int = 5_000,
    extra: str = "",
) -> Job:
    """Write a table and the config that routes it.

    Args:
        folder: Created; holds everything of the job.
        queries: With `query_id` and `prompt`; further columns travel along.
        base_url: Where both models answer.
        split: Body of [split].
        strong: Name of the strong model.
        weak: Name of the weak model.
        model: Further lines for both models.
        part_rows: Rows of a part.
        extra: Further sections.
    """
    folder.mkdir(parents=True)
    queries.write_parquet(folder / "queries.parquet")
    models = "\n".join(
        f'[models.{side}]\nname = "{name}"\nbase_url = "{base_url}"\n{model}\n'
        for side, name in (("strong", strong), ("weak", weak))
    )
    text = f"""run_dir = "run"
[input]
path = "queries.parquet"
columns = {{ query_id = "query_id", prompt = "prompt" }}
part_rows = {part_rows}
[split]
{split}
{models}
[output]
path = "answers"
{extra}
"""
    (folder / "job.toml").write_text(text, encoding="utf-8")
    return Job(folder)


def wait_for(condition: Callable[[], bool], *, timeout_s: float) -> None:
    """Poll until the condition holds.

    Raises:
        TimeoutError: it never did.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {timeout_s} s")
        time.sleep(POLL_S)


def example_queries(rows: int) -> pl.DataFrame:
    """The first rows of the example table, `query_id` and `prompt`; all prompts differ."""
    table = pl.read_parquet(ROOT / "examples" / "queries.parquet", columns=["query_id", "prompt"])
    assert table.height >= rows
    return table.head(rows)
