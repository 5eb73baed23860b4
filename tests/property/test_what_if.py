"""Whatever the log: every call is counted once, parts of the curve add up, intervals hold their figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.audit_config import AuditConfig, AuditJob
from jobs.audit_what_if import WhatIfResult, what_if
from jobs.audit_what_if_inputs import read_inputs
from routing.audit.what_if_points import points_of, remaining, running
from routing.prices import price_snapshot
from schemas.billing import PriceOverride
from schemas.sweep import Estimate
from tests.fakes import save_adding_router
from tests.unit.audit.what_if_logs import NOON, RATES, STRONG, WEAK, Parts, call_log

rates = st.sampled_from([0.0, 0.2, 0.2, 0.5, 1.0]) | st.floats(0, 1).map(lambda rate: round(rate, 6))


@given(win_rates=st.lists(rates, min_size=1, max_size=80), wanted=st.integers(3, 60))
def test_points_are_whole_groups_from_all_weak_to_all_strong(win_rates: list[float], wanted: int) -> None:
    table = np.array(win_rates)
    points = points_of(table, wanted)
    assert points.n_strong[0] == 0
    assert points.n_strong[-1] == len(table)
    assert 2 <= len(points.n_strong) <= min(wanted, len(np.unique(table)) + 1)
    assert points.alpha[0] is None
    cell = points.cell(table)
    for i, (alpha, n_strong) in enumerate(zip(points.alpha, points.n_strong, strict=True)):
        goes = np.zeros(len(table), bool) if alpha is None else table >= alpha
        assert (goes == (cell < i)).all()
        assert goes.sum() == n_strong
    if len(np.unique(table)) == len(table):  # no ties: within half a call of equally spaced
        spaced = {
            round(share * len(table) / (wanted - 1) + offset) for share in range(wanted) for offset in (-1e-9, 1e-9)
        }
        assert set(points.n_strong.tolist()) <= spaced


@given(values=st.lists(st.integers(-9, 9), min_size=1, max_size=20))
def test_running_and_remaining_make_the_whole(values: list[int]) -> None:
    cells = np.array(values, np.float64)
    assert (running(cells) + remaining(cells) == cells.sum()).all()
    assert running(cells)[0] == remaining(cells)[-1] == 0.0


WRITES = {STRONG: {"cache_write_usd_per_mtok": "12.5"}, WEAK: {"cache_write_usd_per_mtok": "1.25"}, "old": {}}
PRICES = price_snapshot([PriceOverride.model_validate(rates | WRITES[rates["model"]]) for rates in RATES])

calls = st.fixed_dictionaries(
    {
        "model": st.sampled_from([STRONG, WEAK, "old", "unheard-of"]),
        "prompt": st.integers(1, 999).map(str) | st.sampled_from([None, "", "500", "500 1"]),
        "input_tokens": st.none() | st.integers(0, 200_000),
        "cached_tokens": st.none() | st.just(3) | st.integers(0, 100_000),
        "cache_write_tokens": st.none() | st.just(5) | st.integers(0, 100_000),
        "output_tokens": st.integers(0, 5_000),
        "tenant": st.sampled_from([None, "a", "b", "ü / <c>"]),
        "called_at": st.integers(0, 3).map(lambda day: NOON.replace(day=1 + day)),
        "billed": st.sampled_from([True, True, True, False]),
        "outcome": st.sampled_from(["ok", "ok", "ok", "failed"]),
        "operation": st.sampled_from([None, "chat", "embeddings"]),
    }
)
routed = {
    "model": STRONG,
    "prompt": "7",
    "input_tokens": 9,
    "cached_tokens": None,
    "cache_write_tokens": None,
    "output_tokens": 9,
    "tenant": "a",
    "called_at": NOON,
    "billed": True,
    "outcome": "ok",
    "operation": None,
}
moved = routed | {"model": "old", "cache_write_tokens": 5}


@contextmanager
def asked(log: pl.DataFrame, **section: Any) -> Iterator[WhatIfResult]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_adding_router(folder / "adding")
        prompt = np.linspace(1, 999, 60).astype(int)
        pl.DataFrame(
            {"prompt": prompt.astype(str), "strong_score": 0.9, "weak_score": 1.0 - prompt / 1_000}
        ).write_parquet(folder / "labels.parquet")
        wanted = {
            "strong": {"name": STRONG},
            "weak": {"name": WEAK},
            "router": {"artifact": "adding"},
            "replaces": ["old"],
            "labels": {"path": "labels.parquet"},
            "quality_floor": 0.8,
            "points": 13,
        }
        config = AuditConfig.model_validate({"output": "out", "log": {"path": "x"}, "what_if": wanted | section})
        inputs = read_inputs(AuditJob(config, folder, None), PRICES)
        assert inputs is not None
        yield what_if(inputs, Parts(log, 7), PRICES, cache=folder / "cache", clock=lambda: 0.0)


def ordered(estimate: Estimate) -> bool:
    return estimate.low <= estimate.value <= estimate.high


@settings(max_examples=15)
@given(rows=st.lists(calls, max_size=30), cache=st.sampled_from(["cold", "warm"]))
def test_every_call_is_counted_once_and_the_curve_adds_up(rows: list[dict[str, Any]], cache: str) -> None:
    log = call_log({name: [row[name] for row in [*rows, routed, moved]] for name in routed}, PRICES)
    with asked(log, cache=cache) as found:
        report, by_day = found.report, found.by_day
    sweep, n = report.sweep, report.routed_calls
    assert n + sum(row.calls for row in report.unrouted) == len(log)
    assert report.routed_paid_usd + sum(row.cost_usd for row in report.unrouted) == (
        log["cost_usd"].sum() or Decimal(0)
    )
    assert sum(sweep.histogram.counts) == n
    assert sum(group.calls for group in sweep.groups) == len(log)
    assert sum(group.routed_calls for group in sweep.groups) == n
    for i, point in enumerate(sweep.points):
        # Dollars of 200,000 tokens against sums of them.
        assert sum(group.cost_usd[i] for group in sweep.groups) == pytest.approx(
            point.cost_usd.value, rel=1e-9, abs=1e-9
        )
        assert point.cost_usd.value == pytest.approx(sweep.strong.cost_usd.value - point.saving_usd.value, abs=1e-9)
        assert 0.0 <= point.observed_usd <= point.cost_usd.low + 1e-9
        assert 0.0 <= point.expected_wins <= 1.0
        assert point.quality is not None
        assert point.quality_share is not None
        figures = (point.cost_usd, point.saving_usd, point.saving_share, point.saving_vs_best_share, point.quality)
        assert all(ordered(figure) for figure in (*figures, point.quality_share))
    shown = by_day.group_by("point").agg(pl.col("calls", "n_strong", "cost_usd").sum()).sort("point")
    for i, total, strong, cost in shown.iter_rows():
        assert total == n
        assert strong == sweep.points[i].n_strong
        assert cost == pytest.approx(sweep.points[i].cost_usd.value, rel=1e-9, abs=1e-9)
    assert shown["point"].to_list()[-1] == len(sweep.points) - 1
    if cache == "warm":
        assert sweep.points[-1].cost_usd.value == pytest.approx(sweep.strong.cost_usd.value)
        assert sweep.points[0].cost_usd.value == pytest.approx(sweep.weak.cost_usd.value)
    else:
        # Both ends are a single model whose calls lost their cache: never cheaper than that model alone.
        assert sweep.points[-1].saving_usd.value <= 1e-9
        assert sweep.points[0].cost_usd.value >= sweep.weak.cost_usd.value - 1e-9
    assert report.recommended is not None
    chosen = sweep.points[report.recommended]
    assert chosen.quality_share is not None
    assert chosen.quality_share.low >= 0.8
    if report.alone is None:
        assert chosen.saving_vs_best_share.value > 0
        assert 0 < report.recommended < len(sweep.points) - 1
    else:
        assert report.alone == sweep.best_single
        assert report.recommended == (0 if report.alone == WEAK else len(sweep.points) - 1)
