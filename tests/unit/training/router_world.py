"""A made world on disk for `nightroute train`: two tables of preferences, an exam, and a config of each kind."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

MODELS = ("s1", "s2", "w1", "w2", "x1", "x2")
"""By strength, the strongest first."""

COMMON = """
name = "tiny"
output = "router"
threads = 1
device = "cpu"

[data]
path = "data"

[encoder]
path = "{encoder}"

[pair]
strong = "s1"
weak = "w1"
strong_models = ["s2"]
weak_models = ["w2"]

[[sources]]
path = "battles.parquet"
licence = "made up"
exclude = {{ sources = ["not_ours"] }}

[[sources]]
path = "golden.csv"
name = "made"
licence = "made up as well"

[[evaluation]]
name = "exam"
path = "exam.parquet"
strong = "the-strong"
weak = "the-weak"
protocol = "zero-shot"

[split]
held_out_share = 0.3
seed = 3

[card]
description = "d"
trained_pair = "s over w"
licence = "Apache-2.0"
limits = ["none"]
"""
STATIC = '[embedder]\nkind = "static"\ndim = 8\nsif = 1e-2\nhead_tokens = 12\ntail_tokens = 6\n'
LOOP = "learning_rate = {rate}\nepochs = {epochs}\nbatch_rows = 64\neval_every = 10\n"
KINDS: Mapping[str, str] = {
    "linear": STATIC + "counts = true\n[fit]\nfolds = 3\n",
    "ngram": "[fit]\nbuckets = 4096\nfolds = 3\n",
    "cluster": STATIC + "[fit]\nclusters = 8\nrestarts = 2\n",
    "sw": STATIC + "[fit]\ntiers = 3\nmax_prototypes = 200\nmin_battles = 5\n",
    "mf": '[embedder]\nkind = "encoder"\nhead_tokens = 30\ntail_tokens = 8\n'
    "[fit]\nrank = 8\n[fit.loop]\n" + LOOP.format(rate=2e-2, epochs=5),
    "length": "",
    "random": "",
    "constant": "",
    "bert": "[export]\nint8 = true\n"
    '[fit]\nbase = "base"\nclasses = 3\ndropout = 0.0\nhead_tokens = 30\ntail_tokens = 8\n'
    "[fit.loop]\n" + LOOP.format(rate=1e-2, epochs=4),
}
"""Kind of router -> what its config adds to the common part."""


def prompts(n: int, rng: np.random.Generator) -> pl.DataFrame:
    """(prompt, hard): hard prompts begin with `prime` and the others with `hello`."""
    hard = rng.random(n) < 0.5
    texts = []
    for is_hard in hard:
        filler = [f"w{i}" for i in rng.integers(0, 200, rng.integers(6, 14))]
        texts.append(" ".join([*["prime" if is_hard else "hello"] * 3, *filler]))
    return pl.DataFrame({"prompt": texts, "hard": hard}).unique("prompt", maintain_order=True)


def battles(n: int, rng: np.random.Generator) -> pl.DataFrame:
    """Battles of six models, the better one wins more often where the prompt is hard; with overlap columns."""
    asked = prompts(2 * n // 3, rng)
    row = rng.integers(0, len(asked), n)
    a = rng.integers(0, 6, n)
    b = (a + rng.integers(1, 6, n)) % 6
    gap = np.where(asked["hard"].to_numpy()[row], 1.2, 0.1) * (b - a)
    won = rng.random(n) < 1 / (1 + np.exp(-gap))
    names = np.array(MODELS)
    return pl.DataFrame(
        {
            "prompt": asked["prompt"].gather(row),
            "model_a": names[a],
            "model_b": names[b],
            "winner": np.where(rng.random(n) < 0.1, "tie", np.where(won, "model_a", "model_b")),
            "label_kind": np.where(rng.random(n) < 0.3, "human", "judge"),
            "source": "made",
            "exact_mmlu_test": False,
        }
    )


def scores(asked: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """(prompt, strong_score, weak_score): the weak model fails on nearly every hard prompt."""
    right = (0.9, 0.9), (0.85, 0.15)  # (easy, hard) for the strong and for the weak model
    hard = asked["hard"].to_numpy()
    strong, weak = ((rng.random(len(asked)) < np.where(hard, p[1], p[0])).astype(float) for p in right)
    return asked.select("prompt").with_columns(strong_score=pl.Series(strong), weak_score=pl.Series(weak))


DROPPED = {"excluded": 3, "short": 5, "rejected": 1}
"""What `write` puts into the battles that must not be trained on, besides `OVERLAPS` and `LEAKED`."""
OVERLAPS = 2
"""Battles that the table itself calls contaminated."""
LEAKED = 4
"""Battles on the exam's first prompt."""


def write(folder: Path, encoder: Path) -> None:
    """Write data/ and common.toml; about 1,500 prompts, 300 of them the exam."""
    rng = np.random.default_rng(0)
    data = folder / "data"
    data.mkdir(parents=True)
    exam = scores(prompts(300, rng), rng)
    long = exam.rename({"strong_score": "the-strong", "weak_score": "the-weak"}).unpivot(
        index="prompt", variable_name="model", value_name="score"
    )
    long.write_parquet(data / "exam.parquet")
    clean = battles(1_800, rng)
    changes: list[tuple[int, dict[str, object]]] = [
        (DROPPED["excluded"], {"source": "not_ours"}),
        (OVERLAPS, {"exact_mmlu_test": True}),
        (LEAKED, {"prompt": exam["prompt"][0]}),
        (DROPPED["short"], {"prompt": "too short"}),
        (DROPPED["rejected"], {"model_b": None}),
    ]
    rows = [clean.row(0, named=True) | change for times, change in changes for _ in range(times)]
    bad = pl.DataFrame(rows, schema=clean.schema)
    pl.concat([clean, bad]).sample(fraction=1.0, shuffle=True, seed=0).write_parquet(data / "battles.parquet")
    scores(prompts(500, rng), rng).write_csv(data / "golden.csv")
    (folder / "common.toml").write_text(COMMON.format(encoder=encoder))


def config(folder: Path, kind: str, *, name: str = "config", extra: str = "") -> Path:
    """Write the config of a kind, which extends common.toml."""
    path = folder / f"{name}.toml"
    path.write_text(f'extends = "common.toml"\nkind = "{kind}"\n{extra}{KINDS[kind]}')
    return path
