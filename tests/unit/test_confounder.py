from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from routing.artifact import BUILTIN, TOKENIZER
from routing.confounder import find_confounder, random_pieces, suffix, word_pieces
from routing.errors import ConfigError

PIECES = [f"w{i}" for i in range(50)]
PROMPTS = ["one", "two", "three", "four"]


class Gullible:
    """Likes `w7`, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        self.asked += texts
        return np.array([0.3 + 0.1 * text.split().count("w7") for text in texts])


def test_the_search_finds_what_the_router_likes() -> None:
    router = Gullible()
    found = find_confounder(router, PROMPTS, PIECES, length=3, candidates=20, max_queries=4_000, seed=1)
    assert found.pieces == ("w7", "w7", "w7")
    assert found.text == " w7 w7 w7"
    assert (found.before, found.after) == pytest.approx((0.3, 0.6))


def test_queries_are_counted_and_bounded() -> None:
    router = Gullible()
    found = find_confounder(router, PROMPTS, PIECES, length=3, candidates=5, max_queries=100, seed=1)
    # 8 at the start, then rounds of 20.
    assert found.queries == len(router.asked) == 88
    assert all(text.split()[0] in PROMPTS for text in router.asked)


def test_it_never_ends_worse_than_it_began() -> None:
    start = suffix(random_pieces(PIECES, length=4, seed=3))

    def only_the_start(texts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([1.0 if text.endswith(start) else 0.2 for text in texts])

    found = find_confounder(only_the_start, PROMPTS, PIECES, length=4, candidates=5, max_queries=200, seed=3)
    assert (found.text, found.after) == (start, 1.0)


def test_one_seed_one_suffix() -> None:
    one, two, other = (
        find_confounder(Gullible(), PROMPTS, PIECES, length=6, candidates=2, max_queries=40, seed=seed)
        for seed in (4, 4, 5)
    )
    assert one == two
    assert one.pieces != other.pieces


@pytest.mark.parametrize(("prompts", "queries"), [([], 1_000), (PROMPTS, 27)])
def test_too_little_to_search_with_says_so(prompts: list[str], queries: int) -> None:
    with pytest.raises(ConfigError, match="needs prompts to tune on and"):
        find_confounder(Gullible(), prompts, PIECES, length=3, candidates=5, max_queries=queries, seed=0)


def test_no_vocabulary_says_so() -> None:
    with pytest.raises(ConfigError, match="no piece that can be typed"):
        random_pieces([], length=3, seed=0)


def test_pieces_of_a_shipped_router_are_single_tokens() -> None:
    tokenizer = Tokenizer.from_file(str(BUILTIN / "static-mf" / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    pieces = word_pieces(tokenizer)
    assert len(pieces) > 10_000
    assert {"the", "question", "?"} <= set(pieces)
    assert not any(piece.startswith(("##", "[CLS]", "[unused")) for piece in pieces)
    drawn = list(random_pieces(pieces, length=200, seed=0))
    assert len(tokenizer.encode(suffix(drawn), add_special_tokens=False).ids) == 200


def test_pieces_of_a_byte_level_vocabulary() -> None:
    vocabulary = {"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġa": 4, "Ġab": 5, "Ċ": 6, "ä": 7, "<|end|>": 8}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b"), ("Ġ", "a"), ("Ġ", "ab")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    # Not the space, the line break, half of a letter, or the token that ends a text.
    assert word_pieces(tokenizer) == ["a", "ab", "b"]
