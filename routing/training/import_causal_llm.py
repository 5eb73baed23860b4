"""RouteLLM's `causal_llm` checkpoint as a graph: one forward pass in place of its generation (code 0.2.0)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from routing.errors import ArtifactError, ConfigError, InputMissingError
from routing.training.bert import specials
from routing.training.import_routellm import bare, load_checkpoint, longest_row
from routing.training.text_input import TextInput
from routing.training.token_classifier import TokenClassifier, TokenRouter
from routing.training.torch_export import check_exportable
from schemas.artifact import Truncation

LABELS = ("[[1]]", "[[2]]", "[[3]]", "[[4]]", "[[5]]")
MAX_LEAD_IN = 5
"""Tokens that RouteLLM lets the model write before the label (`max_new_tokens` of 6, the label included)."""

MIN_SAME_TOKENS = 0.9
"""Share of prompts whose framed tokens must be those of the whole text."""

_SLOT = "\x00prompt\x00"


class _Llama3Format(NamedTuple):
    """Chat format of RouteLLM's only causal model, Llama 3 (`PROMPT_FORMAT_CONFIGS`)."""

    system: str = "<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>"
    user: str = "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"


@dataclass(frozen=True, slots=True)
class ImportedCausalLlm:
    """`CausalLLMRouter` with one forward pass in place of its generation."""

    router: TokenRouter
    lead_in: tuple[int, ...]
    """Tokens that the model writes before the label; they are part of the suffix."""
    same_tokens: float
    """Share of the prompts that are tokenized as RouteLLM tokenizes the whole text at once."""


def import_causal_llm(folder: Path, prompts: Sequence[str], *, probes: int = 8) -> ImportedCausalLlm:
    """Read a `causal_llm` checkpoint: a Llama-style model, tokenizer, system and classifier message.

    RouteLLM lets the model write up to six tokens and reads the label logits where the first label appears. What comes
    before the label (an answer's header) is found by writing it for a few prompts and put behind every prompt, so that
    one forward pass gives the same logits.

    Args:
        folder: The checkpoint with `system_ft_*.txt` and `classifier_ft_*.txt`.
        prompts: Real prompts, to find the lead-in and to compare tokens.
        probes: Prompts that are written for.

    Raises:
        InputMissingError: a file is missing.
        ArtifactError: pickled weights, no label tokens, or a model that writes no label where RouteLLM reads one.
        ConfigError: a graph of more than 2 GB, or a message whose slot merges with the prompt's tokens.
    """
    system, message = (_message(folder, name) for name in ("system_ft", "classifier_ft"))
    model, loaded = load_checkpoint(AutoModelForCausalLM, folder)
    check_exportable(sum(parameter.numel() for parameter in model.base_model.parameters()))
    tokenizer = bare(loaded)
    tokenizer.add_special_tokens([AddedToken(label, special=True) for label in LABELS])
    labels = [tokenizer.encode(label, add_special_tokens=False).ids[0] for label in LABELS]
    rows = model.get_output_embeddings().weight
    if max(labels) >= len(rows) or labels != list(range(labels[0], labels[0] + len(LABELS))):
        raise ArtifactError(
            f"{folder} has label tokens {labels} and {len(rows)} output rows; RouteLLM adds {', '.join(LABELS)} as the "
            "last tokens of the vocabulary: take the tokenizer of the checkpoint"
        )
    before, behind = _whole(system, message, _SLOT).split(_SLOT)
    bos = specials(loaded.backend_tokenizer).prefix
    prefix, suffix = (*bos, *_ids(tokenizer, before)), _ids(tokenizer, behind)
    wholes = [(*bos, *_ids(tokenizer, _whole(system, message, prompt))) for prompt in prompts]
    lead_in = _lead_in(model, wholes[:probes], first_label=labels[0])
    head = longest_row(model) - len(prefix) - len(suffix) - len(lead_in)
    text = TextInput(tokenizer, Truncation(head=head, tail=0), prefix, (*suffix, *lead_in))
    module = TokenClassifier(
        model.base_model, _rows(rows, labels), pooling="last", dropout=0.0, values=(1.0, 1.0, 1.0, 0.0, 0.0)
    )
    framed = text.tokens(prompts)
    same = sum(tuple(row) == (*whole, *lead_in) for row, whole in zip(framed, wholes, strict=True)) / len(wholes)
    if same < MIN_SAME_TOKENS:
        raise ConfigError(
            f"only {same:.1%} of the prompts have RouteLLM's tokens when the message is put around their tokens, "
            f"expected {MIN_SAME_TOKENS:.0%}: the message of {folder} merges with the prompt, so it cannot be imported"
        )
    return ImportedCausalLlm(TokenRouter("causal_llm", text, module.eval()), lead_in, same)


def _whole(system: str, message: str, prompt: str) -> str:
    """`PromptFormat.generate_prompt` of a system message and one user turn."""
    chat = _Llama3Format()
    return chat.system.format(system.strip()) + chat.user.format(message.format(question=prompt).strip())


def _rows(weight: Tensor, labels: Sequence[int]) -> nn.Linear:
    head = nn.Linear(weight.shape[1], len(labels), bias=False)
    with torch.no_grad():
        head.weight.copy_(weight[list(labels)])
    return head


def _lead_in(model: Any, texts: Sequence[Sequence[int]], *, first_label: int) -> tuple[int, ...]:
    """Write up to the first label for each text; what stands before it must be the same for all."""
    found = set()
    with torch.no_grad():
        for text in texts:
            ids, written = list(text), list[int]()
            while len(written) <= MAX_LEAD_IN:
                token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
                if token >= first_label:
                    found.add(tuple(written))
                    break
                written.append(token)
                ids.append(token)
    if len(found) != 1:
        raise ArtifactError(
            f"the model writes {len(found) or 'no'} different texts before its label, expected one and the same for "
            f"{len(texts)} prompts; only fine-tuned checkpoints of RouteLLM can be imported"
        )
    return found.pop()


def _ids(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False).ids)


def _message(folder: Path, stem: str) -> str:
    files = sorted(folder.glob(f"{stem}_*.txt"))
    if len(files) != 1:
        raise InputMissingError(
            f"{folder} holds {len(files)} files {stem}_*.txt, expected the one that RouteLLM publishes with its "
            "causal_llm checkpoints"
        )
    return files[0].read_text("utf-8")
