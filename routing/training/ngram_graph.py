"""The fitted router `ngram`: hashed n-grams of word pieces, in numpy and as a graph.

A prompt's feature for a bucket is 1 where any of its n-grams falls into it, times the bucket's inverse document
frequency, divided by the length of the vector of all of them. How often an n-gram occurs is not read: on dev labels
(docs/decisions/0025) presence ranked better than counts. In a linear model all of it folds into two numbers a bucket.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from routing.batching import Tokens
from routing.training.logistic import Floats, sigmoid
from routing.training.onnx_graph import Input, node, router_model
from routing.training.text_input import TextInput
from schemas.artifact import RouterKind

_PRIME = 2**31 - 1
_MULTIPLIER = 1_000_003
"""code(t1..tk) = (code(t1..tk-1) * _MULTIPLIER + tk + 1) mod _PRIME; products stay below 2^63."""
_SMALLEST_SQUARE = 1e-12
"""Keeps a prompt without known n-grams at zero instead of 0/0."""
_INPUTS: list[Input] = [
    ("input_ids", TensorProto.INT64, ["batch", "sequence"]),
    ("attention_mask", TensorProto.INT64, ["batch", "sequence"]),
]


class Grams(NamedTuple):
    """Which buckets each prompt fills: one entry a prompt and bucket, prompt by prompt."""

    row: NDArray[np.int64]
    bucket: NDArray[np.int64]


def grams(rows: Tokens, *, order: int, buckets: int) -> Grams:
    """Return the distinct buckets of the n-grams of 1 to `order` tokens of each row.

    Args:
        rows: Tokens of each prompt.
        order: Longest n-gram.
        buckets: Number of buckets; n-grams of all lengths share them.
    """
    lengths = np.array([len(tokens) for tokens in rows], np.int64)
    row = np.repeat(np.arange(len(rows)), lengths)
    token = np.concatenate([*rows, np.empty(0, np.int64)]) + 1
    code, found = token, [row * buckets + token % _PRIME % buckets]
    for length in range(1, min(order, len(token))):
        code = (code[:-1] * _MULTIPLIER + token[length:]) % _PRIME
        inside = row[length:] == row[:-length]
        found.append((row[length:] * buckets + code % buckets)[inside])
    return Grams(*np.divmod(np.unique(np.concatenate(found)), buckets))


def log_counts(rows: Tokens, flags: NDArray[np.int8]) -> Floats:
    """Return log(1 + number of tokens with each flag), shape (len(rows), flags.shape[1])."""
    lengths = [len(tokens) for tokens in rows]
    row = np.repeat(np.arange(len(rows)), lengths)
    seen = flags[np.concatenate([*rows, np.empty(0, np.int64)])]
    counts = [np.bincount(row, seen[:, flag], minlength=len(rows)) for flag in range(flags.shape[1])]
    return np.log1p(np.stack(counts, axis=1))


@dataclass(frozen=True, slots=True)
class NgramRouter:
    """win_rate = sigmoid(scale * sum of weights / sqrt(sum of squares) + log counts . count_weights + bias)."""

    text: TextInput
    order: int
    """Longest n-gram, in tokens."""
    table: NDArray[np.float16]
    """Weight and squared inverse document frequency of each bucket, shape (buckets + 1, 2); the last row is zero."""
    scale: float
    flags: NDArray[np.int8]
    """Which tokens each count counts, shape (vocabulary, counts)."""
    count_weights: NDArray[np.float32]
    """Shape (counts,)."""
    bias: float
    notes: Mapping[str, float] = field(default_factory=dict)
    """Figures of the fit for the card."""
    kind: RouterKind = field(default="ngram", init=False)

    @property
    def buckets(self) -> int:
        """Number of buckets."""
        return len(self.table) - 1

    def win_rates(self, rows: Tokens) -> Floats:
        """Return win rates of tokenized prompts, shape (n,)."""
        held = grams(rows, order=self.order, buckets=self.buckets)
        values = self.table[held.bucket].astype(np.float64)
        weight, square = (np.bincount(held.row, values[:, side], minlength=len(rows)) for side in (0, 1))
        logits = self.scale * weight / np.sqrt(np.maximum(square, _SMALLEST_SQUARE))
        return sigmoid(logits + log_counts(rows, self.flags) @ self.count_weights.astype(np.float64) + self.bias)

    def graph(self) -> onnx.ModelProto:
        """Return `input_ids`, `attention_mask` int64 [batch, sequence] -> `win_rate` float32 [batch]."""
        constants: dict[str, NDArray[Any]] = {
            "table": self.table,
            "buckets": np.array(self.buckets, np.int64),
            "prime": np.array(_PRIME, np.int64),
            "multiplier": np.array(_MULTIPLIER, np.int64),
            "one": np.array(1, np.int64),
            "no_bucket": np.array(-1, np.int64),
            "in_front": np.array([0, 1, 0, 0], np.int64),
            "start": np.array([0], np.int64),
            "last": np.array([-1], np.int64),
            "end": np.array([np.iinfo(np.int64).max], np.int64),
            "sequence_axis": np.array([1], np.int64),
            "weight_column": np.array(0, np.int64),
            "square_column": np.array(1, np.int64),
            "smallest_square": np.array(_SMALLEST_SQUARE, np.float32),
            "scale": np.array(self.scale, np.float32),
            "count_flags": self.flags,
            "count_weights": self.count_weights[:, None],
            "one_float": np.array(1.0, np.float32),
            "bias": np.array(self.bias, np.float32),
            **{f"skip_{length}": np.array([length], np.int64) for length in range(1, self.order)},
        }
        nodes = [
            *self._bucket_nodes(),
            # Sorted, a bucket is new where it differs from the one in front of it: every n-gram is read once.
            node("Shape", "filled", out="filled_shape"),
            node("Gather", "filled_shape", "sequence_axis", out="filled_width"),
            onnx.helper.make_node("TopK", ["filled", "filled_width"], ["ranked", "order"], name="ranked", largest=0),
            node("Pad", "ranked", "in_front", "no_bucket", out="shifted"),
            node("Slice", "shifted", "start", "last", "sequence_axis", out="before"),
            node("Equal", "ranked", "before", out="again"),
            node("Not", "again", out="new"),
            node("Cast", "new", out="new_float", to=TensorProto.FLOAT),
            node("Unsqueeze", "new_float", "sequence_axis", out="new_row"),
            node("Gather", "table", "ranked", out="values_half"),
            node("Cast", "values_half", out="values", to=TensorProto.FLOAT),
            node("MatMul", "new_row", "values", out="sums_row"),
            node("Squeeze", "sums_row", "sequence_axis", out="sums"),
            node("Gather", "sums", "weight_column", out="weight", axis=1),
            node("Gather", "sums", "square_column", out="square", axis=1),
            node("Max", "square", "smallest_square", out="safe_square"),
            node("Sqrt", "safe_square", out="length"),
            node("Div", "weight", "length", out="normalised"),
            node("Mul", "normalised", "scale", out="gram_logit"),
            node("Gather", "count_flags", "input_ids", out="count_flags_int8"),
            node("Cast", "count_flags_int8", out="count_values", to=TensorProto.FLOAT),
            node("Cast", "attention_mask", out="mask", to=TensorProto.FLOAT),
            node("Unsqueeze", "mask", "sequence_axis", out="mask_row"),
            node("MatMul", "mask_row", "count_values", out="counts_row"),
            node("Squeeze", "counts_row", "sequence_axis", out="counts"),
            node("Add", "counts", "one_float", out="counts_and_one"),
            node("Log", "counts_and_one", out="log_counts"),
            node("MatMul", "log_counts", "count_weights", out="count_column"),
            node("Squeeze", "count_column", "sequence_axis", out="count_logit"),
            node("Add", "gram_logit", "count_logit", out="both"),
            node("Add", "both", "bias", out="logit"),
            node("Sigmoid", "logit", out="win_rate"),
        ]
        return router_model("ngram", nodes, constants, _INPUTS)

    def _bucket_nodes(self) -> list[onnx.NodeProto]:
        """Nodes from tokens to `filled`, the bucket of every n-gram; `buckets` where one is not all of the prompt."""
        nodes = [
            node("Add", "input_ids", "one", out="code_1"),
            node("Identity", "attention_mask", out="whole_1"),
        ]
        for length in range(1, self.order + 1):
            if length > 1:
                here, before, skip = str(length), str(length - 1), f"skip_{length - 1}"
                nodes += [
                    node("Slice", f"code_{before}", "start", "last", "sequence_axis", out=f"head_{here}"),
                    node("Slice", "code_1", skip, "end", "sequence_axis", out=f"next_{here}"),
                    node("Mul", f"head_{here}", "multiplier", out=f"product_{here}"),
                    node("Add", f"product_{here}", f"next_{here}", out=f"sum_{here}"),
                    node("Mod", f"sum_{here}", "prime", out=f"code_{here}"),
                    node("Slice", f"whole_{before}", "start", "last", "sequence_axis", out=f"whole_head_{here}"),
                    node("Slice", "attention_mask", skip, "end", "sequence_axis", out=f"whole_next_{here}"),
                    node("Mul", f"whole_head_{here}", f"whole_next_{here}", out=f"whole_{here}"),
                ]
            nodes += [
                node("Mod", f"code_{length}", "buckets", out=f"bucket_{length}"),
                node("Cast", f"whole_{length}", out=f"inside_{length}", to=TensorProto.BOOL),
                node("Where", f"inside_{length}", f"bucket_{length}", "buckets", out=f"filled_{length}"),
            ]
        lengths = range(1, self.order + 1)
        return [*nodes, node("Concat", *(f"filled_{length}" for length in lengths), out="filled", axis=1)]
