import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from schemas.queries import PUBLISHED_COLUMNS, Costed
from tests.unit.call_logs.support import assert_calls, opened, read

NIGHT = datetime(2026, 8, 20, 1, 2, 3, tzinfo=UTC)
ANSWERED: dict[str, Any] = {
    "query_id": "q-0",
    "win_rate": 0.5,
    "route": "strong",
    "model": "gpt-4o",
    "alpha": 0.4,
    "status": "ok",
    "requested_model": "gpt-4o",
    "served_model": "gpt-4o-2024-08-06",
    "service_tier": "default",
    "input_tokens": 1_200,
    "cached_tokens": 1_000,
    "output_tokens": 300,
    "reasoning_tokens": 120,
    "attempts": 2,
    "latency_s": 1.5,
    "answered_at": NIGHT,
    "cost_usd": Decimal("0.00475"),
}
ROWS = [
    ANSWERED,
    ANSWERED
    | {"query_id": "q-1", "status": "truncated", "route": "weak", "served_model": None, "service_tier": "flex"},
    ANSWERED
    | {"query_id": "q-2", "status": "failed", "error_code": "timeout", "cost_usd": None, "output_tokens": None},
    ANSWERED | {"query_id": "q-3", "status": "unsent", "attempts": 0, "answered_at": None},
]
CALL = {
    "called_at": "2026-08-20 01:02:03",
    "model": "gpt-4o-2024-08-06",
    "requested_model": "gpt-4o",
    "operation": "chat",
    "input_tokens": 1_200,
    "cached_tokens": 1_000,
    "output_tokens": 300,
    "reasoning_tokens": 120,
    "logged_usd": "0.00475",
    "attempts": 2,
    "latency_s": 1.5,
}
EXPECTED: list[dict[str, Any]] = [
    CALL | {"row": 0, "call_id": "q-0", "prompt": "one"},
    CALL | {"row": 1, "call_id": "q-1", "model": "gpt-4o", "processing": "flex", "prompt": "two"},
    CALL
    | {
        "row": 2,
        "call_id": "q-2",
        "output_tokens": None,
        "outcome": "failed",
        "error_code": "timeout",
        "prompt": '["as it is"]',
    }
    | {"logged_usd": None},
]


def publish(folder: Path, prompt: pl.Series) -> None:
    """A published table: the user's own columns beside ours, by tenant, with its manifest."""
    schema = {name: Costed.create_empty().schema[name] for name in PUBLISHED_COLUMNS}
    frame = pl.DataFrame(ROWS, schema=schema).with_columns(prompt)
    for tenant, rows in (("a", frame[:2]), ("b", frame[2:])):
        (folder / f"tenant={tenant}").mkdir(parents=True)
        rows.write_parquet(folder / f"tenant={tenant}" / "part-00000.parquet")
    (folder / "_manifest.json").write_text(json.dumps({"version": 1}))


def test_published_partitions(tmp_path: Path) -> None:
    publish(tmp_path, pl.Series("prompt", ["one", "two", '["as it is"]', "four"]))
    log = opened(tmp_path, tenant=["tenant"])
    assert (log.format, len(log.files), log.has_prompts) == ("nightroute", 2, True)
    tenants = ["a", "a", "b"]
    assert_calls(log.calls.collect(), [row | {"tenant": tenant} for row, tenant in zip(EXPECTED, tenants, strict=True)])


def test_the_prompt_stands_in_the_users_own_column(tmp_path: Path) -> None:
    turns = [[{"role": "system", "content": "s"}, {"role": "user", "content": text}] for text in "abcd"]
    publish(tmp_path, pl.Series("chat", turns))
    assert read(tmp_path, columns={"prompt": "chat"})["prompt"].to_list() == ["a", "b", "c"]
    assert not opened(tmp_path).has_prompts
