"""A made world for routers on embeddings: the first words of a prompt decide who wins, its length a little."""

from pathlib import Path

import numpy as np
import polars as pl

from routing.training.dataset import Classes, TrainingSet, split
from routing.training.embedders import StaticEmbedder, static_embedder
from routing.training.encoder import load_encoder
from routing.training.prompt_embeddings import PromptEmbeddings
from routing.training.router import Progress, Run
from routing.training.static_mf import lexicon
from schemas.artifact import Truncation
from schemas.preferences import Battles

MODELS = [f"m{i}" for i in range(6)]
STRONG, WEAK = "m0", "m4"


def battles(n: int, seed: int, *, prompts: int = 150) -> pl.DataFrame:
    """BATTLES of six models on few prompts; on hard ones (`prime`) the better model wins more often."""
    rng = np.random.default_rng(seed)
    texts = []
    for place in range(prompts):
        topic = ["hello", "prime"][place % 2]
        filler = [f"w{i}" for i in rng.integers(0, 40 if topic == "prime" else 200, rng.integers(3, 12))]
        texts.append(" ".join([topic] * 3 + filler))
    row = rng.integers(0, prompts, n)
    a = rng.integers(0, 6, n)
    b = (a + rng.integers(1, 6, n)) % 6
    gap = np.where(row % 2 == 1, 0.7, 0.1) * (b - a)
    won = rng.uniform(size=n) < 1 / (1 + np.exp(-gap))
    winner = np.where(rng.uniform(size=n) < 0.1, "tie", np.where(won, "model_a", "model_b"))
    names = np.array(MODELS)
    frame = pl.DataFrame(
        {
            "prompt": np.array(texts)[row],
            "model_a": names[a],
            "model_b": names[b],
            "winner": winner,
            "weight": rng.choice([0.5, 1.0, 3.0], n),
            "source": "made",
        }
    )
    return Battles.validate(frame, cast=True)


def dataset(n: int = 3_000, seed: int = 0) -> TrainingSet:
    classes = Classes(strong=("m0", "m1"), weak=("m4", "m5"))
    return split(battles(n, seed), classes, strong=STRONG, weak=WEAK, share=0.3, seed=1)


def embedder(encoder_folder: Path, *, counts: bool) -> StaticEmbedder:
    words = lexicon(load_encoder(encoder_folder))
    return static_embedder(words, dim=8, sif=1e-2, truncation=Truncation(head=30, tail=6), counts=counts)


def embeddings(encoder_folder: Path, *, counts: bool) -> PromptEmbeddings:
    return PromptEmbeddings(embedder(encoder_folder, counts=counts))


class Reports(list[Progress]):
    """What a fit said."""

    def run(self, seed: int = 7) -> Run:
        return Run(seed=seed, threads=1, device="cpu", report=self.append)
