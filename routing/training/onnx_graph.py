"""Writing ONNX graphs node by node: what every exported router shares."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 9
"""The format that came with opset 18's generation of runtimes; newer ones read it as well. Graphs that are
composed must share it."""

Input = tuple[str, int, list[str | int]]
"""Name, element type (`TensorProto.INT64`, ...) and shape of a graph input; a name in the shape is a dynamic axis."""


def node(operator: str, *inputs: str, out: str, **attributes: int | list[int]) -> onnx.NodeProto:
    """Return a node with one output, named after it; attributes stay in the order given, so bytes are reproducible."""
    made = helper.make_node(operator, list(inputs), [out], name=out)
    made.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return made


def router_model(
    name: str, nodes: Sequence[onnx.NodeProto], constants: Mapping[str, NDArray[Any]], inputs: Sequence[Input]
) -> onnx.ModelProto:
    """Return a checked model from its inputs to `win_rate` float32 [batch]."""
    graph = helper.make_graph(
        list(nodes),
        name,
        inputs=[helper.make_tensor_value_info(*value) for value in inputs],
        outputs=[helper.make_tensor_value_info("win_rate", TensorProto.FLOAT, ["batch"])],
        initializer=[numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="nightroute"
    )
    onnx.checker.check_model(model, full_check=True)
    return model
