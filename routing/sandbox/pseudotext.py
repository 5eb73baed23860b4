"""Made-up answers: readable English whose length and words depend on nothing but a digest."""

import math
from bisect import bisect_right
from itertools import accumulate, product
from statistics import NormalDist
from typing import NamedTuple

from routing.sandbox.tokens import TokenCounter

LENGTH_SPREAD = 0.5
"""Standard deviation of the logarithm of the answer length: the longest 5 % have over twice the mean."""

# Four slots make a sentence. Sixteen phrases each, so that two bytes choose a sentence.
_SLOTS: tuple[tuple[str, ...], ...] = (
    (
        "The harbour", "A careful reader", "The second proof", "Every winter", "The old library", "A small engine",
        "The night watch", "The recipe", "One measurement", "The river", "A patient gardener", "The committee",
        "This method", "The lighthouse", "A good map", "The orchestra",
    ),
    (
        "keeps", "explains", "measures", "remembers", "repeats", "simplifies", "carries", "questions", "improves",
        "collects", "compares", "describes", "balances", "follows", "prepares", "records",
    ),
    (
        "the shortest path", "a quiet promise", "seven small numbers", "the change of light", "an honest estimate",
        "the weight of water", "its own mistakes", "the price of bread", "a list of names", "the first question",
        "two opposite views", "the missing page", "a simple rule", "the shape of clouds", "every known case",
        "the last train",
    ),
    (
        "before the storm.", "with great patience.", "in plain words.", "and nothing else.", "until morning comes.",
        "for a good reason.", "from left to right.", "without any hurry.", "as the table shows.", "near the old mill.",
        "because it must.", "on the third day.", "when the wind turns.", "step by step.", "under one condition.",
        "at the usual hour.",
    ),
)  # fmt: skip

_LEAD = "Yes."
_STANDARD_NORMAL = NormalDist()
_MASK = 2**64 - 1


class PseudoText(NamedTuple):
    """A made-up answer."""

    content: str
    tokens: int
    """What the tokenizer counts for `content`."""
    is_cut: bool
    """The answer was longer than allowed."""


class PseudoWriter:
    """Writes answers and knows their token counts.

    Most tokenizers split at spaces first, so the count of a sentence is the sum of the counts of its phrases and costs
    no call of the tokenizer. Whether that holds is tried on sample texts; if not, every answer is encoded whole.
    """

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter
        self._lead_tokens = counter.count(_LEAD)
        self._phrases = [[(phrase, self._count_inside(phrase)) for phrase in slot] for slot in _SLOTS]
        self._opening = [counter.count(phrase) for phrase in _SLOTS[0]]
        self._adds_up = self._counts_add_up()

    def write(self, digest: bytes, *, mean_tokens: int, max_tokens: int | None = None) -> PseudoText:
        """Return the answer that belongs to a digest: log-normal length around `mean_tokens`, whole sentences.

        Args:
            digest: At least 16 bytes; equal digests give equal answers.
            mean_tokens: Mean length over many digests; one sentence is the least.
            max_tokens: The answer is cut at this many tokens.
        """
        wanted = draw_length(int.from_bytes(digest[:8], "big"), mean_tokens)
        sentences, counts = self._sentences(int.from_bytes(digest[8:16], "big"), wanted)
        tokens = sum(counts) if self._adds_up else self._counter.count(" ".join(sentences))
        if max_tokens is None or tokens <= max_tokens:
            return PseudoText(" ".join(sentences), tokens, is_cut=False)
        if not self._adds_up:
            return PseudoText(*self._counter.cut(" ".join(sentences), max_tokens), is_cut=True)
        return self._cut(sentences, counts, max_tokens)

    def _cut(self, sentences: list[str], counts: list[int], max_tokens: int) -> PseudoText:
        """Keep the sentences that fit and the start of the next: one sentence is encoded, not the answer."""
        whole = bisect_right(list(accumulate(counts)), max_tokens)
        tokens = sum(counts[:whole])
        if whole == 0:
            return PseudoText(*self._counter.cut(sentences[0], max_tokens), is_cut=True)
        start, start_tokens = self._counter.cut(f"{_LEAD} {sentences[whole]}", self._lead_tokens + max_tokens - tokens)
        rest = start.removeprefix(_LEAD)
        return PseudoText(" ".join(sentences[:whole]) + rest, tokens + start_tokens - self._lead_tokens, is_cut=True)

    def _count_inside(self, phrase: str) -> int:
        """Return what a phrase adds to a text that it does not begin."""
        return self._counter.count(f"{_LEAD} {phrase}") - self._lead_tokens

    def _sentences(self, state: int, wanted: int) -> tuple[list[str], list[int]]:
        subjects, verbs, objects, ends = self._phrases
        sentences: list[str] = []
        counts: list[int] = []
        total = 0
        while True:
            # Knuth's MMIX generator: its high bits are the good ones.
            state = (state * 6364136223846793005 + 1442695040888963407) & _MASK
            choice = state >> 48
            subject, tokens = subjects[choice >> 12]
            if not sentences:
                # A word at the start of a text may be another token than the same word after a space.
                tokens = self._opening[choice >> 12]
            verb, verb_tokens = verbs[choice >> 8 & 15]
            what, what_tokens = objects[choice >> 4 & 15]
            end, end_tokens = ends[choice & 15]
            tokens += verb_tokens + what_tokens + end_tokens
            # Stopping at the nearer side keeps the mean where it was asked for.
            if sentences and total + tokens / 2 > wanted:
                return sentences, counts
            sentences.append(f"{subject} {verb} {what} {end}")
            counts.append(tokens)
            total += tokens

    def _counts_add_up(self) -> bool:
        for state, wanted in product(range(8), (1, 60)):
            sentences, counts = self._sentences(state << 40, wanted)
            if self._counter.count(" ".join(sentences)) != sum(counts):
                return False
        return True


def draw_length(bits: int, mean_tokens: int) -> int:
    """Return a log-normal length with the given mean for 64 uniform bits: exp(ln mean - s^2/2 + s z), s = 0.5."""
    # 52 bits and a half: strictly inside (0, 1), where the inverse is finite.
    z = _STANDARD_NORMAL.inv_cdf(((bits >> 12) + 0.5) / 2**52)
    return max(1, round(mean_tokens * math.exp(LENGTH_SPREAD * z - LENGTH_SPREAD**2 / 2)))
