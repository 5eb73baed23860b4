"""What all kinds of router share when they are trained: tables, evaluation sets, sides of the pair, versions."""

from pathlib import Path

import polars as pl
import pytest

from jobs.train_config import Evaluation, Pair
from jobs.train_data import sides
from jobs.training import read_benchmarks, read_table, versions
from routing.errors import DataError, InputMissingError
from schemas.preferences import Battles

TABLE = pl.DataFrame({"prompt": ["a", "b"], "score": [1, 0]})


def test_tables_of_each_format_read_alike(tmp_path: Path) -> None:
    TABLE.write_parquet(tmp_path / "t.parquet")
    TABLE.write_csv(tmp_path / "t.csv")
    TABLE.write_ndjson(tmp_path / "t.jsonl")
    TABLE.write_ndjson(tmp_path / "t.NDJSON")
    for name in ("t.parquet", "t.csv", "t.jsonl", "t.NDJSON"):
        assert read_table(tmp_path / name).equals(TABLE)


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        InputMissingError, match=r"table .*t\.parquet is missing; check the paths in the config's sources"
    ):
        read_table(tmp_path / "t.parquet")
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(
        DataError, match=r"files ending in '\.xlsx' are not read; expected one of \['\.parquet', '\.csv'"
    ):
        read_table(tmp_path / "t.xlsx")
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"table .*t\.parquet cannot be read as parquet: "):
        read_table(tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text('{"prompt": "a"\n')
    with pytest.raises(DataError, match="cannot be read as jsonl: "):
        read_table(tmp_path / "t.jsonl")


def exam(**changed: object) -> Evaluation:
    known = {"name": "exam", "path": "exam.csv", "strong": "s", "weak": "w", "protocol": "made up"}
    return Evaluation.model_validate(known | changed)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    weak = {"s": 0.0, "w": 0.5, "other": 0.0}
    grades = [(f"question {i}", model, max(i % 2 - less, 0.0)) for i in range(30) for model, less in weak.items()]
    pl.DataFrame(grades, schema=["prompt", "model", "score"], orient="row").write_csv(tmp_path / "exam.csv")
    return tmp_path


def prompts(data: Path, item: Evaluation, *, seed: int = 0, trained: pl.Series | None = None) -> list[str]:
    found = read_benchmarks(data, [item], seed=seed, trained=trained)
    assert list(found) == ["exam"]
    return found["exam"]["prompt"].to_list()


def test_evaluation_sets_are_drawn_by_seed_from_what_was_not_trained_on(data: Path) -> None:
    trained = pl.Series("prompt", [f"question {i}" for i in range(12)] + ["of another table"])
    everything = [f"question {i}" for i in range(30)]
    assert prompts(data, exam(), trained=trained) == everything
    assert prompts(data, exam(drop_trained=True)) == everything
    assert prompts(data, exam(drop_trained=True), trained=trained) == everything[12:]
    assert prompts(data, exam(max_prompts=100)) == everything

    few = exam(max_prompts=10, drop_trained=True)
    drawn = prompts(data, few, trained=trained)
    assert len(drawn) == 10
    assert set(drawn) < set(everything[12:])
    assert drawn == prompts(data, few, trained=trained) != prompts(data, few, trained=trained, seed=1)


def test_evaluation_sets_without_prompts_or_models_say_what_to_do(data: Path) -> None:
    trained = pl.Series("prompt", [f"question {i}" for i in range(30)])
    with pytest.raises(
        DataError, match=r"exam: every prompt of it is trained on; draw fewer \(max_prompts of its source"
    ):
        prompts(data, exam(drop_trained=True), trained=trained)
    with pytest.raises(
        DataError, match=r"exam: no rows of model \['gpt'\]; name the models of this file in .*evaluation"
    ):
        prompts(data, exam(strong="gpt"))


def test_a_pair_whose_strong_model_is_not_the_better_one_is_refused_before_the_fit(data: Path) -> None:
    with pytest.raises(DataError, match=r"exam: w scores 0\.250, s 0\.500; APGR needs a strong model that is better"):
        prompts(data, exam(strong="w", weak="s"))


def ladder() -> pl.DataFrame:
    """Four models, each of which beats the next three times of four."""
    names = ["best", "good", "fair", "poor"]
    rows = [
        (f"prompt {i}", names[step], names[step + 1], "model_b" if i == 0 else "model_a", 1.0, "made")
        for step in range(3)
        for i in range(4)
    ]
    return Battles.validate(pl.DataFrame(rows, schema=Battles.column_names(), orient="row"), cast=True)


@pytest.mark.train
def test_sides_of_the_pair_by_name_and_by_tier() -> None:
    pytest.importorskip("onnx", reason="needs the extra `train`")
    named = sides(ladder(), Pair(strong="s", weak="w", strong_models=("t", "s"), weak_models=("v",)))
    assert (named.strong, named.weak) == (("s", "t"), ("w", "v"))
    tiers = Pair(strong="best", weak="poor", tiers=4, strong_tiers=(1, 0), weak_tiers=(3,))
    assert (sides(ladder(), tiers).strong, sides(ladder(), tiers).weak) == (("best", "good"), ("poor",))
    with pytest.raises(DataError, match="5 tiers of 4 models: ask for 1 to 4 tiers"):
        sides(ladder(), Pair(strong="best", weak="poor", tiers=5, strong_tiers=(0,), weak_tiers=(1,)))


@pytest.mark.train
def test_models_that_cannot_be_rated_are_in_no_tier() -> None:
    pytest.importorskip("onnx", reason="needs the extra `train`")
    rows = [("prompt 0", "new", "best", "model_a", 1.0, "made"), ("prompt 0", "rare", "best", "tie", 1.0, "made")]
    # `new` never lost, so it has no finite rating; `rare` has one battle.
    more = Battles.validate(pl.DataFrame(rows, schema=Battles.column_names(), orient="row"), cast=True)
    battles = pl.concat([ladder(), more])

    def models(min_battles: int, tiers: int) -> set[str]:
        every = {"strong_tiers": tuple(range(tiers - 1)), "weak_tiers": (tiers - 1,)}
        pair = Pair.model_validate(
            {"strong": "best", "weak": "poor", "tiers": tiers, "min_battles": min_battles} | every
        )
        found = sides(battles, pair)
        return {*found.strong, *found.weak}

    assert models(1, 5) == {"best", "good", "fair", "poor", "rare"}
    assert models(2, 4) == {"best", "good", "fair", "poor"}


def test_versions_of_what_is_installed() -> None:
    assert versions(("polars", "a-package-that-nobody-has")) == {"polars": pl.__version__}
