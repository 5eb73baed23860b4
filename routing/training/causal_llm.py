"""The router `causal_llm`: a causal language model grades the weak model's answer unseen, by label tokens.

After RouteLLM (arXiv 2406.18665, section 4.2 and its code): an instruction around the prompt, five labels [[1]]..[[5]]
for how the weak model's answer compares with the strong one's, win rate = 1 - P([[4]]) - P([[5]]). The probabilities
come from one forward pass: the label logits behind the opened brackets "[[", where the digit would follow. Nothing is
generated, and of the output head only the five label rows exist: they begin as the rows of the digits and are trained.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from routing.errors import ConfigError
from routing.training.base_models import Base, LoraConfig, adapt, checkpoint_activations, load_causal_lm, merge
from routing.training.bert import specials
from routing.training.dataset import TrainingSet
from routing.training.loop import LoopConfig
from routing.training.router import Run
from routing.training.text_input import TextInput
from routing.training.token_classifier import Classes, TokenClassifier, TokenRouter, fit_classifier, frame
from schemas.artifact import Truncation

TEMPLATE = Path(__file__).parent / "templates" / "causal_llm.txt"
"""The instruction; `{prompt}` stands once where the prompt goes."""

ANSWER = "[["
"""Opens the answer, so that the next token is the digit of a label."""

LABELS = (1, 2, 3, 4, 5)
WEAK_ENOUGH = (4, 5)
"""Labels that speak against the strong model (RouteLLM's rule)."""

_SLOT = "{prompt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalLlmConfig:
    """Hyperparameters of the router `causal_llm`."""

    base: str | None = None
    """Folder, GGUF file or hub id of a causal LM; null is the installed SmolLM2-135M-Instruct."""
    template: Path = TEMPLATE
    chat: bool = True
    """Puts the instruction into the base's chat format, if it has one."""
    win_label: int = 1
    """Label of a prompt on which the strong model won."""
    tie_label: int = 4
    loss_label: int = 5
    lora: LoraConfig | None = None
    """Null trains every weight."""
    gradient_checkpointing: bool = False
    """Computes activations twice to keep fewer of them."""
    head_tokens: int = 384
    """Tokens read from the start of a prompt."""
    tail_tokens: int = 128
    """Tokens read from the end of a longer one."""
    loop: LoopConfig

    def __post_init__(self) -> None:
        labels = (self.win_label, self.tie_label, self.loss_label)
        if not set(labels) <= set(LABELS) or self.win_label in WEAK_ENOUGH or self.loss_label not in WEAK_ENOUGH:
            raise ConfigError(
                f"labels are 1..5, win_label one of 1..3 and loss_label 4 or 5, got {labels} for win, tie and loss"
            )


def fit_causal_llm(dataset: TrainingSet, config: CausalLlmConfig, run: Run) -> TokenRouter:
    """Fine-tune a causal language model on the labels.

    Raises:
        InputMissingError: the base or the template is not there.
        ConfigError: a template without its slot, prompts longer than the base reads, digits that are no tokens, or see
            `routing.training.loop`.
    """
    base = load_causal_lm(config.base)
    text = instruction(base, config)
    frame(text, longest=getattr(base.model.config, "max_position_embeddings", None))
    if config.gradient_checkpointing:
        checkpoint_activations(base.model)
    classes = Classes(
        values=tuple(float(label not in WEAK_ENOUGH) for label in LABELS),
        win=LABELS.index(config.win_label),
        tie=LABELS.index(config.tie_label),
        loss=LABELS.index(config.loss_label),
    )
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        module = TokenClassifier(
            adapt(base.model.base_model, config.lora),
            label_rows(base.model, base.tokenizer),
            pooling="last",
            dropout=0.0,
            values=classes.values,
        )
    fit_classifier(
        module, text, dataset, classes, config.loop, run, identity=f"causal_llm {config} {text.prefix} {text.suffix}"
    )
    module.base = merge(module.base, config.lora)
    return TokenRouter("causal_llm", text, module)


def instruction(base: Base, config: CausalLlmConfig) -> TextInput:
    """Return the text input whose prefix and suffix are the instruction, in the base's chat format if asked for.

    Raises:
        ConfigError: the template cannot be read, or does not hold `{prompt}` exactly once.
    """
    try:
        template = config.template.read_text("utf-8").strip()
    except OSError as error:
        raise ConfigError(f"template {config.template} cannot be read ({error.strerror}); check template") from error
    if template.count(_SLOT) != 1:
        raise ConfigError(f"template {config.template} must hold {_SLOT} once, got it {template.count(_SLOT)} times")
    chat = base.chat if config.chat else None
    leading = specials(base.tokenizer).prefix if chat is None else ()
    whole = f"{template}\n\n" if chat is None else chat(template)
    before, behind = whole.split(_SLOT)
    return TextInput(
        tokenizer=base.tokenizer,
        truncation=Truncation(head=config.head_tokens, tail=config.tail_tokens),
        prefix=(*leading, *_ids(base.tokenizer, before)),
        suffix=_ids(base.tokenizer, behind + ANSWER),
    )


def label_rows(model: Any, tokenizer: Tokenizer) -> nn.Linear:
    """Return the output head cut to the labels: its rows of the digits 1 to 5, without a bias, to be trained.

    Raises:
        ConfigError: a digit is not one token behind the opened brackets.
    """
    opened = len(_ids(tokenizer, ANSWER))
    digits = [_ids(tokenizer, f"{ANSWER}{label}")[opened:] for label in LABELS]
    if any(len(digit) != 1 for digit in digits):
        raise ConfigError(
            f"the base's tokenizer does not write the digits behind {ANSWER!r} as one token each: {digits}"
        )
    head = model.get_output_embeddings()
    rows = nn.Linear(head.in_features, len(LABELS), bias=False)
    with torch.no_grad():
        rows.weight.copy_(head.weight[[digit[0] for digit in digits]])
    return rows


def _ids(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False).ids)
