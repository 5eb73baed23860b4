"""A language model with a small head that reads tokens and says who wins: the common part of `bert` and `causal_llm`.

The head has one logit per class. A class says how the battle ends, and stands for a win rate of its own; the router's
win rate is their mean under the softmax of the logits.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from routing.batching import Tokens, pad, token_batches
from routing.errors import ConfigError
from routing.training.dataset import TrainingSet
from routing.training.loop import LoopConfig, Objective, Validation, held_out_apgr, pick_device, train
from routing.training.router import Run
from routing.training.text_input import TextInput
from routing.training.torch_export import check_exportable, export_module
from schemas.artifact import RouterKind

Pooling = Literal["cls", "mean", "last"]

_INFERENCE_TOKENS = 8_192


@dataclass(frozen=True, slots=True)
class Classes:
    """How labels become classes, and classes win rates."""

    values: tuple[float, ...]
    """Win rate that each class stands for."""
    win: int
    """Class of a win of the strong side."""
    tie: int | None
    """Class of a tie; null where a tie is half a win and half a loss."""
    loss: int

    def shares(self, labels: pl.DataFrame) -> NDArray[np.float32]:
        """Return how much of each label belongs to each class, shape (n, classes), rows summing to 1.

        Args:
            labels: LABELS; where there is a class for ties, wins are `target - tie / 2`.
        """
        target = labels["target"].to_numpy()
        tie = np.zeros(len(target)) if self.tie is None else labels["tie"].to_numpy()
        shares = np.zeros((len(target), len(self.values)), np.float32)
        # Rounding may leave a share just below zero.
        shares[:, self.win] = np.maximum(target - tie / 2, 0.0)
        shares[:, self.loss] = np.maximum(1.0 - target - tie / 2, 0.0)
        if self.tie is not None:
            shares[:, self.tie] += tie  # += because `causal_llm` may give ties the label of wins or losses
        return shares


class TokenClassifier(nn.Module):
    """Base model, pooling, dropout, linear head: the one definition that is trained, measured and exported."""

    values: Tensor

    def __init__(
        self, base: nn.Module, head: nn.Linear, *, pooling: Pooling, dropout: float, values: Sequence[float]
    ) -> None:
        """Join the parts.

        Args:
            base: From tokens to `last_hidden_state`; with the pooling `last` a causal model, which needs no mask
                because padding stands behind every token that it could disturb.
            head: Hidden state -> logits of the classes.
            pooling: The hidden state of the first token, the mean over the mask, or that of the last real token.
            dropout: On the pooled state, in training.
            values: Win rate that each class stands for.
        """
        super().__init__()
        self.base = base
        self.head = head
        self.dropout = nn.Dropout(dropout)
        self.pooling = pooling
        self.register_buffer("values", torch.tensor(values, dtype=torch.float32), persistent=False)

    def logits(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return float32 logits, shape (batch, classes).

        Args:
            input_ids: int64, shape (batch, sequence), padded on the right.
            attention_mask: int64, same shape; every row begins with a 1.
        """
        if self.pooling == "last":
            hidden = self.base(input_ids=input_ids, use_cache=False).last_hidden_state
            rows = torch.arange(hidden.shape[0], device=hidden.device)
            pooled = hidden[rows, attention_mask.sum(1) - 1]
        else:
            hidden = self.base(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask[:, :, None].to(hidden.dtype)
            pooled = hidden[:, 0] if self.pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits.float()

    def win_rates(self, logits: Tensor) -> Tensor:
        """Return win rates, shape (batch,), each in [0, 1]: rounding in the softmax cannot leave it."""
        return (torch.softmax(logits, dim=1) * self.values).sum(1).clamp(0.0, 1.0)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return win rates, shape (batch,)."""
        return self.win_rates(self.logits(input_ids, attention_mask))


@dataclass(frozen=True, slots=True)
class TokenRouter:
    """A fitted classifier as a `TrainedRouter`."""

    kind: RouterKind
    text: TextInput
    module: TokenClassifier

    def win_rates(self, rows: Tokens) -> NDArray[np.float64]:
        """Return win rates of tokenized prompts, shape (n,), in fp32 without noise."""
        with torch.no_grad():
            logits = _logits(self.module.eval(), rows, budget=_INFERENCE_TOKENS)
            rates: NDArray[np.float64] = self.module.win_rates(logits).double().cpu().numpy()
        return rates

    def graph(self) -> onnx.ModelProto:
        """Return the graph: `input_ids`, `attention_mask` int64 [batch, sequence] -> `win_rate` float32 [batch]."""
        return export_module(self.module, output="win_rate")


def fit_classifier(
    module: TokenClassifier,
    text: TextInput,
    dataset: TrainingSet,
    classes: Classes,
    config: LoopConfig,
    run: Run,
    *,
    identity: str,
) -> None:
    """Train the module in place on the labels, by weighted cross-entropy.

    Args:
        module: Moved to the run's device.
        text: How prompts become its tokens.
        dataset: Its labels are trained on, its held-out labels validated.
        classes: How targets become classes.
        config: Hyperparameters.
        run: Seed, device, reports, checkpoints.
        identity: Says what else a checkpoint depends on, e.g. the router's config.

    Raises:
        ConfigError: the graph could not be written, or see `routing.training.loop.train`.
    """
    check_exportable(sum(parameter.numel() for parameter in module.parameters()))
    device = pick_device(run.device)
    module.to(device)
    rows, held_out = (text.tokens(labels["prompt"].to_list()) for labels in (dataset.labels, dataset.held_out_labels))
    held_out_target = dataset.held_out_labels["target"].to_numpy()
    held_out_weight = torch.from_numpy(dataset.held_out_labels["weight"].to_numpy().copy())
    shares = torch.from_numpy(classes.shares(dataset.labels))
    held_out_shares = torch.from_numpy(classes.shares(dataset.held_out_labels))

    def losses(index: NDArray[np.intp]) -> Tensor:
        ids, mask = pad([rows[row] for row in index])
        logits = module.logits(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
        return _cross_entropy(logits, shares[index].to(device))

    def validate() -> Validation:
        logits = _logits(module, held_out, budget=config.batch_tokens)
        loss = _cross_entropy(logits.cpu(), held_out_shares).double()
        rates = module.win_rates(logits).double().cpu().numpy()
        mean = float((loss * held_out_weight).sum() / held_out_weight.sum())
        return Validation(loss=mean, apgr=held_out_apgr(rates, held_out_target))

    train(
        Objective(
            module=module,
            losses=losses,
            lengths=np.array([len(row) for row in rows], np.int64),
            weights=dataset.labels["weight"].to_numpy(),
            validate=validate,
            identity=f"{identity} {_digest(rows, shares)} {_digest(held_out, held_out_shares)}",
        ),
        config,
        run,
    )


def frame(text: TextInput, *, longest: int | None) -> TextInput:
    """Return the input if its longest row fits into the model.

    Args:
        text: The input.
        longest: Positions that the model has; null has no limit.

    Raises:
        ConfigError: it does not fit.
    """
    cut, around = text.truncation, len(text.prefix) + len(text.suffix)
    if longest is not None and cut.head + cut.tail + around > longest:
        raise ConfigError(
            f"the base model reads {longest} tokens, but head_tokens + tail_tokens + {around} around the prompt are "
            f"{cut.head + cut.tail + around}; lower head_tokens or tail_tokens"
        )
    return text


def _logits(module: TokenClassifier, rows: Tokens, *, budget: int) -> Tensor:
    """Return logits of all rows, shape (n, classes), on the module's device."""
    device = module.values.device
    out = torch.empty((len(rows), len(module.values)), device=device)
    for index, width in token_batches(np.array([len(row) for row in rows], np.int64), budget=budget):
        ids, mask = pad([rows[row] for row in index], width)
        out[torch.from_numpy(index).to(device)] = module.logits(
            torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
        )
    return out


def _cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    return -(torch.log_softmax(logits, dim=1) * shares).sum(1)


def _digest(rows: Tokens, shares: Tensor) -> str:
    digest = hashlib.sha256(np.array([len(row) for row in rows], np.int64).tobytes())
    digest.update(np.concatenate(rows).tobytes() if rows else b"")
    digest.update(shares.numpy().tobytes())
    return digest.hexdigest()
