"""Small call logs for tests: rows of CALL_LOG with defaults, stored and booked."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from jobs.audit_books import Books, keep_books
from jobs.audit_calls import StoredCalls, store_calls
from jobs.audit_config import PageSection
from jobs.audit_log import OpenedLog
from routing.audit.control import conform
from routing.prices import price_snapshot
from schemas.billing import PriceOverride
from schemas.call_log import CallLog

Row = dict[str, Any]

NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)

# House prices: $1 a million input tokens, $10 a million output tokens; `big` ten times that.
PRICES = price_snapshot(
    [
        PriceOverride(model="small", input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(10)),
        PriceOverride(model="big", input_usd_per_mtok=Decimal(10), output_usd_per_mtok=Decimal(100)),
    ]
)
"""1,000 tokens in and 100 out cost $0.002 on `small`, $0.02 on `big`."""

DEFAULTS: Row = {
    "called_at": NOON,
    "model": "small",
    "input_tokens": 1_000,
    "output_tokens": 100,
    "billed": True,
    "outcome": "ok",
}


def call_log(*rows: Row, **defaults: Any) -> pl.DataFrame:
    """CALL_LOG: rows in order; ids are `id-0`, `id-1`, ... where a row names none."""
    return pl.DataFrame(
        [{"row": n, "call_id": f"id-{n}"} | DEFAULTS | defaults | row for n, row in enumerate(rows)],
        schema=CallLog.create_empty().schema,
    )


def opened(calls: pl.DataFrame, folder: Path) -> OpenedLog:
    """A log of one file."""
    file = folder / "log.jsonl"
    file.write_text('{"a": "line"}\n' * calls.height, encoding="utf-8")
    return OpenedLog(
        format="table",
        files=(file,),
        rows=calls.lazy().with_columns(is_call=True),
        has_prompts=True,
    )


def stored(calls: pl.DataFrame, folder: Path, *, part_rows: int = 2) -> StoredCalls:
    """A log in parts."""
    return store_calls(opened(calls, folder), folder / "work", part_rows=part_rows)


def booked(
    calls: pl.DataFrame,
    folder: Path,
    *,
    part_rows: int = 2,
    prices: pl.DataFrame = PRICES,
    control: pl.DataFrame | None = None,
    page: PageSection | None = None,
) -> Books:
    """The books of a log."""
    found = stored(calls, folder, part_rows=part_rows)
    totals = None if control is None else conform(control)
    return keep_books(found, prices, control=totals, page=page or PageSection())
