from pathlib import Path

import numpy as np
import polars as pl
import pytest

from jobs.evaluate_transfer import (
    LENGTH,
    GradedTable,
    TransferSection,
    TransferTableSection,
    UnseenPair,
    pairs_of,
    transfer,
    transfer_table,
    unseen_pairs,
)
from routing.errors import DataError
from routing.metrics import Floats, average_pgr, bootstrap

N = 400


def section(**options: object) -> TransferSection:
    table = {"name": "t", "path": "t.parquet"}
    return TransferSection.model_validate({"tables": [table], "min_prompts": 100} | options)


def table(**models: Floats) -> GradedTable:
    prompts = pl.Series("prompt", [f"p{i:04}" for i in range(N)])
    return GradedTable(
        "t", pl.DataFrame([prompts]).with_columns(**{k: pl.Series(v) for k, v in models.items()}), "seen"
    )


def pairs(**models: Floats) -> list[tuple[GradedTable, UnseenPair]]:
    return pairs_of([table(**models)], section(), seed=0)


def graded(share: float, seed: int) -> Floats:
    return (np.random.default_rng(seed).random(N) < share).astype(float)


MODELS = {"best": graded(0.9, 1), "good": graded(0.7, 2), "fair": graded(0.5, 3), "poor": graded(0.3, 4)}


def test_pairs_follow_the_rule() -> None:
    pairs = unseen_pairs(table(**MODELS), section(min_gap=0.3), seed=0)
    assert [(pair.strong, pair.weak) for pair in pairs] == [("best", "fair"), ("best", "poor"), ("good", "poor")]
    for pair in pairs:
        assert pair.gap == pytest.approx(MODELS[pair.strong].mean() - MODELS[pair.weak].mean())
        assert pair.gap >= 0.3


def test_only_prompts_that_both_answered_count() -> None:
    half = np.where(np.arange(N) < 150, MODELS["poor"], np.nan)
    few = np.where(np.arange(N) < 99, MODELS["fair"], np.nan)
    (pair,) = unseen_pairs(table(best=MODELS["best"], half=half, few=few), section(), seed=0)
    assert (pair.strong, pair.weak) == ("best", "half")
    assert pair.rows.tolist() == [True] * 150 + [False] * 250
    assert pair.gap == pytest.approx((MODELS["best"] - half)[:150].mean())


def test_a_pair_that_was_trained_on_is_not_unseen() -> None:
    grades = table(**MODELS).grades
    trained = GradedTable("t", grades, None, frozenset({"best", "good"}), frozenset({"poor"}))
    found = {(pair.strong, pair.weak) for pair in unseen_pairs(trained, section(), seed=0)}
    assert found == {("best", "good"), ("best", "fair"), ("good", "fair"), ("fair", "poor")}


def test_a_model_under_two_names_counts_once() -> None:
    other_name = MODELS["poor"].copy()
    other_name[:3] = 1 - other_name[:3]  # 99.25 % alike
    doubled = table(best=MODELS["best"], poor=MODELS["poor"], zzz=other_name)
    assert doubled.twins(min_prompts=100) == {"zzz": "poor"}
    assert [(pair.strong, pair.weak) for pair in unseen_pairs(doubled, section(), seed=0)] == [("best", "poor")]
    assert doubled.twins(min_prompts=N + 1) == {}


def test_too_many_pairs_are_thinned_by_a_draw() -> None:
    def drawn(seed: int) -> list[tuple[str, str]]:
        return [(p.strong, p.weak) for p in unseen_pairs(table(**MODELS), section(max_pairs=3), seed=seed)]

    every = [(p.strong, p.weak) for p in unseen_pairs(table(**MODELS), section(), seed=0)]
    assert len(every) == 6
    assert drawn(0) == drawn(0)
    assert len(drawn(0)) == 3
    assert set(drawn(0)) < set(every)
    assert len({tuple(drawn(seed)) for seed in range(10)}) > 1


def test_figures_by_hand() -> None:
    # Two unseen pairs: strong always right; weak right on the first, or on the last, quarter of the prompts.
    at = np.arange(N)
    models = {"s": np.ones(N), "w1": (at < 100).astype(float), "w2": (at >= 300).astype(float)}
    rising, falling = at / N, -at / N
    rates = {"rising": {"t": rising}, "falling": {"t": falling}, LENGTH: {"t": np.zeros(N)}}
    seen = {"rising": {"seen": 0.6}, "falling": {"seen": 0.55}, LENGTH: {"seen": 0.7}}
    found, summaries = transfer(pairs(**models), rates, seen, resamples=100, seed=3)
    assert [row.apgr for row in found if row.router == LENGTH] == [0.5, 0.5]
    found = [row for row in found if row.router != LENGTH]
    assert [(row.router, row.strong, row.weak) for row in found] == [
        ("rising", "s", "w1"), ("falling", "s", "w1"), ("rising", "s", "w2"), ("falling", "s", "w2"),
    ]  # fmt: skip
    # Rising win rates send the 300 prompts with a gain of 1 first: PGR climbs to 1 at 3/4, area 3/8 + 1/4.
    areas = [5 / 8, 3 / 8, 3 / 8, 5 / 8]
    assert [row.apgr for row in found] == pytest.approx(areas, abs=1e-9)
    assert [row.retention for row in found] == pytest.approx(
        [a / b for a, b in zip(areas, [0.6, 0.55] * 2, strict=True)]
    )
    assert all((row.n, row.gap, row.benchmark) == (N, 0.75, "t") for row in found)
    expected = bootstrap(rising, models["s"], models["w1"], average_pgr, resamples=100, seed=3)
    assert (found[0].low, found[0].high) == (expected.low, expected.high)
    one, two, length = summaries
    assert (one.router, one.pairs, two.router) == ("rising", 2, "falling")
    assert one.mean_retention == pytest.approx(0.5 / 0.6)
    assert one.low == pytest.approx(3 / 8 / 0.6)  # two pairs: a quarter of the resamples hold one of them twice
    assert one.high == pytest.approx(5 / 8 / 0.6)
    # (1/8 - 1/8) / 2 over 0.1: nothing is left of the lead over a random router, though retention says .83.
    assert one.lift_kept == pytest.approx(0)
    # Rising is the better one on the seen pair and on the first of two others; the baseline is no router.
    assert one.ranking_kept == two.ranking_kept == pytest.approx(0.5)
    assert (length.router, length.ranking_kept) == (LENGTH, None)


def test_a_random_router_keeps_all_of_nothing() -> None:
    constant = {"random": {"t": np.zeros(N)}}
    _, (summary,) = transfer(pairs(**MODELS), constant, {"random": {"seen": 0.5}}, resamples=50, seed=0)
    assert summary.mean_retention == pytest.approx(1)
    assert summary.lift_kept is None
    assert summary.ranking_kept is None


def test_without_a_seen_pair_there_is_no_retention() -> None:
    rates = {"a": {"t": graded(0.5, 7)}, "b": {"t": graded(0.5, 8)}}
    found, summaries = transfer(pairs(**MODELS), rates, {"a": {"seen": 0.6}}, resamples=50, seed=0)
    assert {row.retention is None for row in found if row.router == "b"} == {True}
    b = summaries[1]
    assert (b.mean_retention, b.low, b.high, b.lift_kept, b.ranking_kept) == (None,) * 5
    assert summaries[0].ranking_kept is None


def test_what_cannot_be_measured_says_so() -> None:
    with pytest.raises(DataError, match=r"win rates \(3,\) for 400 prompts"):
        transfer(pairs(**MODELS), {"a": {"t": np.zeros(3)}}, {}, resamples=50, seed=0)
    with pytest.raises(DataError, match=r"no pair of \['t \(4 models, 400 prompts\)'\]"):
        pairs_of([table(**MODELS)], section(min_gap=0.9), seed=0)


ROWS = pl.DataFrame(
    {
        "source": ["x"] * 6 + ["y"],
        "task": ["a", "a", "a", "ori_b", None, "a", "a"],
        "prompt": ["P one?", "P one?", "P one?", "P two", "P three", "P\tfour", "P five"],
        "model": ["m", "m", "n", "m", "n", "m", "m"],
        "score": [1.0, 0.0, 1.0, 1.0, 1.0, None, 0.5],
    }
)


def test_a_table_is_read_wide(tmp_path: Path) -> None:
    ROWS.with_columns(pl.col("model").cast(pl.Categorical)).write_parquet(tmp_path / "t.parquet")
    options = TransferTableSection(
        name="t", path="t.parquet", where={"source": "x"}, exclude_tasks="ori_b", seen="mmlu", strong_trained=("m",)
    )
    found = transfer_table(options, tmp_path)
    # Grades of one model on one prompt are averaged; what is not graded is null; P four has no grade at all.
    assert found.grades.sort("prompt").select("prompt", "m", "n").rows() == [
        ("P one?", 0.5, 1.0),
        ("P three", None, 1.0),
    ]
    assert (found.name, found.models, found.seen, found.strong_trained) == ("t", ["m", "n"], "mmlu", frozenset({"m"}))


def test_trained_prompts_are_left_out_by_their_words(tmp_path: Path) -> None:
    ROWS.write_parquet(tmp_path / "t.parquet")
    options = TransferTableSection(name="t", path="t.parquet")
    trained = pl.Series(["p ONE", "P: five!", "Q two"])
    assert transfer_table(options, tmp_path, trained=trained).grades["prompt"].to_list() == ["P three", "P two"]
    every = ROWS["prompt"]
    with pytest.raises(DataError, match="no graded prompt is left of 7 rows"):
        transfer_table(options, tmp_path, trained=every)


def test_a_table_that_breaks_its_contract_says_so(tmp_path: Path) -> None:
    ROWS.drop("score").write_parquet(tmp_path / "t.parquet")
    options = TransferTableSection(name="t", path="t.parquet")
    with pytest.raises(DataError, match=r"columns \['score'\] are missing"):
        transfer_table(options, tmp_path)
    ROWS.with_columns(pl.col("score") * 10).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"must lie in 0..1, got 0.0 to 10.0"):
        transfer_table(options, tmp_path)
