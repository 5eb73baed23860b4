"""Builds `examples/queries.parquet`, the table that the examples and the demo route.

The prompts were written for this project, by hand, one text file per category (`examples/queries/*.txt`). This script
adds what a night's traffic has besides prompts: tenants of uneven size, a week of days and output caps, in mixed order.
The same files and seed give the same bytes. It needs polars and numpy alone, so it also runs where nightroute is not
installed:

    python examples/make_queries.py
"""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parent / "queries"
OUTPUT = FOLDER.with_suffix(".parquet")
SEED = 20261114

# Shares of the rows. One large customer and a tail, as in most logs.
TENANTS = {
    "harbour-bank": 0.38,
    "lumen-retail": 0.24,
    "fjord-freight": 0.16,
    "aster-clinics": 0.11,
    "quill-press": 0.07,
    "pine-academy": 0.04,
}

# Saturday to Friday: little at the weekend, most at the beginning of the working week.
DAYS = {
    date(2026, 11, 14): 0.06,
    date(2026, 11, 15): 0.05,
    date(2026, 11, 16): 0.19,
    date(2026, 11, 17): 0.19,
    date(2026, 11, 18): 0.18,
    date(2026, 11, 19): 0.18,
    date(2026, 11, 20): 0.15,
}

# Callers cap an answer where they know its form: a label, a record, a short text.
CAPPED_SHARE = 0.8
OUTPUT_CAPS = pl.DataFrame(
    [
        ("classification", "trivial", 16),
        ("classification", "easy", 64),
        ("classification", "medium", 256),
        ("customer_support", "easy", 300),
        ("extraction", "trivial", 64),
        ("extraction", "easy", 256),
        ("extraction", "medium", 1024),
        ("factual_qa", "trivial", 64),
        ("summarisation", "trivial", 64),
        ("summarisation", "easy", 160),
        ("summarisation", "medium", 512),
    ],
    schema={"category": pl.String, "difficulty": pl.String, "max_output_tokens": pl.Int64},
    orient="row",
)

_SEPARATOR = re.compile(r"^===\n", re.MULTILINE)
_BLOCK = re.compile(r"@ (?P<difficulty>trivial|easy|medium|hard)\n(?P<prompt>.*\S.*)", re.DOTALL)


def read_prompts(folder: Path) -> pl.DataFrame:
    """Text files -> PROMPTS: category (the file's name), difficulty, prompt, in the order of the files.

    A file is a list of blocks between lines `===`. A block is a header (`@ trivial`, `@ easy`, `@ medium` or `@ hard`)
    and the prompt below it, which may have many lines.

    Raises:
        ValueError: a block has no such header, or no prompt below it.
    """
    rows = [
        (path.stem, *_parse_block(block, f"{path.name}, block {number}"))
        for path in sorted(folder.glob("*.txt"))
        for number, block in enumerate(_SEPARATOR.split(path.read_text(encoding="utf-8")), start=1)
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(("category", "difficulty", "prompt"), pl.String), orient="row")


def as_traffic(prompts: pl.DataFrame, seed: int) -> pl.DataFrame:
    """PROMPTS -> QUERIES: the rows shuffled, with query_id, tenant, day and max_output_tokens (null: no cap)."""
    # Uniform doubles alone are drawn: their stream is steadier between numpy versions than that of choice or shuffle.
    position, tenant, day, capped = np.random.default_rng(seed).random((4, prompts.height))
    return (
        prompts.join(OUTPUT_CAPS, on=["category", "difficulty"], how="left", maintain_order="left")
        .with_columns(
            pl.Series("tenant", _pick(list(TENANTS), list(TENANTS.values()), tenant)),
            pl.Series("day", _pick(list(DAYS), list(DAYS.values()), day)),
            pl.when(pl.Series(capped) < CAPPED_SHARE).then("max_output_tokens").alias("max_output_tokens"),
        )
        .select(pl.all().gather(np.argsort(position, kind="stable")))
        .with_row_index("number", offset=1)
        .select(
            query_id=pl.format("q{}", pl.col("number").cast(pl.String).str.zfill(4)),
            prompt="prompt",
            category="category",
            difficulty="difficulty",
            tenant="tenant",
            day="day",
            max_output_tokens="max_output_tokens",
        )
    )


def build(folder: Path = FOLDER, seed: int = SEED) -> pl.DataFrame:
    """The whole example table, from the text files of `folder`."""
    return as_traffic(read_prompts(folder), seed)


def write(queries: pl.DataFrame, path: Path) -> None:
    """Writes the table as zstd Parquet."""
    queries.write_parquet(path, compression="zstd")


def _parse_block(block: str, place: str) -> tuple[str, str]:
    match = _BLOCK.fullmatch(block.rstrip("\n"))
    if match is None:
        raise ValueError(
            f"{place} starts with {block[:40]!r}; expected '@ trivial', '@ easy', '@ medium' or '@ hard' on a line of "
            "its own and a prompt below it. Correct the block, or remove the line '===' that cuts it off."
        )
    return match["difficulty"], match["prompt"]


def _pick(values: Sequence[str] | Sequence[date], shares: Sequence[float], uniform: NDArray[np.float64]) -> pl.Series:
    """One of `values` for each number in [0, 1), so that each value gets its share of the unit interval."""
    # The last edge is left out: a sum of shares that rounds to 0.999... must not give an index past the end.
    return pl.Series(values).gather(np.searchsorted(np.cumsum(shares)[:-1], uniform, side="right"))


def main() -> None:
    """Builds the table and writes it beside this file."""
    queries = build()
    write(queries, OUTPUT)
    print(f"{queries.height} queries of {queries['category'].n_unique()} categories -> {OUTPUT.name}")


if __name__ == "__main__":
    main()
