"""Reading the fixtures, and writing down what they hold."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

from jobs.audit_config import LogSection
from jobs.audit_log import OpenedLog, open_log
from schemas.call_log import CallLog

DATA = Path(__file__).parents[2] / "data" / "call_logs"
SCHEMA = CallLog.create_empty().schema


def opened(path: str | Path, *, base: Path = DATA, date: str | None = None, **section: Any) -> OpenedLog:
    return open_log(LogSection(path=str(path), **section), base, date=date)


def read(path: str | Path, *, base: Path = DATA, **section: Any) -> pl.DataFrame:
    return opened(path, base=base, **section).calls.collect(engine="streaming")


def frame(rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """CALL_LOG out of what is not null: times as ISO text in UTC, money as text, `billed` and `ok` left out."""

    def value(name: str, given: Any) -> Any:
        if given is None:
            return None
        if name == "called_at":
            return datetime.fromisoformat(f"{given}+00:00")
        return Decimal(given) if name == "logged_usd" else given

    full = [
        {"billed": True, "outcome": "ok"} | {name: value(name, given) for name, given in row.items()} for row in rows
    ]
    return pl.DataFrame(full, schema=SCHEMA, orient="row")


def assert_calls(found: pl.DataFrame, rows: Iterable[Mapping[str, Any]]) -> None:
    assert_frame_equal(found, frame(rows), check_exact=True)


def lines(name: str) -> list[dict[str, Any]]:
    """Records of a JSONL fixture; its last line, which is torn, left out."""
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()[:-1]]


def as_text(value: Any) -> str | None:
    """A cell of a dump: objects as JSON text."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
