"""Routers: from texts to win rates. Anything with this protocol can route a table."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from routing.artifact import RouterArtifact
from routing.batching import head_and_tail, pad, token_batches
from routing.errors import ArtifactError

TOKENIZE_ROWS = 2_048
"""Texts tokenized at once: bounds the memory of token lists without slowing the tokenizer's own threads."""

EMBEDDING_ROWS = 256
"""Embeddings per graph run; a run with fewer is filled up with zeros."""

DECIMALS = 6
"""Digits kept of a win rate: what float32 says beyond them is noise, and would cut ties between equal prompts."""


class WinRates(NamedTuple):
    """What a router says about texts, in their order."""

    win_rate: NDArray[np.float64]
    """P(strong beats weak | query), shape (n,), each in [0, 1]."""
    tokens: NDArray[np.int64]
    """Length of each whole text in the router's tokens, before any cut, shape (n,)."""


class Router(Protocol):
    """A predictor of win rates."""

    def win_rates(self, texts: Sequence[str]) -> WinRates:
        """Return win rates and lengths for texts, in the order given."""

    def count_tokens(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the length of each text in tokens, shape (n,)."""


class Embedder(Protocol):
    """Gives the embeddings of texts."""

    def known(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Return which texts have an embedding, shape (n,)."""

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of texts that have one, shape (n, dim)."""


class _Artifact:
    """A router's graph and tokenizer, opened."""

    def __init__(self, artifact: RouterArtifact, *, inputs: Collection[str], threads: int) -> None:
        self._card = artifact.card
        self.tokenizer = Tokenizer.from_file(str(artifact.tokenizer))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(artifact.graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ArtifactError(
                f"router graph {artifact.graph} cannot be opened: {error}; export the router again"
            ) from error
        names = {node.name for node in self._session.get_inputs()}
        if names != set(inputs):
            raise ArtifactError(
                f"router graph {artifact.graph} takes {sorted(names)}, expected {' and '.join(inputs)}; "
                "export the router with its embedder fused in front, or with the embedding named in its card"
            )

    def count_tokens(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the length of each text in tokens, shape (n,)."""
        return np.array([len(row) for row in self._tokenize(texts)], np.int64)

    def _tokenize(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.int64) for encoding in encodings]


class OnnxRouter(_Artifact):
    """Runs any artifact whose graph goes from tokens to `win_rate`: one class for every kind of DESIGN section 5."""

    def __init__(self, artifact: RouterArtifact, *, threads: int = 1, token_budget: int = 4_096) -> None:
        """Open the graph.

        Args:
            artifact: A verified artifact.
            threads: Threads for one graph run; 0 lets onnxruntime take every core.
            token_budget: Padded tokens per graph run.
        """
        super().__init__(artifact, inputs=("input_ids", "attention_mask"), threads=threads)
        self._token_budget = token_budget

    def win_rates(self, texts: Sequence[str]) -> WinRates:
        """Return win rates and lengths for texts, in the order given."""
        win_rate = np.empty(len(texts), np.float64)
        tokens = np.empty(len(texts), np.int64)
        for start in range(0, len(texts), TOKENIZE_ROWS):
            chunk = slice(start, start + TOKENIZE_ROWS)
            rows = self._tokenize(texts[chunk])
            tokens[chunk] = [len(row) for row in rows]
            win_rate[chunk] = self._run(rows)
        return WinRates(win_rate, tokens)

    def _run(self, rows: list[NDArray[np.int64]]) -> NDArray[np.float64]:
        rows = [self._framed(row) for row in rows]
        lengths = np.array([len(row) for row in rows], np.int64)
        result = np.empty(len(rows), np.float64)
        for index, width in token_batches(lengths, budget=self._token_budget):
            ids, mask = pad([rows[i] for i in index], width)
            (scores,) = self._session.run(["win_rate"], {"input_ids": ids, "attention_mask": mask})
            result[index] = _rounded(scores)
        return result

    def _framed(self, row: NDArray[np.int64]) -> NDArray[np.int64]:
        card = self._card
        row = head_and_tail(row, card.truncation.head, card.truncation.tail)
        if not (card.prefix_tokens or card.suffix_tokens):
            return row
        return np.concatenate([np.array(card.prefix_tokens, np.int64), row, np.array(card.suffix_tokens, np.int64)])


class EmbeddingRouter(_Artifact):
    """Runs an artifact whose graph goes from a provider's embedding to `win_rate`."""

    def __init__(self, artifact: RouterArtifact, embedder: Embedder, *, threads: int = 1) -> None:
        """Open the graph.

        Args:
            artifact: A verified artifact with `card.embedding`.
            embedder: Where the embeddings come from.
            threads: Threads for one graph run; 0 lets onnxruntime take every core.
        """
        super().__init__(artifact, inputs=("embedding",), threads=threads)
        self._embedder = embedder

    def known(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Return which texts can be scored, shape (n,)."""
        return self._embedder.known(texts)

    def win_rates(self, texts: Sequence[str]) -> WinRates:
        """Return win rates and lengths for texts, in the order given; each needs an embedding."""
        win_rate = np.empty(len(texts), np.float64)
        vectors = self._embedder.vectors(texts)
        # Runs of one size, so that the order in which floats are added does not depend on the rows beside a row.
        for start in range(0, len(texts), EMBEDDING_ROWS):
            rows = vectors[start : start + EMBEDDING_ROWS]
            batch = np.zeros((EMBEDDING_ROWS, vectors.shape[1]), np.float32)
            batch[: len(rows)] = rows
            (scores,) = self._session.run(["win_rate"], {"embedding": batch})
            win_rate[start : start + len(rows)] = _rounded(scores)[: len(rows)]
        return WinRates(win_rate, self.count_tokens(texts))


def _rounded(scores: object) -> NDArray[np.float64]:
    """Float64 from here on: alpha is compared with this very column (a Float32 0.7 is not >= 0.7 in Float64)."""
    return np.asarray(scores, np.float64).round(DECIMALS)
