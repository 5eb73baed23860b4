"""The test behind a PGR guarantee: how often its promise is kept, and what it costs in strong queries.

Run: `python benchmarks/guarantee.py [DATA]` (minutes). Labels are drawn with replacement from a benchmark: that is the
source that the promise is about; each draw gives an alpha, whose PGR on the whole benchmark is known. Compared: the
bet of `routing.guarantee`; a t test; and the p-value of Hoeffding and Bentkus (arXiv 2110.01052), each walking the
same way from all strong.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from routing.artifact import BUILTIN, load
from routing.benchmarks import graded
from routing.guarantee import largest_alpha
from routing.metrics import Floats
from routing.routers import OnnxRouter

DATA = Path(os.environ.get("NIGHTROUTE_DATA", Path(__file__).parents[2] / "shared" / "data"))
STRONG, WEAK = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"
CASES = (("gsm8k", 250, 0.5), ("gsm8k", 1_000, 0.8), ("mmlu", 500, 0.5), ("mmlu", 2_000, 0.8))
LEVEL, DRAWS = 0.05, 400

Shown = Callable[[Floats, float], NDArray[np.bool_]]
"""(values of shape (alphas, labels), least value) -> which means are shown to be positive."""


def t_test(values: Floats, least: float) -> NDArray[np.bool_]:
    n = values.shape[1]
    quantile = float(stats.t.ppf(1 - LEVEL, n - 1))
    return np.asarray(values.mean(axis=1) > quantile * values.std(axis=1, ddof=1) / np.sqrt(n))


def hoeffding_bentkus(values: Floats, least: float) -> NDArray[np.bool_]:
    n = values.shape[1]
    mean = (values.mean(axis=1) - least) / (-2 * least)  # in 0..1, against 1/2
    above = np.clip(mean, 0.5, 1 - 1e-12)
    distance = above * np.log(2 * above) + (1 - above) * np.log(2 * (1 - above))
    bentkus = np.e * stats.binom.sf(np.floor(n * mean) - 1, n, 0.5)
    return np.asarray(np.minimum(np.exp(-n * distance), bentkus) <= LEVEL)


def walk(rates: Floats, gain: Floats, pgr: float, shown: Shown) -> float | None:
    """As `routing.guarantee.largest_alpha`, with another test."""
    decided = gain != 0
    rates, gain = rates[decided], gain[decided]
    alphas = np.unique(rates)
    passed = shown(((rates >= alphas[:, None]) - pgr) * gain, -max(pgr, 1 - pgr))
    reached = len(alphas) if passed.all() else int(np.argmin(passed))
    return float(alphas[reached - 1]) if reached else None


def main(data: Path) -> None:
    router = OnnxRouter(load(BUILTIN / "static-mf"))
    print(f"{DRAWS} draws of labels each, confidence {1 - LEVEL:g}, router static-mf\n")
    print("| benchmark | labels | PGR | really needed | test | strong share found | no alpha | promise kept |")
    print("|---|---|---|---|---|---|---|---|")
    for name, labels, pgr in CASES:
        table = pl.read_parquet(data / "benchmarks" / f"{name}.parquet")
        rows = graded(table, name=name, strong=STRONG, weak=WEAK).rows
        rates = np.asarray(router.win_rates(rows["prompt"].to_list()).win_rate)
        gain = (rows["strong_score"] - rows["weak_score"]).to_numpy()
        order = np.argsort(-rates)
        ranked, reached = rates[order], np.cumsum(gain[order]) / gain.sum()
        needed = float(np.argmax(reached >= pgr) + 1) / len(rates)
        for title, shown in (("bet", None), ("t", t_test), ("Hoeffding-Bentkus", hoeffding_bentkus)):
            rng = np.random.default_rng(0)
            shares, kept = [], 0
            for seed in range(DRAWS):
                drawn = rng.integers(len(rates), size=labels)
                if shown is None:
                    alpha = largest_alpha(rates[drawn], gain[drawn], pgr=pgr, level=LEVEL, seed=seed)
                else:
                    alpha = walk(rates[drawn], gain[drawn], pgr, shown)
                n_strong = 0 if alpha is None else int((ranked >= alpha).sum())
                kept += alpha is None or reached[n_strong - 1] >= pgr
                shares += [] if alpha is None else [n_strong / len(rates)]
            found = f"{np.mean(shares):.3f}" if shares else "-"
            print(
                f"| {name} | {labels:,} | {pgr:g} | {needed:.3f} | {title} | {found} | {1 - len(shares) / DRAWS:.1%} "
                f"| {kept / DRAWS:.1%} |"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
