"""The first night: start the sandbox, route the example table against it, stop the sandbox. What `make run` does."""

import shutil
import sys
from pathlib import Path

from jobs.cli import invoke
from jobs.sandbox import sandbox_process

EXAMPLES = Path(__file__).parent
OUT = EXAMPLES.parent / "out" / "first-night"


def main() -> int:
    """Route examples/queries.parquet from scratch; returns the exit code of `nightroute run`."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    with sandbox_process(["--config", str(EXAMPLES / "sandbox.toml"), "--journal", str(OUT / "journal.jsonl")]) as url:
        models = [f"models.{side}.base_url={url}" for side in ("strong", "weak")]
        return invoke(
            ["run", "--config", str(EXAMPLES / "job.toml"), *(word for item in models for word in ("--set", item))]
        )


if __name__ == "__main__":
    sys.exit(main())
