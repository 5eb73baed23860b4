"""Exports a torch module as one ONNX graph from tokens to one named output, the same bytes for the same weights."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from routing.errors import ConfigError
from routing.training.onnx_graph import IR_VERSION, OPSET

MAX_GRAPH_BYTES = 2**31 - 1
"""A protobuf message, and with it an ONNX file without side files, ends at 2 GB."""

_EXAMPLE = (2, 16)
"""Rows and tokens of the example that the exporter traces; neither ends up in the graph."""

_LOGGERS = ("torch.onnx._internal.exporter._registration", "torch.onnx", "onnxscript")


def check_exportable(parameters: int) -> None:
    """Refuse a model whose float32 graph cannot be written; called before training, not after.

    Raises:
        ConfigError: the graph would pass 2 GB.
    """
    if 4 * parameters > MAX_GRAPH_BYTES:
        raise ConfigError(
            f"the base model has {parameters / 1e6:,.0f} million parameters, a float32 graph of "
            f"{4 * parameters / 1e9:.1f} GB; one ONNX file holds at most 2 GB: choose a base of at most "
            f"{MAX_GRAPH_BYTES // 4_000_000} million parameters"
        )


def export_module(module: nn.Module, *, output: str, dim: int | None = None) -> onnx.ModelProto:
    """Return the graph `input_ids`, `attention_mask` int64 [batch, sequence] -> `output` float32, both axes dynamic.

    Opset `OPSET`, standard operators only, no names, paths or types of the exporting process inside. The module is
    exported in eval mode from the CPU, and is back in its mode and on its device afterwards.

    Args:
        module: `forward(input_ids, attention_mask)`, both int64 (batch, sequence) -> float32 (batch,) or (batch, dim).
        output: Name of the graph's output.
        dim: Width of the output; null where it is a vector.

    Raises:
        ConfigError: the graph would pass 2 GB.
    """
    check_exportable(sum(parameter.numel() for parameter in module.parameters()))
    first = next(module.parameters(), torch.empty(0))
    training = module.training
    module.eval().cpu()
    try:
        traced = _traced(module)
    finally:
        module.train(training).to(first.device)
    model = _clean(traced, output, ["batch"] if dim is None else ["batch", dim])
    onnx.checker.check_model(model, full_check=True)
    return model


def _traced(module: nn.Module) -> onnx.ModelProto:
    ids = torch.ones(_EXAMPLE, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, _EXAMPLE[1] // 2 :] = 0
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    with _quiet():
        program = torch.onnx.export(
            module,
            (ids, mask),
            dynamo=True,
            opset_version=OPSET,
            input_names=["input_ids", "attention_mask"],
            output_names=["result"],
            dynamic_shapes=(axes, axes),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _clean(traced: onnx.ModelProto, output: str, shape: list[str | int]) -> onnx.ModelProto:
    """Number nodes and values, which also ends clashes with the output's name; drop notes that hold source paths."""
    graph = traced.graph
    names = {value.name: value.name for value in graph.input} | {graph.output[0].name: output}
    names |= {weight.name: f"w.{weight.name}" for weight in graph.initializer}
    for place, node in enumerate(graph.node):
        for value in node.output:
            names.setdefault(value, f"v{len(names)}")
        node.input[:] = [names[value] if value else "" for value in node.input]
        node.output[:] = [names[value] if value else "" for value in node.output]
        node.name = f"{node.op_type}_{place}"
        node.doc_string = ""
        del node.metadata_props[:]
    for weight in graph.initializer:
        weight.name = names[weight.name]
        weight.doc_string = ""
        del weight.metadata_props[:]
    tokens = [helper.make_tensor_value_info(v.name, TensorProto.INT64, ["batch", "sequence"]) for v in graph.input]
    cleaned = helper.make_graph(
        list(graph.node),
        "router",
        inputs=tokens,
        outputs=[helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        initializer=sorted(graph.initializer, key=lambda weight: weight.name),
    )
    return helper.make_model(
        cleaned, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="nightroute"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's exporter says about itself: its own deprecated calls, axis names, absent torchvision."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
        warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
