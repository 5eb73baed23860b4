from typing import Any, get_args

import numpy as np
import polars as pl
import pytest

from routing import golden
from routing.errors import ConfigError
from routing.golden import Match
from routing.labelling import JudgePrompt, both_orders, by_score, draw, equal, proportional, questions, verdict
from schemas.labels import ORDERS
from schemas.preferences import WINNERS

WINNER = pl.Enum(list(WINNERS))
PLAIN = JudgePrompt("Q {question} A {answer_a} B {answer_b}", None)


def keys(**strata: int) -> pl.DataFrame:
    """A table with so many rows of each stratum; the name `null` is a null."""
    names = [name for name, n in strata.items() for _ in range(n)]
    return pl.DataFrame(
        {
            "part": [0] * len(names),
            "row": range(len(names)),
            "query_id": [f"q{i}" for i in range(len(names))],
            "stratum": [None if name == "null" else name for name in names],
        },
        schema_overrides={"part": pl.UInt32, "row": pl.UInt32, "stratum": pl.String},
    )


def counts(drawn: pl.DataFrame) -> dict[str | None, int]:
    return dict(drawn.group_by("stratum").len().iter_rows())


# ---- sampling -------------------------------------------------------------------------------------------------------


def test_a_draw_depends_on_seed_and_ids_alone() -> None:
    table = keys(null=200)
    first = draw(table, size=20, seed=1)["query_id"]
    assert first.len() == first.n_unique() == 20
    assert draw(table, size=20, seed=1)["query_id"].to_list() == first.to_list()
    shuffled = draw(table.sample(fraction=1.0, shuffle=True, seed=5), size=20, seed=1)["query_id"]
    assert set(shuffled) == set(first)
    assert set(draw(table, size=20, seed=2)["query_id"]) != set(first)
    assert set(first) < set(draw(table, size=50, seed=1)["query_id"])


def test_a_draw_keeps_the_order_of_the_table_and_takes_all_of_a_small_one() -> None:
    table = keys(a=3, b=2)
    assert draw(table, size=4, seed=1)["row"].is_sorted()
    assert draw(table, size=9, seed=1).equals(table)
    assert draw(table.clear(), size=9, seed=1).is_empty()


def test_strata_are_drawn_by_their_share_or_alike() -> None:
    table = keys(big=900, small=90, null=10)
    assert counts(draw(table, size=100, seed=3)) == {"big": 90, "small": 9, None: 1}
    assert counts(draw(table, size=100, seed=3, allocation="equal")) == {"big": 45, "small": 45, None: 10}
    assert counts(draw(table, size=100, seed=3, allocation="equal")) != counts(draw(table, size=100, seed=3))


def test_a_stratum_is_drawn_from_evenly() -> None:
    drawn = draw(keys(a=4_000), size=1_000, seed=11)["row"]
    quarters = np.histogram(drawn.to_numpy(), bins=4, range=(0, 4_000))[0]
    assert quarters.min() > 200, quarters  # 250 expected, standard deviation 12


@pytest.mark.parametrize(
    ("found", "size", "by_share", "alike"),
    [
        ([5, 5], 4, [2, 2], [2, 2]),
        ([1, 1, 1], 2, [1, 1, 0], [1, 1, 0]),
        ([7, 2, 1], 5, [4, 1, 0], [2, 2, 1]),  # 3.5, 1.0, 0.5: the first largest remainder
        ([10, 1], 3, [3, 0], [2, 1]),
        ([3], 9, [3], [3]),
        ([], 4, [], []),
    ],
)
def test_quotas(found: list[int], size: int, by_share: list[int], alike: list[int]) -> None:
    given = np.array(found, np.int64)
    assert proportional(given, size).tolist() == by_share
    assert equal(given, size).tolist() == alike


# ---- asking ---------------------------------------------------------------------------------------------------------


def pairs(**row: str) -> pl.DataFrame:
    filled = {"query_id": "q", "prompt": "Why?", "answer_a": "Strong.", "answer_b": "Weak.", **row}
    return pl.DataFrame({"row": [4], **{name: [text] for name, text in filled.items()}})


def test_both_orders_are_asked_and_only_the_answers_change_places() -> None:
    asked = questions(pairs(), PLAIN)
    assert asked["order"].to_list() == list(ORDERS)
    assert asked["prompt"].to_list() == ["Q Why? A Strong. B Weak.", "Q Why? A Weak. B Strong."]
    assert asked["row"].to_list() == [4, 4]
    assert asked["content_sha256"].n_unique() == 2


def test_pairs_stay_in_their_order() -> None:
    two = pl.concat([pairs(), pairs(prompt="When?").with_columns(row=pl.lit(9, pl.Int64))])
    asked = questions(two, PLAIN)
    assert asked.select("row", "order").rows() == [(4, "ab"), (4, "ba"), (9, "ab"), (9, "ba")]
    assert questions(two.clear(), PLAIN).is_empty()


def test_what_is_filled_in_is_not_filled_again() -> None:
    asked = questions(pairs(prompt="{answer_a}", answer_a="{answer_b} {question}", answer_b="${1}\\0"), PLAIN)
    assert asked["prompt"][0] == "Q {answer_a} A {answer_b} {question} B ${1}\\0"


def test_a_template_may_repeat_a_placeholder_and_hold_braces() -> None:
    judge = JudgePrompt('{"q": "{question}"} {answer_a}{answer_b} {question} {other}', "You judge.")
    asked = questions(pairs(), judge)
    assert asked["prompt"][0] == '{"q": "Why?"} Strong.Weak. Why? {other}'
    assert asked["system"].to_list() == ["You judge."] * 2


def test_the_template_is_part_of_what_is_asked() -> None:
    other = JudgePrompt(PLAIN.template, "You judge.")
    assert set(questions(pairs(), PLAIN)["content_sha256"]).isdisjoint(questions(pairs(), other)["content_sha256"])


@pytest.mark.parametrize(
    ("judge", "needle"),
    [
        (JudgePrompt("{question} {answer_a}", None), r"lacks \{answer_b\}"),
        (JudgePrompt("Compare.", None), r"lacks \{question\}, \{answer_a\}, \{answer_b\}"),
        (JudgePrompt(PLAIN.template, "About {question}"), "holds a placeholder"),
    ],
)
def test_a_template_without_its_placeholders_is_refused(judge: JudgePrompt, needle: str) -> None:
    with pytest.raises(ConfigError, match=needle):
        judge.check(where="mine.txt")


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ab"),
    [
        ("[[A]]", "model_a"),
        ("Both are fine, but the second is shorter.\n\n[[B]]", "model_b"),
        ("[[C]]", "tie"),
        ("I may say [[A]], [[B]] or [[C]]. Verdict: [[B]].", "model_b"),
        ("Answer A says '[[A]]' itself, which I ignore: [[B]]", "model_b"),
        ("**[[ a ]]**", "model_a"),
        ("[A]", None),
        ("A", None),
        ("[[D]]", None),
        ("[[AB]]", None),
        ("", None),
        (None, None),
    ],
)
def test_verdicts(text: str | None, ab: str | None) -> None:
    swapped = {"model_a": "model_b", "model_b": "model_a", "tie": "tie", None: None}[ab]
    frame = pl.DataFrame({"text": [text]}, schema={"text": pl.String})
    read = frame.select(ab=verdict(pl.col("text"), "ab"), ba=verdict(pl.col("text"), "ba"))
    assert read.row(0) == (ab, swapped)
    assert set(read.schema.values()) == {WINNER}


@pytest.mark.parametrize(
    ("ab", "ba", "winner"),
    [
        ("model_a", "model_a", "model_a"),
        ("model_b", "model_b", "model_b"),
        ("tie", "tie", "tie"),
        ("model_a", "model_b", "tie"),  # the first shown, both times
        ("model_b", "model_a", "tie"),
        ("model_a", "tie", "tie"),
        ("tie", "model_b", "tie"),
        ("model_a", None, None),
        (None, "tie", None),
        (None, None, None),
    ],
)
def test_two_orders_make_one_winner(ab: str | None, ba: str | None, winner: str | None) -> None:
    frame = pl.DataFrame({"ab": [ab], "ba": [ba]}, schema={"ab": WINNER, "ba": WINNER})
    assert frame.select(both_orders(pl.col("ab"), pl.col("ba"))).item() == winner


def test_scores_make_a_winner() -> None:
    frame = pl.DataFrame({"s": [1.0, 0.0, 1.0, 0.0, None, 1.0], "w": [0.0, 1.0, 1.0, 0.0, 1.0, None]})
    winners = frame.select(by_score(pl.col("s"), pl.col("w"))).to_series().to_list()
    assert winners == ["model_a", "model_b", "tie", "tie", None, None]


# ---- golden ---------------------------------------------------------------------------------------------------------


def read(reader: Any, *texts: str | None) -> list[Any]:
    return pl.DataFrame({"t": texts}, schema={"t": pl.String}).select(reader(pl.col("t"))).to_series().to_list()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 42.", 42.0),
        ("3 apples and 4 pears make 7", 7.0),
        ("She pays $1,234.50 in all", 1234.5),
        ("It costs $1,000,000", 1e6),
        ("so x = -3", -3.0),
        ("so x = \u22123", -3.0),
        ("10-3", 3.0),
        ("10 - 3 = 7", 7.0),
        ("between 3-5", 5.0),
        ("-$5", -5.0),
        (".5", 0.5),
        ("2e3 metres", 2000.0),
        ("#### 1,204", 1204.0),
        ("42 is right, out of 100 guesses. \\boxed{42}", 42.0),
        ("\\boxed{7} or rather \\boxed{8} in 3 steps", 8.0),
        ("\\boxed{1{,}234}", 1234.0),
        ("\\boxed{\\text{12 cm}}", 12.0),
        ("1, 2, 3", 3.0),
        ("half", None),
        ("", None),
        (None, None),
    ],
)
def test_last_numbers(text: str | None, number: float | None) -> None:
    assert read(golden.last_number, text) == [number]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(C)", "C"),
        ("**D**", "D"),
        ("B. Paris", "B"),
        ("B) Paris, although A) is close", "B"),
        ("The answer is C.", "C"),
        ("The correct answer is (D) because A is wrong", "D"),
        ("Answer: **B**", "B"),
        ("First I thought the answer is A, but no: the answer is B", "B"),
        ("Of these, only (C) holds", "C"),
        ("A is wrong. \\boxed{d}", "D"),
        ("\\boxed{\\text{B}}", "B"),
        ("I, as an assistant, choose (B)", "B"),
        ("I\nthink (C)", "C"),
        ("A, B and C are wrong, so **D**", "D"),
        ("The answer is I think B", None),
        ("The answer is I. The rest", "I"),
        ("The answer is B because A is wrong", "B"),
        ("the answer is A\nas (B) is wrong", "A"),
        ("The answer is: [C]", "C"),
        ("The answer is A dog, (B)", "B"),
        ("A.", "A"),
        ("B) it is", "B"),
        ("C: it is", "C"),
        ("D] it is", "D"),
        ("(B) Paris, not (A)", "B"),
        ("**B** Paris, not (A)", "B"),
        ("A. No, rather (B)", "B"),
        ("A dog is an animal", None),
        ("I think so", None),
        ("The answer is Paris", None),
        ("Z", None),
        ("", None),
        (None, None),
    ],
)
def test_choices(text: str | None, letter: str | None) -> None:
    assert read(golden.choice, text) == [letter]


@pytest.mark.parametrize(
    ("match", "answer", "reference", "score"),
    [
        ("exact", " New\n  York ", "new york", 1.0),
        ("exact", "New York!", "new york", 0.0),
        ("exact", None, "new york", 0.0),
        ("exact", "x", "  ", None),
        ("numeric", "It is 1,000.0", "#### 1000", 1.0),
        ("numeric", "It is 1,001", "#### 1000", 0.0),
        ("numeric", "no idea", "1000", 0.0),
        ("numeric", "1000", "unknown", None),
        ("multiple_choice", "The answer is (B).", "b", 1.0),
        ("multiple_choice", "The answer is (B).", "C", 0.0),
        ("multiple_choice", "Paris", "C", 0.0),
        ("multiple_choice", "C", None, None),
    ],
)
def test_grades(match: Match, answer: str | None, reference: str | None, score: float | None) -> None:
    frame = pl.DataFrame({"a": [answer], "r": [reference]}, schema={"a": pl.String, "r": pl.String})
    assert frame.select(golden.score(pl.col("a"), pl.col("r"), match)).item() == score


def test_every_match_grades_its_own_reference_as_right() -> None:
    for match, text in zip(get_args(Match), ("Some text", "12.5", "B"), strict=True):
        frame = pl.DataFrame({"t": [text]})
        assert frame.select(golden.score(pl.col("t"), pl.col("t"), match)).item() == 1.0
