"""Helpers for tests of a person at a terminal: a table, a config and what is odd about it, a command, what it said."""

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.cli import invoke
from tests.e2e.harness import STRONG, WEAK, Ended

NOWHERE = "http://127.0.0.1:9/v1"
"""A port that nothing listens on: for tests that must fail before a call is made."""


def questions(rows: int, **columns: Any) -> pl.DataFrame:
    """A table with `id` and `text`, all different, and further columns."""
    return pl.DataFrame(
        {
            "id": [f"q{i}" for i in range(rows)],
            "text": [f"What is {i} times {i}, and why?" for i in range(rows)],
            **columns,
        }
    )


def nightroute(*args: str) -> Ended:
    """Run a command line in this process; what it wrote is taken from it."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = invoke(list(args))
    lines = stdout.getvalue().splitlines()
    return Ended(code, json.loads(lines[-1]) if lines else {}, stderr.getvalue())


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder with `data/`, `job.toml`, and after a run `run/` and `answers/`."""

    folder: Path
    base_url: str = NOWHERE
    config: dict[str, Any] = field(default_factory=dict)
    """Dotted key -> value, on top of a config that works."""

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def output(self) -> Path:
        return self.folder / "answers"

    @property
    def job_file(self) -> Path:
        return self.folder / "job.toml"

    def put(self, table: pl.DataFrame | pa.Table, name: str = "in.parquet", **options: Any) -> Path:
        """Write a table below `data/`."""
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.to_arrow() if isinstance(table, pl.DataFrame) else table, path, **options)
        return path

    def write_config(self, **changes: Any) -> None:
        """Write `job.toml`; `changes` are dotted keys with `__` for the dot, None leaves a key out."""
        values: dict[str, Any] = {
            "run_dir": "run",
            "input.path": "data",
            "input.columns": {"query_id": "id", "prompt": "text"},
            "split.strong_share": 0.5,
            "models.strong.name": STRONG,
            "models.strong.base_url": self.base_url,
            "models.weak.name": WEAK,
            "models.weak.base_url": self.base_url,
            "output.path": "answers",
            **self.config,
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
        lines = [f"{key} = {toml(value)}" for key, value in values.items() if value is not None]
        self.job_file.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def run(self, *args: str, command: str = "run") -> Ended:
        """`nightroute run --config job.toml ...` in this process."""
        if not self.job_file.exists():
            self.write_config()
        return nightroute(command, "--config", str(self.job_file), *args)

    def of_run(self, command: str, *args: str) -> Ended:
        """`nightroute status | resume | resplit RUN_DIR ...` in this process."""
        return nightroute(command, str(self.run_dir), *args)

    def published(self) -> pl.DataFrame:
        """The published table, part by part."""
        return pl.read_parquet(sorted(self.output.rglob("*.parquet")), hive_partitioning=False)

    def rejected(self) -> pl.DataFrame:
        """The rows set aside."""
        return pl.read_parquet(self.run_dir / "rejected.parquet")

    def manifest(self) -> dict[str, Any]:
        """The published manifest."""
        manifest: dict[str, Any] = json.loads((self.output / "_manifest.json").read_text(encoding="utf-8"))
        return manifest


def toml(value: Any) -> str:
    """A value in TOML's inline syntax, which is JSON's but for tables."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def assert_told(ended: Ended, exit_code: int, *needles: str) -> None:
    """One message that holds every needle (got, expected, remedy), no traceback, and JSON on stdout."""
    assert ended.exit_code == exit_code, ended.stderr
    assert "Traceback" not in ended.stderr
    told = [line for line in ended.stderr.splitlines() if line.startswith(("error: ", "nothing to do: "))]
    assert len(told) == 1, ended.stderr
    for needle in needles:
        assert needle in ended.stderr, f"{needle!r} is not in: {ended.stderr}"
    assert ended.summary["exit_code"] == exit_code
    assert ended.summary["status"] == "stopped"
    assert ended.summary["error"] in ended.stderr
