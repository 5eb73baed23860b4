"""Audit: seconds and peak memory for a log of usage without prompts, beside plain sums of the same file, unchecked.

Run: `python benchmarks/audit.py [ROWS]`. The log is made here: LiteLLM's columns, 100 tenants, 90 days, six models, one
of them without a price. Every step runs in a process of its own, on two threads. The peers add up what the log says of
itself by day, tenant and model; they look for no duplicate, check no row and price nothing.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

THREADS = "2"
DAYS, TENANTS = 90, 100
CHUNK = 250_000
"""Rows of a row group."""
MODELS = {
    "gpt-4.1": ("openai", 0.30),
    "gpt-4.1-mini": ("openai", 0.25),
    "gpt-4.1-nano": ("openai", 0.20),
    "gpt-4o": ("openai", 0.10),
    "claude-sonnet-4-5": ("anthropic", 0.10),
    "house-model": ("openai", 0.05),
}
"""Model -> (provider, share of calls)."""
USD_PER_MTOK = np.array([(2.0, 8.0), (0.4, 1.6), (0.1, 0.4), (2.5, 10.0), (3.0, 15.0), (0.0, 0.0)])

Seconds = dict[str, float]


# ---- the log


def make_log(path: Path, rows: int) -> None:
    """Write a log in order of time; the same bytes every time."""
    schema = make_chunk(0, 0, rows).to_arrow().schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, CHUNK):
            writer.write_table(make_chunk(start, min(CHUNK, rows - start), rows).to_arrow().cast(schema))


def make_chunk(start: int, count: int, rows: int) -> pl.DataFrame:
    """Rows `start` and following, as LiteLLM writes them to its table LiteLLM_SpendLogs."""
    rng = np.random.default_rng([0, start])
    first_us = int(datetime(2026, 7, 1, tzinfo=UTC).timestamp()) * 1_000_000
    step_us = DAYS * 86_400_000_000 // rows
    at = first_us + np.sort(start + count * rng.random(count)) * step_us
    model = rng.choice(len(MODELS), count, p=[share for _, share in MODELS.values()])
    prompt, completion = (rng.lognormal(mean, 1.0, count).astype(np.int64) + 1 for mean in (6.0, 5.0))
    cached = np.where(rng.random(count) < 0.3, prompt // 2, 0)
    spend = (prompt * USD_PER_MTOK[model, 0] + completion * USD_PER_MTOK[model, 1]) / 1e6
    names, hosts = list(MODELS), [host for host, _ in MODELS.values()]
    started = pl.col("at").cast(pl.Datetime("us"))
    details = '"prompt_tokens_details":{{"cached_tokens":{}}}'
    usage = f'{{{{"usage_object":{{{{"prompt_tokens":{{}},"completion_tokens":{{}},{details}}}}}}}}}'
    numbers = {
        "at": at.astype(np.int64),
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cached": cached,
        "spend": spend,
    }
    tenants = rng.integers(0, TENANTS, count)
    return pl.DataFrame(numbers | {"n": np.arange(start, start + count)}).select(
        request_id=pl.format("chatcmpl-{}", pl.col("n").cast(pl.String).str.zfill(24)),
        call_type=pl.lit("acompletion"),
        spend="spend",
        total_tokens=pl.col("prompt_tokens") + pl.col("completion_tokens"),
        prompt_tokens="prompt_tokens",
        completion_tokens="completion_tokens",
        startTime=started,
        endTime=started + pl.duration(milliseconds=pl.col("completion_tokens") * 10),
        model=pl.Series(names).gather(model),
        model_group=pl.Series(names).gather(model),
        custom_llm_provider=pl.Series(hosts).gather(model),
        metadata=pl.format(usage, "prompt_tokens", "completion_tokens", "cached"),
        cache_hit=pl.lit("False"),
        team_id=pl.Series([f"team-{n:02d}" for n in range(TENANTS)]).gather(tenants),
        messages=pl.lit("{}"),
        response=pl.lit("{}"),
        status=pl.lit("success"),
    )


# ---- the steps, each in a process of its own


def audit(log: Path) -> Seconds:
    """Everything but the reports: open, store, books."""
    from jobs.audit_books import keep_books
    from jobs.audit_calls import store_calls
    from jobs.audit_config import LogSection, PageSection
    from jobs.audit_log import open_log
    from routing.prices import price_snapshot

    laps = [time.perf_counter()]
    section = LogSection(path=str(log))
    opened = open_log(section, log.parent)
    laps.append(time.perf_counter())
    calls = store_calls(opened, log.parent / "work", part_rows=section.part_rows)
    laps.append(time.perf_counter())
    books = keep_books(calls, price_snapshot(), control=None, page=PageSection())
    laps.append(time.perf_counter())
    rows, total = books.reconciliation.rows, books.paid.total
    assert rows.kept == calls.read
    assert rows.unpriced == total.unpriced_calls > 0
    return dict(zip(("open", "store", "books"), np.diff(laps).tolist(), strict=True))


def plain_polars(log: Path) -> Seconds:
    """The least that any tool has to do: read the columns and add them up."""
    started = time.perf_counter()
    sums = (
        pl.scan_parquet(log)
        .group_by(pl.col("startTime").dt.date().alias("day"), "team_id", "model")
        .agg(pl.len(), pl.col("prompt_tokens", "completion_tokens", "spend").sum())
        .collect(engine="streaming")
    )
    assert sums.height > 0
    return {"sum": time.perf_counter() - started}


def plain_duckdb(log: Path) -> Seconds:
    """The same in DuckDB."""
    duckdb = import_module("duckdb")
    started = time.perf_counter()
    duckdb.execute(f"SET threads TO {THREADS}")
    sums = duckdb.execute(
        "SELECT CAST(startTime AS DATE), team_id, model, count(*), sum(prompt_tokens), sum(completion_tokens), "
        "sum(spend) FROM read_parquet(?) GROUP BY 1, 2, 3",
        [str(log)],
    ).fetchall()
    assert sums
    return {"sum": time.perf_counter() - started}


STEPS: dict[str, Callable[[Path], Seconds]] = {
    "audit": audit,
    "polars, sums only": plain_polars,
    "duckdb, sums only": plain_duckdb,
}


def measure(step: str, log: Path) -> tuple[float, float, float, Seconds]:
    """Return seconds by the wall, with the start of Python, and of processors, peak memory in MB, seconds inside."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, __file__, "--step", step, str(log)],
        stdout=subprocess.PIPE,
        env=os.environ | {"POLARS_MAX_THREADS": THREADS, "OMP_NUM_THREADS": THREADS},
    )
    assert process.stdout is not None
    seconds: Seconds = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # reaped here, for its resource usage
    process.stdout.close()
    assert process.returncode == 0
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, seconds


def main(rows: int) -> None:
    steps = [step for step in STEPS if step != "duckdb, sums only" or find_spec("duckdb")]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "spend_logs.parquet"
        # Not here: a process starts with the peak of the one that starts it.
        subprocess.run([sys.executable, __file__, "--make", str(log), str(rows)], check=True)
        size_mb = log.stat().st_size / 1e6
        print(f"{rows:,} rows, {size_mb:,.0f} MB; load before: {os.getloadavg()[0]:.1f}", flush=True)
        found = {step: measure(step, log) for step in steps}
    limit = found["polars, sums only"][0]
    print("| step | wall s | CPU s | rows/s | times the plain sum | peak MB | inside |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for step, (wall, cpu, peak_mb, seconds) in found.items():
        inside = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
        rate = f"{rows / wall:,.0f} | {wall / limit:.1f}"
        print(f"| {step} | {wall:.1f} | {cpu:.1f} | {rate} | {peak_mb:,.0f} | {inside} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make_log(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] == ["--step"]:
        print(json.dumps(STEPS[sys.argv[2]](Path(sys.argv[3]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)
