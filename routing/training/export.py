"""Writes a router artifact: graph, tokenizer, card. Nothing appears before the graph agrees with torch."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from routing.artifact import CARD, GRAPH, TOKENIZER, file_sha256
from routing.batching import Tokens, pad, token_batches
from routing.errors import ArtifactError, DataError
from schemas.artifact import RouterCard

PARITY_TOLERANCE = 1e-4
MIN_PARITY_PROMPTS = 1_000


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the exported graph is from the training framework."""

    max_error: float
    """Largest |difference| in win rate."""
    mean_error: float
    win_rates: NDArray[np.float64]
    """What the graph said, shape (prompts,)."""

    @property
    def prompts(self) -> int:
        """Prompts compared."""
        return len(self.win_rates)


class Graph:
    """An exported graph in onnxruntime, run as the nightly job runs it."""

    def __init__(self, model: onnx.ModelProto, *, threads: int, token_budget: int = 65_536) -> None:
        self.model = model
        self._token_budget = token_budget
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def win_rates(self, rows: Tokens) -> NDArray[np.float64]:
        """Return the win rate of each tokenized prompt, shape (len(rows),), in order."""
        lengths = np.array([len(row) for row in rows], np.int64)
        out = np.empty(len(rows), np.float64)
        for index, width in token_batches(lengths, budget=self._token_budget):
            ids, mask = pad([rows[row] for row in index], width)
            out[index] = self._session.run(["win_rate"], {"input_ids": ids, "attention_mask": mask})[0]
        return out


def check_enough(prompts: int) -> None:
    """Refuse to check an export on few prompts; called before a fit that takes hours, too.

    Raises:
        DataError: fewer than `MIN_PARITY_PROMPTS`.
    """
    if prompts < MIN_PARITY_PROMPTS:
        raise DataError(
            f"the export is checked on at least {MIN_PARITY_PROMPTS} real prompts, got {prompts}; use more data, "
            "a larger split.held_out_share or larger evaluation sets"
        )


def check_replaceable(folder: Path) -> None:
    """Refuse to write over what is no router artifact; called before a fit that takes hours, too.

    Raises:
        ArtifactError: `folder` exists and is no router artifact.
    """
    if folder.exists() and not (folder / CARD).is_file():
        raise ArtifactError(f"{folder} exists and holds no {CARD}; it is not replaced: name another output folder")


def check_parity(graph: Graph, rows: Tokens, expected: NDArray[np.float64]) -> Parity:
    """Compare the graph with the training framework.

    Args:
        graph: The exported graph.
        rows: Tokens of at least `MIN_PARITY_PROMPTS` real prompts that were held out.
        expected: The training framework's win rates, shape (len(rows),).

    Raises:
        DataError: too few prompts.
        ArtifactError: a win rate differs by more than `PARITY_TOLERANCE`.
    """
    check_enough(len(rows))
    rates = graph.win_rates(rows)
    errors = np.abs(rates - expected)
    error = float(errors.max())
    if not error <= PARITY_TOLERANCE:
        raise ArtifactError(
            f"the exported graph differs from the training framework by {error:.2e} in win rate, at most "
            f"{PARITY_TOLERANCE:.0e} is allowed; nothing was written: this is a bug of the export, report it"
        )
    return Parity(max_error=error, mean_error=float(errors.mean()), win_rates=rates)


def write_artifact(
    folder: Path,
    model: onnx.ModelProto,
    tokenizer: Tokenizer,
    card: Callable[[dict[str, str]], RouterCard],
    *,
    extras: Mapping[str, bytes] | None = None,
) -> RouterCard:
    """Write an artifact folder in one step: a reader sees the old one or the new one.

    Args:
        folder: Replaced if it is there.
        model: The checked graph.
        tokenizer: Saved without truncation and padding.
        card: Makes the card from the digests of the files.
        extras: File name -> content of what lies beside them, such as the picture of the loss.

    Raises:
        ArtifactError: `folder` exists and is no router artifact, so it is not replaced.
    """
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".artifact-", dir=folder.parent) as scratch:
        staged = Path(scratch) / "new"
        staged.mkdir()
        (staged / GRAPH).write_bytes(model.SerializeToString(deterministic=True))
        bare = Tokenizer.from_str(tokenizer.to_str())
        bare.no_truncation()
        bare.no_padding()
        bare.save(str(staged / TOKENIZER))
        for name, content in (extras or {}).items():
            (staged / name).write_bytes(content)
        written = card({path.name: file_sha256(path) for path in sorted(staged.iterdir())})
        (staged / CARD).write_text(written.model_dump_json(indent=2) + "\n", "utf-8")
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        staged.rename(folder)
    return written
