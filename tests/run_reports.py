"""Run folders and run reports as a night would leave them, without a night."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from jobs.publishing import MANIFEST
from jobs.run_report import run_report
from routing.prices import price_snapshot
from schemas.billing import PriceOverride
from schemas.queries import PUBLISHED_COLUMNS, Costed
from schemas.run import Manifest, PublishedFile
from schemas.run_report import RunReport

NOW = datetime(2026, 11, 22, 7, 30, tzinfo=UTC)
START = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
STRONG, WEAK = "strong-model", "weak-model"
URL = "https://models.example/v1"
RATES = {STRONG: ("2", "8"), WEAK: ("0.1", "0.4")}
"""Dollars per million tokens of input and output."""


def table(n: int = 200, *, alpha: float = 0.6) -> pl.DataFrame:
    """A published table: every twentieth query failed, every thirtieth answer was truncated, tenants differ in size."""
    rows = [_row(k, alpha) for k in range(n)]
    schema = {name: dtype for name, dtype in Costed.create_empty().schema.items() if name in PUBLISHED_COLUMNS}
    return pl.DataFrame(rows, schema={**schema, "tenant": pl.String, "day": pl.Date})


def manifest(frame: pl.DataFrame, **changes: Any) -> Manifest:
    """Its manifest, added up here in another way."""
    compared = frame["strong_cost_usd"].count() > 0
    strong = frame.filter(pl.col("route") == "strong").height
    status = dict(frame["status"].value_counts().iter_rows())
    model = {"base_url": URL, "params": "{}"}
    totals = {
        "cost_usd": _sum(frame, "cost_usd"), "all_strong_usd": _sum(frame, "strong_cost_usd") if compared else None,
        "all_weak_usd": _sum(frame, "weak_cost_usd") if compared else None,
        "saved_vs_strong_usd": _sum(frame, "saved_vs_strong_usd") if compared else None,
        "saved_share": float(_sum(frame, "saved_vs_strong_usd") / _sum(frame, "strong_cost_usd")) if compared else None,
        "unpriced_rows": frame["unpriced_reason"].count(), "spent_usd": _sum(frame, "cost_usd"), "unknown_calls": 0,
        "input_tokens": int(frame["input_tokens"].sum()), "cached_tokens": 0,
        "output_tokens": int(frame["output_tokens"].sum()), "reasoning_tokens": 0,
        "attempts": int(frame["attempts"].sum()),
    }  # fmt: skip
    record = {
        "run_id": "0123456789ab", "revision": 1, "started_at": START, "published_at": NOW,
        "nightroute_version": "0.1.0", "versions": {"polars": "2.1.0"},
        "identity": {
            "input_path": "queries.parquet", "columns": {}, "drop": [], "date": None, "date_column": None,
            "max_prompt_tokens": 8_192, "part_rows": 10_000, "router_sha256": "a" * 64,
            "strong": {"name": STRONG, **model}, "weak": {"name": WEAK, **model},
        },
        "router": {"name": "static-mf", "kind": "mf", "sha256": "a" * 64},
        "split": {
            "rule": "alpha", "wanted": "0.6", "alpha": 0.6, "tie_key_max": 2**64 - 1, "n": frame.height,
            "n_strong": strong, "n_tied": 0, "n_tied_strong": 0, "expected_usd": None,
        },
        "rows": {
            "read": frame.height + 3, "rejected": 3, "published": frame.height, "strong": strong,
            "weak": frame.height - strong,
            **{name: status.get(name, 0) for name in ("ok", "truncated", "failed", "unsent")},
        },
        "errors": dict(frame["error_code"].drop_nulls().value_counts(sort=True).iter_rows()), "models": {},
        "totals": totals, "prices_sha256": "b" * 64,
        "input_files": [{"path": "queries.parquet", "rows": frame.height + 3, "sha256": "c" * 64, "partition": {}}],
        "files": [], "timings_s": {"score": 1.25, "dispatch": 61.5, "publish": 0.75},
    }  # fmt: skip
    return Manifest.model_validate(record | changes)


def write_run(folder: Path, frame: pl.DataFrame, *, by: str | None = None, **changes: Any) -> Path:
    """Write a finished run and its table; returns the run folder.

    Args:
        folder: Empty.
        frame: As `table` gives it.
        by: Column that the output is partitioned by.
        changes: Of the manifest.
    """
    run, output = folder / "run", folder / "answers"
    run.mkdir(parents=True)
    parts = [(output / "part-00000.parquet", frame)] if by is None else [
        (output / f"{by}={'__HIVE_DEFAULT_PARTITION__' if key is None else key}" / "part-00000.parquet", rows.drop(by))
        for (key,), rows in frame.group_by(by, maintain_order=True)
    ]  # fmt: skip
    files = []
    for path, rows in parts:
        path.parent.mkdir(parents=True)
        rows.write_parquet(path)
        files.append(PublishedFile(path=path.relative_to(output).as_posix(), rows=rows.height, sha256="d" * 64))
    found = manifest(frame, files=[file.model_dump() for file in files], **changes)
    for path in (run / "manifest.json", output / MANIFEST):
        path.write_text(found.model_dump_json(), encoding="utf-8")
    overrides = [
        PriceOverride(model=model, input_usd_per_mtok=rates[0], output_usd_per_mtok=rates[1])
        for model, rates in RATES.items()
    ]
    price_snapshot(overrides).write_parquet(run / "prices.parquet")
    plan = {
        "version": 1, "run_id": "0123456789ab", "created_at": START.isoformat(), "nightroute_version": "0.1.0",
        "identity": found.identity.model_dump(), "files": [], "parts": [],
    }  # fmt: skip
    (run / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    config = {
        "name": "first-night", "run_dir": str(run), "input": {"path": "queries.parquet"}, "split": {"alpha": 0.6},
        "models": {side: {"name": name, "base_url": URL} for side, name in (("strong", STRONG), ("weak", WEAK))},
        "output": {"path": str(output), "partition_by": [] if by is None else [by]},
    }  # fmt: skip
    record = {"base": str(folder), "date": None, "config": config}
    (run / "config.json").write_text(json.dumps(record), encoding="utf-8")
    return run


def large_run(folder: Path) -> RunReport:
    """The report of 3,000 queries with groups and everything that can be beside a bill."""
    embedding = {
        "model": "text-embedding-3-small", "prompts": 2_900, "requests": 31, "input_tokens": 310_422,
        "cost_usd": "0.006208440000", "unpriced_requests": 1, "unknown_calls": 2,
    }  # fmt: skip
    frame = table(3_000)
    totals = manifest(frame).totals.model_dump() | {"unknown_calls": 4, "spent_usd": "1.25"}
    run = write_run(folder, frame, embedding=embedding, totals=totals)
    return run_report(run, groups=["tenant"], now=NOW)


def _row(k: int, alpha: float) -> dict[str, Any]:
    win_rate = (k * 7_919 % 1_009) / 1_009
    strong = win_rate >= alpha
    failed, unpriced = k % 20 == 7, k % 50 == 33
    model = STRONG if strong else WEAK
    tokens_in, tokens_out = 40 + k % 97, 30 + (k * 31) % 211 + 90 * strong
    mean = {STRONG: 225, WEAK: 135}
    usd = {m: _usd(m, tokens_in, tokens_out if m == model else mean[m]) for m in RATES}
    answered = not failed
    priced = answered and not unpriced
    return {
        "query_id": f"q{k}", "win_rate": win_rate, "route": "strong" if strong else "weak", "model": model,
        "alpha": alpha, "status": "failed" if failed else "truncated" if k % 30 == 11 else "ok",
        "answer": "an answer" if answered else None, "requested_model": model,
        "served_model": f"{model}-2026" if answered else None, "finish_reason": "stop" if answered else None,
        "input_tokens": tokens_in if answered else None, "cached_tokens": 0 if answered else None,
        "output_tokens": tokens_out if answered else None, "reasoning_tokens": 0 if answered else None,
        "attempts": 5 if failed else 1, "latency_s": 0.5 + (k % 10) / 10 if answered else None,
        "answered_at": START + timedelta(seconds=3 * k) if answered else None,
        "error_code": "timeout" if failed else "length" if k % 30 == 11 else None,
        "cost_usd": Decimal(0) if failed else usd[model] if priced else None,
        "price_id": model if priced else None,
        "unpriced_reason": "no price for model 'x'" if answered and unpriced else None,
        "strong_cost_usd": usd[STRONG] if priced else None, "weak_cost_usd": usd[WEAK] if priced else None,
        "saved_vs_strong_usd": usd[STRONG] - usd[model] if priced else None,
        "tenant": None if k % 41 == 0 else ("acme", "bolt", "acme", "cargo")[k % 4],
        "day": (START + timedelta(days=k % 2)).date(),
    }  # fmt: skip


def _usd(model: str, tokens_in: int, tokens_out: int) -> Decimal:
    rates = [Decimal(rate) for rate in RATES[model]]
    return (tokens_in * rates[0] + tokens_out * rates[1]) / 1_000_000


def _sum(frame: pl.DataFrame, column: str) -> Decimal:
    return sum(frame[column].drop_nulls().to_list(), Decimal(0))
