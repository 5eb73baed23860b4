"""A sentence encoder small enough to make in a test: two layers, random weights, a word-piece tokenizer."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]"]
NATURAL = ["what", "is", "the", "of", "sum", "write", "function", "hello", "prime", "##s"]
SIGNS = ["1", "2", "7", "12", "?", "+", ",", "(", ")"]
WORDS = [*SPECIAL, *NATURAL, *SIGNS, *(f"w{i}" for i in range(200))]
HIDDEN = 16


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("encoder")
    config = {"num_hidden_layers": 2, "num_attention_heads": 2, "layer_norm_eps": 1e-12, "max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", WORDS.index("[CLS]")), ("[SEP]", WORDS.index("[SEP]"))]
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))

    generator = torch.Generator().manual_seed(0)
    weights = {}

    def linear(name: str, wide: int, narrow: int) -> None:
        weights[f"{name}.weight"] = 0.1 * torch.randn(wide, narrow, generator=generator)
        weights[f"{name}.bias"] = 0.1 * torch.randn(wide, generator=generator)

    def norm(name: str) -> None:
        weights[f"{name}.weight"] = torch.ones(HIDDEN)
        weights[f"{name}.bias"] = torch.zeros(HIDDEN)

    # Words, not positions, make an embedding, so that different prompts lie far apart.
    for name, rows, scale in (("word", len(WORDS), 1.0), ("position", 64, 0.05), ("token_type", 2, 0.05)):
        weights[f"embeddings.{name}_embeddings.weight"] = scale * torch.randn(rows, HIDDEN, generator=generator)
    norm("embeddings.LayerNorm")
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        linear(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        linear(f"{layer}.intermediate.dense", 4 * HIDDEN, HIDDEN)
        linear(f"{layer}.output.dense", HIDDEN, 4 * HIDDEN)
        norm(f"{layer}.attention.output.LayerNorm")
        norm(f"{layer}.output.LayerNorm")
    save_file(weights, folder / "model.safetensors")
    return folder
