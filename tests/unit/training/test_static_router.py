"""From the encoder to the graph, on an encoder made for the test."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("onnx", reason="needs the extra `train`")

from routing.calibrating import Platt  # noqa: E402
from routing.errors import ArtifactError, ConfigError, DataError, InputMissingError  # noqa: E402
from routing.training.encoder import Encoder, find_encoder, load_encoder  # noqa: E402
from routing.training.export import Graph, check_parity  # noqa: E402
from routing.training.features import Features, features, token_flags, tokenize  # noqa: E402
from routing.training.graph import StaticRouter, static_graph  # noqa: E402
from routing.training.matrix_factorization import (  # noqa: E402
    MatrixFactorizationConfig,
    PairHeads,
    fit,
)
from routing.training.static_table import quantize, sif_weights, static_table, token_states  # noqa: E402
from schemas.preferences import Battles  # noqa: E402

TEXTS = ["what is the sum of 1 + 2 ?", "hello", "write function ( 12 , 7 )", "primes", "the the the"]


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> Encoder:
    return load_encoder(find_encoder(encoder_folder))


def test_a_missing_encoder_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"lacks config\.json, model\.safetensors, tokenizer\.json"):
        find_encoder(tmp_path)


def test_padding_does_not_change_an_embedding(encoder: Encoder) -> None:
    together = encoder.embed(TEXTS, batch_size=len(TEXTS))
    assert together == pytest.approx(np.concatenate([encoder.embed([text]) for text in TEXTS]), abs=1e-6)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0)


def test_the_forward_pass_is_berts(encoder: Encoder) -> None:
    """The same layer from torch's own post-norm encoder, an independent implementation."""
    ids = torch.tensor([encoder.tokenizer.encode(TEXTS[0]).ids])
    weights, hidden = encoder.weights, encoder.weights["embeddings.LayerNorm.weight"].shape[0]
    x = (
        weights["embeddings.word_embeddings.weight"][ids]
        + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    x = torch.nn.functional.layer_norm(x, (hidden,), eps=1e-12)
    for name in ("encoder.layer.0", "encoder.layer.1"):
        layer = torch.nn.TransformerEncoderLayer(hidden, 2, 4 * hidden, 0.0, "gelu", 1e-12, batch_first=True)
        qkv = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
        layer.load_state_dict(
            {
                "self_attn.in_proj_weight": torch.cat([weights[f"{part}.weight"] for part in qkv]),
                "self_attn.in_proj_bias": torch.cat([weights[f"{part}.bias"] for part in qkv]),
            }
            | {
                f"{theirs}.{kind}": weights[f"{name}.{ours}.{kind}"]
                for theirs, ours in (
                    ("self_attn.out_proj", "attention.output.dense"),
                    ("linear1", "intermediate.dense"),
                    ("linear2", "output.dense"),
                    ("norm1", "attention.output.LayerNorm"),
                    ("norm2", "output.LayerNorm"),
                )
                for kind in ("weight", "bias")
            }
        )
        x = layer.eval()(x)
    ours = encoder.forward(ids, torch.ones_like(ids))
    assert ours.numpy() == pytest.approx(x.mean(1).detach().numpy(), abs=1e-5)


def test_the_table_is_pca_times_sif_rounded_to_int8(encoder: Encoder) -> None:
    states, vocabulary = token_states(encoder), encoder.tokenizer.get_vocab()
    table = static_table(states, vocabulary, dim=16, sif=1e-2)
    exact = states - states.mean(axis=0)
    weights = sif_weights(vocabulary, sif=1e-2)
    # All 16 components only rotate, so distances survive; int8 costs less than 1 % of the longest.
    gram = table.dequantized() @ table.dequantized().T
    expected = (exact * weights[:, None]) @ (exact * weights[:, None]).T
    assert np.abs(gram - expected).max() < 0.02 * np.abs(expected).max()
    assert (np.abs(table.values).max(axis=1) == 127).all()
    with pytest.raises(ConfigError, match=r"table\.dim must lie in 1\.\.16"):
        static_table(states, vocabulary, dim=17, sif=1e-2)


def test_frequent_tokens_weigh_less_and_unused_ones_have_no_rank() -> None:
    weights = sif_weights({"the": 0, "[unused0]": 1, "of": 2, "rare": 3}, sif=1e-2)
    assert weights[1] == 1.0
    assert weights[0] < weights[2] < weights[3] < 1.0
    # Zipf over three used tokens: 1/2, 1/3, 1/4, normed by 13/12.
    assert weights[0] == pytest.approx(1e-2 / (1e-2 + 6 / 13))


def test_a_zero_vector_stays_zero() -> None:
    table = quantize(np.array([[0.0, 0.0], [1.0, -0.5]]))
    assert table.dequantized()[0].tolist() == [0.0, 0.0]
    assert table.values[1].tolist() == [127, -64]


def test_flags_count_what_they_name(encoder: Encoder) -> None:
    vocabulary = encoder.tokenizer.get_vocab()
    table = static_table(token_states(encoder), vocabulary, dim=4, sif=1e-2)
    rows = tokenize(encoder.tokenizer, ["primes ( 12 , 7 )", ""], head=64, tail=0)
    seen = features(rows, table, token_flags(vocabulary))
    # prime ##s ( 12 , 7 ): 7 tokens, 2 digits, 3 of punctuation, 1 word piece.
    assert np.expm1(seen.shape) == pytest.approx(np.array([[7, 2, 3, 1], [0, 0, 0, 0]]), abs=1e-5)
    assert np.linalg.norm(seen.query, axis=1) == pytest.approx([1.0, 0.0], abs=1e-6)


def test_the_graph_computes_what_training_computes(encoder: Encoder) -> None:
    vocabulary = encoder.tokenizer.get_vocab()
    table, flags = static_table(token_states(encoder), vocabulary, dim=8, sif=1e-2), token_flags(vocabulary)
    rng = np.random.default_rng(0)
    heads = PairHeads(weight=rng.normal(size=(12, 2)).astype(np.float32), bias=rng.normal(size=2).astype(np.float32))
    router = StaticRouter(table, flags, heads, Platt(slope=4.0, intercept=-0.3))
    rows = tokenize(encoder.tokenizer, TEXTS * 250, head=5, tail=2)
    expected = router.win_rates(features(rows, table, flags))
    model = static_graph(router)
    parity = check_parity(Graph(model, threads=1), rows, expected)
    assert parity.prompts == 1_250
    assert parity.max_error < 1e-6
    assert model.SerializeToString(deterministic=True) == static_graph(router).SerializeToString(deterministic=True)
    with pytest.raises(ArtifactError, match="nothing was written"):
        check_parity(Graph(model, threads=1), rows, expected + 1e-3)
    with pytest.raises(DataError, match="at least 1000 real prompts, got 5"):
        check_parity(Graph(model, threads=1), rows[:5], expected[:5])
    assert max(len(row) for row in rows) == 7


def _world(n: int, seed: int) -> tuple[pl.DataFrame, list[str], Features, np.ndarray]:
    """Graded answers from a Rasch world: difficulty is the second query coordinate plus the first count."""
    rng = np.random.default_rng(seed)
    query, shape = rng.normal(size=(n, 3)).astype(np.float32), rng.normal(size=(n, 2)).astype(np.float32)
    difficulty = 2.0 * query[:, 1] + shape[:, 0]
    prompts = [f"prompt {i}" for i in range(n)]
    parts = []
    for model, ability in (("weak", 0.0), ("middle", 1.0), ("strong", 2.0)):
        right = rng.random(n) < 1 / (1 + np.exp(difficulty - ability))
        parts.append(pl.DataFrame({"prompt": prompts, "model": model, "score": right.astype(float)}))
    graded = pl.concat(parts).with_columns(benchmark=pl.lit("b"), source=pl.lit("s"), weight=pl.lit(1.0))
    return graded, prompts, Features(query, shape), difficulty


CONFIG = MatrixFactorizationConfig(rank=0, query_decay=1e-4, shape_decay=1e-6, battle_weight=0.0, iterations=60)
NO_BATTLES = Battles.create_empty()


def test_the_fit_finds_difficulty_and_ability() -> None:
    graded, prompts, seen, difficulty = _world(3_000, seed=0)
    heads = fit(graded, NO_BATTLES, prompts, seen, CONFIG, seed=0).heads(strong="strong", weak="weak")
    logits = np.hstack([seen.query, seen.shape]) @ heads.weight + heads.bias
    assert np.corrcoef(logits[:, 0], -difficulty)[0, 1] > 0.99
    assert (logits[:, 0] - logits[:, 1]).mean() == pytest.approx(2.0, abs=0.2)
    # The gap closes where both models are sure: it is largest for prompts of middling difficulty.
    gap = heads.gap(seen)
    order = np.argsort(difficulty)
    assert gap[order[1_000:2_000]].mean() > max(gap[order[:300]].mean(), gap[order[-300:]].mean())


def test_battles_teach_the_vectors_of_their_models() -> None:
    graded, prompts, seen, _ = _world(1_500, seed=1)
    # `poet` beats `prover` exactly where the first query coordinate is positive; graded answers know neither.
    battles = pl.DataFrame(
        {
            "prompt": prompts,
            "model_a": "poet",
            "model_b": "prover",
            "winner": np.where(seen.query[:, 0] > 0, "model_a", "model_b"),
            "weight": 1.0,
            "source": "s",
        }
    ).cast({"winner": pl.Enum(["model_a", "model_b", "tie"])})
    config = MatrixFactorizationConfig(rank=2, query_decay=1e-4, shape_decay=1e-4, battle_weight=1.0, iterations=150)
    heads = fit(graded, battles, prompts, seen, config, seed=0).heads(strong="poet", weak="prover")
    assert np.corrcoef(heads.gap(seen) > 0, seen.query[:, 0] > 0)[0, 1] > 0.9


def test_the_fit_is_reproducible_and_names_unknown_models() -> None:
    graded, prompts, seen, _ = _world(200, seed=2)
    config = MatrixFactorizationConfig(rank=2, query_decay=1e-3, shape_decay=1e-3, battle_weight=0.0, iterations=30)
    first, second = (fit(graded, NO_BATTLES, prompts, seen, config, seed=5) for _ in range(2))
    assert (first.heads(strong="strong", weak="weak").weight == second.heads(strong="strong", weak="weak").weight).all()
    with pytest.raises(DataError, match=r"no graded answers of \['gpt-9'\]"):
        first.heads(strong="gpt-9", weak="weak")
    with pytest.raises(DataError, match="no graded answers are left"):
        fit(graded.clear(), NO_BATTLES, prompts, seen, config, seed=5)
