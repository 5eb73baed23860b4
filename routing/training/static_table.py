"""Distils a static token table from a sentence encoder: one vector per token, no attention at run time.

The method is model2vec's (MinishLab, https://github.com/MinishLab/model2vec, `distill`, MIT): every token of the
vocabulary passes the encoder alone between its special tokens, the mean hidden states go through a PCA, and each row is
weighted by SIF with Zipf frequencies taken from the rank in the vocabulary (Arora et al. 2017). It is written out here
because its `distill` extra pins an old transformers, and because these steps are deterministic on a fixed number of
threads.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from routing.errors import ConfigError
from routing.training.encoder import Encoder

_BATCH_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class StaticTable:
    """Token vectors as they stand in the graph: int8 with one scale per row."""

    values: NDArray[np.int8]
    """Shape (vocabulary, dim)."""
    scales: NDArray[np.float32]
    """Shape (vocabulary,); a token's vector is `values[token] * scales[token]`."""

    @property
    def dim(self) -> int:
        """Width of a token vector."""
        return int(self.values.shape[1])

    def dequantized(self) -> NDArray[np.float32]:
        """Return the vectors that the graph computes with, shape (vocabulary, dim)."""
        return self.values.astype(np.float32) * self.scales[:, None]


def static_table(states: NDArray[np.float64], vocabulary: dict[str, int], *, dim: int, sif: float) -> StaticTable:
    """Return the int8 token table.

    Args:
        states: Mean hidden state of each token, see `token_states`.
        vocabulary: Token -> id, the rows of `states`.
        dim: Principal components kept.
        sif: SIF coefficient; model2vec's default is 1e-4, larger values weight tokens more evenly.

    Raises:
        ConfigError: `dim` is larger than the encoder's hidden size.
    """
    if not 1 <= dim <= states.shape[1]:
        raise ConfigError(f"table.dim must lie in 1..{states.shape[1]} (the encoder's hidden size), got {dim}")
    return quantize(principal_components(states, dim) * sif_weights(vocabulary, sif=sif)[:, None])


def token_states(encoder: Encoder) -> NDArray[np.float64]:
    """Return each token's mean hidden state between the special tokens, shape (vocabulary, hidden)."""
    prefix, suffix = encoder.tokenizer.encode("").ids
    tokens = torch.arange(encoder.tokenizer.get_vocab_size())
    parts = torch.split(tokens, _BATCH_TOKENS)
    inputs = (
        torch.stack([torch.full_like(part, prefix), part, torch.full_like(part, suffix)], dim=1) for part in parts
    )
    states = [encoder.forward(part, torch.ones_like(part)) for part in inputs]
    return np.asarray(torch.cat(states).double().numpy())


def principal_components(rows: NDArray[np.float64], dim: int) -> NDArray[np.float64]:
    """Return the centred rows in their first `dim` principal axes, shape (n, dim); signs are fixed."""
    centred = torch.from_numpy(rows - rows.mean(axis=0))
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    axes = vectors.flip(1)[:, :dim]
    # An eigenvector's sign is arbitrary: its largest entry is made positive, so that rebuilds agree.
    largest = axes.abs().argmax(dim=0)
    signs = axes[largest, torch.arange(dim)].sign()
    return np.asarray((centred @ (axes * signs)).numpy())


def sif_weights(vocabulary: dict[str, int], *, sif: float) -> NDArray[np.float64]:
    """Return sif / (sif + p(token)), shape (len(vocabulary),), with p from Zipf's law over the vocabulary's order.

    BERT's vocabulary is ordered by frequency; its `[unused...]` entries are left out of the ranking.
    """
    size = len(vocabulary)
    used = np.ones(size, dtype=bool)
    used[[index for token, index in vocabulary.items() if token.startswith("[unused")]] = False
    rank = np.cumsum(used)
    frequency = np.where(used, 1.0 / (rank + 1.0), 0.0)
    weights: NDArray[np.float64] = sif / (sif + frequency / frequency.sum())
    return weights


def quantize(vectors: NDArray[np.float64]) -> StaticTable:
    """Round vectors to int8, one scale per row (largest magnitude -> 127)."""
    scales = np.maximum(np.abs(vectors).max(axis=1) / 127.0, np.finfo(np.float32).tiny)
    values = np.clip(np.rint(vectors / scales[:, None]), -127, 127).astype(np.int8)
    return StaticTable(values=values, scales=scales.astype(np.float32))
