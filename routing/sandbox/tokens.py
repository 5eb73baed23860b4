"""Token counts by a real tokenizer: what the sandbox bills is what that tokenizer says."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from routing.errors import ConfigError, InputMissingError

TOKENS_PER_MESSAGE = 4
"""Framing of a message: three tokens and its role, which is one (OpenAI cookbook, "How to count tokens")."""
TOKENS_PER_REPLY = 3
"""Every reply is primed with `<|start|>assistant<|message|>` (same source)."""


class Cut(NamedTuple):
    """The start of a text, and the tokens it has."""

    text: str
    tokens: int


class TokenCounter:
    """Counts and cuts texts with one tokenizer, without special tokens, truncation or padding.

    Counts are remembered under the SHA-256 of the text, so that a system prompt or a retried prompt is encoded once
    and the memory does not grow with the length of the texts.

    Args:
        tokenizer: Used alone by this counter: its truncation and padding are switched off.
        remembered: Counts kept; the oldest is forgotten first.
    """

    def __init__(self, tokenizer: Tokenizer, *, remembered: int = 65_536) -> None:
        # A tokenizer.json carries the settings it was trained with: MiniLM's cuts every text at 128 tokens.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._remembered = remembered
        self._counts: dict[bytes, int] = {}

    @classmethod
    def from_file(cls, path: Path) -> "TokenCounter":
        """Load a tokenizer.json.

        Raises:
            InputMissingError: There is no such file.
            ConfigError: The file is no tokenizer.
        """
        if not path.is_file():
            raise InputMissingError(
                f"no tokenizer at {path}; set `tokenizer` to the tokenizer.json of a router artifact"
            )
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as exc:  # tokenizers raises bare Exception for every kind of bad file
            raise ConfigError(f"{path} is no tokenizer.json: {exc}; take the one of a router artifact") from exc

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        key = hashlib.sha256(text.encode()).digest()
        known = self._counts.get(key)
        if known is not None:
            return known
        if len(self._counts) >= self._remembered:
            self._counts.pop(next(iter(self._counts)))
        tokens = self._counts[key] = self._count(text)
        return tokens

    def count_messages(self, contents: Iterable[str]) -> int:
        """Return the prompt tokens of a chat: its contents, 4 for each message and 3 for the reply."""
        return TOKENS_PER_REPLY + sum(TOKENS_PER_MESSAGE + self.count(content) for content in contents)

    def cut(self, text: str, max_tokens: int) -> Cut:
        """Return the longest start of `text` that ends with one of its tokens and counts at most `max_tokens`."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if len(encoding) <= max_tokens:
            return Cut(text, len(encoding))
        for _, end in reversed(encoding.offsets[:max_tokens]):
            # A character may be several byte tokens, which all end where it ends, so the cut is counted again.
            tokens = self._count(text[:end])
            if tokens <= max_tokens:
                return Cut(text[:end], tokens)
        return Cut("", 0)

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False))
