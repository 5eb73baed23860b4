"""What training makes: a router that infers in the training framework and exports itself as one graph.

Every kind has one module with one definition of the model. `fit` is a function of that module; what it returns has this
protocol, so that measuring, parity, int8, the card and the shipped folder are written once (`jobs.train`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from routing.batching import Tokens
from routing.training.text_input import TextInput
from schemas.artifact import RouterKind


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of a running fit."""

    step: int
    steps: int
    loss: float
    """Mean training loss since the report before."""
    validation_loss: float | None = None
    apgr: float | None = None
    """APGR on the held-out labels; both are null between validations."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a fit needs besides data and hyperparameters: seed, machine, and where to tell and keep things."""

    seed: int
    threads: int
    device: str
    """`cpu`, `cuda` or `auto`."""
    report: Callable[[Progress], None]
    checkpoints: Path | None = None
    """Folder of resumable checkpoints; null keeps none."""


class TrainedRouter(Protocol):
    """A fitted router of any kind."""

    @property
    def kind(self) -> RouterKind:
        """Its family, for the card."""

    @property
    def text(self) -> TextInput:
        """How prompts become the tokens that it reads."""

    def win_rates(self, rows: Tokens) -> NDArray[np.float64]:
        """Return the training framework's win rates of tokenized prompts (`text.tokens`), shape (n,), no noise."""

    def graph(self) -> onnx.ModelProto:
        """Return the graph: `input_ids`, `attention_mask` int64 [batch, sequence] -> `win_rate` float32 [batch]."""
