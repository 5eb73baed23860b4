"""The in-domain quality targets with the router `ngram`, each figure beside its protocol (docs/decisions/0025).

Run: `python benchmarks/quality_targets.py` (the extra `train`, ../shared/data; some minutes on two cores). Nothing is
chosen on evaluated rows: hyperparameters are the defaults of the kind, folds of the labels choose the penalty.
"""

import os
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.metrics import average_pgr, bootstrap, cost_quality_curve
from routing.training.dataset import TrainingSet
from routing.training.embedders import encoder_embedder, static_embedder
from routing.training.encoder import find_encoder, load_encoder
from routing.training.ngram import NgramConfig, fit_ngram
from routing.training.preferences import benchmark
from routing.training.router import Run
from routing.training.siblings import Siblings, near_duplicates, siblings
from routing.training.static_mf import lexicon
from schemas.artifact import Truncation

DATA = Path(os.environ.get("NIGHTROUTE_DATA", Path(__file__).parents[2] / "shared" / "data"))
STRONG, WEAK = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"
LABELS, FOLDS, SEED = 1_500, 5, 0

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

ENCODER = load_encoder(find_encoder())
CUT = Truncation(head=192, tail=62)
SCREEN = static_embedder(lexicon(ENCODER), dim=256, sif=1e-4, truncation=CUT, counts=False)
ENCODED = encoder_embedder(ENCODER, truncation=CUT, counts=False)


def main() -> None:
    mmlu, gsm8k = read("mmlu"), read("gsm8k")
    drawn = mmlu["prompt"].sort().sample(LABELS, seed=SEED)
    inside = mmlu["prompt"].is_in(drawn.implode()).to_numpy()
    labelled, rest = np.flatnonzero(inside), np.flatnonzero(~inside)
    show(f"MMLU, {LABELS} labels drawn with seed {SEED}, the rest evaluated", mmlu, rest, fitted(mmlu, labelled, rest))
    folds = f"GSM8K, {FOLDS} folds, labels of the other folds, win rates ranked within a fold"
    show(folds, gsm8k, np.arange(len(gsm8k)), in_folds(gsm8k, None))

    near = related(gsm8k)
    show(f"{folds}; no label with a sibling in the fold", gsm8k, np.arange(len(gsm8k)), in_folds(gsm8k, near))
    alone = np.setdiff1d(labelled, related(mmlu).among(labelled, rest))
    show(f"MMLU, the {len(alone)} of them without a sibling in the rest", mmlu, rest, fitted(mmlu, alone, rest))


def in_folds(table: pl.DataFrame, near: Siblings | None) -> Floats:
    """Win rates by routers of the other folds, as ranks within their own: those of several routers share no scale."""
    fold = np.random.default_rng(SEED).permutation(len(table)) % FOLDS
    found = np.empty(len(table))
    for place in range(FOLDS):
        labelled, rest = np.flatnonzero(fold != place), np.flatnonzero(fold == place)
        if near is not None:
            labelled = np.setdiff1d(labelled, near.among(labelled, rest))
        order = np.argsort(fitted(table, labelled, rest), kind="stable")
        found[rest[order]] = np.arange(len(rest)) / len(rest)
    return found


def read(name: str) -> pl.DataFrame:
    """GOLDEN rows of a benchmark; prompts of fewer than 16 characters are left out, as in training."""
    rows = benchmark(pl.read_parquet(DATA / "benchmarks" / f"{name}.parquet"), name=name, strong=STRONG, weak=WEAK)
    return rows.filter(pl.col("prompt").str.strip_chars().str.len_chars() >= 16)


def related(table: pl.DataFrame) -> Siblings:
    near = near_duplicates(
        table["prompt"],
        lambda texts: SCREEN.embed(SCREEN.text.tokens(texts)),
        lambda texts: ENCODED.embed(ENCODED.text.tokens(texts)),
    )
    return siblings(table["prompt"], near)


def fitted(table: pl.DataFrame, labelled: Rows, rest: Rows) -> Floats:
    """Win rates of `rest` by a router fitted to the labels of `labelled`."""
    target = (1.0 + pl.col("strong_score") - pl.col("weak_score")) / 2.0
    labels = table[labelled].select("prompt", target=target, tie=pl.lit(0.0), weight=pl.lit(1.0), source=pl.lit("own"))
    nothing = labels.clear()
    data = TrainingSet(nothing, labels, nothing, nothing, strong=STRONG, weak=WEAK)
    run = Run(seed=SEED, threads=2, device="cpu", report=lambda _: None)
    router = fit_ngram(data, ENCODER.tokenizer, NgramConfig(), run)
    return router.win_rates(router.text.tokens(table["prompt"][rest].to_list()))


def show(protocol: str, table: pl.DataFrame, rows: Rows, win_rates: Floats) -> None:
    strong, weak = (table[name].to_numpy()[rows] for name in ("strong_score", "weak_score"))
    curve = cost_quality_curve(win_rates, strong, weak)
    found = bootstrap(win_rates, strong, weak, average_pgr, resamples=500, seed=SEED)
    print(
        f"APGR {found.value:.3f} ({found.low:.3f}-{found.high:.3f})  CPT50 {curve.cpt(0.5):.3f}  "
        f"CPT80 {curve.cpt(0.8):.3f}  n {len(rows):,}  {protocol}",
        flush=True,
    )


if __name__ == "__main__":
    main()
