"""Embedders against their graphs, and the store of what is embedded already."""

from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("onnx", reason="needs the extra `train`")

import onnxruntime as ort  # noqa: E402

from routing.batching import Tokens, pad  # noqa: E402
from routing.errors import ConfigError, DataError  # noqa: E402
from routing.training.embedders import Embedder, StaticEmbedder, encoder_embedder, static_embedder  # noqa: E402
from routing.training.encoder import load_encoder  # noqa: E402
from routing.training.prompt_embeddings import PromptEmbeddings  # noqa: E402
from routing.training.static_mf import Lexicon, lexicon  # noqa: E402
from schemas.artifact import Truncation  # noqa: E402

Kind = Literal["static", "encoder"]
KINDS: tuple[Kind, ...] = ("static", "encoder")
CUT = Truncation(head=9, tail=5)
TEXTS = ["", "what is the sum of 1 + 2 ?", "hello", "primes ( 12 , 7 )", " ".join(f"w{i}" for i in range(40)), "hello"]


@pytest.fixture(scope="module")
def words(encoder_folder: Path) -> Lexicon:
    return lexicon(load_encoder(encoder_folder))


def make(kind: Kind, words: Lexicon, *, counts: bool) -> Embedder:
    if kind == "static":
        return static_embedder(words, dim=6, sif=1e-2, truncation=CUT, counts=counts)
    return encoder_embedder(words.encoder, truncation=CUT, counts=counts)


# The encoder's graph without counts is `encoder_graph` as it is; an export takes seconds.
@pytest.mark.parametrize(("kind", "counts"), [("static", False), ("static", True), ("encoder", True)])
def test_the_graph_embeds_as_training_does(kind: Kind, counts: bool, words: Lexicon) -> None:
    embedder = make(kind, words, counts=counts)
    assert embedder.counts == 4 * counts
    rows = embedder.text.tokens(TEXTS)
    found = embedder.embed(rows)
    assert found.shape == (len(TEXTS), embedder.dim)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    session = ort.InferenceSession(embedder.graph().SerializeToString(), providers=["CPUExecutionProvider"])
    for width in (None, 48):
        ids, mask = pad(rows, width)
        out = session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0]
        assert out.dtype == np.float32
        assert out == pytest.approx(found, abs=1e-5)
    lengths = np.linalg.norm(found[:, : embedder.dim - embedder.counts], axis=1)
    assert lengths == pytest.approx([0.0 if kind == "static" else 1.0] + [1.0] * 5, abs=1e-5)
    assert np.ptp(found[1:], axis=0).max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_an_embedding_does_not_depend_on_its_company(kind: Kind, words: Lexicon) -> None:
    embedder = make(kind, words, counts=True)
    rows = embedder.text.tokens(TEXTS)
    alone = np.concatenate([embedder.embed([row]) for row in rows])
    assert embedder.embed(rows) == pytest.approx(alone, abs=1e-6)
    assert embedder.embed([]).shape == (0, embedder.dim)


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_of_the_prompt_without_its_frame(kind: Kind, words: Lexicon) -> None:
    embedder = make(kind, words, counts=True)
    found = embedder.embed(embedder.text.tokens(["primes ( 12 , 7 )", ""]))[:, -4:]
    # prime ##s ( 12 , 7 ): 7 tokens, 2 digits, 3 of punctuation, 1 word piece.
    assert np.expm1(found) == pytest.approx(np.array([[7, 2, 3, 1], [0, 0, 0, 0]]), abs=1e-5)


def test_the_encoder_reads_what_its_own_tokenizer_makes(words: Lexicon) -> None:
    embedder = make("encoder", words, counts=False)
    for text in TEXTS[:4]:
        ids = torch.tensor([words.encoder.tokenizer.encode(text).ids])
        states = words.encoder.forward(ids, torch.ones_like(ids))[0].numpy()
        found = embedder.embed(embedder.text.tokens([text]))[0]
        assert found == pytest.approx(states / np.linalg.norm(states), abs=1e-6)


def test_more_tokens_than_positions_are_refused(words: Lexicon) -> None:
    with pytest.raises(ConfigError, match=r"keeps 60 \+ 3 tokens .* 64 positions"):
        encoder_embedder(words.encoder, truncation=Truncation(head=60, tail=3), counts=False)
    embedder = encoder_embedder(words.encoder, truncation=Truncation(head=60, tail=2), counts=False)
    assert np.isfinite(embedder.embed(embedder.text.tokens(["w1 " * 200]))).all()


def test_a_digest_names_what_decides_an_embedding(words: Lexicon) -> None:
    embedders = [
        make("static", words, counts=False),
        make("static", words, counts=True),
        make("encoder", words, counts=False),
        static_embedder(words, dim=5, sif=1e-2, truncation=CUT, counts=False),
        static_embedder(words, dim=6, sif=1e-2, truncation=Truncation(head=9, tail=4), counts=False),
    ]
    assert len({embedder.digest() for embedder in embedders}) == len(embedders)
    assert make("static", words, counts=False).digest() == embedders[0].digest()


class Counting:
    """An embedder that remembers how many rows it was given."""

    def __init__(self, inner: StaticEmbedder) -> None:
        self.inner, self.text, self.dim, self.counts = inner, inner.text, inner.dim, inner.counts
        self.graph, self.digest, self.directions = inner.graph, inner.digest, lambda: self
        self.seen: list[int] = []

    def embed(self, rows: Tokens) -> NDArray[np.float32]:
        self.seen.append(len(rows))
        return self.inner.embed(rows)


def counting(words: Lexicon) -> Counting:
    return Counting(static_embedder(words, dim=6, sif=1e-2, truncation=CUT, counts=True))


def test_equal_prompts_are_embedded_once(words: Lexicon) -> None:
    embedder = counting(words)
    embed = PromptEmbeddings(embedder)
    expected = embedder.inner.embed(embedder.text.tokens(TEXTS))
    assert embed(TEXTS) == pytest.approx(expected, abs=0)
    assert embed(pl.Series(TEXTS[::-1])) == pytest.approx(expected[::-1], abs=0)
    assert embed([*TEXTS, "new"]).shape == (len(TEXTS) + 1, embedder.dim)
    assert embed([]).shape == (0, embedder.dim)
    plain = embedder.inner.directions()
    assert embed.directions(TEXTS) == pytest.approx(plain.embed(plain.text.tokens(TEXTS)), abs=0)
    assert embedder.seen == [len(set(TEXTS)), 1]


def test_a_second_run_reads_the_first_ones_embeddings(words: Lexicon, tmp_path: Path) -> None:
    first, second = counting(words), counting(words)
    expected = PromptEmbeddings(first, cache=tmp_path)(TEXTS)
    again = PromptEmbeddings(second, cache=tmp_path)
    assert again(TEXTS).tobytes() == expected.tobytes()
    assert second.seen == []
    again(["new"])
    assert second.seen == [1]
    other = static_embedder(words, dim=5, sif=1e-2, truncation=CUT, counts=False)
    assert PromptEmbeddings(other, cache=tmp_path)(TEXTS).shape == (len(TEXTS), 5), "another embedder, another folder"
    assert [path.name for path in tmp_path.rglob(".*")] == [], "nothing half written stays"


def test_a_damaged_cache_is_named(words: Lexicon, tmp_path: Path) -> None:
    PromptEmbeddings(counting(words), cache=tmp_path)(TEXTS)
    (part,) = tmp_path.rglob("part-*.parquet")
    pl.DataFrame({"key": ["a"], "embedding": np.zeros((1, 3), np.float32)}).write_parquet(part)
    with pytest.raises(DataError, match=r"shape \(1, 3\), expected float32 of shape \(1, 10\); delete the file"):
        PromptEmbeddings(counting(words), cache=tmp_path)
    part.write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"cannot be read: .*; delete the file"):
        PromptEmbeddings(counting(words), cache=tmp_path)
