"""Checkpoints in RouteLLM's layouts, tiny and with random weights; the hubs that hold the real ones are not needed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SYSTEM = "You grade how well a weak model would answer.\n"
CLASSIFIER = "Grade the question below with one of [[1]] to [[5]].\n[Question]\n{question}\n[End]\n"
WORDS = ["what", "is", "the", "of", "sum", "write", "function", "prime", "##s", "?", "1", "2", "7", "+", ","]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LABELS = [f"[[{n}]]" for n in range(1, 6)]


def save_mf(folder: Path, *, seed: int = 1, dim: int = 128, text_dim: int = 1_536) -> Path:
    """As `MFModel.save_pretrained` writes it."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    shapes = {"P.weight": (64, dim), "text_proj.0.weight": (dim, text_dim), "classifier.0.weight": (1, dim)}
    save_file(
        {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}, folder / "model.safetensors"
    )
    config = {"dim": dim, "num_models": 64, "text_dim": text_dim, "num_classes": 1, "use_proj": True}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def save_bert(folder: Path, *, seed: int = 2, labels: int = 3, positions: int = 64, family: str = "Bert") -> Path:
    """A BERT of two layers with a classification head, and its tokenizer.

    Args:
        folder: Made.
        seed: Of the weights.
        labels: Classes.
        positions: Tokens that it reads.
        family: `Bert`, or `XLMRoberta` like the published checkpoint, whose positions count from its padding token on.
    """
    import torch
    import transformers

    library: Any = transformers  # its configs are not typed

    words = [
        *SPECIAL,
        *WORDS,
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
    ]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = getattr(library, f"{family}Config")(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        pad_token_id=0 if family == "Bert" else 1, num_labels=labels, initializer_range=0.4,
        max_position_embeddings=positions if family == "Bert" else positions + 2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        getattr(library, f"{family}ForSequenceClassification")(config).save_pretrained(folder)
    library.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=positions,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
    ).save_pretrained(folder)
    return folder


def save_causal_llm(folder: Path, *, seed: int = 3, lead_in: bool = False) -> Path:
    """A Llama of two layers whose vocabulary ends with the labels, with the two messages.

    Its label rows are pairs of opposite vectors, so large that every answer begins with a label; with `lead_in` it
    writes one other token first.
    """
    import torch
    import transformers
    from transformers import LlamaConfig, LlamaForCausalLM

    specials = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in specials])
    bos, eot, header = (tokenizer.encode(token).ids[0] for token in specials[:3])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{specials[0]} $A", pair=f"{specials[0]} $A $B", special_tokens=[(specials[0], bos)]
    )
    vocabulary = tokenizer.get_vocab_size()
    config = LlamaConfig(
        vocab_size=vocabulary + len(LABELS), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=64, max_position_embeddings=8_192, initializer_range=0.2,
        bos_token_id=bos, eos_token_id=eot, pad_token_id=eot, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        with torch.no_grad():
            rows = model.lm_head.weight
            rows[vocabulary + 1] = -rows[vocabulary]
            rows[vocabulary + 3] = -rows[vocabulary + 2]
            rows[:vocabulary] *= 0.02
            if lead_in:
                _write_first(model, header, behind=eot)
        model.save_pretrained(folder)
    library: Any = transformers  # its tokenizers are not typed
    loaded = library.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=specials[0], eos_token=specials[1], pad_token=specials[1]
    )
    loaded.add_tokens(LABELS, special_tokens=True)
    loaded.save_pretrained(folder)
    (folder / "system_ft_v5.txt").write_text(SYSTEM)
    (folder / "classifier_ft_v5.txt").write_text(CLASSIFIER)
    return folder


def _write_first(model: Any, token: int, *, behind: int) -> None:
    """Make the model answer `token` behind the token `behind`; only the first coordinate says so."""
    embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[0] = 0
        layer.mlp.down_proj.weight[0] = 0
    embedding[:, 0] = 0
    embedding[behind, 0] = 20
    head[:, 0] = 0
    head[token, 0] = 50
