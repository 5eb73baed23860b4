"""What a history and another tokenizer do to a what-if."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from jobs.audit_history import answers_of, unseen
from routing.audit.answer_lengths import Answers
from routing.audit.credibility import TENANT_SPREAD
from routing.errors import DataError
from schemas.audit import WhatIf
from schemas.sweep import Estimate
from tests.unit.audit.test_what_if import ask
from tests.unit.audit.what_if_logs import STRONG, WEAK, call_log, prices


def big_log(n: int = 400, **columns: Any) -> pl.DataFrame:
    """Calls of 1,000 tokens, every other one strong."""
    numbers = np.random.default_rng(0).integers(1, 1_000, n)
    given = {
        "model": [STRONG, WEAK] * (n // 2),
        "prompt": numbers.astype(str),
        "input_tokens": 1_000,
        "output_tokens": np.random.default_rng(1).poisson(100, n),
    }
    return call_log(given | columns, prices())


def asked(folder: Path, log: pl.DataFrame, history: pl.DataFrame | None = None, **section: Any) -> WhatIf:
    if history is not None:
        history.write_parquet(folder / "history.parquet")
        section["history"] = "history.parquet"
    return ask(folder, log, **section).report


def weak_history(n: int = 300, **columns: Any) -> pl.DataFrame:
    lengths = np.random.default_rng(2).poisson(50, n)
    return pl.DataFrame({"requested_model": WEAK, "input_tokens": 1_000, "output_tokens": lengths}).with_columns(
        **columns
    )


def width(one: Estimate) -> float:
    return (one.high - one.low) / one.value


def test_a_history_of_other_models_is_refused(tmp_path: Path) -> None:
    names = pl.Series(["smal", "smell", "bigger"] * 100)
    with pytest.raises(
        DataError,
        match=r"history\.parquet holds answers of 'bigger', 'smal', 'smell', and none of 'big' or 'small'; name the",
    ):
        asked(tmp_path, big_log(), weak_history(requested_model=names))
    assert asked(tmp_path, big_log(), weak_history().clear()).answer_lengths[1].calls == 200


def test_a_log_is_no_history_of_itself(tmp_path: Path) -> None:
    log = big_log()
    itself = log.select(pl.col("model").alias("requested_model"), "input_tokens", "output_tokens", "prompt")
    alone, twice = asked(tmp_path, log), asked(tmp_path, log, itself)
    assert twice.answer_lengths == alone.answer_lengths
    assert twice.sweep == alone.sweep
    more = asked(tmp_path, log, weak_history(prompt=pl.lit("7")))
    assert more.answer_lengths[1].calls == 500


def test_answers_are_the_same_where_prompt_and_tokens_are() -> None:
    logged = Answers(np.array([9.0, 9.0]), np.array([0.1, 0.2]), np.array([5.0, 6.0]), np.array([1, 2], np.uint64))
    history = Answers(
        np.array([9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 8.0]),
        np.array([0.1, 0.1, 0.2, 0.1, np.nan, np.nan, np.nan]),
        np.array([5.0, 5.0, 5.0, 7.0, 6.0, 7.0, 6.0]),
        np.array([1, 1, 2, 1, 91, 92, 93], np.uint64),
    )
    assert unseen(history, logged).digests.tolist() == [1, 2, 1, 92, 93]
    assert len(unseen(history.take(np.arange(3)), history.take(np.arange(1)))) == 2


@pytest.mark.parametrize("known", [True, False])
def test_answers_that_happen_to_be_as_long_stay(known: bool) -> None:
    """A history of its own over the same few prompts: the mean of the lengths is nobody's to change."""
    rng = np.random.default_rng(0)

    def drawn(n: int, *, known: bool) -> Answers:
        prompts = rng.integers(0, 200, n)
        rates = prompts / 200 if known else np.full(n, np.nan)
        digests = prompts.astype(np.uint64) if known else np.arange(n, dtype=np.uint64)
        return Answers(np.full(n, 50.0), rates, rng.geometric(1 / 20, n).astype(float), digests)

    history = drawn(20_000, known=known)
    for n in (100, 1_000, 4_000, 20_000):
        logged = drawn(n, known=True)
        lengths = np.concatenate([unseen(history, logged).output_tokens, logged.output_tokens])
        assert lengths.mean() == pytest.approx(20, abs=0.3)
    twice = history.take(np.repeat(np.arange(20_000), 2))
    assert len(unseen(twice, history)) == 20_000


def test_tenants_of_a_history_are_those_of_the_log_or_strangers() -> None:
    rows = weak_history(6, prompt=pl.lit(None, pl.String), tenant=pl.Series(["b", "z", None, "a", "y", "z"]))

    def whom(tenants: list[str | None]) -> list[int]:
        return list(answers_of(rows, pl.Series([], dtype=pl.Float64), tenants).whom)

    assert whom(["a", "b", None]) == [1, 5, 3, 0, 4, 5]
    assert whom(["b"]) == [0, 4, 0, 2, 3, 4]
    assert whom([None]) == [0] * 6


@pytest.mark.parametrize("named", [False, True])
def test_a_history_does_not_tell_how_long_answers_to_others_are(tmp_path: Path, named: bool) -> None:
    """Ten tenants, all on the strong model; weak answers to one of them, or to nobody knows whom."""
    tenants = [f"tenant {i % 10}" for i in range(400)]
    log = big_log(model=[STRONG] * 400, tenant=tenants, input_tokens=10)
    short = weak_history(input_tokens=pl.lit(10), prompt=log["prompt"][:300])
    pilot = short.with_columns(tenant=pl.lit("tenant 3")) if named else short
    found = asked(tmp_path, log, pilot).sweep
    assert width(found.weak.cost_usd) > 2 * 1.96 * TENANT_SPREAD * 0.9
    known = asked(tmp_path, log, short.with_columns(tenant=pl.Series(tenants[:300]))).sweep
    assert width(known.weak.cost_usd) < 0.4 * width(found.weak.cost_usd)
    nobody = asked(tmp_path, log.with_columns(tenant=pl.lit(None, pl.String)), short).sweep
    assert width(nobody.weak.cost_usd) < 0.1


@pytest.mark.parametrize("ratio", [0.85, 1.0, 1.18])
def test_another_tokenizer_is_inside_the_interval(tmp_path: Path, ratio: float) -> None:
    """Input is nearly all of the bill, and the weak model counts more or fewer tokens for the same prompts."""
    rng = np.random.default_rng(0)
    strong, base = rng.random(2_000) < 0.5, np.exp(rng.normal(8.5, 0.8, 2_000)).round()
    on_weak = (base * ratio).round()
    log = big_log(
        2_000,
        model=np.where(strong, STRONG, WEAK),
        input_tokens=np.where(strong, base, on_weak).astype(int),
        output_tokens=rng.poisson(100, 2_000),
    )
    true_strong, true_weak = (base * 10e-6 + 100 * 40e-6).sum(), (on_weak * 1e-6 + 100 * 2e-6).sum()
    found = asked(tmp_path, log).sweep
    assert found.weak.cost_usd.low < true_weak < found.weak.cost_usd.high
    assert found.strong.cost_usd.low < true_strong < found.strong.cost_usd.high
    if ratio > 1.0:  # and one that counts 20 % more is where it ends
        most = found.weak.cost_usd.value + (true_weak - found.weak.cost_usd.value) * 0.2 / 0.18
        assert found.weak.cost_usd.high == pytest.approx(most, rel=0.002)
    same = asked(tmp_path, log, tokenizer_spread=0).sweep
    assert (same.weak.cost_usd.low < true_weak < same.weak.cost_usd.high) == (ratio == 1.0)
    assert same.weak.cost_usd.value == found.weak.cost_usd.value
    assert [point.cost_usd.value for point in same.points] == [point.cost_usd.value for point in found.points]


def test_what_tokenizers_differ_by_cancels_between_models(tmp_path: Path) -> None:
    """All strong costs what the strong model costs, whatever it counts; the interval reaches as far as asked for."""
    log = big_log(input_tokens=100_000, output_tokens=1)
    found = asked(tmp_path, log, cache="warm", tokenizer_spread=0.5)
    last = found.sweep.points[-1].saving_share
    assert (last.low, last.value, last.high) == (0.0, 0.0, 0.0)
    moved = found.sweep.weak.cost_usd
    # Half of the calls were counted by the weak model itself.
    assert moved.high / moved.value == pytest.approx(0.5 + 0.5 * 1.5, rel=0.05)
    assert moved.low / moved.value == pytest.approx(0.5 + 0.5 / 1.5, rel=0.05)
    assert any(line.endswith("give or take 50% for another tokenizer.") for line in found.assumptions)
    assert any(line.endswith("logged.") for line in asked(tmp_path, log, tokenizer_spread=0).assumptions)
