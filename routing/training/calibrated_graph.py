"""Adds a calibration to the end of a router's graph, in float64, so that the graph and its formula agree.

The graph of any router of any kind ends with `win_rate`; what is added reads that and writes it anew, by standard
operators only.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from tokenizers import Tokenizer

from routing.artifact import GRAPH, TOKENIZER, RouterArtifact
from routing.batching import pad, token_batches
from routing.calibrating import EDGE, IsotonicMap, PlattMap, WinRateMap
from routing.errors import ArtifactError
from routing.metrics import Floats
from routing.training.export import write_artifact
from routing.training.onnx_graph import node
from routing.training.text_input import TextInput
from schemas.artifact import RouterCard, WinRateCalibration

PARITY_TOLERANCE = 1e-6

PARITY_BUDGET = 8_192
"""Padded tokens of one batch of the parity check."""
PARITY_VECTORS = 1_000
"""Random unit vectors that a graph is compared on which starts at an embedding."""

_PREFIX = "calibration_"
_OUT = "win_rate"
_IN = f"{_PREFIX}in"


def write_calibrated(
    base: RouterArtifact,
    folder: Path,
    win_rate_map: WinRateMap,
    prompts: Sequence[str],
    record: Callable[[float], WinRateCalibration],
    *,
    name: str,
) -> RouterCard:
    """Write a router with a calibration at the end of its graph; everything else of it stays as it is.

    Args:
        base: The router.
        folder: Of the new artifact; replaced if it holds a router.
        win_rate_map: What is added.
        prompts: Texts that the new graph is checked on.
        record: Parity error -> what the card says of the calibration.
        name: On the card.

    Raises:
        ArtifactError: the router is calibrated already, the check fails, or the folder holds something else.
    """
    before = onnx.load(base.graph)
    after = calibrated(before, win_rate_map)
    made = record(parity_error(before, after, win_rate_map, _batches(base, prompts)))
    kept = {file: (base.folder / file).read_bytes() for file in base.card.files if file not in (GRAPH, TOKENIZER)}

    def card(files: dict[str, str]) -> RouterCard:
        quantization = base.card.quantization
        if quantization is not None:
            scheme = f"{quantization.scheme}; errors are those before the calibration"
            quantization = quantization.model_copy(update={"scheme": scheme})
        quantiles = win_rate_map.apply(np.array(base.card.score_quantiles, np.float64)).tolist()
        changes = {"name": name, "files": files, "quantization": quantization, "calibration": made}
        return base.card.model_copy(update=changes | {"score_quantiles": quantiles})

    return write_artifact(folder, after, Tokenizer.from_file(str(base.tokenizer)), card, extras=kept)


def _batches(base: RouterArtifact, prompts: Sequence[str]) -> list[dict[str, NDArray[Any]]]:
    """Inputs as the nightly job makes them."""
    card = base.card
    if card.embedding is not None:
        vectors = np.random.default_rng(card.seed).normal(size=(PARITY_VECTORS, card.embedding.dim)).astype(np.float32)
        return [{"embedding": vectors / np.linalg.norm(vectors, axis=1, keepdims=True)}]
    tokenizer = Tokenizer.from_file(str(base.tokenizer))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    text = TextInput(tokenizer, card.truncation, tuple(card.prefix_tokens), tuple(card.suffix_tokens))
    rows = text.tokens(prompts)
    lengths = np.array([len(row) for row in rows], np.int64)
    batches = []
    for index, width in token_batches(lengths, budget=PARITY_BUDGET):
        ids, mask = pad([rows[row] for row in index], width)
        batches.append({"input_ids": ids, "attention_mask": mask})
    return batches


def calibrated(model: onnx.ModelProto, win_rate_map: WinRateMap) -> onnx.ModelProto:
    """Return the graph with a map of its win rate behind it, same inputs and output.

    Args:
        model: Any router's graph; it is not changed.
        win_rate_map: A `PlattMap` or an `IsotonicMap`.

    Raises:
        ArtifactError: the graph was calibrated before.
    """
    longer = onnx.ModelProto()
    longer.CopyFrom(model)
    graph = longer.graph
    if any(name.startswith(_PREFIX) for made in graph.node for name in made.output):
        raise ArtifactError(
            "this router's graph ends with a calibration already; calibrate the router it was made from"
        )
    for made in graph.node:
        made.name = _IN if made.name == _OUT else made.name
        for names in (made.input, made.output):
            names[:] = [_IN if name == _OUT else name for name in names]
    nodes, constants = _platt(win_rate_map) if isinstance(win_rate_map, PlattMap) else _isotonic(win_rate_map)
    graph.node.append(node("Cast", _IN, out=f"{_PREFIX}wide", to=TensorProto.DOUBLE))
    graph.node.extend(nodes)
    graph.node.append(node("Cast", f"{_PREFIX}done", out=_OUT, to=TensorProto.FLOAT))
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.checker.check_model(longer, full_check=True)
    return longer


def parity_error(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    win_rate_map: WinRateMap,
    batches: Sequence[Mapping[str, NDArray[Any]]],
    *,
    threads: int = 1,
) -> float:
    """Return the largest |graph - formula| in win rate, both from what the graph said before.

    Args:
        before: The router's graph.
        after: The same, calibrated.
        win_rate_map: What was added.
        batches: Inputs of the graph.
        threads: Of one graph run.

    Raises:
        ArtifactError: it is above `PARITY_TOLERANCE`.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    raw, made = (
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for model in (before, after)
    )
    error = 0.0
    for batch in batches:
        expected = win_rate_map.apply(np.asarray(raw.run([_OUT], dict(batch))[0], np.float64))
        error = max(error, float(np.abs(made.run([_OUT], dict(batch))[0] - expected).max()))
    if not error <= PARITY_TOLERANCE:
        raise ArtifactError(
            f"the calibrated graph differs from its formula by {error:.2e} in win rate, at most "
            f"{PARITY_TOLERANCE:.0e} is allowed; nothing was written: this is a bug of the export, report it"
        )
    return error


def _platt(found: PlattMap) -> tuple[list[onnx.NodeProto], dict[str, Floats]]:
    """Sigmoid(slope * logit(win_rate) + intercept)."""
    names = {
        "least": EDGE,
        "most": 1.0 - EDGE,
        "one": 1.0,
        "slope": found.platt.slope,
        "intercept": found.platt.intercept,
    }
    constants = {f"{_PREFIX}{name}": np.array(value, np.float64) for name, value in names.items()}
    steps = [
        ("Clip", ("wide", "least", "most"), "inner"),
        ("Sub", ("one", "inner"), "rest"),
        ("Div", ("inner", "rest"), "odds"),
        ("Log", ("odds",), "logit"),
        ("Mul", ("logit", "slope"), "scaled"),
        ("Add", ("scaled", "intercept"), "shifted"),
        ("Sigmoid", ("shifted",), "done"),
    ]
    return _nodes(steps), constants


def _isotonic(found: WinRateMap) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
    """Straight lines: from the value at 0 on, each segment adds the share of its rise that lies below the win rate."""
    assert isinstance(found, IsotonicMap)
    parts: dict[str, NDArray[Any]] = {
        "starts": found.knots[:-1],
        "widths": np.diff(found.knots),
        "rises": np.diff(found.values),
        "lowest": found.values[0],
        "none": np.array(0.0),
        "whole": np.array(1.0),
        "column_axis": np.array([1], np.int64),
    }
    steps = [
        ("Unsqueeze", ("wide", "column_axis"), "column"),
        ("Sub", ("column", "starts"), "beyond"),
        ("Div", ("beyond", "widths"), "share"),
        ("Clip", ("share", "none", "whole"), "reached"),
        ("MatMul", ("reached", "rises"), "risen"),
        ("Add", ("risen", "lowest"), "done"),
    ]
    return _nodes(steps), {f"{_PREFIX}{name}": value for name, value in parts.items()}


def _nodes(steps: Sequence[tuple[str, tuple[str, ...], str]]) -> list[onnx.NodeProto]:
    return [
        node(operator, *(f"{_PREFIX}{name}" for name in inputs), out=f"{_PREFIX}{out}")
        for operator, inputs, out in steps
    ]
