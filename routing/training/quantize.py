"""int8: smaller and faster graphs of the fine-tuned routers, and what that changes.

Weights of matrix products become 7-bit integers with one scale per output channel; what they are multiplied with
becomes 8-bit integers at night, with one scale per token. Tables of tokens and positions, which are read and not
multiplied, keep int8 rows with one float32 scale each. onnxruntime's own dynamic quantization differs in two ways that
a router cannot have: its one scale for a whole batch lets a win rate depend on the prompts beside it, and 8-bit weights
overflow 16-bit sums on CPUs without VNNI, so that two machines score one prompt differently.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import polars as pl
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from routing.errors import DataError
from routing.routers import DECIMALS
from routing.split import by_strong_share, is_strong
from routing.training.onnx_graph import node
from schemas.artifact import Quantization

SCHEME = "int8: 7-bit weights per channel, 8-bit activations per token, 8-bit tables per row"

STRONG_SHARES = (0.2, 0.5, 0.8)

_LARGEST_WEIGHT = 63
"""255 x 63, twice, still fits into the 16 bits in which CPUs without VNNI add pairs of products."""

_LARGEST = 127
"""Of a rounded activation, before it is shifted to 0..255, and of a table's entry."""

_MIN_COLUMNS = 16
"""Narrower matrices stay float32: a classification head weighs nothing, and every win rate passes through it."""

_CONSTANTS: dict[str, NDArray[Any]] = {
    "int8_largest": np.array(_LARGEST, np.float32),
    "int8_smallest": np.array(1e-12, np.float32),  # range of a vector of zeros
    "int8_one": np.array(1.0, np.float32),
    "int8_shift": np.array(128, np.uint8),
    "int8_last_axis": np.array([-1], np.int64),
}

_MIN_TABLE_BYTES = 100_000
"""Smaller tables stay float32, because they would save little."""


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph in int8, with the same inputs and outputs.

    Args:
        model: A float32 graph; it is not changed.
    """
    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    _quantize_products(smaller.graph)
    _quantize_tables(smaller.graph)
    onnx.checker.check_model(smaller, full_check=True)
    return smaller


def compare(fp32: NDArray[np.float64], int8: NDArray[np.float64]) -> Quantization:
    """Return what int8 changed on some prompts: errors, and how many would go to the other model.

    Both sides are rounded and cut at each of `STRONG_SHARES` as the nightly job does it (`routing.split`).

    Args:
        fp32: Win rates of the float32 graph, shape (n,).
        int8: Win rates of the int8 graph, same prompts in the same order.

    Raises:
        DataError: no prompts, or different numbers of them.
    """
    if fp32.shape != int8.shape or not len(fp32):
        raise DataError(f"win rates of the same prompts are compared, got shapes {fp32.shape} and {int8.shape}")
    error = np.abs(fp32 - int8)
    sides = [_sides(rates) for rates in (fp32, int8)]
    return Quantization(
        scheme=SCHEME,
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        flips={str(share): float((sides[0][share] != sides[1][share]).mean()) for share in STRONG_SHARES},
    )


def _sides(rates: NDArray[np.float64]) -> dict[float, NDArray[np.bool_]]:
    """Return which prompts go to the strong model at each share."""
    scored = pl.DataFrame({"win_rate": rates.round(DECIMALS)}).with_columns(
        tie_key=pl.int_range(pl.len(), dtype=pl.UInt64)
    )
    return {
        share: scored.select(is_strong(by_strong_share(scored, share))).to_series().to_numpy()
        for share in STRONG_SHARES
    }


def _quantize_products(graph: onnx.GraphProto) -> None:
    """Replace `x W` by `round(x / s) round(W / t) * s * t`, the product in int32."""
    matrices = {weight.name: weight for weight in graph.initializer if _is_matrix(weight)}
    matrices = {name: matrix for name, matrix in matrices.items() if all(_multiplies(n, name) for n in graph.node)}
    rounded: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for made in graph.node:
        if made.op_type != "MatMul" or made.input[1] not in matrices:
            nodes.append(made)
            continue
        if made.input[0] not in rounded:
            nodes += _rounding(made.input[0])
            rounded.add(made.input[0])
        nodes += _product(made)
    weights = [weight for weight in graph.initializer if weight.name not in matrices]
    for name, matrix in matrices.items():
        weights += _int8(name, numpy_helper.to_array(matrix), axis=0, largest=_LARGEST_WEIGHT)
    weights += [numpy_helper.from_array(value, name) for name, value in _CONSTANTS.items()]
    _replace(graph, nodes, weights)


def _is_matrix(weight: onnx.TensorProto) -> bool:
    return weight.data_type == TensorProto.FLOAT and len(weight.dims) == 2 and weight.dims[1] >= _MIN_COLUMNS


def _multiplies(made: onnx.NodeProto, matrix: str) -> bool:
    """Return whether a node leaves a matrix alone or has it on the right of a product."""
    return matrix not in made.input or (made.op_type == "MatMul" and list(made.input).index(matrix) == 1)


def _rounding(x: str) -> list[onnx.NodeProto]:
    """Write `x_values` uint8, shifted by 128, and `x_scales`, one for each vector along the last axis."""
    return [
        node("Abs", x, out=f"{x}_sizes"),
        node("ReduceMax", f"{x}_sizes", "int8_last_axis", out=f"{x}_largest", keepdims=1),
        node("Max", f"{x}_largest", "int8_smallest", out=f"{x}_range"),
        node("Div", f"{x}_range", "int8_largest", out=f"{x}_scales"),
        node("Div", x, f"{x}_scales", out=f"{x}_scaled"),
        node("QuantizeLinear", f"{x}_scaled", "int8_one", "int8_shift", out=f"{x}_values"),
    ]


def _product(product: onnx.NodeProto) -> list[onnx.NodeProto]:
    (x, matrix), out = product.input, product.output[0]
    return [
        node("MatMulInteger", f"{x}_values", f"{matrix}_values", "int8_shift", out=f"{out}_whole"),
        node("Cast", f"{out}_whole", out=f"{out}_floats", to=TensorProto.FLOAT),
        node("Mul", f"{out}_floats", f"{x}_scales", out=f"{out}_rows"),
        node("Mul", f"{out}_rows", f"{matrix}_scales", out=out),
    ]


def _quantize_tables(graph: onnx.GraphProto) -> None:
    """Replace `Gather(table, tokens)` by `Cast(Gather(int8 rows, tokens)) * Gather(scales, tokens)`."""
    tables = {weight.name: weight for weight in graph.initializer if _is_table(weight)}
    tables = {name: table for name, table in tables.items() if all(_reads_rows(n, name) for n in graph.node)}
    nodes = [part for read in graph.node for part in _reading(read, tables)]
    weights = [weight for weight in graph.initializer if weight.name not in tables]
    for name, table in tables.items():
        weights += _int8(name, numpy_helper.to_array(table), axis=1, largest=_LARGEST)
    _replace(graph, nodes, weights)


def _is_table(weight: onnx.TensorProto) -> bool:
    size = 4 * int(np.prod(weight.dims))
    return weight.data_type == TensorProto.FLOAT and len(weight.dims) == 2 and size >= _MIN_TABLE_BYTES


def _reads_rows(read: onnx.NodeProto, table: str) -> bool:
    """Return whether a node leaves a table alone or gathers whole rows of it."""
    if table not in read.input:
        return True
    plain = all(attribute.i == 0 for attribute in read.attribute)  # axis of Gather, batch_dims of GatherND
    return read.op_type in ("Gather", "GatherND") and read.input[0] == table and plain


def _reading(read: onnx.NodeProto, tables: dict[str, onnx.TensorProto]) -> Iterator[onnx.NodeProto]:
    if not read.input or read.input[0] not in tables:
        yield read
        return
    (table, tokens), out = read.input, read.output[0]
    yield node(read.op_type, f"{table}_values", tokens, out=f"{out}_row")
    yield node(read.op_type, f"{table}_scales", tokens, out=f"{out}_row_scale")
    yield node("Cast", f"{out}_row", out=f"{out}_row_floats", to=TensorProto.FLOAT)
    yield node("Mul", f"{out}_row_floats", f"{out}_row_scale", out=out)


def _int8(name: str, weight: NDArray[np.float32], *, axis: int, largest: int) -> list[onnx.TensorProto]:
    """Return `name_values` int8 in -largest..largest and `name_scales`, with one scale for each line along the axis."""
    scales = np.abs(weight).max(axis=axis, keepdims=True) / largest
    safe = np.where(scales > 0, scales, 1.0)  # a row of zeros, e.g. that of padding
    return [
        numpy_helper.from_array(np.rint(weight / safe).astype(np.int8), f"{name}_values"),
        numpy_helper.from_array(scales.astype(np.float32), f"{name}_scales"),
    ]


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto]) -> None:
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
