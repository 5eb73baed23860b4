"""Language models small enough to make in a test: random weights, real architectures and tokenizers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from routing.training.dataset import TrainingSet
from routing.training.loop import LoopConfig
from routing.training.router import Progress, Run

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
HARD, EASY = ("prove", "integral", "theorem"), ("hello", "thanks", "weather")
WORDS = [*SPECIAL, *HARD, *EASY, "[[", "1", "2", "3", "4", "5", "]]", *(f"w{i}" for i in range(80))]
VOCABULARY = len(WORDS)
SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
NO_BATTLES = pl.DataFrame(
    schema={"prompt": pl.String, "model_a": pl.String, "model_b": pl.String, "winner": pl.String, "weight": pl.Float64}
)


def words_tokenizer() -> Tokenizer:
    """One token a word; digits and brackets stand alone; [CLS] in front and [SEP] behind."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Whitespace(),
            pre_tokenizers.Split("[[", "isolated"),
            pre_tokenizers.Split("]]", "isolated"),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", WORDS.index("[CLS]")), ("[SEP]", WORDS.index("[SEP]"))]
    )
    return tokenizer


def save(folder: Path, model: Any) -> Path:
    """Write a base model as a user has it on disk."""
    model.save_pretrained(folder)
    made: Any = PreTrainedTokenizerFast
    tokenizer = made(tokenizer_object=words_tokenizer(), unk_token="[UNK]", pad_token="[PAD]", model_max_length=64)
    tokenizer.save_pretrained(folder)
    return folder


def bert() -> BertModel:
    return BertModel(BertConfig(**SIZES, intermediate_size=64, max_position_embeddings=64))


def roberta() -> RobertaModel:
    return RobertaModel(RobertaConfig(**SIZES, intermediate_size=64, max_position_embeddings=64, pad_token_id=1))


def modern_bert() -> ModernBertModel:
    # Attention to 4 tokens on either side in one of the two layers: shorter than the prompts.
    special: dict[str, Any] = {
        "pad_token_id": 0,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    config = ModernBertConfig(
        **SIZES, **special, intermediate_size=64, local_attention=8, layer_types=["full_attention", "sliding_attention"]
    )
    return ModernBertModel(config)


def llama() -> LlamaForCausalLM:
    config = LlamaConfig(**SIZES, intermediate_size=64, max_position_embeddings=64, num_key_value_heads=1)
    return LlamaForCausalLM(config)


def prompts(n: int, seed: int) -> pl.DataFrame:
    """LABELS of a world in which the strong model wins where a hard word stands, and ties with 15 %."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.6
    tied = rng.random(n) < 0.15
    lengths = rng.integers(1, 20, n)
    texts = [
        " ".join([*(f"w{i}" for i in rng.integers(0, 80, length)), rng.choice(HARD if is_hard else EASY)])
        for length, is_hard in zip(lengths, hard, strict=True)
    ]
    return pl.DataFrame(
        {
            "prompt": texts,
            "target": np.where(tied, 0.5, hard),
            "tie": tied.astype(float),
            "weight": rng.uniform(0.5, 1.5, n),
            "source": "world",
        }
    )


def world(n: int = 300, held_out: int = 80) -> TrainingSet:
    return TrainingSet(
        battles=NO_BATTLES,
        labels=prompts(n, seed=1),
        held_out_battles=NO_BATTLES,
        held_out_labels=prompts(held_out, seed=2),
        strong="strong",
        weak="weak",
    )


def loop(**changes: object) -> LoopConfig:
    settings = {"learning_rate": 1e-2, "epochs": 6, "batch_rows": 32, "batch_tokens": 512, "eval_every": 20}
    return LoopConfig(**(settings | changes))  # type: ignore[arg-type]  # a test changes any field


def a_run(
    report: Callable[[Progress], None] = lambda progress: None, *, checkpoints: Path | None = None, seed: int = 0
) -> Run:
    return Run(seed=seed, threads=1, device="cpu", report=report, checkpoints=checkpoints)
