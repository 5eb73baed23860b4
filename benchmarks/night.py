"""A whole night: score, split, dispatch against a zero-latency sandbox, publish; seconds per stage and peak memory.

Run: `python benchmarks/night.py [ROWS ...]`. Client and sandbox share the machine, so dispatch is bound by both; a
provider's latency is not in here. Peak memory is that of the `nightroute run` process alone.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import polars as pl

from jobs.sandbox import sandbox_process

EXAMPLES = Path(__file__).parents[1] / "examples"
OUT = Path(__file__).parents[1] / "out" / "benchmark"

JOB = """
run_dir = "run-{rows}"
[input]
path = "queries-{rows}.parquet"
columns = {{ prompt = "prompt" }}
[split]
strong_share = 0.3
[models.strong]
name = "gpt-4.1"
base_url = "{url}"
max_in_flight = 64
[models.weak]
name = "gpt-4.1-nano"
base_url = "{url}"
max_in_flight = 64
[output]
path = "answers-{rows}"
"""


def main(sizes: list[int]) -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    print(
        "   rows"
        + "".join(f"{name:>9}" for name in ("score", "split", "dispatch", "rest", "wall", "peak MB", "calls/s"))
    )
    with sandbox_process(["--journal", "none"]) as url:
        for rows in sizes:
            measure(rows, url)


def measure(rows: int, url: str) -> None:
    """Run one night in a process of its own and print its row."""
    queries = pl.read_parquet(EXAMPLES / "queries.parquet").select("prompt", "category", "tenant", "day")
    numbered = pl.concat([queries] * (rows // queries.height + 1)).head(rows).with_row_index("n")
    table = numbered.with_columns(prompt=pl.format("{} [{}]", "prompt", "n")).drop("n")
    table.write_parquet(OUT / f"queries-{rows}.parquet", row_group_size=20_000)
    config = OUT / f"job-{rows}.toml"
    config.write_text(JOB.format(rows=rows, url=url))
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs", "run", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    summary = json.loads(process.stdout.read().splitlines()[-1])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # reaped here, for its resource usage
    process.stdout.close()
    wall = time.perf_counter() - started
    assert summary["exit_code"] == 0, summary
    timings = json.loads((OUT / f"answers-{rows}" / "_manifest.json").read_text())["timings_s"]
    seconds = [timings["score"], timings["split"], timings["dispatch"], wall - sum(timings.values()), wall]
    peak_mb, rate = usage.ru_maxrss / 1024, summary["attempts"] / timings["dispatch"]
    print(f"{rows:7,}" + "".join(f"{value:9.1f}" for value in seconds) + f"{peak_mb:9.0f}{rate:9.0f}", flush=True)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [50_000, 200_000])
