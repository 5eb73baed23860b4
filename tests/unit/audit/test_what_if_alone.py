"""Where a single model is the better advice than any point of the curve."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from routing.prices import price_snapshot
from schemas.audit import WhatIf
from schemas.billing import PriceOverride
from tests.unit.audit.test_what_if import ask
from tests.unit.audit.what_if_logs import STRONG, WEAK, call_log, prices


def asked_at(folder: Path, calls: dict[str, Any], rates: list[dict[str, str]], **section: Any) -> WhatIf:
    table = price_snapshot([PriceOverride.model_validate(one) for one in rates])
    return ask(folder, call_log(calls, table), table=table, **section).report


def graded(folder: Path, weak: list[float]) -> dict[str, str]:
    """Prompts 1..999 that the strong model always answers well."""
    prompt = np.linspace(1, 999, len(weak)).astype(int).astype(str)
    pl.DataFrame({"prompt": prompt, "strong_score": 1.0, "weak_score": weak}).write_parquet(folder / "labels.parquet")
    return {"path": "labels.parquet"}


def test_a_cold_cache_does_not_make_routing_look_better_than_the_weak_model(tmp_path: Path) -> None:
    """Half of the calls carry a cached system prompt, so that the end of the curve is dearer than its middle."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(1, 1_000, 400)
    calls = {
        "model": [STRONG] * 400,
        "prompt": numbers.astype(str),
        "input_tokens": [10_000] * 400,
        "cached_tokens": np.where(numbers > 500, 9_500, 0),
        "output_tokens": rng.poisson(200, 400),
    }
    rates = [
        {"model": STRONG, "input_usd_per_mtok": "10", "cached_input_usd_per_mtok": "1", "output_usd_per_mtok": "40"},
        {"model": WEAK, "input_usd_per_mtok": "4", "cached_input_usd_per_mtok": ".4", "output_usd_per_mtok": "16"},
    ]
    given = graded(tmp_path, (rng.random(900) < 0.99).astype(float).tolist())
    weak = {"name": WEAK, "expected_output_tokens": 200}
    found = asked_at(tmp_path, calls, rates, labels=given, quality_floor=0.9, weak=weak)
    costs = [point.cost_usd.value for point in found.sweep.points]
    assert min(costs) < costs[0]  # the trap
    assert found.sweep.weak.cost_usd.value < min(costs)
    assert (found.recommended, found.alone, found.sweep.best_single) == (0, WEAK, WEAK)
    assert "small alone holds the floor" in found.advice
    assert f"Cost ${found.sweep.weak.cost_usd.value:.2f} instead of" in found.advice
    share = found.sweep.weak.saving_share
    assert share.value == pytest.approx(1 - found.sweep.weak.cost_usd.value / found.sweep.strong.cost_usd.value)
    assert share.low < share.value < share.high
    assert found.sweep.strong.saving_share.value == 0.0


def test_a_router_that_ranks_badly_does_not_hide_that_the_weak_model_holds_the_floor(tmp_path: Path) -> None:
    """Its answers are bad where the router is sure of them, and better than the strong one's elsewhere."""
    rng = np.random.default_rng(0)
    numbers, strong = rng.integers(1, 1_000, 1_000), rng.random(1_000) < 0.5
    log = call_log(
        {
            "model": np.where(strong, STRONG, WEAK),
            "prompt": numbers.astype(str),
            "input_tokens": [1_000] * 1_000,
            "output_tokens": rng.poisson(100, 1_000),
        },
        prices(),
    )
    prompt = np.sort(rng.integers(1, 1_000, 2_500))
    scores = {
        "strong_score": (rng.random(2_500) < 0.7) * 1.0,
        "weak_score": (rng.random(2_500) < np.where(prompt < 300, 0.5, 0.9)) * 1.0,
    }
    pl.DataFrame({"prompt": prompt.astype(str)} | scores).write_parquet(tmp_path / "labels.parquet")
    found = ask(tmp_path, log, labels={"path": "labels.parquet"}, quality_floor=0.95).report
    shares = [point.quality_share.low for point in found.sweep.points if point.quality_share is not None]
    assert shares[0] > 0.95
    assert min(shares) < 0.95  # the walk from all strong ends before it is there
    assert (found.recommended, found.alone, found.sweep.best_single) == (0, WEAK, WEAK)


def test_the_strong_model_may_be_the_cheapest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    calls = {
        "model": np.where(rng.random(400) < 0.5, STRONG, WEAK),
        "prompt": rng.integers(1, 1_000, 400).astype(str),
        "input_tokens": [1_000] * 400,
        "output_tokens": rng.poisson(100, 400),
    }
    rates = [
        {"model": STRONG, "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"},
        {"model": WEAK, "input_usd_per_mtok": "10", "output_usd_per_mtok": "40"},
    ]
    given = graded(tmp_path, (rng.random(900) < 0.97).astype(float).tolist())
    found = asked_at(tmp_path, calls, rates, labels=given, quality_floor=0.9)
    assert (found.recommended, found.alone) == (len(found.sweep.points) - 1, STRONG)
    assert "costs less than big alone" in found.advice
