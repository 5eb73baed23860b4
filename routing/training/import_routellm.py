"""RouteLLM's published checkpoints (arXiv 2406.18665, code 0.2.0) as graphs of this project.

Only safetensors are read: a pickle runs code when it is loaded. Each function follows the class of the same kind in
`routellm/routers/routers.py`, whose win rates the graphs reproduce (`tests/published/test_routellm_routers.py`).
"""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from routing.batching import Tokens, pad, token_batches
from routing.errors import ArtifactError, ConfigError, InputMissingError
from routing.training.base_models import positions, quiet
from routing.training.bert import specials
from routing.training.export import PARITY_TOLERANCE, Parity
from routing.training.mf import MfModel
from routing.training.mf_router import BilinearHead
from routing.training.text_input import TextInput
from routing.training.torch_export import check_exportable, export_module
from schemas.artifact import RouterKind, Truncation

STRONG, WEAK = "gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"
"""The pair that RouteLLM's routers were trained and evaluated for."""

EMBEDDING_MODEL, EMBEDDING_DIM = "text-embedding-3-small", 1_536
MAX_EMBEDDING_TOKENS = 8_191
"""Longest input of OpenAI's third-generation embedding models."""

_MODELS = Path(__file__).with_name("routellm_models.txt")
_WEIGHTS = "model.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_LONGEST = 1_000_000
"""Tokenizers without a limit say 1e30."""


def model_names() -> list[str]:
    """Return the names of the rows of an `mf` checkpoint, in order."""
    return [line for line in _MODELS.read_text("utf-8").splitlines() if not line.startswith("#")]


def detect_kind(folder: Path) -> RouterKind:
    """Tell the kind of a checkpoint from its config.

    Raises:
        InputMissingError: there is no readable config.json.
        ConfigError: it is none of the three.
    """
    config = _config(folder)
    if {"num_models", "text_dim", "dim"} <= config.keys():
        return "mf"
    architectures = " ".join(config.get("architectures") or ())
    if "ForSequenceClassification" in architectures:
        return "bert"
    if "ForCausalLM" in architectures:
        return "causal_llm"
    raise ConfigError(
        f"{folder / 'config.json'} is none of RouteLLM's: expected num_models, text_dim and dim (mf), or architectures "
        f"with ForSequenceClassification (bert) or ForCausalLM (causal_llm), got {sorted(config)}; name it with --kind"
    )


def import_mf(folder: Path, *, strong: str = STRONG, weak: str = WEAK) -> BilinearHead:
    """Read an `mf` checkpoint (`MFModel.save_pretrained`): `MatrixFactorizationRouter` for one pair.

    Args:
        folder: Holds model.safetensors and config.json.
        strong: Name of the strong model, one of `model_names()`.
        weak: Name of the weak model.

    Raises:
        InputMissingError: a file is missing.
        ArtifactError: pickled weights, or tensors of other names or shapes.
        ConfigError: an unknown model name.
    """
    config = _config(folder)
    weights = _weights(folder)
    names = model_names()
    unknown = [name for name in (strong, weak) if name not in names]
    if unknown:
        raise ConfigError(f"RouteLLM's mf has no model {unknown}; it has {', '.join(names)}")
    dim, text_dim = int(config.get("dim", 0)), int(config.get("text_dim", 0))
    shapes = {"P.weight": (int(config.get("num_models", 0)), dim), "classifier.0.weight": (1, dim)}
    if config.get("use_proj", True):
        shapes["text_proj.0.weight"] = (dim, text_dim)
    got = {name: tuple(value.shape) for name, value in weights.items()}
    if got != shapes or shapes["P.weight"][0] != len(names):
        raise ArtifactError(
            f"{folder / _WEIGHTS} holds {got}, expected {shapes} with a row for each of {len(names)} models; "
            "it is no mf checkpoint of RouteLLM 0.2.0"
        )
    projection = weights.get("text_proj.0.weight", np.eye(dim, dtype=np.float32))
    model = MfModel(tuple(names), weights["P.weight"], projection, weights["classifier.0.weight"][0])
    return BilinearHead(model.pair(strong=strong, weak=weak))


def mf_parity(found: BilinearHead, model: onnx.ModelProto, *, n: int, seed: int) -> Parity:
    """Compare the graph with the checkpoint on seeded unit vectors, which OpenAI's embeddings are, too.

    Raises:
        ArtifactError: a win rate differs by more than `PARITY_TOLERANCE`.
    """
    vectors = np.random.default_rng(seed).standard_normal((n, found.pair.model.projection.shape[1]))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rates = np.asarray(session.run(["win_rate"], {"embedding": vectors})[0], np.float64)
    errors = np.abs(rates - found.win_rates(vectors))
    if not errors.max() <= PARITY_TOLERANCE:
        raise ArtifactError(
            f"the graph differs from the checkpoint by {errors.max():.2e} in win rate, at most {PARITY_TOLERANCE:.0e} "
            "is allowed; nothing was written: this is a bug of the import, report it"
        )
    return Parity(float(errors.max()), float(errors.mean()), rates)


class _FirstOfThree(nn.Module):
    """`BERTRouter`: 1 - P(tie) - P(weak wins) of a classification model whose first class is a win of the strong."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits.float()
        return torch.softmax(logits, dim=1)[:, 0].clamp(0.0, 1.0)


@dataclass(frozen=True, slots=True)
class ImportedBert:
    """`BERTRouter` as a `TrainedRouter`."""

    text: TextInput
    module: nn.Module
    kind: RouterKind = "bert"

    def win_rates(self, rows: Tokens) -> NDArray[np.float64]:
        """Return win rates of tokenized prompts, shape (n,)."""
        out = np.empty(len(rows), np.float64)
        with torch.no_grad():
            for index, width in token_batches(np.array([len(row) for row in rows], np.int64), budget=8_192):
                ids, mask = pad([rows[row] for row in index], width)
                out[index] = self.module.eval()(torch.from_numpy(ids), torch.from_numpy(mask)).double().numpy()
        return out

    def graph(self) -> onnx.ModelProto:
        """Return the graph: `input_ids`, `attention_mask` int64 [batch, sequence] -> `win_rate` float32 [batch]."""
        return export_module(self.module, output="win_rate")


def import_bert(folder: Path) -> ImportedBert:
    """Read a `bert` checkpoint: a classification model with three labels and its tokenizer.

    A prompt is cut at its end to what the tokenizer allows, as RouteLLM does.

    Raises:
        InputMissingError: a file is missing, or transformers cannot read it.
        ArtifactError: pickled weights, or another number of labels.
    """
    model, tokenizer = load_checkpoint(AutoModelForSequenceClassification, folder)
    if model.config.num_labels != 3:
        raise ArtifactError(
            f"{folder} has {model.config.num_labels} labels, RouteLLM's bert has 3 (strong wins, tie, weak wins); "
            "it is no checkpoint of RouteLLM"
        )
    check_exportable(sum(parameter.numel() for parameter in model.parameters()))
    around = specials(tokenizer.backend_tokenizer)
    longest = min(tokenizer.model_max_length, longest_row(model))
    head = int(longest) - len(around.prefix) - len(around.suffix)
    text = TextInput(bare(tokenizer), Truncation(head=head, tail=0), around.prefix, around.suffix)
    return ImportedBert(text, _FirstOfThree(model).eval())


def longest_row(model: Any) -> int:
    """Return how many tokens a transformers model reads."""
    return positions(model.base_model) or _LONGEST


def bare(tokenizer: Any) -> Tokenizer:
    """Return a transformers tokenizer's own, without truncation and padding."""
    backend: Tokenizer = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_truncation()
    backend.no_padding()
    return backend


def load_checkpoint(kind: Any, folder: Path) -> tuple[Any, Any]:
    """Return model (fp32, in eval mode) and tokenizer of a folder; nothing is downloaded.

    Args:
        kind: A class of transformers with `from_pretrained`.
        folder: Holds config.json, safetensors and the tokenizer.

    Raises:
        InputMissingError: a file is missing, or transformers cannot read it.
        ArtifactError: pickled weights.
    """
    _config(folder)
    _refuse_pickles(folder)
    with quiet():
        try:
            model = kind.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, ImportError, SafetensorError) as error:
            raise InputMissingError(
                f"checkpoint {folder} cannot be loaded ({str(error).splitlines()[0]}); expected config.json, "
                "safetensors and tokenizer.json, as on the hub"
            ) from error
    if not tokenizer.is_fast:
        raise InputMissingError(f"checkpoint {folder} has no tokenizer.json, which the nightly job reads; convert it")
    return model.eval(), tokenizer


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputMissingError(
            f"{folder / 'config.json'} cannot be read; give the folder of a checkpoint of RouteLLM as downloaded from "
            "the hub"
        ) from error
    return config if isinstance(config, dict) else {}


def _weights(folder: Path) -> dict[str, NDArray[Any]]:
    _refuse_pickles(folder)
    try:
        return dict(load_file(folder / _WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{folder / _WEIGHTS} is no safetensors file: {error}; download it again") from error


def _refuse_pickles(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ArtifactError(
            f"{folder} holds only pickled weights ({', '.join(pickles)}), which run code when they are loaded; take "
            "the safetensors of the checkpoint, or convert them where you trust them"
        )
    raise InputMissingError(f"{folder} holds no {_WEIGHTS}; give the folder of a checkpoint as downloaded from the hub")
