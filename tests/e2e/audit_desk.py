"""A folder to audit in: a log, a config, the command."""

import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from schemas.audit import AuditReport
from tests.e2e.desk import nightroute, toml
from tests.e2e.harness import ROOT, Ended

STAGING = "staging"


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder with `log/`, `audit.toml`, and after an audit `out/`."""

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def config_file(self) -> Path:
        return self.folder / "audit.toml"

    def put(self, log: pl.DataFrame, name: str = "calls.parquet") -> None:
        path = self.folder / "log" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        log.write_parquet(path)

    def write_config(self, **changes: Any) -> None:
        """Dotted keys with `__` for the dot, None leaves a key out."""
        values = {
            "output": "out",
            "log.path": "log",
            "log.format": "table",
            "log.columns": {name: name for name in calls(1).columns},
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
        lines = [f"{key} = {toml(value)}" for key, value in values.items() if value is not None]
        self.config_file.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def audit(self, *args: str, **changes: Any) -> Ended:
        """`nightroute audit --config audit.toml ...` in this process."""
        self.write_config(**changes)
        return nightroute("audit", "--config", str(self.config_file), *args)

    def report(self) -> AuditReport:
        return AuditReport.model_validate_json((self.out / "report.json").read_bytes())


def calls(n: int, **columns: Any) -> pl.DataFrame:
    """A plain table of calls, one a minute; $0.002 each at the price of gpt-4.1 ($2 and $8 a million tokens)."""
    start = datetime(2026, 10, 5, 8, tzinfo=UTC)
    return pl.DataFrame(
        {
            "call_id": [f"c{i}" for i in range(n)],
            "called_at": [start + timedelta(minutes=i) for i in range(n)],
            "provider": ["openai"] * n,
            "model": ["gpt-4.1"] * n,
            "input_tokens": [600] * n,
            "output_tokens": [100] * n,
            **columns,
        },
        schema_overrides={"called_at": pl.Datetime("us", "UTC")},
    )


def start(config: Path, *args: str) -> "subprocess.Popen[bytes]":
    """Start an audit in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "jobs", "audit", "--config", str(config), *args],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
