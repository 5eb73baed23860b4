"""Routers of two parts, an embedder and a head on its embedding, exported as one graph from tokens to `win_rate`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose

from routing.batching import Tokens
from routing.training.embedders import Embedder
from routing.training.onnx_graph import node, router_model
from routing.training.text_input import TextInput
from schemas.artifact import RouterKind

_EMBEDDER, _HEAD = "embedder_", "head_"


class Head(Protocol):
    """Embeddings to win rates."""

    def win_rates(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return win rates of embeddings (n, dim), shape (n,)."""

    def graph(self) -> onnx.ModelProto:
        """Return `embedding` float32 [batch, dim] -> `win_rate` float32 [batch]."""


@dataclass(frozen=True, slots=True)
class EmbeddingRouter:
    """A `routing.training.router.TrainedRouter` made of an embedder and a head."""

    kind: RouterKind
    embedder: Embedder
    head: Head
    notes: Mapping[str, float] = field(default_factory=dict)
    """Figures of the fit for the card: what was chosen, what was left out, what it cost in accuracy."""

    @property
    def text(self) -> TextInput:
        """How prompts become tokens."""
        return self.embedder.text

    def win_rates(self, rows: Tokens) -> NDArray[np.float64]:
        """Return the training framework's win rates of tokenized prompts, shape (n,)."""
        return self.head.win_rates(self.embedder.embed(rows))

    def graph(self) -> onnx.ModelProto:
        """Return `input_ids`, `attention_mask` int64 [batch, sequence] -> `win_rate` float32 [batch]."""
        return fuse(self.embedder.graph(), self.head.graph())


@dataclass(frozen=True, slots=True)
class LinearHead:
    """win_rate = sigmoid(embedding . weight + bias)."""

    weight: NDArray[np.float32]
    """Shape (dim,)."""
    bias: float

    def win_rates(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return win rates of embeddings (n, dim), shape (n,)."""
        logits = embeddings @ self.weight.astype(np.float64) + self.bias
        return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))

    def graph(self) -> onnx.ModelProto:
        """Return `embedding` float32 [batch, dim] -> `win_rate` float32 [batch]."""
        constants: dict[str, NDArray[Any]] = {
            "weight": self.weight[:, None],
            "bias": np.array([self.bias], np.float32),
            "column_axis": np.array([1], np.int64),
        }
        nodes = [
            node("MatMul", "embedding", "weight", out="product"),
            node("Add", "product", "bias", out="logit"),
            node("Sigmoid", "logit", out="win_rate_column"),
            node("Squeeze", "win_rate_column", "column_axis", out="win_rate"),
        ]
        return router_model("linear", nodes, constants, [("embedding", TensorProto.FLOAT, ["batch", len(self.weight)])])


def fuse(embedder: onnx.ModelProto, head: onnx.ModelProto) -> onnx.ModelProto:
    """Join an embedder's graph and a head's graph into one checked graph, the same bytes for the same graphs.

    Args:
        embedder: `input_ids`, `attention_mask` -> `embedding`.
        head: `embedding` -> `win_rate`.
    """
    first = compose.add_prefix(embedder, _EMBEDDER, rename_inputs=False)
    second = compose.add_prefix(head, _HEAD, rename_outputs=False)
    joined = compose.merge_models(
        first,
        second,
        io_map=[(f"{_EMBEDDER}embedding", f"{_HEAD}embedding")],
        name=f"{embedder.graph.name}_{head.graph.name}",
        producer_name="nightroute",
        producer_version="",
    )
    onnx.checker.check_model(joined, full_check=True)
    return joined
