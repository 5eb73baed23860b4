"""`nightroute train`, `kind = "static_mf"`, end to end on a world made for the test."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from jobs.train import train
from jobs.training import data_folder
from routing.errors import ArtifactError, DataError, InputMissingError

OVERLAP = [
    pl.lit(value).alias(f"{kind}_{name}")
    for kind, value in (("exact", False), ("sim", 0.0))
    for name in ("mt_bench", "gsm8k_test", "mmlu_test")
]
CONFIG = """
kind = "static_mf"
name = "tiny"
output = "router"
threads = 1

[data]
path = "data"
golden = "golden.parquet"
default_licence = "made up"

[encoder]
path = "{encoder}"

[table]
dim = 8
sif = 1e-2

[truncation]
head = 20
tail = 4

[pair]
strong = "strong"
weak = "weak"

[split]
held_out_share = 0.6
seed = 3

[fit]
rank = 1
query_decay = 1e-3
shape_decay = 1e-6
battle_weight = {battle_weight}
iterations = 40

[families]
sums = ["sums"]

[[evaluation]]
name = "exam"
path = "exam.parquet"
strong = "strong"
weak = "weak"
protocol = "made up"

[card]
description = "d"
trained_pair = "strong over weak"
licence = "Apache-2.0"
limits = ["none"]
"""


def _grades(prompts: list[str], rng: np.random.Generator) -> pl.DataFrame:
    """More words, harder prompt: the weak model fails first, the strong one hardly at all."""
    difficulty = 0.35 * np.array([len(prompt.split()) for prompt in prompts]) - 4.5
    parts = []
    for model, ability in (("weak", -0.5), ("strong", 4.0)):
        score = (rng.random(len(prompts)) < 1 / (1 + np.exp(difficulty - ability))).astype(float)
        parts.append(pl.DataFrame({"prompt": prompts, "model": model, "score": score}))
    return pl.concat(parts)


def _prompts(n: int, rng: np.random.Generator) -> list[str]:
    words = np.array([f"w{i}" for i in range(200)])
    return ["hello, " + " ".join(rng.choice(words, rng.integers(4, 20))) for _ in range(n)]


@pytest.fixture
def world(tmp_path: Path, encoder_folder: Path) -> Path:
    rng = np.random.default_rng(0)
    data = tmp_path / "data"
    data.mkdir()
    exam = _prompts(300, rng)
    _grades(exam, rng).write_parquet(data / "exam.parquet")
    graded = _grades(_prompts(1_900, rng) + exam[:1], rng).unique(["prompt", "model"], maintain_order=True)
    graded = graded.with_columns(
        source=pl.lit("made"),
        benchmark=pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("sums")).otherwise(pl.lit("tales")),
    ).with_columns(OVERLAP)
    graded.write_parquet(data / "correctness.parquet")
    sides = [
        graded.filter(pl.col("model") == model).select("prompt", "benchmark", pl.col("score").alias(f"{model}_score"))
        for model in ("strong", "weak")
    ]
    sides[0].join(sides[1].drop("benchmark"), on="prompt").with_columns(OVERLAP).write_parquet(data / "golden.parquet")
    graded.filter(pl.col("model") == "weak").select(
        "source",
        "prompt",
        model_a=pl.lit("strong"),
        model_b=pl.lit("weak"),
        winner=pl.lit("tie"),
        label_kind=pl.lit("human"),
    ).with_columns(OVERLAP).write_parquet(data / "battles.parquet")
    (tmp_path / "config.toml").write_text(CONFIG.format(encoder=encoder_folder, battle_weight=0.1))
    return tmp_path


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.train
def test_two_runs_give_the_same_bytes_of_a_router_that_knows_its_world(world: Path) -> None:
    pytest.importorskip("onnx", reason="needs the extra `train`")
    first = train(world / "config.toml", environment={})
    second = train(world / "config.toml", output=world / "again", environment={})
    assert _digests(world / "router") == _digests(world / "again")
    assert sorted(_digests(world / "router")) == ["model.onnx", "router.json", "tokenizer.json"]
    assert {path.name for path in world.iterdir()} == {"data", "config.toml", "router", "again"}
    assert second.card == first.card

    assert first.contaminated >= 1  # the exam's first prompt was among the training prompts
    figures = {(metric.benchmark, metric.name): metric for metric in first.card.metrics}
    assert figures["exam", "apgr"].low > 0.5
    assert figures["sums", "apgr_left_out"].value > 0.5
    assert first.card.parity_prompts >= 1_000
    assert {part.name for part in first.card.training} == {
        "made (graded answers)",
        "made (battles)",
        "sums (golden rows, for calibration and validation)",
        "tales (golden rows, for calibration and validation)",
    }
    assert len(first.card.score_quantiles) == 101


@pytest.mark.train
def test_what_is_missing_is_named_before_anything_is_written(world: Path) -> None:
    pytest.importorskip("onnx", reason="needs the extra `train`")
    (world / "router").mkdir()
    with pytest.raises(ArtifactError, match="is not replaced"):
        train(world / "config.toml", environment={})
    (world / "router").rmdir()
    (world / "data" / "exam.parquet").unlink()
    with pytest.raises(InputMissingError, match=r"exam\.parquet is missing"):
        train(world / "config.toml", environment={})
    raw = pl.read_parquet(world / "data" / "battles.parquet")
    raw.with_columns(winner=pl.lit("both_bad")).write_parquet(world / "data" / "battles.parquet")
    with pytest.raises(DataError, match="both_bad"):
        train(world / "config.toml", environment={})
    assert {path.name for path in world.iterdir()} == {"data", "config.toml"}


def test_the_data_folder_is_the_configs_then_the_environments_then_the_one_beside(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    environment = {"NIGHTROUTE_DATA": str(tmp_path / "a")}
    assert data_folder("a", base=tmp_path, environment={}) == tmp_path / "a"
    assert data_folder(None, base=tmp_path, environment=environment) == tmp_path / "a"
    with pytest.raises(InputMissingError, match=r"data\.path of the config"):
        data_folder("b", base=tmp_path, environment=environment)
    with pytest.raises(InputMissingError, match="NIGHTROUTE_DATA"):
        data_folder(None, base=tmp_path, environment={"NIGHTROUTE_DATA": str(tmp_path / "b")})
