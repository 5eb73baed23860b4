"""Benchmarks from disk: RouteLLM's folders, tables of any layout, what is left out, what they cost."""

import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from jobs.config_file import parse
from jobs.evaluate_config import BenchmarkSection, EvaluateConfig, EvaluateJob
from jobs.evaluate_read import ReadBenchmark, read_benchmarks, read_rows, read_trained, trained_prompts
from routing.benchmarks import rows_sha256
from routing.errors import ConfigError, DataError, InputMissingError

NOW = datetime(2026, 11, 22, tzinfo=UTC)
PROMPTS = [f"question number {i:03d}" for i in range(20)]


def section(path: str, **more: Any) -> BenchmarkSection:
    return BenchmarkSection.model_validate({"name": "exam", "path": path, "strong": "big", "weak": "small"} | more)


def config(*sections: BenchmarkSection, **more: Any) -> EvaluateConfig:
    return EvaluateConfig(output="out", routers=[{"artifact": "x"}], benchmarks=sections, **more)


def read(folder: Path, *sections: BenchmarkSection, trained: Any = None, **more: Any) -> list[ReadBenchmark]:
    return read_benchmarks(config(*sections, **more), folder, trained=trained or {}, now=NOW)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The same grades as a long table, as pairs, and as RouteLLM's MMLU, GSM8K and MT-Bench folders."""
    strong, weak = [i % 4 != 0 for i in range(20)], [i % 2 == 0 for i in range(20)]
    wide = pl.DataFrame({"prompt": PROMPTS, "big": strong, "small": weak, "third": False})
    for name, rows in (("law", wide.head(12)), ("maths", wide.tail(8))):
        (tmp_path / "mmlu" / "responses").mkdir(parents=True, exist_ok=True)
        rows.write_csv(tmp_path / "mmlu" / "responses" / f"mmlu_{name}.csv")
    (tmp_path / "gsm8k").mkdir()
    answers = wide.with_columns(big_response=pl.lit("six words of a strong model"), small_response=pl.lit("two words"))
    answers.write_csv(tmp_path / "gsm8k" / "gsm8k_responses.csv")
    for name in ("mmlu", "gsm8k"):
        gone = pl.DataFrame({"train_prompt": "seen", "eval_prompt": [PROMPTS[3], "of no benchmark"]})
        gone.write_ndjson(tmp_path / name / "contaminated_prompts.jsonl")
    graded = wide.unpivot(["big", "small", "third"], index="prompt", variable_name="model", value_name="score")
    graded.with_columns(task=pl.lit("law")).write_parquet(tmp_path / "graded.parquet")
    wide.select("prompt", strong_score=pl.col("big").cast(pl.Int8), weak_score=pl.col("small").cast(pl.Int8)).write_csv(
        tmp_path / "pairs.csv"
    )
    (tmp_path / "mt_bench").mkdir()
    questions = [
        {"question_id": i, "category": "stem" if i < 10 else "coding", "turns": [PROMPTS[i], f"and then {i}"]}
        for i in range(20)
    ]
    pl.DataFrame(questions).write_ndjson(tmp_path / "mt_bench" / "question.jsonl")
    judged = [
        {"question_id": i, "model": model, "turn": turn, "score": grade + turn}
        for i in reversed(range(20))
        for model, grade in (("big", 7), ("small", i % 7))
        for turn in (1, 2)
    ]
    pl.DataFrame(judged).write_ndjson(tmp_path / "mt_bench" / "judgements.jsonl")
    return tmp_path


def test_one_set_of_grades_reads_alike_from_every_layout(data: Path) -> None:
    rows = [
        read_rows(section(path), data).rows.select("prompt", "strong_score", "weak_score")
        for path in ("graded.parquet", "pairs.csv")
    ]
    folders = [
        read_rows(section(path, decontaminate=False), data).rows.select("prompt", "strong_score", "weak_score")
        for path in ("mmlu", "gsm8k")
    ]
    assert rows[0].height == 20
    assert all(table.equals(rows[0]) for table in [*rows, *folders])


def test_routellms_folders_are_told_by_their_files(data: Path) -> None:
    mmlu = read_rows(section("mmlu"), data)
    assert len(mmlu.rows) == 19
    assert PROMPTS[3] not in mmlu.rows["prompt"]
    assert mmlu.rows["category"].to_list() == ["law"] * 11 + ["maths"] * 8
    gsm8k = read_rows(section("gsm8k", layout="routellm"), data).rows
    assert (len(gsm8k), gsm8k["weak_response"].unique().to_list()) == (19, ["two words"])
    bench = read_rows(section("mt_bench"), data).rows
    assert bench["prompt"].to_list() == PROMPTS
    # Both turns averaged, divided by the largest grade: (8 + 9) / 2 / 10 and (i % 7 + 1.5) / 10.
    assert bench["strong_score"].to_list() == pytest.approx([0.85] * 20)
    assert bench["weak_score"].to_list() == pytest.approx([(i % 7 + 1.5) / 10 for i in range(20)])
    assert bench["category"].unique(maintain_order=True).to_list() == ["stem", "coding"]


def test_a_contaminated_turn_takes_its_question_out(data: Path) -> None:
    pl.DataFrame({"eval_prompt": [PROMPTS[0], "and then 5"]}).write_ndjson(data / "mt_bench/contaminated_prompts.jsonl")
    found = read_rows(section("mt_bench"), data)
    assert found.rows["prompt"].to_list() == [PROMPTS[i] for i in range(20) if i not in (0, 5)]
    assert list(found.left_out.values()) == [2]
    judged = pl.read_ndjson(data / "mt_bench" / "judgements.jsonl")
    judged.filter(pl.col("question_id") != 7).write_ndjson(data / "mt_bench" / "judgements.jsonl")
    assert read_rows(section("mt_bench"), data).left_out["questions without a judgement"] == 1


@pytest.mark.parametrize(
    ("path", "changed", "error", "message"),
    [
        ("nothing", {}, InputMissingError, r"table .*nothing is missing"),
        ("", {}, InputMissingError, r"exam: .* is no benchmark in RouteLLM's layout: neither responses/\*\.csv"),
        ("graded.parquet", {"layout": "routellm"}, InputMissingError, "is no benchmark in RouteLLM's layout"),
        (
            "mmlu",
            {"strong": "gpt"},
            DataError,
            r"exam: no column of model \['gpt'\]; .* are \['big', 'small', 'third'\]",
        ),
        ("mt_bench", {"weak": "gpt"}, DataError, r"exam: no rows of model \['gpt'\]"),
        ("graded.parquet", {"columns": {"score": "grade"}}, DataError, r"columns maps to \['grade'\]"),
        ("graded.parquet", {"where": {"task": "physics"}}, DataError, "no row of 60 has"),
    ],
)
def test_what_cannot_be_read_says_so(
    data: Path, path: str, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_rows(section(path, **changed), data)


def test_columns_and_rows_of_your_own_table(data: Path) -> None:
    table = pl.DataFrame(
        {"question": PROMPTS * 2, "llm": ["A"] * 20 + ["B"] * 20, "points": [5] * 20 + [1] * 20, "set": ["x", "y"] * 20}
    )
    table.write_csv(data / "own.csv")
    own = section(
        "own.csv", strong="A", weak="B", largest_score=5, where={"set": ["y"]},
        columns={"prompt": "question", "model": "llm", "score": "points", "category": "set"},
    )  # fmt: skip
    rows = read_rows(own, data).rows
    assert rows["prompt"].to_list() == PROMPTS[1::2]
    assert rows.select("strong_score", "weak_score", "category").unique().row(0) == (1.0, 0.2, "y")


def test_battles_are_a_benchmark_too(data: Path) -> None:
    rows = [(prompt, "big", "small", "A" if i % 3 else "T") for i, prompt in enumerate(PROMPTS)]
    pl.DataFrame(rows, schema=["prompt", "model_a", "model_b", "winner"], orient="row").write_csv(data / "arena.csv")
    (item,) = read(data, section("arena.csv", winners={"A": "model_a", "T": "tie"}))
    assert item.described.strong_quality == pytest.approx((13 + 7 / 2) / 20)
    assert item.described.weak_quality == pytest.approx(1 - (13 + 7 / 2) / 20)


def test_a_benchmark_is_described_and_its_losses_are_told(data: Path) -> None:
    (item,) = read(data, section("mmlu", protocol="zero-shot"))
    described = item.described
    assert (described.name, described.strong, described.weak, described.n) == ("exam", "big", "small", 19)
    assert (described.strong_quality, described.weak_quality) == pytest.approx((14 / 19, 10 / 19))
    assert described.categories == {"law": 11, "maths": 8}
    assert described.sha256 == rows_sha256(item.rows)
    assert (described.all_strong_usd, described.all_weak_usd, described.protocol) == (None, None, "zero-shot")
    assert item.notes == ["exam: left out 1 contaminated (RouteLLM's training data holds them)"]


PRICES = [
    {"model": "big", "input_usd_per_mtok": 10, "output_usd_per_mtok": 30, "valid_from": "2026-01-01"},
    {"model": "big", "input_usd_per_mtok": 20, "output_usd_per_mtok": 60, "valid_to": "2026-01-01"},
    {"model": "small", "input_usd_per_mtok": 1, "output_usd_per_mtok": 1},
]


def test_responses_have_a_cost_at_the_prices_of_the_day(data: Path) -> None:
    (item,) = read(data, section("gsm8k"), prices=PRICES)
    # Three words and 7 tokens of framing in; 6 and 2 words out.
    tokens = item.rows.select(pl.col("^.*_tokens$"))
    assert tokens.row(0, named=True) == {
        "strong_input_tokens": 10, "weak_input_tokens": 10, "strong_output_tokens": 6, "weak_output_tokens": 2
    }  # fmt: skip
    n_input = int(tokens["strong_input_tokens"].sum())
    assert item.described.all_strong_usd is not None
    assert item.described.all_strong_usd == pytest.approx((10 * n_input + 30 * 19 * 6) / 1e6)
    assert item.described.all_weak_usd == pytest.approx((n_input + 19 * 2) / 1e6)
    assert "counted with the tokenizer of builtin:static-mf" in item.notes[-1]
    (earlier,) = read(data, section("gsm8k"), prices=PRICES, priced_at=date(2025, 6, 1))
    assert earlier.described.all_strong_usd == pytest.approx(2 * item.described.all_strong_usd)
    (unpriced,) = read(data, section("gsm8k"), prices=PRICES[:2])
    assert unpriced.described.all_weak_usd is None
    assert unpriced.notes[-1] == "exam: no dollars for the weak model: no price for model 'small' (19 of 19 prompts)"


def test_questions_are_drawn_by_seed(data: Path) -> None:
    (few,) = read(data, section("pairs.csv", max_prompts=12), seed=1)
    assert few.described.n == 12
    assert few.notes == ["exam: 12 of 20 questions drawn with seed 1"]
    assert few.rows.equals(read(data, section("pairs.csv", max_prompts=12), seed=1)[0].rows)
    assert not few.rows.equals(read(data, section("pairs.csv", max_prompts=12), seed=2)[0].rows)
    assert read(data, section("pairs.csv", max_prompts=50))[0].notes == []


def test_too_few_questions_and_a_pair_the_wrong_way_round_are_refused(data: Path) -> None:
    pl.read_csv(data / "pairs.csv").head(9).write_csv(data / "few.csv")
    with pytest.raises(DataError, match="exam: 9 questions are too few to measure on; give at least 10"):
        read(data, section("few.csv"))
    with pytest.raises(DataError, match=r"exam: third scores 0\.000, big 0\.750; PGR needs a strong model"):
        read(data, section("graded.parquet", strong="third", weak="big"))


def test_a_gap_that_is_rounding_is_refused(data: Path) -> None:
    scores = np.random.default_rng(0).permutation(np.array([[0.1, 0.0], [0.2, 0.0], [0.0, 0.3]] * 20))
    assert scores[:, 0].mean() > scores[:, 1].mean()
    pl.DataFrame(scores, schema=["strong_score", "weak_score"]).with_row_index("prompt").with_columns(
        pl.col("prompt").cast(pl.String)
    ).write_parquet(data / "tenths.parquet")
    with pytest.raises(
        DataError, match=r"exam: big scores 0\.100, small 0\.100; PGR needs a strong model that is better"
    ):
        read(data, section("tenths.parquet"))


# ---- prompts that a router was trained on ----------------------------------------------------------------------------

TRAINING = """kind = "linear"
name = "r"
output = "r"
[data]
path = "."
[[sources]]
path = "graded.parquet"
layout = "correctness"
max_prompts = 6
licence = "none"
[pair]
strong = "big"
weak = "small"
[card]
description = "d"
trained_pair = "p"
licence = "none"
limits = []
"""


def test_prompts_that_a_training_config_draws_are_left_out(data: Path) -> None:
    (data / "train.toml").write_text(TRAINING, encoding="utf-8")
    drawn = trained_prompts(data / "train.toml", environment={})
    assert len(drawn) == 6
    item = section("pairs.csv", drop_trained=["train.toml"])
    trained = read_trained(EvaluateJob(config(item), data), environment={})
    assert trained["train.toml"].sort().equals(drawn.sort())
    (rest,) = read(data, item, trained=trained)
    assert set(rest.rows["prompt"]) == set(PROMPTS) - set(drawn)
    assert rest.notes == ["exam: left out 6 trained on (train.toml)"]


def test_a_config_that_trains_nothing_is_refused(data: Path) -> None:
    (data / "job.toml").write_text('name = "job"', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"drop_trained: .*job\.toml is of kind None, expected one of \['"):
        trained_prompts(data / "job.toml", environment={})


def test_the_trained_prompts_of_the_shipped_routers(nightroute_data: Path) -> None:
    examples = Path(__file__).parents[2] / "examples" / "train"
    environment = {"NIGHTROUTE_DATA": str(nightroute_data)}
    mmlu = section("routellm_layout/mmlu", strong="gpt-4-1106-preview", weak="mistralai/Mixtral-8x7B-Instruct-v0.1")
    rows = read_rows(mmlu, nightroute_data).rows
    bert = trained_prompts(examples / "bert-minilm.toml", environment=environment)
    # 1,500 prompts were drawn (examples/train/bert-minilm.toml); some of them stand in two rows.
    assert rows["prompt"].unique().is_in(bert.implode()).sum() == 1_500
    static = trained_prompts(examples / "static-mf.toml", environment=environment)
    assert rows["prompt"].is_in(static.implode()).sum() == 0
    assert len(static) > 20_000


def test_the_example_is_a_config() -> None:
    path = Path(__file__).parents[2] / "examples" / "evaluate.toml"
    example = parse(EvaluateConfig, tomllib.loads(path.read_text(encoding="utf-8")), source=str(path))
    assert [item.name for item in example.benchmarks] == ["mmlu", "gsm8k", "mt_bench"]
    assert {router.artifact for router in example.routers} == {"builtin:static-mf", "builtin:bert-minilm"}
    assert example.transfer is not None
    assert example.robustness is not None
    assert example.drift is not None
