"""The router `bert`: a text encoder with a classification head, fine-tuned in full or with LoRA.

RouteLLM (arXiv 2406.18665, section 4.2) predicts sigmoid(W h_CLS + b). Its published code has three classes (strong
wins, tie, weak wins) and takes 1 - P(tie) - P(weak wins) = P(strong wins) as win rate, so that a tie counts like a loss
of the strong model. Here a tie counts half, as in the labels: win_rate = P(win) + P(tie) / 2.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import nn

from routing.errors import ConfigError
from routing.training.base_models import LoraConfig, adapt, load_text_encoder, merge, positions
from routing.training.dataset import TrainingSet
from routing.training.loop import LoopConfig
from routing.training.router import Run
from routing.training.text_input import TextInput
from routing.training.token_classifier import Classes, TokenClassifier, TokenRouter, fit_classifier, frame
from schemas.artifact import Truncation

BINARY = Classes(values=(1.0, 0.0), win=0, tie=None, loss=1)
"""Wins and losses; a tie is half of each."""

WIN_TIE_LOSS = Classes(values=(1.0, 0.5, 0.0), win=0, tie=1, loss=2)

_HEAD_STD = 0.02
"""Spread of a new head's weights, as in BERT's own initialisation (Devlin et al. 2019)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig:
    """Hyperparameters of the router `bert`."""

    base: str | None = None
    """Path or hub id of an encoder; null is the installed all-MiniLM-L6-v2."""
    pooling: Literal["cls", "mean"] = "mean"
    """What the head reads: sentence-transformers' encoders are trained for the mean, plain BERTs for [CLS]."""
    classes: Literal[2, 3] = 2
    """2: P(strong wins), a tie is half a win. 3: win, tie, loss."""
    dropout: float = 0.1
    """On what the head reads; the base keeps its own."""
    lora: LoraConfig | None = None
    """Null trains every weight."""
    head_tokens: int = 192
    """Tokens read from the start of a prompt."""
    tail_tokens: int = 62
    """Tokens read from the end of a longer one."""
    loop: LoopConfig

    def __post_init__(self) -> None:
        if self.pooling not in ("cls", "mean") or self.classes not in (2, 3) or not 0 <= self.dropout < 1:
            raise ConfigError(
                "bert needs pooling cls or mean, 2 or 3 classes and a dropout in [0, 1), got "
                f"{self.pooling!r}, {self.classes} and {self.dropout}"
            )


class Specials(NamedTuple):
    """What a tokenizer puts around a text."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]


def fit_bert(dataset: TrainingSet, config: BertConfig, run: Run) -> TokenRouter:
    """Fine-tune an encoder on the labels.

    Raises:
        InputMissingError: the base is not there.
        ConfigError: prompts longer than the base reads, LoRA targets that it lacks, or see `routing.training.loop`.
    """
    base = load_text_encoder(config.base)
    around = specials(base.tokenizer)
    text = TextInput(
        tokenizer=base.tokenizer,
        truncation=Truncation(head=config.head_tokens, tail=config.tail_tokens),
        prefix=around.prefix,
        suffix=around.suffix,
    )
    classes = BINARY if config.classes == 2 else WIN_TIE_LOSS
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        module = TokenClassifier(
            adapt(base.model, config.lora),
            _new_head(base.model, len(classes.values)),
            pooling=config.pooling,
            dropout=config.dropout,
            values=classes.values,
        )
    frame(text, longest=positions(base.model))
    fit_classifier(module, text, dataset, classes, config.loop, run, identity=f"bert {config}")
    module.base = merge(module.base, config.lora)
    return TokenRouter("bert", text, module)


def specials(tokenizer: Tokenizer) -> Specials:
    """Return the special tokens that a tokenizer's own post-processing puts before and behind a text."""
    encoding = tokenizer.encode("a")
    text = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    if not text:
        raise ConfigError("the base's tokenizer makes no token of the text 'a'; it is damaged: take another base")
    return Specials(tuple(encoding.ids[: text[0]]), tuple(encoding.ids[text[-1] + 1 :]))


def _new_head(base: Any, classes: int) -> nn.Linear:
    head = nn.Linear(base.config.hidden_size, classes)
    nn.init.normal_(head.weight, std=_HEAD_STD)
    nn.init.zeros_(head.bias)
    return head
