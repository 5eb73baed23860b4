"""The baselines that every report shows: `length`, `random` and `constant`, as routers with graphs of their own."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from routing.batching import Tokens
from routing.errors import ConfigError
from routing.training.dataset import TrainingSet
from routing.training.logistic import by_prompt, logistic, sigmoid
from routing.training.onnx_graph import Input, node, router_model
from routing.training.router import Run
from routing.training.text_input import TextInput
from schemas.artifact import RouterKind

Floats = NDArray[np.float64]

PRIME = 2**31 - 1
"""Modulus of the random router's hash; a prime with no factor 5 in PRIME - 1, so fifth powers are a permutation."""

_BITS = 24
"""Digits of a random win rate: as many as float32 holds exactly."""
_TOKEN_INPUTS: list[Input] = [
    ("input_ids", TensorProto.INT64, ["batch", "sequence"]),
    ("attention_mask", TensorProto.INT64, ["batch", "sequence"]),
]


@dataclass(frozen=True, slots=True)
class LengthConfig:
    """Hyperparameters of the baseline `length`."""

    smallest_slope: float = 0.05
    """Least slope over the log of the length: more tokens mean the strong model even where the labels disagree."""


@dataclass(frozen=True, slots=True)
class ConstantConfig:
    """Hyperparameters of the baseline `constant`."""

    win_rate: float | None = None
    """In [0, 1]; null takes the mean of the labels."""


@dataclass(frozen=True, slots=True)
class LengthRouter:
    """More tokens, more strong: win_rate = sigmoid(slope * log(1 + tokens read) + intercept)."""

    text: TextInput
    slope: float
    """Above zero."""
    intercept: float
    kind: RouterKind = field(default="length", init=False)

    def win_rates(self, rows: Tokens) -> Floats:
        """Return win rates of tokenized prompts, shape (n,), rising with the number of tokens."""
        return sigmoid(self.slope * _log_length(rows) + self.intercept)

    def graph(self) -> onnx.ModelProto:
        """Return `input_ids`, `attention_mask` int64 [batch, sequence] -> `win_rate` float32 [batch]."""
        constants: dict[str, NDArray[Any]] = {
            "slope": np.array(self.slope, np.float32),
            "intercept": np.array(self.intercept, np.float32),
            "one": np.array(1.0, np.float32),
            "sequence_axis": np.array([1], np.int64),
        }
        nodes = [
            node("ReduceSum", "attention_mask", "sequence_axis", out="tokens", keepdims=0),
            node("Cast", "tokens", out="length", to=TensorProto.FLOAT),
            node("Add", "length", "one", out="length_and_one"),
            node("Log", "length_and_one", out="log_length"),
            node("Mul", "log_length", "slope", out="scaled"),
            node("Add", "scaled", "intercept", out="logit"),
            node("Sigmoid", "logit", out="win_rate"),
        ]
        return router_model("length", nodes, constants, _TOKEN_INPUTS)


@dataclass(frozen=True, slots=True)
class RandomRouter:
    """A seeded hash of the tokens, uniform in [0, 1): equal prompts get equal win rates, on any machine.

    With h(i) = (i + seed)^5 mod PRIME for position i, the hash is (seed + sum of h(i) * (token_i + 1) mod PRIME)^5 mod
    PRIME, whose leading 24 bits are the win rate. Whole numbers only, so the graph gives these very values.
    """

    text: TextInput
    seed: int
    """In 0..PRIME - 1."""
    kind: RouterKind = field(default="random", init=False)

    def win_rates(self, rows: Tokens) -> Floats:
        """Return win rates of tokenized prompts, shape (n,)."""
        lengths = np.array([len(row) for row in rows], np.int64)
        sums = np.zeros(len(rows), np.int64)
        filled = np.flatnonzero(lengths)
        if len(filled):
            starts = np.cumsum(lengths[filled]) - lengths[filled]
            tokens = np.concatenate([rows[row] for row in filled])
            position = np.arange(len(tokens)) - np.repeat(starts, lengths[filled])
            sums[filled] = np.add.reduceat(_fifth_power(position + self.seed) * (tokens + 1) % PRIME, starts)
        return (_fifth_power(sums + self.seed) >> (31 - _BITS)) / 2.0**_BITS

    def graph(self) -> onnx.ModelProto:
        """Return `input_ids`, `attention_mask` int64 [batch, sequence] -> `win_rate` float32 [batch]."""
        constants: dict[str, NDArray[Any]] = {
            "seed": np.array(self.seed, np.int64),
            "prime": np.array(PRIME, np.int64),
            "zero": np.array(0, np.int64),
            "one": np.array(1, np.int64),
            "low_bits": np.array(2 ** (31 - _BITS), np.int64),
            "unit": np.array(2.0**-_BITS, np.float32),
            "sequence_axis": np.array([1], np.int64),
            "scalar": np.empty(0, np.int64),
        }
        nodes = [
            node("Shape", "input_ids", out="width_vector", start=1, end=2),
            node("Reshape", "width_vector", "scalar", out="width"),
            node("Range", "zero", "width", "one", out="position"),
            *_fifth_power_nodes("position", "factor"),
            node("Add", "input_ids", "one", out="token"),
            node("Mul", "token", "factor", out="product"),
            node("Mod", "product", "prime", out="term"),
            node("Mul", "term", "attention_mask", out="visible"),
            node("ReduceSum", "visible", "sequence_axis", out="sum", keepdims=0),
            *_fifth_power_nodes("sum", "hash"),
            node("Div", "hash", "low_bits", out="bits"),
            node("Cast", "bits", out="digits", to=TensorProto.FLOAT),
            node("Mul", "digits", "unit", out="win_rate"),
        ]
        return router_model("random", nodes, constants, _TOKEN_INPUTS)


@dataclass(frozen=True, slots=True)
class ConstantRouter:
    """One win rate for all."""

    text: TextInput
    win_rate: float
    kind: RouterKind = field(default="constant", init=False)

    def win_rates(self, rows: Tokens) -> Floats:
        """Return the win rate for each prompt, shape (n,)."""
        return np.full(len(rows), self.win_rate)

    def graph(self) -> onnx.ModelProto:
        """Return `input_ids`, `attention_mask` int64 [batch, sequence] -> `win_rate` float32 [batch]."""
        nodes = [
            node("Shape", "input_ids", out="batch_vector", start=0, end=1),
            node("Expand", "constant", "batch_vector", out="win_rate"),
        ]
        return router_model("constant", nodes, {"constant": np.array([self.win_rate], np.float32)}, _TOKEN_INPUTS)


def fit_length(dataset: TrainingSet, text: TextInput, config: LengthConfig, run: Run) -> LengthRouter:
    """Fit a logistic regression on the log of the length; where its slope is too small, on the least slope.

    Args:
        dataset: Of which `labels` is read.
        text: How prompts become tokens; only tokens that are read count.
        config: Hyperparameters.
        run: Not used: nothing is drawn.

    Raises:
        ConfigError: the least slope is not above zero.
    """
    del run
    if not config.smallest_slope > 0:
        raise ConfigError(f"length: smallest_slope must be above 0, got {config.smallest_slope}")
    labels = by_prompt(dataset.labels)
    length = _log_length(text.tokens(labels["prompt"].to_list()))
    target, weight = labels["target"].to_numpy(), labels["weight"].to_numpy()
    # The penalty only keeps a separable set of labels finite.
    intercept, slope = logistic(length[:, None], target, weight, decay=1e-6)
    if slope < config.smallest_slope:
        slope = config.smallest_slope
        intercept = _intercept(slope * length, target, weight)
    return LengthRouter(text, float(slope), float(intercept))


def fit_random(text: TextInput, run: Run) -> RandomRouter:
    """Return the random router of the run's seed."""
    return RandomRouter(text, int(np.random.default_rng(run.seed).integers(1, PRIME)))


def fit_constant(dataset: TrainingSet, text: TextInput, config: ConstantConfig, run: Run) -> ConstantRouter:
    """Return the router of one win rate, by default the weighted mean of the training labels.

    Args:
        dataset: Of which `labels` is read.
        text: How prompts become tokens; they are counted, not scored.
        config: Hyperparameters.
        run: Not used: nothing is drawn.

    Raises:
        ConfigError: the win rate is outside [0, 1].
    """
    del run
    if config.win_rate is None:
        labels = by_prompt(dataset.labels)
        return ConstantRouter(text, float(np.average(labels["target"], weights=labels["weight"])))
    if not 0.0 <= config.win_rate <= 1.0:
        raise ConfigError(f"constant: win_rate must lie in [0, 1], got {config.win_rate}")
    return ConstantRouter(text, config.win_rate)


def _log_length(rows: Tokens) -> Floats:
    return np.log1p(np.array([len(row) for row in rows], np.float64))


def _intercept(offset: Floats, target: Floats, weight: Floats) -> float:
    """Return the intercept at which the mean win rate is the mean target, by bisection."""
    low, high = -50.0, 50.0
    for _ in range(100):
        middle = (low + high) / 2.0
        rising = weight @ (sigmoid(offset + middle) - target) < 0
        low, high = (middle, high) if rising else (low, middle)
    return (low + high) / 2.0


def _fifth_power(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return values^5 mod PRIME for values >= 0; no product passes 2^62."""
    rest = values % PRIME
    square = rest * rest % PRIME
    return np.asarray(square * square % PRIME * rest % PRIME)


def _fifth_power_nodes(value: str, out: str) -> list[onnx.NodeProto]:
    """`value` -> `out` = (value + seed)^5 mod prime."""
    return [
        node("Add", value, "seed", out=f"{out}_seeded"),
        node("Mod", f"{out}_seeded", "prime", out=f"{out}_rest"),
        node("Mul", f"{out}_rest", f"{out}_rest", out=f"{out}_product_2"),
        node("Mod", f"{out}_product_2", "prime", out=f"{out}_square"),
        node("Mul", f"{out}_square", f"{out}_square", out=f"{out}_product_4"),
        node("Mod", f"{out}_product_4", "prime", out=f"{out}_fourth"),
        node("Mul", f"{out}_fourth", f"{out}_rest", out=f"{out}_product_5"),
        node("Mod", f"{out}_product_5", "prime", out=out),
    ]
