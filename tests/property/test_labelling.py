import re

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from routing import golden
from routing.labelling import JudgePrompt, both_orders, draw, equal, proportional, questions, verdict
from schemas.preferences import WINNERS

COUNTS = st.lists(st.integers(1, 40), max_size=8)
# With the syntax of templates, replacements and verdicts in it.
TEXT = st.text(st.sampled_from("{}[]AB$\\1 xé\n") | st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["{question}", "{answer_a}", "{answer_b}", "{{answer_b}}", "[[A]]", "$0"]
)


@given(COUNTS, st.integers(1, 200))
def test_quotas_are_possible_and_sum_up(found: list[int], size: int) -> None:
    counts = np.array(found, np.int64)
    for split in (proportional, equal):
        quotas = split(counts, size)
        assert int(quotas.sum()) == min(size, int(counts.sum()))
        assert (quotas >= 0).all()
        assert (quotas <= counts).all()


@given(COUNTS, st.integers(1, 200))
def test_a_share_is_off_by_less_than_one_row(found: list[int], size: int) -> None:
    counts = np.array(found, np.int64)
    wanted = min(size, int(counts.sum()))
    exact = counts * wanted / max(1, int(counts.sum()))
    assert (np.abs(proportional(counts, size) - exact) < 1).all()


@given(COUNTS, st.integers(1, 200))
def test_equal_shares_differ_by_one_where_there_is_more(found: list[int], size: int) -> None:
    counts = np.array(found, np.int64)
    quotas = equal(counts, size)
    short = quotas[quotas < counts]  # could have given more
    if short.size:
        assert short.max() - short.min() <= 1
        assert quotas.max() <= short.min() + 1


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 5))
def test_a_draw_holds_each_row_at_most_once(strata: list[str], size: int, seed: int) -> None:
    table = pl.DataFrame({"query_id": [f"q{i}" for i in range(len(strata))], "stratum": strata}).with_row_index("row")
    drawn = draw(table, size=size, seed=seed)
    assert drawn.height == min(size, len(strata))
    assert drawn["row"].is_sorted()
    assert drawn["row"].n_unique() == drawn.height
    assert drawn.join(table, on=table.columns, how="semi").height == drawn.height


@given(TEXT, TEXT, TEXT, TEXT, TEXT)
def test_a_template_is_filled_in_one_pass(before: str, after: str, question: str, first: str, second: str) -> None:
    template = f"{before}<{{question}}|{{answer_a}}|{{answer_b}}>{after}"
    pair = pl.DataFrame(
        {"row": [0], "query_id": ["q"], "prompt": [question], "answer_a": [first], "answer_b": [second]}
    )
    values = {"question": question, "answer_a": first, "answer_b": second}
    expected = re.sub(r"\{(question|answer_a|answer_b)\}", lambda found: values[found[1]], template)
    asked = questions(pair, JudgePrompt(template, None))
    assert asked["prompt"][0] == expected


@given(TEXT, st.sampled_from("ABC"), st.text(st.sampled_from("ab. \n"), max_size=10))
def test_the_last_verdict_counts_and_the_orders_mirror_each_other(text: str, letter: str, tail: str) -> None:
    frame = pl.DataFrame({"t": [f"{text} [[{letter}]]{tail}"]})
    ab, ba = frame.select(verdict(pl.col("t"), "ab").alias("x"), verdict(pl.col("t"), "ba").alias("y")).row(0)
    assert (ab, ba) == {"A": ("model_a", "model_b"), "B": ("model_b", "model_a"), "C": ("tie", "tie")}[letter]
    # A judge that says the same letter in both orders follows the position: a tie, whatever it says.
    kind = pl.Enum(list(WINNERS))
    both = pl.DataFrame({"ab": [ab], "ba": [ba]}, schema={"ab": kind, "ba": kind})
    assert both.select(both_orders(pl.col("ab"), pl.col("ba"))).item() == "tie"


@given(
    st.integers(-(10**12), 10**12),
    st.integers(0, 99),
    st.sampled_from(["{}", "${}", "= {}.", "#### {}", "\\boxed{{{}}}"]),
)
def test_a_number_is_read_however_it_is_written(whole: int, cents: int, frame: str) -> None:
    for written in (f"{whole}.{cents:02d}", f"{whole:,}.{cents:02d}"):
        text = pl.DataFrame({"t": ["1 or 2, no: " + frame.format(written)]})
        assert text.select(golden.last_number(pl.col("t"))).item() == float(f"{whole}.{cents:02d}")


@given(TEXT, TEXT)
def test_grades_never_fail_and_are_0_1_or_null(answer: str, reference: str) -> None:
    frame = pl.DataFrame({"a": [answer], "r": [reference]})
    for match in ("exact", "numeric", "multiple_choice"):
        assert frame.select(golden.score(pl.col("a"), pl.col("r"), match)).item() in (0.0, 1.0, None)
