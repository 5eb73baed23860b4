"""Embedders: a prompt's tokens to the vector that the heads `sw`, `mf`, `linear` and `cluster` read.

An embedding is a unit vector, the direction that a head compares, and behind it, where asked for, the logs of the
counts of `routing.training.features`: plain facts about the prompt's form, which a linear head can weigh.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper
from torch.nn import functional

from routing.batching import WIDTH_STEP, Tokens, pad, token_batches
from routing.errors import ConfigError
from routing.training.encoder import Encoder
from routing.training.encoder_graph import encoder_graph
from routing.training.features import SMALLEST_NORM, features, token_flags
from routing.training.onnx_graph import IR_VERSION, OPSET, node
from routing.training.static_mf import Lexicon
from routing.training.static_table import StaticTable
from routing.training.text_input import TextInput
from schemas.artifact import Truncation

_TOKEN_BUDGET = 4_096
_TOKEN_INPUTS = ("input_ids", "attention_mask")


class Embedder(Protocol):
    """Tokens to embeddings, in the training framework and as a graph."""

    @property
    def text(self) -> TextInput:
        """How prompts become tokens."""

    @property
    def dim(self) -> int:
        """Width of an embedding, counts included."""

    @property
    def counts(self) -> int:
        """Columns at the end that are logs of counts; those before them are a unit vector."""

    def embed(self, rows: Tokens) -> NDArray[np.float32]:
        """Return the embeddings of tokenized prompts, shape (n, dim), in order, whatever their company."""

    def graph(self) -> onnx.ModelProto:
        """Return `input_ids`, `attention_mask` int64 [batch, sequence] -> `embedding` float32 [batch, dim]."""

    def directions(self) -> Self:
        """Return the same embedder without the counts."""

    def digest(self) -> str:
        """Return a sha256 of all that decides an embedding."""


@dataclass(frozen=True, slots=True)
class StaticEmbedder:
    """The weighted sum of token vectors, at unit length; zero for a prompt without tokens."""

    text: TextInput
    table: StaticTable
    flags: NDArray[np.int8]
    """Which tokens each count counts, shape (vocabulary, counts); no column where no counts are wanted."""

    @property
    def dim(self) -> int:
        """Width of an embedding, counts included."""
        return self.table.dim + self.counts

    @property
    def counts(self) -> int:
        """Columns at the end that are logs of counts."""
        return int(self.flags.shape[1])

    def embed(self, rows: Tokens) -> NDArray[np.float32]:
        """Return the embeddings of tokenized prompts, shape (n, dim)."""
        seen = features(rows, self.table, self.flags)
        return np.hstack([seen.query, seen.shape]).astype(np.float32)

    def graph(self) -> onnx.ModelProto:
        """Return `input_ids`, `attention_mask` int64 [batch, sequence] -> `embedding` float32 [batch, dim]."""
        shape = ["batch", "sequence"]
        graph = helper.make_graph(
            [
                # Scales and mask meet in one small product, so the wide token vectors are read only once.
                node("Gather", "token_values", "input_ids", out="values_int8"),
                node("Cast", "values_int8", out="values", to=TensorProto.FLOAT),
                node("Gather", "token_scales", "input_ids", out="scales"),
                node("Cast", "attention_mask", out="visible", to=TensorProto.FLOAT),
                node("Mul", "scales", "visible", out="token_weights"),
                node("Unsqueeze", "token_weights", "sequence_axis", out="token_row"),
                node("MatMul", "token_row", "values", out="pooled_row"),
                node("Squeeze", "pooled_row", "sequence_axis", out="pooled"),
                # Sum and mean point the same way, so the unit vector needs no division by the count.
                node("ReduceL2", "pooled", "sequence_axis", out="length"),
                node("Max", "length", "smallest_norm", out="norm"),
                node("Div", "pooled", "norm", out="embedding"),
            ],
            "static_embedder",
            inputs=[helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in _TOKEN_INPUTS],
            outputs=[helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", self.table.dim])],
            initializer=[
                numpy_helper.from_array(self.table.values, "token_values"),
                numpy_helper.from_array(self.table.scales, "token_scales"),
                numpy_helper.from_array(np.array([SMALLEST_NORM], np.float32), "smallest_norm"),
                numpy_helper.from_array(np.array([1], np.int64), "sequence_axis"),
            ],
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="nightroute")
        return _with_counts(model, self.flags)

    def directions(self) -> Self:
        """Return the same embedder without the counts."""
        return replace(self, flags=self.flags[:, :0])

    def digest(self) -> str:
        """Return a sha256 of all that decides an embedding."""
        return _digest(self.text, self.table.values, self.table.scales, self.flags)


@dataclass(frozen=True, slots=True)
class EncoderEmbedder:
    """A sentence encoder: the mean of its last hidden states, at unit length."""

    text: TextInput
    """Frames every prompt with the encoder's special tokens, so no row is empty."""
    encoder: Encoder
    flags: NDArray[np.int8]
    """Which tokens each count counts, shape (vocabulary, counts); no column where no counts are wanted."""

    @property
    def dim(self) -> int:
        """Width of an embedding, counts included."""
        return int(self.encoder.weights["embeddings.word_embeddings.weight"].shape[1]) + self.counts

    @property
    def counts(self) -> int:
        """Columns at the end that are logs of counts."""
        return int(self.flags.shape[1])

    def embed(self, rows: Tokens) -> NDArray[np.float32]:
        """Return the embeddings of tokenized prompts, shape (n, dim); a row's padded width depends on it alone."""
        out = np.empty((len(rows), self.dim), np.float32)
        wide = self.dim - self.counts
        lengths = np.array([len(row) for row in rows], np.int64)
        for index, width in token_batches(lengths, budget=_TOKEN_BUDGET):
            ids, mask = pad([rows[row] for row in index], width)
            with torch.no_grad():
                states = self.encoder.forward(torch.from_numpy(ids), torch.from_numpy(mask))
            out[index, :wide] = functional.normalize(states, dim=1).numpy()
            out[index, wide:] = np.log1p(np.einsum("bs,bsc->bc", mask, self.flags[ids]))
        return out

    def graph(self) -> onnx.ModelProto:
        """Return `input_ids`, `attention_mask` int64 [batch, sequence] -> `embedding` float32 [batch, dim]."""
        return _with_counts(encoder_graph(self.encoder), self.flags)

    def directions(self) -> Self:
        """Return the same embedder without the counts."""
        return replace(self, flags=self.flags[:, :0])

    def digest(self) -> str:
        """Return a sha256 of all that decides an embedding."""
        weights = [tensor.numpy() for _, tensor in sorted(self.encoder.weights.items())]
        return _digest(self.text, self.encoder.shape.model_dump_json(), *weights, self.flags)


def static_embedder(words: Lexicon, *, dim: int, sif: float, truncation: Truncation, counts: bool) -> StaticEmbedder:
    """Return the static embedder of a width (see `routing.training.static_table`).

    Raises:
        ConfigError: `dim` is larger than the encoder's hidden size.
    """
    text = TextInput(words.encoder.tokenizer, truncation)
    flags = token_flags(words.vocabulary)
    return StaticEmbedder(text, words.table(dim=dim, sif=sif), flags if counts else flags[:, :0])


def encoder_embedder(encoder: Encoder, *, truncation: Truncation, counts: bool) -> EncoderEmbedder:
    """Return the embedder of a sentence encoder.

    Raises:
        ConfigError: the encoder has fewer positions than the truncation keeps tokens.
    """
    first, last = encoder.tokenizer.encode("").ids
    longest = truncation.head + truncation.tail + 2
    positions = encoder.shape.max_position_embeddings
    if -(-longest // WIDTH_STEP) * WIDTH_STEP > positions:
        raise ConfigError(
            f"truncation keeps {truncation.head} + {truncation.tail} tokens and the encoder adds 2, but it has "
            f"{positions} positions, used in steps of {WIDTH_STEP}; lower truncation.head or truncation.tail"
        )
    flags = token_flags(dict(encoder.tokenizer.get_vocab(with_added_tokens=True)))
    # The frame is no part of the prompt: counts of a text are the same behind any tokenizer's frame.
    flags[[first, last]] = 0
    text = TextInput(encoder.tokenizer, truncation, prefix=(first,), suffix=(last,))
    return EncoderEmbedder(text, encoder, flags if counts else flags[:, :0])


def _with_counts(model: onnx.ModelProto, flags: NDArray[np.int8]) -> onnx.ModelProto:
    """Append log(1 + count) of each flag to the embedding of a graph, and check the graph."""
    if flags.shape[1]:
        model = compose.add_prefix(model, "direction_", rename_inputs=False)
        graph = model.graph
        constants: dict[str, NDArray[Any]] = {
            "count_flags": flags,
            "count_one": np.array([1.0], np.float32),
            "count_axis": np.array([1], np.int64),
        }
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
        graph.node.extend(
            [
                node("Gather", "count_flags", "input_ids", out="count_flags_int8"),
                node("Cast", "count_flags_int8", out="count_values", to=TensorProto.FLOAT),
                node("Cast", "attention_mask", out="count_mask", to=TensorProto.FLOAT),
                node("Unsqueeze", "count_mask", "count_axis", out="count_mask_row"),
                node("MatMul", "count_mask_row", "count_values", out="count_row"),
                node("Squeeze", "count_row", "count_axis", out="counts"),
                node("Add", "counts", "count_one", out="counts_and_one"),
                node("Log", "counts_and_one", out="log_counts"),
                node("Concat", "direction_embedding", "log_counts", out="embedding", axis=1),
            ]
        )
        wide = graph.output[0].type.tensor_type.shape.dim[1].dim_value + flags.shape[1]
        del graph.output[:]
        graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", wide]))
    onnx.checker.check_model(model, full_check=True)
    return model


def _digest(text: TextInput, *parts: str | NDArray[np.generic]) -> str:
    cut = (text.truncation.head, text.truncation.tail)
    found = hashlib.sha256(json.dumps([text.tokenizer.to_str(), cut, text.prefix, text.suffix]).encode())
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data)
    return found.hexdigest()
