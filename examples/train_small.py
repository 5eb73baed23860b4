"""Train every kind of router on a small config, check its artifact, route a table with it: `make train-small`.

Prints one row a router; `--page FILE` also writes the page docs/results/export.md.
"""

import argparse
import datetime as dt
import os
import platform
import shutil
import sys
import time
from pathlib import Path

import polars as pl
from rich.console import Console

from jobs.cli import invoke
from jobs.sandbox import sandbox_process
from jobs.train import train
from routing.artifact import load
from schemas.artifact import RouterCard

EXAMPLES = Path(__file__).parent
CONFIGS = EXAMPLES / "train" / "small"
OUT = EXAMPLES.parent / "out" / "train-small"
ROWS = 60
"""Queries of the night that each router routes."""

KINDS = ("length", "random", "constant", "ngram", "cluster", "linear", "sw", "mf", "bert", "bert-lora", "causal-llm")
"""Configs, the quick ones first."""


def main() -> int:
    """Train, check and use every kind; returns 0 when all of it worked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, help="write the table as this Markdown page")
    parser.add_argument("kinds", nargs="*", default=KINDS, help=f"some of {', '.join(KINDS)}")
    given = parser.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    table = OUT / "queries.parquet"
    pl.read_parquet(EXAMPLES / "queries.parquet").head(ROWS).write_parquet(table)
    console, rows = Console(stderr=True), []
    with sandbox_process(["--config", str(EXAMPLES / "sandbox.toml"), "--journal", "none"]) as url:
        for name in given.kinds:
            console.rule(name)
            started = time.monotonic()
            summary = train(CONFIGS / f"{name}.toml")
            seconds = time.monotonic() - started
            code = route(summary.folder, table, url)
            if code != 0:
                console.print(f"nightroute run with the router {summary.folder} ended with {code}")
                return code
            rows.append(line(name, load(summary.folder).card, size(summary.folder), seconds))
    page = render(rows)
    console.print(page, markup=False, soft_wrap=True)
    if given.page is not None:
        given.page.write_text(page, "utf-8")
    return 0


def route(router: Path, table: Path, url: str) -> int:
    """Run a night with a router on the table; returns its exit code."""
    settings = {
        "run_dir": router.with_name(f"{router.name}-run"),
        "input.path": table,
        "output.path": router.with_name(f"{router.name}-answers"),
        "router.artifact": router,
        "models.strong.base_url": url,
        "models.weak.base_url": url,
    }
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return invoke(["run", "--config", str(EXAMPLES / "job.toml"), *words])


def size(folder: Path) -> int:
    """Return the bytes of an artifact."""
    return sum(path.stat().st_size for path in folder.iterdir())


def line(name: str, card: RouterCard, size: int, seconds: float) -> str:
    """Return one row of the page's table."""
    int8 = card.quantization
    flips = "" if int8 is None else " / ".join(f"{100 * int8.flips[share]:.1f} %" for share in ("0.2", "0.5", "0.8"))
    errors = ("", "") if int8 is None else (f"{int8.max_error:.1e}", f"{int8.mean_error:.1e}")
    cells = (
        name,
        f"{card.parity_max_error:.1e}",
        f"{card.parity_mean_error:.1e}",
        f"{card.parity_prompts:,}",
        *errors,
        flips,
        f"{size / 1e6:.1f} MB",
        f"{seconds:.0f} s",
    )
    return "| " + " | ".join(cells) + " |"


def render(rows: list[str]) -> str:
    """Return the page."""
    today = dt.datetime.now(dt.UTC).date()
    head = (
        "| config | fp32 max | fp32 mean | prompts | int8 max | int8 mean | flips at .2 / .5 / .8 | artifact | time |",
        "|---|---|---|---|---|---|---|---|---|",
    )
    return "\n".join(
        (PAGE.format(today=today, cores=os.cpu_count(), python=platform.python_version()), *head, *rows, "")
    )


PAGE = """# Export: graphs against their training framework

`make train-small` trains each config of `examples/train/small`, exports it, checks it, and routes a small table with it
in an unchanged `nightroute run`. Written by `python examples/train_small.py --page docs/results/export.md`,
{today}, {cores} shared cores, Python {python}.

- **fp32**: largest and mean |win rate of the graph in onnxruntime - win rate of torch (or numpy)| on real prompts,
  held-out ones first. Above 1e-4 nothing is written.
- **int8**: the same against the fp32 graph, where the config ships int8 (`export.int8`).
- **flips**: share of these prompts that change sides when both graphs are cut at a strong share of .2, .5 and .8. Alpha
  is always found on the graph that ships, so a flip is a query near the cut, not a changed share.
- All graphs: opset 18, inputs `input_ids` and `attention_mask`, int64 [batch, sequence], both axes dynamic; output
  `win_rate`, float32 [batch].
- These routers are trained on too little to be relied on: their win rates lie close together, which makes flips
  likelier than in a router that was trained in earnest. The card of `builtin:bert-minilm` has its own figures.
"""


if __name__ == "__main__":
    sys.exit(main())
