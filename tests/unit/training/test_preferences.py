import polars as pl
import pytest

from routing.errors import DataError
from routing.training.preferences import (
    HUMAN_WEIGHT,
    Exclusions,
    battles,
    benchmark,
    correctness,
    golden,
    golden_pair,
    held_out,
    without_overlap,
)

CLEAN = {f"exact_{name}": False for name in ("mt_bench", "gsm8k_test", "mmlu_test")} | {
    f"sim_{name}": 0.1 for name in ("mt_bench", "gsm8k_test", "mmlu_test")
}
LONG = "a prompt of more than sixteen characters"


def battle(**changed: object) -> dict[str, object]:
    row = {"source": "arena", "prompt": LONG, "model_a": "a", "model_b": "b", "winner": "tie", "label_kind": "judge"}
    return row | CLEAN | changed


def grade(**changed: object) -> dict[str, object]:
    row = {"source": "s", "benchmark": "arc", "task": "arc|test", "prompt": LONG, "model": "a", "score": 1.0}
    return row | CLEAN | changed


def test_battles_weigh_by_prompt_and_by_who_judged() -> None:
    raw = pl.DataFrame(
        [battle() for _ in range(4)] + [battle(prompt="another prompt, judged once", label_kind="human")]
    )
    kept = battles(raw, Exclusions())
    assert kept["weight"].to_list() == [0.5] * 4 + [HUMAN_WEIGHT]
    assert kept["winner"].to_list() == ["tie"] * 5


@pytest.mark.parametrize("winner", ["both_bad", "A", None])
def test_an_unknown_winner_is_no_tie(winner: str | None) -> None:
    with pytest.raises(DataError, match=r"winner must be one of \['model_a', 'model_b', 'tie'\], got"):
        battles(pl.DataFrame([battle(), battle(winner=winner)]), Exclusions())


@pytest.mark.parametrize(
    "changed",
    [
        {"exact_mmlu_test": True},
        {"sim_gsm8k_test": 0.8},
        {"sim_mt_bench": 0.97},
        {"prompt": "fifteen letters"},
        {"benchmark": "mmlu"},
        {"source": "alpaca_eval"},
        {"task": "math|ori_mmlu"},
        {"score": None},
    ],
)
def test_what_must_not_be_trained_on_is_dropped(changed: dict[str, object]) -> None:
    exclusions = Exclusions(sources=("alpaca_eval",), benchmarks=("mmlu",), task_pattern="ori_mmlu")
    good = "a second prompt that may stay"
    kept = correctness(pl.DataFrame([grade(**changed), grade(prompt=good)], schema_overrides=_TYPES), exclusions)
    assert kept["prompt"].to_list() == [good]


_TYPES = {"score": pl.Float64, "sim_mmlu_test": pl.Float64}


def test_nothing_left_is_an_error_with_a_remedy() -> None:
    with pytest.raises(DataError, match=r"correctness: no row is left .* check \[exclude\]"):
        correctness(pl.DataFrame([grade()]), Exclusions(benchmarks=("arc",)))


@pytest.mark.parametrize("column", ["prompt", "winner", "sim_mmlu_test"])
def test_missing_columns_are_named(column: str) -> None:
    with pytest.raises(DataError, match=rf"battles: columns \['{column}'\] are missing"):
        battles(pl.DataFrame([battle()]).drop(column), Exclusions())


def test_correctness_averages_repeats_and_balances_benchmarks() -> None:
    rows = [
        grade(score=1.0),
        grade(score=0.0),
        grade(model="b"),
        grade(benchmark="small", prompt="another long prompt"),
    ]
    kept = correctness(pl.DataFrame(rows), Exclusions())
    assert kept["score"].to_list() == [0.5, 1.0, 1.0]
    # Two models on the prompt and two rows in `arc`: 1 / (sqrt(2) * sqrt(2)).
    assert kept["weight"].to_list() == pytest.approx([0.5, 0.5, 1.0])


def test_golden_and_its_stand_in_pair() -> None:
    raw = pl.DataFrame([{"prompt": LONG, "strong_score": 1.0, "weak_score": 0.0, "benchmark": "svamp"} | CLEAN] * 2)
    assert golden(raw, Exclusions()).to_dicts() == [
        {"prompt": LONG, "strong_score": 1.0, "weak_score": 0.0, "source": "svamp"}
    ]
    graded = correctness(pl.DataFrame([grade(), grade(model="b", score=0.25), grade(prompt=LONG * 2)]), Exclusions())
    pair = golden_pair(graded, benchmark="arc", strong="a", weak="b")
    assert pair.to_dicts() == [{"prompt": LONG, "strong_score": 1.0, "weak_score": 0.25, "source": "arc"}]
    with pytest.raises(DataError, match="a over c"):
        golden_pair(graded, benchmark="arc", strong="a", weak="c")


def test_a_benchmark_has_one_row_per_prompt_and_names_its_models() -> None:
    raw = pl.DataFrame({"prompt": ["p", "p", "p", "q"], "model": ["s", "s", "w", "s"], "score": [1.0, 0.5, 0.25, 1.0]})
    table = benchmark(raw, name="bench", strong="s", weak="w")
    assert table.to_dicts() == [{"prompt": "p", "strong_score": 0.75, "weak_score": 0.25, "source": "bench"}]
    with pytest.raises(DataError, match=r"bench: no rows of model \['x'\]"):
        benchmark(raw, name="bench", strong="x", weak="w")


def test_the_split_depends_on_the_prompts_and_the_seed_alone() -> None:
    prompts = pl.Series("prompt", [f"prompt {i}" for i in range(50)])
    first = held_out(prompts, share=0.2, seed=1)
    assert len(first) == 10
    assert first.to_list() == held_out(prompts.reverse().append(prompts), share=0.2, seed=1).to_list()
    assert first.to_list() != held_out(prompts, share=0.2, seed=2).to_list()
    with pytest.raises(DataError, match="empty side"):
        held_out(prompts.head(2), share=0.2, seed=1)


def test_overlap_columns_drop_what_they_name_and_absent_ones_nothing() -> None:
    rows = [
        grade(),
        grade(exact_mt_bench=True),
        grade(sim_mmlu_test=0.8),
        grade(exact_mt_bench=None, sim_mmlu_test=None),
    ]
    raw = pl.DataFrame(rows).with_row_index()
    assert without_overlap(raw)["index"].to_list() == [0, 3]
    assert without_overlap(raw.drop("exact_mt_bench"))["index"].to_list() == [0, 1, 3]
    assert without_overlap(raw.drop("sim_mmlu_test"))["index"].to_list() == [0, 2, 3]
    bare = raw.select("index", "prompt")
    assert without_overlap(bare).equals(bare)


def test_a_row_without_a_source_is_not_excluded_by_one() -> None:
    raw = pl.DataFrame({"source": ["alpaca_eval", None, "arena"], "benchmark": [None, "mmlu", None]})
    kept = raw.filter(Exclusions(sources=("alpaca_eval",), benchmarks=("gsm8k",)).keep(raw.columns))
    assert kept.rows() == [(None, "mmlu"), ("arena", None)]
