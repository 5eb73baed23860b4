from pathlib import Path

import pytest

from routing.errors import ConfigError, InputMissingError
from routing.sandbox.tokens import TokenCounter
from tests.unit.sandbox.support import QUESTION, QUESTION_TOKENS, byte_bpe


@pytest.fixture(scope="module")
def counter(tokenizer_path: Path) -> TokenCounter:
    return TokenCounter.from_file(tokenizer_path)


def test_truncation_and_padding_of_the_file_are_switched_off(counter: TokenCounter) -> None:
    assert counter.count("one two three four five six, seven") == 8
    assert counter.count("one") == 1
    assert counter.count("") == 0


def test_a_message_costs_four_tokens_and_a_reply_three(counter: TokenCounter) -> None:
    assert counter.count_messages([QUESTION]) == QUESTION_TOKENS
    assert counter.count_messages(["Be brief.", QUESTION, ""]) == 3 + (4 + 3) + (4 + 7) + 4


def test_a_cut_ends_with_a_token_and_counts_what_it_says(counter: TokenCounter) -> None:
    assert counter.cut("The harbour keeps a promise.", 3) == ("The harbour keeps", 3)
    assert counter.cut("The harbour.", 3) == ("The harbour.", 3)
    assert counter.cut("The harbour.", 0) == ("", 0)


def test_a_character_of_several_tokens_is_kept_whole_or_left_out() -> None:
    counter = TokenCounter(byte_bpe(["hello hello hello"]))
    # One token for the word, one for the space, four bytes for each sign.
    text = "hello 🙂🙃"
    assert [counter.cut(text, n).text for n in range(11)] == [
        "", "hello", *["hello "] * 4, *["hello 🙂"] * 4, "hello 🙂🙃",
    ]  # fmt: skip
    assert [counter.cut(text, n).tokens for n in range(11)] == [0, 1, 2, 2, 2, 2, 6, 6, 6, 6, 10]


def test_forgotten_counts_are_counted_again(tokenizer_path: Path) -> None:
    counter = TokenCounter(TokenCounter.from_file(tokenizer_path)._tokenizer, remembered=2)
    texts = ["one", "one two", "one two three", "one two three four"]
    assert [counter.count(text) for text in texts * 2] == [1, 2, 3, 4] * 2
    assert len(counter._counts) == 2


def test_a_missing_tokenizer_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="set `tokenizer`"):
        TokenCounter.from_file(tmp_path / "none.json")


def test_a_damaged_tokenizer_is_a_config_error(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text('{"version": "1.0", "model": 7}')
    with pytest.raises(ConfigError, match=r"no tokenizer\.json"):
        TokenCounter.from_file(path)
