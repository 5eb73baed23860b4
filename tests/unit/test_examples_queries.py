from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from examples.make_queries import DAYS, OUTPUT, TENANTS, as_traffic, build, read_prompts, write


@pytest.fixture(scope="module")
def queries() -> pl.DataFrame:
    return build()


def write_blocks(folder: Path, text: str) -> Path:
    (folder / "chat.txt").write_text(text, encoding="utf-8")
    return folder


def test_the_committed_table_is_what_the_builder_makes(queries: pl.DataFrame) -> None:
    assert_frame_equal(pl.read_parquet(OUTPUT), queries)


def test_two_builds_are_equal_byte_for_byte(queries: pl.DataFrame, tmp_path: Path) -> None:
    write(queries, tmp_path / "first.parquet")
    write(build(), tmp_path / "second.parquet")
    assert (tmp_path / "first.parquet").read_bytes() == (tmp_path / "second.parquet").read_bytes()


def test_columns_and_types(queries: pl.DataFrame) -> None:
    assert dict(queries.schema) == {
        "query_id": pl.String,
        "prompt": pl.String,
        "category": pl.String,
        "difficulty": pl.String,
        "tenant": pl.String,
        "day": pl.Date,
        "max_output_tokens": pl.Int64,
    }
    assert queries.drop("max_output_tokens").null_count().sum_horizontal().item() == 0


def test_about_a_thousand_queries_in_many_categories(queries: pl.DataFrame) -> None:
    assert 980 <= queries.height <= 1020
    per_category = queries["category"].value_counts()
    assert per_category.height >= 10
    assert per_category["count"].to_list() == pytest.approx([70] * per_category.height, abs=20)


def test_ids_are_unique_and_run_in_row_order(queries: pl.DataFrame) -> None:
    assert queries["query_id"].to_list() == [f"q{number:04d}" for number in range(1, queries.height + 1)]


def test_no_prompt_is_blank_or_asked_twice(queries: pl.DataFrame) -> None:
    folded = Counter(" ".join(prompt.split()).casefold() for prompt in queries["prompt"])
    assert "" not in folded
    assert [prompt for prompt, count in folded.items() if count > 1] == []


def test_difficulty_falls_from_trivial_to_hard(queries: pl.DataFrame) -> None:
    share = dict(queries["difficulty"].value_counts(normalize=True).iter_rows())
    assert share == pytest.approx({"trivial": 0.30, "easy": 0.30, "medium": 0.25, "hard": 0.15}, abs=0.03)


def test_prompts_are_a_few_words_to_several_hundred(queries: pl.DataFrame) -> None:
    words = queries["prompt"].str.count_matches(r"\S+")
    assert words.filter(words <= 3).len() >= 10
    assert 500 <= words.to_numpy().max() <= 700


def test_tenants_and_days_get_about_their_share(queries: pl.DataFrame) -> None:
    tenants = dict(queries["tenant"].value_counts(normalize=True).iter_rows())
    days = dict(queries["day"].value_counts(normalize=True).iter_rows())
    # Four standard errors of a share of 0.38 at 1,000 rows are 0.06.
    assert tenants == pytest.approx(TENANTS, abs=0.06)
    assert days == pytest.approx(DAYS, abs=0.06)


def test_categories_are_mixed(queries: pl.DataFrame) -> None:
    same_as_before = (queries["category"] == queries["category"].shift()).sum()
    assert same_as_before / queries.height < 0.15


def test_caps_stand_on_a_share_of_the_rows_with_a_known_form(queries: pl.DataFrame) -> None:
    capped = queries.filter(pl.col("max_output_tokens").is_not_null())
    assert 0.10 < capped.height / queries.height < 0.25
    assert set(capped["category"]) <= {
        "classification",
        "customer_support",
        "extraction",
        "factual_qa",
        "summarisation",
    }
    assert "hard" not in capped["difficulty"]


def test_another_seed_gives_another_order_of_the_same_prompts(queries: pl.DataFrame) -> None:
    other = build(seed=1)
    assert other["prompt"].to_list() != queries["prompt"].to_list()
    assert sorted(other["prompt"]) == sorted(queries["prompt"])


def test_a_prompt_keeps_its_lines_and_its_equals_signs(tmp_path: Path) -> None:
    folder = write_blocks(tmp_path, "@ easy\nIs this right?\n\n  a === b\n===\n@ hard\nDer Fluß 🙂\n")
    assert read_prompts(folder).rows() == [
        ("chat", "easy", "Is this right?\n\n  a === b"),
        ("chat", "hard", "Der Fluß 🙂"),
    ]


def test_attributes_stay_with_their_prompt(tmp_path: Path) -> None:
    prompts = read_prompts(write_blocks(tmp_path, "\n===\n".join(f"@ easy\n{n} + {n}?" for n in range(50))))
    prompts = prompts.with_columns(difficulty=pl.col("prompt").str.slice(0, 2))
    traffic = as_traffic(prompts, seed=3)
    assert traffic["difficulty"].to_list() == traffic["prompt"].str.slice(0, 2).to_list()


@pytest.mark.parametrize("block", ["no header at all", "@ tricky\nWho?", "@ easy", "@ easy\n \n"])
def test_a_malformed_block_is_named(tmp_path: Path, block: str) -> None:
    folder = write_blocks(tmp_path, f"@ easy\nCapital of Peru?\n===\n{block}\n")
    with pytest.raises(ValueError, match=r"chat\.txt, block 2 starts with"):
        read_prompts(folder)
