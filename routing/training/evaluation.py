"""Measures a router on an evaluation set: APGR and CPT with intervals, beside random and prompt length."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.metrics import Interval, average_pgr, bootstrap, first_share, random_router
from schemas.artifact import Metric

STATISTICS = {"apgr": average_pgr, "cpt50": first_share(0.5), "cpt80": first_share(0.8)}


def evaluate(
    benchmark: pl.DataFrame,
    win_rates: NDArray[np.float64],
    tokens: NDArray[np.float64],
    *,
    seed: int,
    protocol: str,
    resamples: int = 1_000,
) -> list[Metric]:
    """Return the figures of a router on one benchmark.

    The length baseline sends the prompts with more tokens to the strong model; the random one is the range of single
    random routers.

    Args:
        benchmark: GOLDEN rows of one source.
        win_rates: Shape (n,), in the order of the rows.
        tokens: Length of each prompt, same shape.
        seed: Of all resampling.
        protocol: How the figure has to be read, e.g. "zero-shot".
        resamples: Bootstrap samples.

    Raises:
        DataError: see `routing.metrics`.
    """
    name = str(benchmark["source"][0])
    strong, weak = benchmark["strong_score"].to_numpy(), benchmark["weak_score"].to_numpy()
    baselines = {"length": tokens, "oracle": strong - weak}
    found = []
    for statistic_name, statistic in STATISTICS.items():
        chance = random_router(strong, weak, statistic, seed=seed)
        others = {
            label: bootstrap(rates, strong, weak, statistic, resamples=resamples, seed=seed)
            for label, rates in baselines.items()
        }
        own = bootstrap(win_rates, strong, weak, statistic, resamples=resamples, seed=seed)
        beside = f"beside random {_text(chance)}, length {_text(others['length'])}, oracle {_text(others['oracle'])}"
        found.append(_metric(name, statistic_name, own, len(strong), note=f"{protocol}; {beside}"))
        if statistic is average_pgr:
            found.append(_metric(name, "apgr_random", chance, len(strong), note="range of single random routers"))
            found.append(
                _metric(name, "apgr_length", others["length"], len(strong), note="baseline: more tokens -> strong")
            )
    return found


def _metric(benchmark: str, name: str, interval: Interval, n: int, *, note: str) -> Metric:
    return Metric(
        benchmark=benchmark, name=name, value=interval.value, low=interval.low, high=interval.high, n=n, note=note
    )


def _text(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f}-{interval.high:.3f})"
