"""Scoring: prompts a second through the shipped router, beside its limit (the tokenizer alone) and one by one.

Run: `python benchmarks/scoring.py [PROMPTS]`. One prompt a call is how online routers score (RouteLLM's evaluation
does, too); the tokenizer alone is the most that any router over tokens can reach on this machine.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
from tokenizers import Tokenizer

from routing.artifact import BUILTIN, load
from routing.routers import OnnxRouter

QUERIES = Path(__file__).parents[1] / "examples" / "queries.parquet"
ROUNDS = 5


def main(prompts: int) -> None:
    base = pl.read_parquet(QUERIES)["prompt"].to_list()
    texts = [f"{base[i % len(base)]} [{i}]" for i in range(prompts)]
    artifact = load(BUILTIN / "static-mf")
    router = OnnxRouter(artifact)
    tokenizer = Tokenizer.from_file(str(artifact.tokenizer))
    tokens = int(router.count_tokens(texts).sum())
    few = texts[: prompts // 10]
    measured = {
        "tokenizer alone (the limit)": best(
            lambda: tokenizer.encode_batch_fast(texts, add_special_tokens=False), prompts
        ),
        "router, whole table": best(lambda: router.win_rates(texts), prompts),
        "router, one prompt a call": best(lambda: [router.win_rates([text]) for text in few], len(few)),
    }
    limit = measured["tokenizer alone (the limit)"]
    print(f"{prompts:,} prompts, {tokens / prompts:.0f} tokens each on average; best of {ROUNDS} rounds")
    for name, rate in measured.items():
        print(f"{name:28} {rate:9,.0f} prompts/s  {rate / limit:5.2f} of the limit")


def best(work: Callable[[], object], items: int) -> float:
    """Items per second in the fastest of some rounds: the machine is shared, the fastest is least disturbed."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return items / min(seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
