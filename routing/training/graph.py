"""Writes the static router as one ONNX graph: tokens -> win_rate, standard operators only.

The graph is written node by node and not traced from torch: a few lines say exactly what runs at night, the token table
stays int8 until after the gather, and the same numbers give the same bytes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from routing.training.calibration import Calibration
from routing.training.features import SMALLEST_NORM, Features
from routing.training.matrix_factorization import PairHeads
from routing.training.static_table import StaticTable

OPSET = 18
_IR_VERSION = 9
"""The format that came with opset 18's generation of runtimes; newer ones read it as well."""


@dataclass(frozen=True, slots=True)
class StaticRouter:
    """The numbers of the graph, for one pair of models."""

    table: StaticTable
    flags: NDArray[np.int8]
    """Which tokens each count counts, shape (vocabulary, counts); the first column is all ones."""
    heads: PairHeads
    calibration: Calibration

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
        _node("Gather", "token_values", "input_ids", out="values_int8"),
        _node("Cast", "values_int8", out="values", to=TensorProto.FLOAT),
        _node("Gather", "token_scales", "input_ids", out="scales"),
        _node("Cast", "attention_mask", out="mask", to=TensorProto.FLOAT),
        _node("Mul", "scales", "mask", out="token_weights"),
        _node("Unsqueeze", "token_weights", "sequence_axis", out="token_row"),
        _node("MatMul", "token_row", "values", out="pooled_row"),
        _node("Squeeze", "pooled_row", "sequence_axis", out="pooled"),
        # Sum and mean point the same way, so the unit vector needs no division by the count.
        _node("ReduceL2", "pooled", "sequence_axis", out="length"),
        _node("Max", "length", "smallest_norm", out="norm"),
        _node("Div", "pooled", "norm", out="query"),
        _node("Gather", "token_flags", "input_ids", out="flags_int8"),
        _node("Cast", "flags_int8", out="flags", to=TensorProto.FLOAT),
        _node("Unsqueeze", "mask", "sequence_axis", out="mask_row"),
        _node("MatMul", "mask_row", "flags", out="counts_row"),
        _node("Squeeze", "counts_row", "sequence_axis", out="counts"),
        _node("Add", "counts", "one", out="counts_and_one"),
        _node("Log", "counts_and_one", out="shape"),
        _node("Concat", "query", "shape", out="features", axis=1),
        _node("Gemm", "features", "head_weight", "head_bias", out="logits"),
        _node("Sigmoid", "logits", out="chances"),
        _node("MatMul", "chances", "signs", out="gap"),
        _node("Mul", "gap", "slope", out="scaled"),
        _node("Add", "scaled", "intercept", out="calibrated"),
        _node("Sigmoid", "calibrated", out="win_rate_column"),
        _node("Squeeze", "win_rate_column", "sequence_axis", out="win_rate"),
    ]
    shape = ["batch", "seq"]
    graph = helper.make_graph(
        nodes,
        "static_mf",
        inputs=[
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, shape),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, shape),
        ],
        outputs=[helper.make_tensor_value_info("win_rate", TensorProto.FLOAT, ["batch"])],
        initializer=[numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION, producer_name="nightroute"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _node(operator: str, *inputs: str, out: str, **attributes: int) -> onnx.NodeProto:
    node = helper.make_node(operator, list(inputs), [out], name=out)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return node
