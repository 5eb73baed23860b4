"""Batches by token budget over length-sorted rows: as little padding as the table allows, bounded memory."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Tokens = list[NDArray[np.int64]]


def head_and_tail(tokens: NDArray[np.int64], head: int, tail: int) -> NDArray[np.int64]:
    """Keep the first `head` and the last `tail` tokens of a longer prompt; a shorter one stays whole."""
    if len(tokens) <= head + tail:
        return tokens
    return np.concatenate([tokens[:head], tokens[len(tokens) - tail :]])


def token_batches(lengths: NDArray[np.int64], *, budget: int) -> Iterator[NDArray[np.intp]]:
    """Yield row indices, shortest rows first, so that rows x longest row of a batch stays within `budget` tokens.

    Every row is in exactly one batch; a single row longer than the budget is a batch of its own.

    Args:
        lengths: Tokens per row, shape (n,).
        budget: Padded tokens per batch.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        # Rows are sorted, so the last row of a candidate batch is its longest: the padded size grows with the stop.
        sizes = np.maximum(lengths[order[start:]], 1) * np.arange(1, len(order) - start + 1)
        stop = start + max(1, int(np.searchsorted(sizes, budget, side="right")))
        yield order[start:stop]
        start = stop


def pad(rows: Tokens) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return `input_ids` and `attention_mask`, both int64 of shape (rows, longest row), padded with zeros."""
    lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
    width = max(1, int(lengths.max(initial=0)))
    mask = np.arange(width) < lengths[:, None]
    ids = np.zeros((len(rows), width), np.int64)
    if lengths.any():
        ids[mask] = np.concatenate(rows)
    return ids, mask.astype(np.int64)
