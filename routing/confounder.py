"""A suffix that makes a router call for the strong model, whatever the query: what an attacker can make the owner pay.

Black box, as a user of the service would: win rates of own prompts are seen, weights and gradients are not. The search
is the coordinate ascent of "Rerouting LLM Routers" (Shafran et al. 2025, arXiv 2501.01818, section 4), there with a
prefix: go through the places of the suffix, try random pieces of the router's vocabulary there, keep the best.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from routing.errors import ConfigError

WinRatesOf = Callable[[Sequence[str]], NDArray[np.float64]]
"""Texts to win rates, shape (n,)."""


@dataclass(frozen=True, slots=True)
class Confounder:
    """A suffix that was found."""

    pieces: tuple[str, ...]
    before: float
    """Mean win rate of the prompts that it was tuned on, without it."""
    after: float
    """The same, with it."""
    queries: int
    """Prompts that were scored to find it."""

    @property
    def text(self) -> str:
        """What is appended to a prompt."""
        return suffix(self.pieces)


def suffix(pieces: Sequence[str]) -> str:
    """Return pieces as text that can be appended to any prompt."""
    return " " + " ".join(pieces)


def word_pieces(tokenizer: Tokenizer) -> list[str]:
    """Return the entries of a vocabulary that can be typed: each is one token when it stands alone, none is special."""
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    ids = sorted(token for piece, token in tokenizer.get_vocab(with_added_tokens=True).items() if piece not in special)
    texts = [text.strip() for text in tokenizer.decode_batch([[token] for token in ids])]
    # A piece from the inside of words (`##ing`) comes back as another token, and a byte of a character as none.
    alone, spaced = (
        tokenizer.encode_batch_fast([before + text for text in texts], add_special_tokens=False) for before in ("", " ")
    )
    return sorted(
        {
            text
            for token, text, one, two in zip(ids, texts, alone, spaced, strict=True)
            if text.isprintable() and text and [token] in (one.ids, two.ids)
        }
    )


def random_pieces(pieces: Sequence[str], *, length: int, seed: int) -> tuple[str, ...]:
    """Draw a suffix: where the search starts, and the control that shows what mere length does."""
    if not pieces:
        raise ConfigError("the router's vocabulary has no piece that can be typed; leave the confounder out")
    return tuple(pieces[i] for i in np.random.default_rng(seed).integers(0, len(pieces), length))


def find_confounder(
    win_rates: WinRatesOf,
    prompts: Sequence[str],
    pieces: Sequence[str],
    *,
    length: int = 10,
    candidates: int = 16,
    max_queries: int = 10_000,
    seed: int,
) -> Confounder:
    """Search the suffix that raises the mean win rate of some prompts most.

    Args:
        win_rates: The router.
        prompts: A small sample to tune on; measure the suffix on others.
        pieces: Vocabulary to draw from, see `word_pieces`.
        length: Pieces of the suffix.
        candidates: Pieces tried at a place before the best is kept and the next place is looked at.
        max_queries: Prompts that may be scored; a round costs `candidates` times the number of prompts.
        seed: Of the start, the order of the places and the candidates.

    Raises:
        ConfigError: no prompts or no pieces, or too few queries for one round.
    """
    per_round = candidates * len(prompts)
    start = 2 * len(prompts)
    if not prompts or max_queries < start + per_round:
        raise ConfigError(
            f"a confounder needs prompts to tune on and {start + per_round} queries for one round of {candidates} "
            f"candidates on {len(prompts)} prompts, got max_queries = {max_queries}; raise it or tune on fewer prompts"
        )
    best = random_pieces(pieces, length=length, seed=seed)
    before, after = float(win_rates(prompts).mean()), float(win_rates([text + suffix(best) for text in prompts]).mean())
    rng = np.random.default_rng([seed, 1])
    queries, places = start, list[int]()
    while queries + per_round <= max_queries:
        places = places or rng.permutation(length).tolist()
        place = places.pop()
        tried = [
            (*best[:place], pieces[i], *best[place + 1 :]) for i in rng.integers(0, len(pieces), candidates).tolist()
        ]
        found = (
            win_rates([text + suffix(one) for one in tried for text in prompts]).reshape(candidates, -1).mean(axis=1)
        )
        queries += per_round
        if found.max() > after:
            best, after = tried[int(found.argmax())], float(found.max())
    return Confounder(best, before, after, queries)
