"""Batches by token budget over rows of equal width: little padding, bounded memory, scores free of their neighbours."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Tokens = list[NDArray[np.int64]]

WIDTH_STEP = 16
"""Padding costs at most 15 tokens a row; a finer step makes more, smaller runs."""


def head_and_tail(tokens: NDArray[np.int64], head: int, tail: int) -> NDArray[np.int64]:
    """Keep the first `head` and the last `tail` tokens of a longer prompt; a shorter one stays whole."""
    if len(tokens) <= head + tail:
        return tokens
    return np.concatenate([tokens[:head], tokens[len(tokens) - tail :]])


class Batch(NamedTuple):
    """Rows that run together."""

    rows: NDArray[np.intp]
    """Indices into the table."""
    width: int
    """Tokens that each row is padded to."""


def token_batches(lengths: NDArray[np.int64], *, budget: int, step: int = WIDTH_STEP) -> Iterator[Batch]:
    """Yield batches of rows that share one padded width, the narrowest first, of at most `budget` padded tokens.

    The width of a row depends on its own length alone (the next multiple of `step`), never on its neighbours: the order
    in which floats are added, and with it the last bits of a score, is the same in whatever batch a prompt runs.
    Every row is in exactly one batch; a single row wider than the budget is a batch of its own.

    Args:
        lengths: Tokens per row, shape (n,).
        budget: Padded tokens per batch.
        step: Widths are multiples of this.
    """
    widths = -(-np.maximum(lengths, 1) // step) * step
    for width in np.unique(widths):
        rows = np.flatnonzero(widths == width)
        size = max(1, budget // int(width))
        for start in range(0, len(rows), size):
            yield Batch(rows[start : start + size], int(width))


def pad(rows: Tokens, width: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return `input_ids` and `attention_mask`, both int64 of shape (rows, width), padded with zeros.

    Without a width, rows are padded to the longest of them.
    """
    lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
    width = max(1, int(lengths.max(initial=0))) if width is None else width
    mask = np.arange(width) < lengths[:, None]
    ids = np.zeros((len(rows), width), np.int64)
    if lengths.any():
        ids[mask] = np.concatenate(rows)
    return ids, mask.astype(np.int64)
