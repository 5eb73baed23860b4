"""How prompts become tokens: the same in training, in export and at night, because the card carries it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from routing.batching import Tokens, head_and_tail
from schemas.artifact import Truncation


@dataclass(frozen=True, slots=True)
class TextInput:
    """Tokenizer, cut and frame of a router's prompts."""

    tokenizer: Tokenizer
    """Without truncation and padding."""
    truncation: Truncation
    prefix: tuple[int, ...] = ()
    """Token ids before every prompt, after the cut."""
    suffix: tuple[int, ...] = ()

    @property
    def lowercase(self) -> bool:
        """Whether `HELP` and `help` become the same tokens."""
        normalizer = self.tokenizer.normalizer
        return normalizer is not None and normalizer.normalize_str("HELP") == normalizer.normalize_str("help")

    def tokens(self, prompts: Sequence[str]) -> Tokens:
        """Return each prompt's tokens as `routing.routers.OnnxRouter` cuts and frames them, int64."""
        head, tail = self.truncation.head, self.truncation.tail
        prefix, suffix = np.array(self.prefix, np.int64), np.array(self.suffix, np.int64)
        encodings = self.tokenizer.encode_batch_fast(list(prompts), add_special_tokens=False)
        cut = (head_and_tail(np.array(encoding.ids, np.int64), head, tail) for encoding in encodings)
        return [np.concatenate([prefix, row, suffix]) for row in cut]
