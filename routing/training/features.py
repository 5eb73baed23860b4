"""What the static router sees of a prompt: a unit query vector and four counts. Numpy; the graph computes the same.

The counts (`SHAPE_NAMES`) describe the form of a prompt. They were the part that carried over to unseen benchmarks,
where its topic, which the query vector holds, did not (docs/decisions/0010).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from routing.batching import Tokens, head_and_tail
from routing.training.static_table import StaticTable

SHAPE_NAMES = ("tokens", "digits", "punctuation", "word_pieces")
"""Columns of the token flags. A feature is log(1 + number of tokens with that flag)."""

SMALLEST_NORM = 1e-6
"""Keeps a prompt without tokens at the zero vector instead of 0/0."""

_PUNCTUATION = re.compile(r"[^\w\s]+")


@dataclass(frozen=True, slots=True)
class Features:
    """Features of n prompts, row by row."""

    query: NDArray[np.float32]
    """Unit query vectors, shape (n, dim)."""
    shape: NDArray[np.float32]
    """Logs of counts, shape (n, len(SHAPE_NAMES))."""

    def take(self, rows: NDArray[np.intp]) -> "Features":
        """Return the features of some rows."""
        return Features(query=self.query[rows], shape=self.shape[rows])


def token_flags(vocabulary: dict[str, int]) -> NDArray[np.int8]:
    """Return which tokens each count counts, 0 or 1, shape (len(vocabulary), len(SHAPE_NAMES))."""
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    bare = [word.removeprefix("##") for word in words]
    return np.array(
        [
            [True, text.isdigit(), _PUNCTUATION.fullmatch(text) is not None, word != text]
            for word, text in zip(words, bare, strict=True)
        ],
        dtype=np.int8,
    )


def tokenize(tokenizer: Tokenizer, prompts: Sequence[str], *, head: int, tail: int) -> Tokens:
    """Return each prompt's tokens as the run-time router cuts them, int64."""
    encodings = tokenizer.encode_batch_fast(list(prompts), add_special_tokens=False)
    return [head_and_tail(np.array(encoding.ids, np.int64), head, tail) for encoding in encodings]


def features(rows: Tokens, table: StaticTable, flags: NDArray[np.int8]) -> Features:
    """Return the features of tokenized prompts.

    Args:
        rows: Tokens of each prompt, see `tokenize`.
        table: The token table.
        flags: See `token_flags`.
    """
    query = _summed(rows, table.dequantized())
    norm = np.maximum(np.linalg.norm(query, axis=1, keepdims=True), SMALLEST_NORM)
    return Features(query=query / norm, shape=np.log1p(_summed(rows, flags.astype(np.float32))))


def _summed(rows: Tokens, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sum of the vectors of each row's tokens, shape (len(rows), width); zero for a row without tokens."""
    out = np.zeros((len(rows), vectors.shape[1]), dtype=np.float32)
    lengths = np.array([len(row) for row in rows], np.int64)
    filled = np.flatnonzero(lengths)
    step = 2_048  # bounds the memory of the gathered vectors
    for start in range(0, len(filled), step):
        part = filled[start : start + step]
        gathered = vectors[np.concatenate([rows[row] for row in part])]
        out[part] = np.add.reduceat(gathered, np.cumsum(lengths[part]) - lengths[part], axis=0)
    return out
