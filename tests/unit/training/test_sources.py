"""Tables of every layout -> BATTLES with weights, and a count of what was left out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest

from routing.errors import DataError
from routing.training.dataset import Classes
from routing.training.preferences import HUMAN_WEIGHT, Exclusions
from routing.training.sources import Read, Source, read_source
from schemas.preferences import Battles

LONG = "a prompt of more than sixteen characters"
OTHER = "another prompt, as long as that one"
CLASSES = Classes(strong=("s1", "s2"), weak=("w1", "w2"))


def battle(**changed: object) -> dict[str, object]:
    return {"prompt": LONG, "model_a": "s1", "model_b": "w1", "winner": "model_a"} | changed


def grade(**changed: object) -> dict[str, object]:
    return {"prompt": LONG, "model": "s1", "score": 1.0} | changed


def read(rows: Sequence[Mapping[str, object]] | pl.DataFrame, *, balance: bool = False, **changed: Any) -> Read:
    table = pl.DataFrame(rows)
    return read_source(
        table, Source(**({"name": "t"} | changed)), CLASSES, min_prompt_chars=16, balance=balance, seed=0
    )


def seen(battles: pl.DataFrame) -> list[tuple[object, ...]]:
    return battles.select("prompt", "model_a", "model_b", "winner", "source").sort(pl.all().cast(pl.String)).rows()


def flags(prompt: str) -> dict[str, object]:
    won = {"winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0}
    return {"prompt": prompt, "model_a": "s1", "model_b": "w1", **won}


@pytest.mark.parametrize(
    ("layout", "row"),
    [
        (None, battle(winner="model_b")),
        ("battles", battle(winner="model_b")),
        (None, flags(f'["{LONG}", "and then?"]')),
        ("arena_55k", flags(f'["and before that?", "{LONG}"]')),
        ("gpt4_judge", flags(LONG)),
        (None, {"prompt": LONG, "strong_score": 0, "weak_score": 1}),
        ("golden", {"prompt": LONG, "strong_score": 0.25, "weak_score": 0.5}),
    ],
)
def test_one_row_of_each_layout(layout: str | None, row: dict[str, object]) -> None:
    found = read([row], layout=layout, turn="last" if layout == "arena_55k" else "first")
    assert seen(found.battles) == [(LONG, "s1", "w1", "model_b", "t")]
    assert found.battles["weight"].to_list() == [1.0]
    assert found.dropped == {}
    Battles.validate(found.battles)


def test_graded_answers_are_battles_of_every_strong_with_every_weak_model_of_a_benchmark() -> None:
    rows = [grade(model=model, score=score) for model, score in (("s1", 1.0), ("s2", 0.0), ("w1", 0.0), ("other", 1.0))]
    rows = [row | {"benchmark": "arc"} for row in rows]
    rows += [grade(prompt=OTHER, model=model, score=0.5, benchmark=None) for model in ("s2", "w2")]
    found = read(rows)
    assert seen(found.battles) == [
        (LONG, "s1", "w1", "model_a", "arc"),
        (LONG, "s2", "w1", "tie", "arc"),
        (OTHER, "s2", "w2", "tie", "t"),
    ]
    short = [row | {"prompt": "too short"} for row in rows]
    assert read(rows + short).dropped == {"short": 3}
    assert read(rows + short).battles.equals(found.battles)


def test_graded_answers_of_one_side_only_name_what_is_missing() -> None:
    apart = [grade(benchmark="arc"), grade(model="w1", benchmark="obqa"), grade(model=None, benchmark="obqa")]
    for rows in (apart, [grade(), grade(model="other")]):
        with pytest.raises(
            DataError, match=r"source 't': no benchmark grades both .*s1.* and a weak one .*w1.*; the ta"
        ):
            read(rows, layout="correctness")
    with pytest.raises(DataError, match=r"columns \['score'\] are missing, got \['prompt', 'model'\]"):
        read([{"prompt": LONG, "model": "s1"}], layout="correctness")


def test_golden_rows_without_a_score_are_counted() -> None:
    rows: list[dict[str, object]] = [
        {"prompt": LONG, "strong_score": 1.0, "weak_score": 1.0, "benchmark": "arc"},
        {"prompt": LONG, "strong_score": 1.0, "weak_score": 0.0, "benchmark": None},
        {"prompt": LONG, "strong_score": math.nan, "weak_score": 1.0, "benchmark": "arc"},
        {"prompt": LONG, "strong_score": 1.0, "weak_score": None, "benchmark": "arc"},
        {"prompt": None, "strong_score": 1.0, "weak_score": 0.0, "benchmark": "arc"},
        {"prompt": "too short", "strong_score": 1.0, "weak_score": 0.0, "benchmark": "arc"},
    ]
    found = read(rows)
    assert seen(found.battles) == [(LONG, "s1", "w1", "model_a", "t"), (LONG, "s1", "w1", "tie", "arc")]
    assert found.dropped == {"rejected": 3, "short": 1}
    with pytest.raises(DataError, match="golden: weak_score must be a number, got String; convert"):
        read([{"prompt": LONG, "strong_score": 1, "weak_score": "1"}])


def test_what_is_left_out_is_counted_by_its_reason() -> None:
    clean = {"source": "arena", "benchmark": "arc", "task": "qa", "exact_mmlu_test": False, "sim_mt_bench": 0.1}
    changes: list[dict[str, object]] = [
        {},
        {"source": "alpaca_eval"},
        {"benchmark": "mmlu"},
        {"task": "ori_mmlu|law"},
        {"exact_mmlu_test": True},
        {"sim_mt_bench": 0.9},
        {"prompt": "too short"},
        {"model_b": None},
        {"exact_mmlu_test": None, "sim_mt_bench": None, "task": None},
    ]
    exclude = Exclusions(sources=("alpaca_eval",), benchmarks=("mmlu",), task_pattern="ori_mmlu")
    found = read([battle(**(clean | changed)) for changed in changes], exclude=exclude)
    assert found.dropped == {"excluded": 3, "contaminated": 2, "short": 1, "rejected": 1}
    assert len(found.battles) + sum(found.dropped.values()) == len(changes)
    assert set(found.battles["source"]) == {"arena"}


def test_weights_grow_slower_than_battles_and_people_count_more() -> None:
    rows = [battle(label_kind=kind) for kind in ("human", "judge", "judge", None)] + [battle(prompt=OTHER)]
    found = read([{"label_kind": None} | row for row in rows], weight=2.0)
    weights = found.battles.group_by("prompt").agg(pl.col("weight").sort())
    assert dict(weights.iter_rows()) == {LONG: [1.0, 1.0, 1.0, HUMAN_WEIGHT], OTHER: [2.0]}
    assert read([battle(label_kind="human")], human_weight=7.0).battles["weight"].to_list() == [7.0]


def test_a_balanced_source_weighs_the_root_of_its_prompts() -> None:
    rows = [battle(prompt=f"{LONG} {i}", source="large") for i in range(16)] * 3
    rows += [battle(prompt=f"{OTHER} {i}", source="small", label_kind="judge") for i in range(4)]
    found = read([{"label_kind": "human"} | row for row in rows], weight=5.0, balance=True).battles
    assert dict(found.group_by("source").agg(pl.col("weight").sum()).iter_rows()) == pytest.approx(
        {"large": 5.0 * 4.0, "small": 5.0 * 2.0}
    )


def test_a_sample_is_drawn_by_seed_and_keeps_whole_prompts() -> None:
    rows = pl.DataFrame([battle(prompt=f"{LONG} {i}") for i in range(40)] * 2)

    def drawn(table: pl.DataFrame, seed: int, n: int = 10) -> set[str]:
        source = Source(name="t", max_prompts=n)
        found = read_source(table, source, CLASSES, min_prompt_chars=16, balance=False, seed=seed).battles
        assert len(found) == 2 * found["prompt"].n_unique()
        return set(found["prompt"])

    assert len(drawn(rows, 0)) == 10
    assert drawn(rows, 0) == drawn(rows.reverse(), 0) != drawn(rows, 1)
    assert drawn(rows, 0, n=40) == drawn(rows, 0, n=100) == set(rows["prompt"])


def test_columns_go_by_other_names_in_any_layout() -> None:
    names = {"prompt": "question", "model_a": "first", "model_b": "second", "winner": "verdict", "source": "origin"}
    row = {"question": LONG, "first": "s1", "second": "w1", "verdict": "1st", "origin": "arena"}
    found = read([row], columns=names, winners={"1st": "model_a"})
    assert seen(found.battles) == [(LONG, "s1", "w1", "model_a", "arena")]

    # Exclusions and voters go by our names as well, and a column that is named wins over one of that name.
    golden = {"prompt": "the whole conversation", "question": LONG, "strong_score": 1, "weak_score": 0}
    rows = [golden | {"set": name, "by": "human"} for name in ("arc", "mmlu")]
    columns = {"prompt": "question", "benchmark": "set", "label_kind": "by"}
    found = read(rows, columns=columns, exclude=Exclusions(benchmarks=("mmlu",)))
    assert seen(found.battles) == [(LONG, "s1", "w1", "model_a", "arc")]
    assert found.battles["weight"].to_list() == [HUMAN_WEIGHT]
    assert found.dropped == {"excluded": 1}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": "questoin"}, r"columns maps to \['questoin'\], but the table has \['prompt', 'model_a'"),
        ({"promt": "prompt"}, r"columns maps \['promt'\], which are not read; map some of \['prompt'"),
    ],
)
def test_wrong_names_of_columns_are_no_silent_default(columns: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read([battle()], columns=columns)


def test_nothing_left_says_why() -> None:
    rows = [battle(source="alpaca_eval"), battle(prompt="too short", source="arena"), battle(source=None)]
    with pytest.raises(
        DataError,
        match=r"source 't': no battle is left of 3 rows \(1 excluded, 1 rejected, 1 short\); check exclusions",
    ):
        read(rows, exclude=Exclusions(sources=("alpaca_eval",)))
    with pytest.raises(DataError, match=r"no battle is left of 0 rows \(the table is empty\)"):
        read(pl.DataFrame([battle()]).clear())
    with pytest.raises(DataError, match="layout 'sharegpt' is unknown; expected one of"):
        read([battle()], layout="sharegpt")
