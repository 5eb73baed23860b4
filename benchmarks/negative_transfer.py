"""Why `mf` fitted to foreign battles ranks MT-Bench worse than chance (docs/decisions/0025).

Run: `python benchmarks/negative_transfer.py [BATTLES]` (the extra `train`, ../shared/data; a few minutes on two cores).
Four fits that differ in two things, and a router that has seen no label: how like the mean battle prompt a prompt is.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.agreement import spearman
from routing.metrics import average_pgr, cost_quality_curve, random_router
from routing.training.dataset import TrainingSet
from routing.training.embedders import encoder_embedder
from routing.training.encoder import find_encoder, load_encoder
from routing.training.loop import LoopConfig
from routing.training.mf import MfConfig, fit_mf
from routing.training.preferences import Exclusions, battles
from routing.training.prompt_embeddings import PromptEmbeddings
from routing.training.router import Run
from schemas.artifact import Truncation

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("NIGHTROUTE_DATA", ROOT.parent / "shared" / "data"))
STRONG, WEAK = "gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"
LOOP = LoopConfig(learning_rate=5e-3, epochs=4, batch_rows=2_048, batch_tokens=8_192, eval_every=1_000_000)
SEEDS = (0, 1)

Floats = NDArray[np.float64]
Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def main(n: int) -> None:
    raw = pl.read_parquet(DATA / "battles.parquet")
    names = pl.col("model_a").is_not_null() & pl.col("model_b").is_not_null()
    clean = battles(raw.filter(names, pl.col("winner").is_in(["model_a", "model_b", "tie"])), Exclusions())
    known = clean.with_columns(weight=1.0)
    prompts = known["prompt"].unique().sort()
    embed = PromptEmbeddings(
        encoder_embedder(load_encoder(find_encoder()), truncation=Truncation(head=192, tail=62), counts=False),
        cache=ROOT / "out" / "negative-transfer",
    )
    mean = embed(known["prompt"]).mean(axis=0)
    test = mt_bench()
    random = random_router(test["strong"].to_numpy(), test["weak"].to_numpy(), average_pgr, seed=0)
    print(f"MT-Bench, {len(test)} questions; one random router in 20 is outside {random.low:.3f}-{random.high:.3f}")
    typical = (embed(test["prompt"]) @ mean).astype(np.float64)
    report("no label: like the mean battle prompt", typical, test, typical)
    report("its opposite", -typical, test, typical)

    rows = known.sample(min(n, len(known)), seed=0)
    other = dict(zip(prompts, prompts.sample(fraction=1.0, shuffle=True, seed=0), strict=True))
    shuffled = rows.with_columns(prompt=pl.col("prompt").replace_strict(other, return_dtype=pl.String))
    for name, table in (("battles", rows), ("battles on each other's prompts", shuffled)):
        report(f"mf, {name}, as published", fitted(table, embed, test, bias=False), test, typical)
        centred = fitted(table, lambda texts: embed(texts) - mean, test, bias=True)
        report(f"mf, {name}, centred, with bias", centred, test, typical)


def mt_bench() -> pl.DataFrame:
    """(prompt, task, strong, weak), the grades of both turns averaged."""
    graded = pl.read_parquet(DATA / "benchmarks" / "mt_bench.parquet")
    strong = pl.col("model") == STRONG
    scores = {"strong": strong, "weak": ~strong}
    return graded.group_by("prompt", maintain_order=True).agg(
        pl.col("task").first(), *(pl.col("score").filter(side).mean().alias(name) for name, side in scores.items())
    )


def fitted(table: pl.DataFrame, embed: Embed, test: pl.DataFrame, *, bias: bool) -> Floats:
    """Mean standardised score over seeds."""
    held_out, kept = table.head(200), table.tail(-200)
    label = pl.DataFrame({"prompt": held_out["prompt"].head(2), "target": [0.0, 1.0], "weight": 1.0})
    data = TrainingSet(kept, label, held_out, label, strong=STRONG, weak=WEAK)
    scores = []
    for seed in SEEDS:
        run = Run(seed=seed, threads=2, device="cpu", report=lambda _: None)
        rates = fit_mf(data, embed, MfConfig(rank=64, bias=bias, loop=LOOP), run).win_rates(
            embed(test["prompt"].to_list())
        )
        logits = np.log(rates / (1.0 - rates))
        scores.append((logits - logits.mean()) / logits.std())
    return np.asarray(np.mean(scores, axis=0))


def report(name: str, score: Floats, test: pl.DataFrame, typical: Floats) -> None:
    """Print APGR, the part of it between MT-Bench's categories, and what the score goes with."""
    strong, weak = test["strong"].to_numpy(), test["weak"].to_numpy()
    table = test.with_columns(score=pl.Series(score), gap=pl.col("strong") - pl.col("weak"))
    means = table.group_by("task").agg(pl.col("score", "gap").mean())
    between = table.select(pl.col("score").mean().over("task"))["score"].to_numpy()
    apgr, categories = (cost_quality_curve(one, strong, weak).apgr for one in (score, between))
    with_gap, with_typical = spearman(means["score"].to_numpy(), means["gap"].to_numpy()), spearman(score, typical)
    print(
        f"{name:48} APGR {apgr:.3f}, category means alone {categories:.3f}; rank correlation of these with the gap "
        f"{with_gap:+.2f}, of the score with typicality {with_typical:+.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40_000)
