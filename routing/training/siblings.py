"""Siblings: near-duplicate prompts inside one benchmark, by the rule that keeps evaluation prompts out of training.

A benchmark holds questions that share their text (one passage, five questions). A labelled sample of it then tells more
about the rest than a sample of fresh questions would. Whether that counts is a choice; how many there are is a fact.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from routing.training.decontamination import LIMIT, PHRASE_WORDS, SCREEN, Embed, Near, near_pairs, phrases
from routing.trials import Rows


@dataclass(frozen=True, slots=True)
class Siblings:
    """Which prompts of a benchmark are near-duplicates of each other; see `routing.training.decontamination`."""

    phrases: pl.DataFrame
    """row, phrase: the runs of words that several prompts have."""
    near: Near
    """Pairs with an encoder cosine of at least `LIMIT`, each once."""

    def among(self, rows: Rows, others: Rows) -> Rows:
        """Return those of `rows` that have a sibling among `others`, rising; the two share no row."""
        shared = self._said_by(rows).join(self._said_by(others), on="phrase", how="semi")["row"]
        found = [shared.to_numpy().astype(np.intp)]
        for own, other in ((self.near.train, self.near.evaluation), (self.near.evaluation, self.near.train)):
            found.append(own[np.isin(own, rows) & np.isin(other, others)])
        return np.unique(np.concatenate(found))

    def _said_by(self, rows: Rows) -> pl.DataFrame:
        wanted = pl.DataFrame({"row": rows}, schema={"row": self.phrases.schema["row"]})
        return self.phrases.join(wanted, on="row", how="semi")


def siblings(prompts: pl.Series, near: Near) -> Siblings:
    """Return the siblings among distinct prompts: those that share a phrase, and the pairs of `near_duplicates`."""
    said = phrases(prompts, PHRASE_WORDS).unique()
    return Siblings(said.filter(pl.len().over("phrase") > 1), near)


def near_duplicates(prompts: pl.Series, screen: Embed, encode: Embed) -> Near:
    """Return the pairs of prompts with an encoder cosine of at least `LIMIT`, each once.

    Args:
        prompts: Distinct prompts.
        screen: A cheap embedder; pairs below a cosine of `SCREEN` are not looked at again.
        encode: The encoder; it is given each prompt of the other pairs once.
    """
    texts = prompts.to_list()
    vectors = screen(texts)
    found = near_pairs(vectors, vectors, limit=SCREEN)
    once = found.train < found.evaluation
    left, right = found.train[once], found.evaluation[once]
    rows, place = np.unique(np.concatenate([left, right]), return_inverse=True)
    if not len(rows):
        return Near(left, right)
    encoded = encode([texts[row] for row in rows])
    close = np.einsum("ij,ij->i", encoded[place[: len(left)]], encoded[place[len(left) :]]) >= LIMIT
    return Near(left[close], right[close])
