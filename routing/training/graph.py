"""Writes the static router as one ONNX graph: tokens -> win_rate, standard operators only.

The graph is written node by node and not traced from torch: a few lines say exactly what runs at night, the token table
stays int8 until after the gather, and the same numbers give the same bytes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from routing.calibrating import Platt
from routing.training.features import SMALLEST_NORM, Features
from routing.training.matrix_factorization import PairHeads
from routing.training.onnx_graph import node, router_model
from routing.training.static_table import StaticTable


@dataclass(frozen=True, slots=True)
class StaticRouter:
    """The numbers of the graph, for one pair of models."""

    table: StaticTable
    flags: NDArray[np.int8]
    """Which tokens each count counts, shape (vocabulary, counts); the first column is all ones."""
    heads: PairHeads
    calibration: Platt

    def win_rates(self, features: Features) -> NDArray[np.float64]:
        """Return what the graph answers, from the training framework's side, shape (n,)."""
        return self.calibration.apply(self.heads.gap(features))


def static_graph(router: StaticRouter) -> onnx.ModelProto:
    """Return the graph `input_ids`, `attention_mask` int64 [batch, seq] -> `win_rate` float32 [batch].

    A prompt whose mask is all zero gets the win rate of the zero vector, and padding changes nothing.
    """
    constants: dict[str, NDArray[Any]] = {
        "token_values": router.table.values,
        "token_scales": router.table.scales,
        "token_flags": router.flags,
        "head_weight": router.heads.weight,
        "head_bias": router.heads.bias,
        "slope": np.array([router.calibration.slope], np.float32),
        "intercept": np.array([router.calibration.intercept], np.float32),
        "signs": np.array([[1.0], [-1.0]], np.float32),
        "smallest_norm": np.array([SMALLEST_NORM], np.float32),
        "one": np.array([1.0], np.float32),
        "sequence_axis": np.array([1], np.int64),
    }
    nodes = [
        # Scales and mask meet in one small product, so the wide token vectors are read only once.
        node("Gather", "token_values", "input_ids", out="values_int8"),
        node("Cast", "values_int8", out="values", to=TensorProto.FLOAT),
        node("Gather", "token_scales", "input_ids", out="scales"),
        node("Cast", "attention_mask", out="mask", to=TensorProto.FLOAT),
        node("Mul", "scales", "mask", out="token_weights"),
        node("Unsqueeze", "token_weights", "sequence_axis", out="token_row"),
        node("MatMul", "token_row", "values", out="pooled_row"),
        node("Squeeze", "pooled_row", "sequence_axis", out="pooled"),
        # Sum and mean point the same way, so the unit vector needs no division by the count.
        node("ReduceL2", "pooled", "sequence_axis", out="length"),
        node("Max", "length", "smallest_norm", out="norm"),
        node("Div", "pooled", "norm", out="query"),
        node("Gather", "token_flags", "input_ids", out="flags_int8"),
        node("Cast", "flags_int8", out="flags", to=TensorProto.FLOAT),
        node("Unsqueeze", "mask", "sequence_axis", out="mask_row"),
        node("MatMul", "mask_row", "flags", out="counts_row"),
        node("Squeeze", "counts_row", "sequence_axis", out="counts"),
        node("Add", "counts", "one", out="counts_and_one"),
        node("Log", "counts_and_one", out="shape"),
        node("Concat", "query", "shape", out="features", axis=1),
        node("Gemm", "features", "head_weight", "head_bias", out="logits"),
        node("Sigmoid", "logits", out="chances"),
        node("MatMul", "chances", "signs", out="gap"),
        node("Mul", "gap", "slope", out="scaled"),
        node("Add", "scaled", "intercept", out="calibrated"),
        node("Sigmoid", "calibrated", out="win_rate_column"),
        node("Squeeze", "win_rate_column", "sequence_axis", out="win_rate"),
    ]
    shape: list[str | int] = ["batch", "seq"]
    inputs = [("input_ids", TensorProto.INT64, shape), ("attention_mask", TensorProto.INT64, shape)]
    return router_model("static_mf", nodes, constants, inputs)
