import hashlib
from pathlib import Path
from statistics import mean, median

import pytest

from routing.sandbox.pseudotext import PseudoWriter
from routing.sandbox.tokens import TokenCounter
from tests.unit.sandbox.support import byte_bpe, phrase_bpe


def digests(n: int) -> list[bytes]:
    return [hashlib.sha256(str(i).encode()).digest() for i in range(n)]


@pytest.fixture(scope="module")
def samples(tokenizer_path: Path) -> list[str]:
    writer = PseudoWriter(TokenCounter.from_file(tokenizer_path))
    return [writer.write(digest, mean_tokens=60).content for digest in digests(50)]


@pytest.fixture(scope="module", params=["words", "byte_bpe", "phrases"])
def counter(request: pytest.FixtureRequest, tokenizer_path: Path, samples: list[str]) -> TokenCounter:
    match request.param:
        case "words":
            return TokenCounter.from_file(tokenizer_path)
        case "byte_bpe":
            return TokenCounter(byte_bpe(samples))
        case _:
            return TokenCounter(phrase_bpe(samples))


def test_stated_tokens_are_those_of_the_tokenizer(counter: TokenCounter) -> None:
    writer = PseudoWriter(counter)
    for digest in digests(100):
        text = writer.write(digest, mean_tokens=80)
        assert text.tokens == counter.count(text.content)
        assert text.content.endswith(".")
        assert not text.is_cut


def test_a_cut_answer_is_the_start_of_the_whole_one(counter: TokenCounter) -> None:
    writer = PseudoWriter(counter)
    for digest in digests(4):
        whole = writer.write(digest, mean_tokens=40)
        for max_tokens in range(whole.tokens + 2):
            text = writer.write(digest, mean_tokens=40, max_tokens=max_tokens)
            assert whole.content.startswith(text.content)
            assert text.tokens == counter.count(text.content) <= max_tokens
            assert text.is_cut == (max_tokens < whole.tokens)


def test_a_cut_uses_all_the_tokens_it_may(tokenizer_path: Path) -> None:
    writer = PseudoWriter(TokenCounter.from_file(tokenizer_path))
    assert [writer.write(digests(1)[0], mean_tokens=400, max_tokens=n).tokens for n in range(1, 60)] == [*range(1, 60)]


def test_a_tokenizer_that_joins_words_is_noticed(tokenizer_path: Path, samples: list[str]) -> None:
    assert PseudoWriter(TokenCounter.from_file(tokenizer_path))._adds_up
    assert PseudoWriter(TokenCounter(byte_bpe(samples)))._adds_up
    assert not PseudoWriter(TokenCounter(phrase_bpe(samples)))._adds_up


def test_lengths_are_log_normal_around_the_mean(tokenizer_path: Path) -> None:
    writer = PseudoWriter(TokenCounter.from_file(tokenizer_path))
    lengths = [writer.write(digest, mean_tokens=120).tokens for digest in digests(3000)]
    assert mean(lengths) == pytest.approx(120, rel=0.05)
    # The median of a log-normal is mean * exp(-s^2 / 2) = 120 * exp(-0.125) = 105.9.
    assert median(lengths) == pytest.approx(105.9, rel=0.06)


def test_other_digest_other_text(tokenizer_path: Path) -> None:
    writer = PseudoWriter(TokenCounter.from_file(tokenizer_path))
    texts = [writer.write(digest, mean_tokens=60).content for digest in digests(2000)]
    assert len(set(texts)) == 2000
    assert texts == [writer.write(digest, mean_tokens=60).content for digest in digests(2000)]
