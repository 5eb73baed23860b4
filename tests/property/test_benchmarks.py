"""Graded answers mean the same in any order of rows, and a pair the other way round is the mirror image."""

from random import Random

import polars as pl
from hypothesis import assume, given
from hypothesis import strategies as st

from routing import benchmarks

ROWS = st.lists(
    st.tuples(st.sampled_from("pqrst"), st.sampled_from(["s", "w", "x"]), st.sampled_from([0.0, 0.25, 0.5, 1.0, None])),
    min_size=1,
    max_size=30,
)
SCORES = ("prompt", "strong_score", "weak_score")


def table(rows: list[tuple[str, str, float | None]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"prompt": pl.String, "model": pl.String, "score": pl.Float64}, orient="row")


def complete(rows: list[tuple[str, str, float | None]]) -> bool:
    sides = [{prompt for prompt, model, score in rows if model == side and score is not None} for side in "sw"]
    return bool(sides[0] & sides[1])


def read(rows: list[tuple[str, str, float | None]], strong: str = "s", weak: str = "w") -> benchmarks.Read:
    return benchmarks.graded(table(rows), name="exam", strong=strong, weak=weak)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing_but_the_order(
    rows: list[tuple[str, str, float | None]], random: Random
) -> None:
    assume(complete(rows))
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, two = read(rows), read(shuffled)
    assert one.rows.select(SCORES).sort("prompt").equals(two.rows.select(SCORES).sort("prompt"))
    assert one.left_out == two.left_out


@given(ROWS)
def test_a_pair_the_other_way_round_is_the_mirror_image(rows: list[tuple[str, str, float | None]]) -> None:
    assume(complete(rows))
    one, two = read(rows), read(rows, strong="w", weak="s")
    assert one.rows.select(SCORES).rows() == two.rows.select("prompt", "weak_score", "strong_score").rows()


@given(ROWS)
def test_each_score_is_the_mean_of_its_grades_and_no_prompt_is_lost(rows: list[tuple[str, str, float | None]]) -> None:
    assume(complete(rows))
    found = {prompt: (strong, weak) for prompt, strong, weak in read(rows).rows.select(SCORES).iter_rows()}
    for prompt in "pqrst":
        grades = [[g for p, m, g in rows if (p, m) == (prompt, side) and g is not None] for side in "sw"]
        if all(grades):
            assert found.pop(prompt) == tuple(sum(side) / len(side) for side in grades)
    assert not found
