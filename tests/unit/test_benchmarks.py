"""Tables of graded answers become BENCHMARK: every layout, what is left out and said, and RouteLLM's own counts."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from jobs.evaluate_config import BenchmarkSection
from jobs.evaluate_read import count_tokens, read_rows
from routing import benchmarks
from routing.benchmark_costs import with_costs, with_tokens
from routing.errors import DataError
from routing.prices import price_snapshot
from schemas.billing import PriceOverride

SCORES = ("prompt", "strong_score", "weak_score")


def long(*rows: tuple[object, ...], names: tuple[str, ...] = ("prompt", "model", "score")) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=list(names), orient="row")


def graded(table: pl.DataFrame, *, strong: str = "s", weak: str = "w", largest: float = 1.0) -> benchmarks.Read:
    return benchmarks.graded(table, name="exam", strong=strong, weak=weak, largest=largest)


def fought(table: pl.DataFrame, *, weak: str = "w", winners: dict[str, str] | None = None) -> benchmarks.Read:
    return benchmarks.fought(table, name="arena", strong="s", weak=weak, winners=winners)


def scores(read: benchmarks.Read) -> list[tuple[object, ...]]:
    return read.rows.select(SCORES).rows()


# ---- graded answers -------------------------------------------------------------------------------------------------


def test_graded_answers_of_any_two_models_make_one_row_a_prompt() -> None:
    table = long(("p", "s", 1.0), ("q", "w", 0.5), ("p", "w", 0.0), ("q", "s", 0.75), ("p", "other", 0.25))
    read = graded(table)
    assert scores(read) == [("p", 1.0, 0.0), ("q", 0.75, 0.5)]
    assert read.rows["source"].unique().to_list() == ["exam"]
    assert read.left_out == {}
    swapped = graded(table, strong="other", weak="s")
    assert scores(swapped) == [("p", 0.25, 1.0)]
    assert swapped.left_out == {"prompts that one model has no score for": 1}


def test_repeated_grades_and_turns_are_averaged_because_nothing_says_which_belong_together() -> None:
    table = long(("p", "s", 1.0), ("p", "s", 0.5), ("p", "w", 0.25))
    assert scores(graded(table)) == [("p", 0.75, 0.25)]


def test_scores_are_divided_by_the_largest_grade_and_truth_values_are_scores() -> None:
    assert scores(graded(long(("p", "s", 10), ("p", "w", 1)), largest=10.0)) == [("p", 1.0, 0.1)]
    assert scores(graded(long(("p", "s", True), ("p", "w", False)))) == [("p", 1.0, 0.0)]


def test_rows_without_a_prompt_or_a_score_are_counted() -> None:
    table = long(("p", "s", 1.0), ("p", "w", 0.0), (None, "s", 1.0), ("", "w", 1.0), ("q", "s", None), ("p", "x", None))
    nan = pl.concat([table, long(("q", "w", float("nan")))])
    read = graded(nan)
    assert scores(read) == [("p", 1.0, 0.0)]
    assert read.left_out == {"rows without a prompt or a score": 4}


def test_what_is_known_of_an_answer_travels_along() -> None:
    names = ("prompt", "task", "model", "score", "input_tokens", "output_tokens", "usd", "response")
    table = long(
        ("p", "law", "s", 1.0, 10.0, 5.4, 0.25, "first"), ("p", "law", "s", 1.0, 10.0, 5.8, 0.75, "second"),
        ("p", "law", "w", 0.0, 12.0, float("nan"), None, "weak"), names=names,
    )  # fmt: skip
    row = graded(table).rows.row(0, named=True)
    assert (row["category"], row["strong_response"], row["weak_response"]) == ("law", "first", "weak")
    assert (row["strong_input_tokens"], row["strong_output_tokens"]) == (10, 6)
    assert (row["weak_input_tokens"], row["weak_output_tokens"], row["weak_usd"]) == (12, None, None)
    assert row["strong_usd"] == Decimal("0.5")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (long(("p", "s", 1.0), names=("prompt", "model", "grade")), r"exam: columns \['score'\] are missing"),
        (long(("p", "s", "good"), ("p", "w", "bad")), "exam: score must be a number, got String"),
        (long(("p", "s", 9.0), ("p", "w", 1.0)), r"exam: scores must lie in 0\.\.1, got 9; divide them"),
        (long(("p", "s", 1.0), ("p", "x", 1.0)), r"exam: no rows of model \['w'\]; name the models .* \['s', 'x'\]"),
        (long(("p", "s", 1.0), ("q", "w", 1.0)), "exam: no question with both scores is left .2 prompts"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_read_says_why(table: pl.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        graded(table)


# ---- pairs of scores, battles ---------------------------------------------------------------------------------------


def test_pairs_of_scores_keep_every_row_so_that_a_prompt_may_stand_twice() -> None:
    table = pl.DataFrame(
        {"prompt": ["p", "p", "q", None], "strong_score": [4, 2, 4, 4], "weak_score": [2, 4, None, 0], "category": "a"}
    )
    read = benchmarks.paired(table, name="exam", largest=4.0)
    assert scores(read) == [("p", 1.0, 0.5), ("p", 0.5, 1.0)]
    assert read.left_out == {"rows without a prompt or a score": 2}
    assert read.rows["category"].to_list() == ["a", "a"]


def test_battles_become_wins_ties_and_losses() -> None:
    names = ("prompt", "model_a", "model_b", "winner")
    table = long(
        ("won", "s", "w", "model_a"), ("lost", "s", "w", "model_b"), ("tied", "w", "s", "tie"),
        ("swapped", "w", "s", "model_b"), ("mixed", "s", "w", "model_a"), ("mixed", "w", "s", "tie"),
        ("others", "s", "x", "model_a"), ("open", "s", "w", None), names=names,
    )  # fmt: skip
    read = fought(table)
    assert scores(read) == [
        ("won", 1.0, 0.0), ("lost", 0.0, 1.0), ("tied", 0.5, 0.5), ("swapped", 1.0, 0.0), ("mixed", 0.75, 0.25)
    ]  # fmt: skip
    assert read.left_out == {"battles without a prompt or a winner": 1}
    named = table.with_columns(pl.col("winner").replace({"model_a": "A", "model_b": "B", "tie": "T"}))
    mapped = fought(named, winners={"A": "model_a", "B": "model_b", "T": "tie"})
    assert mapped.rows.equals(read.rows)
    with pytest.raises(DataError, match=r"arena: winner \['A', 'B', 'T'\] is unknown"):
        fought(named)
    with pytest.raises(DataError, match="arena: no battle is between 's' and 'y'"):
        fought(table, weak="y")


# ---- layout, columns, rows ------------------------------------------------------------------------------------------


def test_the_layout_is_found_from_the_columns() -> None:
    assert benchmarks.detect(["prompt", "model", "score", "task"], name="x") == "correctness"
    assert benchmarks.detect(["prompt", "strong_score", "weak_score"], name="x") == "golden"
    assert benchmarks.detect(["prompt", "model_a", "model_b", "winner"], name="x") == "battles"
    labelled = ["prompt", "model_a", "model_b", "winner", "strong_score", "weak_score"]
    assert benchmarks.detect(labelled, name="x") == "battles"
    with pytest.raises(
        DataError, match=r"x: .* the nearest is 'correctness', which lacks \['score'\]: map the columns"
    ):
        benchmarks.detect(["prompt", "model", "grade"], name="x")


def test_columns_and_rows_are_chosen_by_name() -> None:
    table = pl.DataFrame({"question": ["p", "q"], "set": pl.Series(["a", "b"], dtype=pl.Categorical), "level": [1, 2]})
    ours = benchmarks.renamed(table, {"prompt": "question"}, "golden", name="x")
    assert ours["prompt"].to_list() == ["p", "q"]
    assert benchmarks.matching(table, {"set": ("b",)}, name="x")["question"].to_list() == ["q"]
    assert benchmarks.matching(table, {"level": ("1", "2"), "set": ("a",)}, name="x")["question"].to_list() == ["p"]
    with pytest.raises(DataError, match=r"x: columns maps \['promt'\], which 'golden' does not read; map some of"):
        benchmarks.renamed(table, {"promt": "question"}, "golden", name="x")
    with pytest.raises(DataError, match=r"x: columns maps to \['query'\], but the table has"):
        benchmarks.renamed(table, {"prompt": "query"}, "golden", name="x")
    with pytest.raises(DataError, match=r"x: where names \['bench'\], but the table has"):
        benchmarks.matching(table, {"bench": ("a",)}, name="x")
    with pytest.raises(DataError, match=r"x: no row of 2 has \{'set': \('c',\)\}"):
        benchmarks.matching(table, {"set": ("c",)}, name="x")


def test_prompts_that_were_trained_on_are_left_out_and_counted() -> None:
    read = benchmarks.paired(
        pl.DataFrame({"prompt": ["p", "q", "p"], "strong_score": 1.0, "weak_score": 0.0}), name="x"
    )
    rest = benchmarks.without(read, pl.Series(["p", "z"]), "trained on", name="x")
    assert rest.rows["prompt"].to_list() == ["q"]
    assert rest.left_out == {"trained on": 2}
    assert benchmarks.without(read, pl.Series(["z"]), "trained on", name="x").left_out == {}
    with pytest.raises(DataError, match=r"x: no question is left \(3 trained on\)"):
        benchmarks.without(read, pl.Series(["p", "q"]), "trained on", name="x")


def test_a_digest_is_of_prompts_and_scores_in_order() -> None:
    rows = benchmarks.paired(
        pl.DataFrame({"prompt": ["p", "q"], "strong_score": [1.0, 0.5], "weak_score": 0.0}), name="x"
    ).rows
    digest = benchmarks.rows_sha256(rows)
    assert digest == benchmarks.rows_sha256(rows.with_columns(source=pl.lit("y"), category=pl.lit("c")))
    others = (rows.reverse(), rows.head(1), rows.with_columns(weak_score=0.25), rows.with_columns(prompt=pl.lit("p")))
    assert len({digest, *map(benchmarks.rows_sha256, others)}) == 5
    assert benchmarks.prompts_sha256(["ab", "c"]) != benchmarks.prompts_sha256(["a", "bc"])


# ---- tokens and dollars ---------------------------------------------------------------------------------------------


def answered(**columns: object) -> pl.DataFrame:
    table = {"prompt": ["one two", "three"], "strong_score": [1.0, 1.0], "weak_score": [0.0, 1.0]} | columns
    return benchmarks.paired(pl.DataFrame(table, strict=False), name="x").rows


def words(texts: object) -> object:
    return np.array([len(text.split()) for text in texts], np.int64)  # type: ignore[attr-defined]


def test_tokens_are_counted_where_there_is_a_response_and_no_count() -> None:
    rows = answered(strong_response=["a b c", None], weak_response=["a", "b"], weak_output_tokens=[40, None])
    counted = with_tokens(rows, words)  # type: ignore[arg-type]
    # The prompt's words and the 7 tokens that frame one chat message.
    assert counted["strong_input_tokens"].to_list() == [9, None]
    assert counted["strong_output_tokens"].to_list() == [3, None]
    assert counted["weak_input_tokens"].to_list() == [9, 8]
    assert counted["weak_output_tokens"].to_list() == [40, 1]


def test_the_tokenizer_that_counts_cuts_nothing_off() -> None:
    assert count_tokens(["word " * 1_000, ""]).tolist() == [1_000, 0]


PRICE = PriceOverride.model_validate({"model": "s", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2})


def test_dollars_come_from_tokens_and_prices_and_stated_ones_stay() -> None:
    rows = answered(
        strong_input_tokens=[1_000, 500_000], strong_output_tokens=[500, 0], strong_usd=[None, 9.0],
        weak_input_tokens=[1, 1], weak_output_tokens=[1, 1],
    )  # fmt: skip
    costed, unpriced = with_costs(
        rows, price_snapshot([PRICE]), strong="s", weak="nobody-serves-this", at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert costed["strong_usd"].to_list() == [Decimal("0.002"), Decimal(9)]
    assert costed["weak_usd"].to_list() == [None, None]
    assert unpriced == {"weak": "no price for model 'nobody-serves-this' (2 of 2 prompts)"}


def test_dollars_are_unknown_without_tokens_which_is_not_zero() -> None:
    costed, unpriced = with_costs(
        answered(), price_snapshot([PRICE]), strong="s", weak="s", at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert costed["strong_usd"].to_list() == [None, None]
    assert unpriced == dict.fromkeys(("strong", "weak"), "tokens unknown (2 of 2 prompts)")


# ---- RouteLLM's own files -------------------------------------------------------------------------------------------

GPT4, MIXTRAL = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"


def section(name: str, **more: object) -> BenchmarkSection:
    given = {"name": name, "path": f"routellm_layout/{name}", "strong": GPT4, "weak": MIXTRAL}
    return BenchmarkSection.model_validate(given | more)


# ROUTERS.md 1.5 (computed from the files): questions left by RouteLLM's own decontamination, and mean scores.
@pytest.mark.parametrize(
    ("name", "n", "contaminated", "strong", "weak", "categories"),
    [
        ("mmlu", 14_037, 5, 0.8059, 0.6809, 57),
        ("gsm8k", 1_307, 12, 0.8577, 0.6373, 0),
        ("mt_bench", 72, 8, 0.9212, 0.8281, 8),
    ],
)
def test_routellms_files_give_its_counts_and_scores(
    nightroute_data: Path, name: str, n: int, contaminated: int, strong: float, weak: float, categories: int
) -> None:
    read = read_rows(section(name), nightroute_data)
    assert len(read.rows) == n
    assert read.left_out == {benchmarks.CONTAMINATED: contaminated}
    assert read.rows["strong_score"].mean() == pytest.approx(strong, abs=5e-5)
    assert read.rows["weak_score"].mean() == pytest.approx(weak, abs=5e-5)
    assert read.rows["category"].drop_nulls().n_unique() == categories
    everything = read_rows(section(name, decontaminate=False), nightroute_data)
    assert len(everything.rows) == n + contaminated
    assert everything.left_out == {}
    assert read.rows["strong_response"].null_count() == (0 if name == "gsm8k" else n)


@pytest.mark.parametrize(("name", "prompts"), [("mmlu", 13_937), ("gsm8k", 1_319), ("mt_bench", 80)])
def test_the_tables_say_what_the_files_say_but_for_prompts_that_stand_twice(
    nightroute_data: Path, name: str, prompts: int
) -> None:
    files = read_rows(section(name, decontaminate=False), nightroute_data).rows
    table = read_rows(section(name, path=f"benchmarks/{name}.parquet"), nightroute_data).rows
    assert len(table) == files["prompt"].n_unique() == prompts
    means = files.group_by("prompt").agg(pl.col("strong_score", "weak_score").mean())
    both = table.join(means, on="prompt", how="inner", validate="1:1", suffix="_file")
    assert len(both) == prompts
    for side in ("strong", "weak"):
        assert both[f"{side}_score"].to_numpy() == pytest.approx(both[f"{side}_score_file"].to_numpy())
