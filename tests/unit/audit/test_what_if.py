"""The whole what-if on small logs whose figures can be worked out by hand, with the router that adds up."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from jobs.audit_config import AuditConfig, AuditJob
from jobs.audit_what_if import WhatIfResult, what_if
from jobs.audit_what_if_inputs import read_inputs
from routing.errors import ConfigError, DataError, InputMissingError
from routing.estimate import LENGTH_SPREAD
from routing.prices import price_snapshot
from schemas.audit import WhatIf
from schemas.billing import PriceOverride
from tests.fakes import save_adding_router, save_embedding_router
from tests.unit.audit.what_if_logs import NOON, RATES, STRONG, WEAK, Parts, call_log, prices

TENANTS = ["a", "a", "b", "b", None, "c"]
LOG = {
    "model": [STRONG, WEAK, STRONG, WEAK, "old", STRONG],
    "prompt": ["900", "100", "500", "500", "700", None],
    "input_tokens": [1_000, 1_000, 2_000, 1_000, 1_000, 1_000],
    "output_tokens": [100, 50, 100, 50, 70, 10],
    "cached_tokens": [None, None, 1_000, None, None, None],
    "tenant": TENANTS,
}
"""Win rates .9, .1, .5, .5, .7, and one call without text; in dollars: .014, .0011, .015, .0011, .0242, .0104."""


def ask(
    folder: Path, log: pl.DataFrame, *, rows: int = 500, table: pl.DataFrame | None = None, **section: Any
) -> WhatIfResult:
    save_adding_router(folder / "adding")
    asked = {"strong": {"name": STRONG}, "weak": {"name": WEAK}, "router": {"artifact": "adding"}} | section
    config = AuditConfig.model_validate({"output": "out", "log": {"path": "log"}, "what_if": asked})
    times, known = iter(np.arange(0.0, 1e6)), prices() if table is None else table
    inputs = read_inputs(AuditJob(config, folder, None), known)
    assert inputs is not None
    return what_if(inputs, Parts(log, rows), known, cache=folder / "cache", clock=lambda: next(times))


def small_log(**columns: Any) -> pl.DataFrame:
    return call_log(LOG | columns, prices())


def labels(folder: Path, *, n: int = 200, right: float = 1.0) -> dict[str, str]:
    """Prompts 1..999: the strong model is always right (or always as far right), the weak one only on easy prompts."""
    prompt = np.linspace(1, 999, n).astype(int)
    scores = {"strong_score": np.full(n, right), "weak_score": (prompt < 600) * right}
    pl.DataFrame({"prompt": prompt.astype(str)} | scores).write_parquet(folder / "labels.parquet")
    return {"path": "labels.parquet"}


def test_points_run_from_all_weak_to_all_strong_in_whole_groups(tmp_path: Path) -> None:
    found = ask(tmp_path, small_log(), replaces=["old"]).report.sweep
    assert [point.alpha for point in found.points] == [None, 0.9, 0.7, 0.5, 0.1]
    assert [point.n_strong for point in found.points] == [0, 1, 2, 4, 5]
    assert [point.strong_share for point in found.points] == [0.0, 0.2, 0.4, 0.8, 1.0]
    claims = [0.1 + 0.3 + 0.5 + 0.5 + 0.9, 0.9 + 0.3 + 0.5 + 0.5 + 0.9, 3.5, 3.5, 2.7]
    assert [point.expected_wins for point in found.points] == pytest.approx([claim / 5 for claim in claims])


def test_what_stays_was_observed_and_what_moves_is_modelled(tmp_path: Path) -> None:
    """Three strong and two weak answers say little, so lengths are their means: 90 (without the unrouted) and 50."""
    found = ask(tmp_path, small_log(), replaces=["old"]).report
    assert found.routed_paid_usd == Decimal("0.0554")
    observed = [point.observed_usd for point in found.sweep.points]
    assert observed == pytest.approx([0.0022, 0.0162, 0.0162, 0.0162 + 0.015 - 0.0011, 0.029])
    # Moved at alpha .7: the calls at .9 stays strong; `old` moves to strong; one strong call moves to weak.
    middle = found.sweep.points[2].cost_usd
    assert middle.value == pytest.approx(0.0162 + (0.01 + 100 * 40e-6) + (0.002 + 50 * 2e-6), rel=1e-6)
    assert middle.low < middle.value < middle.high
    assert [(one.model, one.calls, one.assumed) for one in found.answer_lengths] == [
        (STRONG, 2, False),
        (WEAK, 2, False),
    ]
    assert [one.mean_output_tokens for one in found.answer_lengths] == [100.0, 50.0]


def test_a_log_of_one_model_costs_what_it_did_cost(tmp_path: Path) -> None:
    log = small_log(model=[STRONG] * 6)
    last = ask(tmp_path, log).report.sweep.points[-1]
    paid = float(log.filter(pl.col("prompt").is_not_null())["cost_usd"].sum())
    assert last.cost_usd.low == last.cost_usd.high == last.cost_usd.value == pytest.approx(paid)
    assert last.observed_usd == pytest.approx(paid)
    assert (last.saving_usd.low, last.saving_share.value, last.saving_usd.high) == pytest.approx((0.0, 0.0, 0.0))


def test_single_models_keep_their_cache_and_moves_lose_it(tmp_path: Path) -> None:
    """Only the call with 1,000 cached tokens differs: on `small` they cost what input costs, on `big` a tenth."""
    log = small_log(model=[WEAK] * 6)
    (cold, warm) = (ask(tmp_path, log, cache=cache).report.sweep for cache in ("cold", "warm"))
    assert cold.strong.cost_usd == warm.strong.cost_usd
    assert warm.points[-1].cost_usd.value == pytest.approx(warm.strong.cost_usd.value)
    assert cold.points[-1].cost_usd.value == pytest.approx(cold.strong.cost_usd.value + 1_000 * 9e-6)
    assert cold.points[-1].saving_usd.value == pytest.approx(-1_000 * 9e-6)


def test_calls_that_are_not_routed_are_counted_with_what_they_cost(tmp_path: Path) -> None:
    log = call_log(
        {
            "model": [STRONG, STRONG, STRONG, STRONG, "old", "unheard-of", STRONG, WEAK],
            "prompt": ["1", "2", "3", "4", "5", "6", " ", "8"],
            "outcome": ["ok", "failed", "ok", "ok", "ok", "ok", "ok", "ok"],
            "billed": [True, True, False, True, True, True, True, True],
            "operation": ["chat", None, None, "embeddings", None, None, None, None],
            "input_tokens": [1_000] * 8,
            "output_tokens": [0] * 8,
        },
        prices(),
    )
    found = ask(tmp_path, log, replaces=["un*of"]).report
    assert [(row.reason, row.calls, row.cost_usd) for row in found.unrouted] == [
        ("failed", 1, Decimal("0.01")),
        ("answered by a cache", 1, Decimal(0)),
        ("not a chat", 1, Decimal("0.01")),
        ("another model", 1, Decimal("0.02")),
        ("unpriced", 1, Decimal(0)),
        ("no prompt text", 1, Decimal("0.01")),
    ]
    assert found.routed_calls == 2


def test_a_log_in_which_nothing_can_be_routed_says_why(tmp_path: Path) -> None:
    log = small_log(model=[*["unheard-of"] * 5, STRONG])
    result = ask(tmp_path, log, labels=labels(tmp_path), quality_floor=0.9)
    found = result.report
    assert found.advice == (
        "No call of this log could be routed (another model: 5, no prompt text: 1). Name the models that answered as "
        "what_if.strong, what_if.weak or what_if.replaces."
    )
    assert (found.sweep.points, found.sweep.groups, found.recommended, found.alone) == ([], [], None, None)
    assert (found.routed_calls, found.routed_paid_usd) == (0, Decimal(0))
    assert [(row.reason, row.calls) for row in found.unrouted] == [("another model", 5), ("no prompt text", 1)]
    assert WhatIf.model_validate_json(found.model_dump_json()) == found
    assert result.by_day.schema == ask(tmp_path, small_log()).by_day.schema
    assert result.by_day.is_empty()
    assert set(result.seconds) == {"read", "score", "price", "sweep"}
    prompts = ask(tmp_path, small_log(prompt=[None] * 6)).report
    assert "no prompt text: 5" in prompts.advice
    assert "let the log hold them" in prompts.advice
    empty = ask(tmp_path, small_log().clear()).report
    assert (empty.unrouted, empty.advice) == ([], "No call of this log could be routed: it holds none.")


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_parts_make_no_difference(tmp_path: Path, rows: int) -> None:
    section: dict[str, Any] = {"replaces": ["old"], "labels": labels(tmp_path), "quality_floor": 0.9}
    whole, parts = (ask(tmp_path, small_log(), rows=size, **section) for size in (6, rows))
    assert same(parts.report.model_dump(), whole.report.model_dump())
    assert same(parts.by_day.to_dicts(), whole.by_day.to_dicts())


def same(one: Any, other: Any) -> bool:
    """Equal, but for the rounding of sums in another order."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == (pytest.approx(other, rel=1e-9, abs=1e-15) if isinstance(other, float) else other))


def test_groups_and_days_add_up_to_the_points(tmp_path: Path) -> None:
    log = small_log(called_at=[NOON.replace(day=day) for day in (1, 1, 2, 2, 3, 3)])
    found = ask(tmp_path, log, replaces=["old"], labels=labels(tmp_path, right=0.5))
    sweep = found.report.sweep
    assert [(group.group, group.calls, group.routed_calls) for group in sweep.groups] == [
        (None, 1, 1),
        ("b", 2, 2),
        ("a", 2, 2),
        ("c", 1, 0),
    ]
    assert sum(group.paid_usd for group in sweep.groups) == pytest.approx(0.0554 + 0.0104)
    for i, point in enumerate(sweep.points):
        assert sum(group.cost_usd[i] for group in sweep.groups) == pytest.approx(point.cost_usd.value)
        strong = sum(group.strong_share[i] * group.routed_calls for group in sweep.groups)
        assert strong == pytest.approx(point.n_strong)
        graded = [(group.quality[i], group.routed_calls) for group in sweep.groups if group.quality is not None]
        assert point.quality is not None
        if max(quality for quality, _ in graded) < 1.0:  # no group was cut off at what a quality can be
            assert sum(quality * calls for quality, calls in graded) / 5 == pytest.approx(point.quality.value)
    assert sum(group.all_strong_usd for group in sweep.groups) == pytest.approx(sweep.strong.cost_usd.value)
    ends = found.by_day.group_by("point").agg(pl.col("cost_usd", "calls", "n_strong").sum()).sort("point")
    assert ends["point"].to_list() == [0, 4]
    assert ends["calls"].to_list() == [5, 5]
    assert ends["n_strong"].to_list() == [0, 5]
    costs = [sweep.points[0].cost_usd.value, sweep.points[-1].cost_usd.value]
    assert ends["cost_usd"].to_list() == pytest.approx(costs)
    days = found.by_day.filter(point=0).select("day", "tenant").rows()
    assert [(day.day, tenant) for day, tenant in days] == [(1, "a"), (2, "b"), (3, None)]


def test_quality_follows_the_labels(tmp_path: Path) -> None:
    """Weak answers are wrong from 600 on, so of the five calls two lose on the weak model: 3/5, 4/5, 1 ..."""
    found = ask(tmp_path, small_log(), replaces=["old"], labels=labels(tmp_path)).report
    quality = [point.quality for point in found.sweep.points]
    assert quality[-1] is not None
    assert quality[-1].low < 0.97 < quality[-1].value <= quality[-1].high == 1.0
    assert quality[0] is not None
    assert quality[0].low <= 0.6 <= quality[0].high
    last = found.sweep.points[-1].quality_share
    assert last is not None
    assert (last.low, last.value, last.high) == (1.0, 1.0, 1.0)
    assert found.label_rows == 200
    assert "Platt scaling of 200 labels" in found.calibration
    assert found.recommended is None
    assert "quality_floor" in found.advice
    without = ask(tmp_path, small_log(), replaces=["old"]).report
    assert without.sweep.points[0].quality is None
    assert without.sweep.groups[0].quality is None
    assert without.labels_sha256 is None
    assert "[what_if.labels]" in without.advice


def test_an_alpha_is_recommended_for_a_floor(tmp_path: Path) -> None:
    """600 calls: easy ones need no strong model."""
    rng = np.random.default_rng(3)
    numbers = rng.integers(1, 1_000, 600)
    strong = rng.random(600) < 0.5
    log = call_log(
        {
            "model": np.where(strong, STRONG, WEAK),
            "prompt": numbers.astype(str),
            "input_tokens": 100 + numbers,
            "output_tokens": rng.poisson(np.where(strong, 200, 100)),
        },
        prices(),
    )
    section: dict[str, Any] = {"labels": labels(tmp_path, n=900), "quality_floor": 0.95}
    found = ask(tmp_path, log, **section).report
    assert found.recommended is not None
    chosen = found.sweep.points[found.recommended]
    assert chosen.alpha is not None
    share = np.where(numbers / 1_000 >= chosen.alpha, 1.0, numbers < 600).mean()
    assert share >= 0.95
    assert chosen.strong_share < 0.6
    assert f"alpha = {chosen.alpha:g}" in found.advice
    assert (found.sweep.best_single, found.alone) == (STRONG, None)
    low = ask(tmp_path, log, **section | {"quality_floor": 0.3}).report
    assert (low.recommended, low.alone, low.sweep.best_single) == (0, WEAK, WEAK)
    assert "routing buys nothing" in low.advice


def test_lengths_come_from_a_history_where_the_log_has_none(tmp_path: Path) -> None:
    log = small_log(model=[STRONG] * 6)
    assumed = ask(tmp_path, log).report
    assert assumed.answer_lengths[1].assumed
    assert assumed.answer_lengths[1].mean_output_tokens == 264.0
    assert any("264 output tokens are assumed" in line for line in assumed.assumptions)
    first = assumed.sweep.points[0].cost_usd
    inputs = 6_000 * 1e-6
    assert first.value - inputs == pytest.approx(5 * 264 * 2e-6)
    assert first.high - inputs > LENGTH_SPREAD * 0.8 * (first.value - inputs)
    (tmp_path / "history").mkdir()
    pl.DataFrame(
        {"requested_model": [WEAK] * 40 + ["other"], "input_tokens": 1_000, "output_tokens": [40, 60] * 20 + [9_999]}
    ).write_parquet(tmp_path / "history" / "part.parquet")
    learnt = ask(tmp_path, log, history="history").report
    assert (learnt.answer_lengths[1].calls, learnt.answer_lengths[1].assumed) == (40, False)
    assert learnt.sweep.points[0].cost_usd.value - inputs == pytest.approx(5 * 50 * 2e-6, rel=1e-3)
    prompts = pl.DataFrame(
        {"requested_model": WEAK, "input_tokens": 1_000, "output_tokens": 50, "prompt": ["1", "2", "3", None] * 5}
    )
    prompts.write_parquet(tmp_path / "history.parquet")
    assert ask(tmp_path, log, history="history.parquet").report.answer_lengths[1].calls == 20


def test_a_history_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"what_if\.history: nothing at"):
        ask(tmp_path, small_log(), history="nowhere/*.parquet")
    pl.DataFrame({"model": ["x"]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"what_if\.history: .*other\.parquet cannot be read"):
        ask(tmp_path, small_log(), history="other.parquet")


def test_a_model_without_a_price_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no price is known for 'nobody'; correct .*, or add \[\[prices\]\] for it"):
        ask(tmp_path, small_log(), strong={"name": "nobody"})


def test_a_router_that_starts_at_embeddings_is_refused(tmp_path: Path) -> None:
    save_embedding_router(tmp_path / "embedding")
    with pytest.raises(ConfigError, match=r"'first-number' starts at an embedding \(openai text-embedding"):
        ask(tmp_path, small_log(), router={"artifact": "embedding"})


def test_win_rates_are_scored_once_a_prompt_and_kept(tmp_path: Path) -> None:
    ask(tmp_path, small_log())
    files = sorted((tmp_path / "cache").rglob("*.parquet"))
    assert [len(pl.read_parquet(file)) for file in files] == [3]  # 900, 100, 500 twice
    times = {file: file.stat().st_mtime_ns for file in files}
    found = ask(tmp_path, small_log())
    assert {file: file.stat().st_mtime_ns for file in sorted((tmp_path / "cache").rglob("*.parquet"))} == times
    assert set(found.seconds) == {"read", "score", "price", "sweep"}
    assert all(taken > 0 for taken in found.seconds.values())


def test_labels_may_bring_their_win_rates(tmp_path: Path) -> None:
    given = labels(tmp_path)
    table = pl.read_parquet(tmp_path / "labels.parquet")
    table.with_columns(said=pl.col("prompt").cast(pl.Float64) / 1_000, prompt="x" + pl.col("prompt")).write_parquet(
        tmp_path / "given.parquet"
    )
    scored = ask(tmp_path, small_log(), labels=given).report.sweep
    told = ask(tmp_path, small_log(), labels={"path": "given.parquet", "columns": {"win_rate": "said"}}).report.sweep
    assert same(told.model_dump(), scored.model_dump())


def test_prices_hold_at_the_time_of_the_call(tmp_path: Path) -> None:
    """The strong model gets cheaper on the second day; the same call moves on both."""
    earlier, later = NOON, NOON.replace(day=2)
    rates = [
        *RATES[1:],
        RATES[0] | {"valid_to": "2026-09-02"},
        RATES[0] | {"valid_from": "2026-09-02", "input_usd_per_mtok": "5", "output_usd_per_mtok": "20"},
    ]
    table = price_snapshot([PriceOverride.model_validate(one) for one in rates])
    log = call_log(
        {
            "model": [WEAK, WEAK],
            "prompt": ["1", "2"],
            "called_at": [earlier, later],
            "input_tokens": [1_000, 1_000],
            "output_tokens": [10, 10],
        },
        table,
    )
    found = ask(tmp_path, log, table=table)
    day = found.by_day.filter(point=2).sort("day")["cost_usd"].to_list()
    assert day == pytest.approx([0.01 + 264 * 40e-6, 0.005 + 264 * 20e-6])
