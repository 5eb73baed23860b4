"""Finds training prompts that are evaluation prompts, in the same words or in others.

Same words: a training prompt that shares a run of `PHRASE_WORDS` words with an evaluation prompt. This is what finds a
question inside a template ("... put your final answer in ..."), which keeps whole-text cosines low.

Other words: cosine of sentence embeddings >= 0.95. Every pair is screened with the static table, which is cheap; only
training prompts with a static cosine of at least `SCREEN` to some evaluation prompt are then embedded with the encoder,
together with the evaluation prompts that they are near to. A free paraphrase, which the screen misses, passes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

PHRASE_WORDS = 10
"""Shorter than GPT-3's 13 words (Brown et al. 2020, appendix C), because exam questions are short."""

LIMIT = 0.95
"""RouteLLM's limit (arXiv 2406.18665, appendix; with text-embedding-3-small)."""

SCREEN = 0.85

_ROWS = 1_024

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to unit vectors, shape (n, dim)."""


@dataclass(frozen=True, slots=True)
class Near:
    """Pairs of a training and an evaluation prompt."""

    train: NDArray[np.intp]
    evaluation: NDArray[np.intp]
    """Row of the evaluation prompt, same shape as `train`."""


def shared_phrases(train: pl.Series, evaluation: pl.Series, *, words: int = PHRASE_WORDS) -> NDArray[np.intp]:
    """Return the rows of `train` that share a run of `words` words with an evaluation prompt, rising.

    Case and punctuation do not count; a prompt of fewer words shares none.
    """
    shared = phrases(train, words).join(phrases(evaluation, words), on="phrase", how="semi")
    return shared["row"].unique().sort().to_numpy().astype(np.intp)


def near_pairs(train: NDArray[np.float32], evaluation: NDArray[np.float32], *, limit: float) -> Near:
    """Return all pairs of unit vectors with a cosine of at least `limit`."""
    rows, columns = [], []
    for start in range(0, len(train), _ROWS):
        row, column = np.nonzero(train[start : start + _ROWS] @ evaluation.T >= limit)
        rows.append(row + start)
        columns.append(column)
    return Near(np.concatenate(rows), np.concatenate(columns))


def contaminated(train: Sequence[str], evaluation: Sequence[str], near: Near, embed: Embed) -> NDArray[np.intp]:
    """Return the rows of `train` whose encoder cosine to a prompt they are near to is at least `LIMIT`, rising.

    Args:
        train: Training prompts.
        evaluation: Evaluation prompts.
        near: Pairs that passed the screen.
        embed: The encoder; it is given each prompt of `near` once.
    """
    if not len(near.train):
        return np.empty(0, np.intp)
    train_rows, train_place = np.unique(near.train, return_inverse=True)
    evaluation_rows, evaluation_place = np.unique(near.evaluation, return_inverse=True)
    left = embed([train[row] for row in train_rows])[train_place]
    right = embed([evaluation[row] for row in evaluation_rows])[evaluation_place]
    return np.unique(near.train[np.einsum("ij,ij->i", left, right) >= LIMIT])


def phrases(prompts: pl.Series, words: int) -> pl.DataFrame:
    """Return every run of `words` words of every prompt: row, phrase."""
    split = pl.DataFrame({"prompt": prompts}).with_row_index("row")
    single = split.select("row", word=pl.col("prompt").str.to_lowercase().str.extract_all(r"\w+")).explode("word")
    following = [pl.col("word").shift(-step).over("row") for step in range(words)]
    return single.select("row", phrase=pl.concat_str(following, separator=" ")).drop_nulls()
