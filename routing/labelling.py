"""Labels for a sample of queries: draw it, ask a judge in both orders, read the verdicts, combine them.

The judge sees two answers in both orders, and only a verdict that survives the swap counts (Zheng et al. 2023,
arXiv 2306.05685, section 3.4, "swapping positions"); all else is a tie.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.errors import ConfigError
from routing.score import content_sha256, stable_hash
from schemas.labels import ORDERS
from schemas.preferences import WINNERS

Allocation = Literal["proportional", "equal"]

PLACEHOLDERS: Final = ("question", "answer_a", "answer_b")
_PLACEHOLDER: Final = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")
_VERDICT: Final = r"\[\[\s*([A-Ca-c])\s*\]\]"
_WINNER: Final = pl.Enum(list(WINNERS))
_MEANING: Final = {
    "ab": {"A": "model_a", "B": "model_b", "C": "tie"},
    "ba": {"A": "model_b", "B": "model_a", "C": "tie"},
}

# ---- sampling -------------------------------------------------------------------------------------------------------


def draw(keys: pl.DataFrame, *, size: int, seed: int, allocation: Allocation = "proportional") -> pl.DataFrame:
    """Draw rows without replacement; the draw depends on seed and ids, not on the order of the table.

    Every id has a rank, a hash of seed and id; the lowest ranks of each stratum are drawn. So the same seed with a
    larger size keeps the queries drawn before (exactly so without strata).

    Args:
        keys: part, row, query_id and stratum (String, null is a stratum too); ids are unique.
        size: Rows to draw; all where there are fewer.
        seed: Any integer.
        allocation: `proportional` gives each stratum its share of the table (largest remainders); `equal` gives
            each the same number, small ones all they have.

    Returns:
        The drawn rows of `keys`, in their order there.
    """
    ranked = keys.with_columns(_rank=pl.format("{}\x1f{}", pl.lit(str(seed)), "query_id")).with_columns(
        _rank=stable_hash("_rank")
    )
    strata = ranked.group_by("stratum").len().sort("stratum", nulls_last=True)
    counts = strata["len"].to_numpy().astype(np.int64)
    share = proportional(counts, size) if allocation == "proportional" else equal(counts, size)
    quotas = strata.select("stratum", quota=pl.Series(share, dtype=pl.Int64))
    place = pl.col("_rank").rank("ordinal").over("stratum")
    drawn = ranked.with_columns(_place=place).join(
        quotas, on="stratum", how="left", nulls_equal=True, maintain_order="left"
    )
    return drawn.filter(pl.col("_place") <= pl.col("quota")).select(keys.columns)


def proportional(counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Split `size` by counts with largest remainders, shape (strata,); sums to min(size, counts.sum()).

    Source: the Hamilton method. No stratum gets more than it has, nor less than its share rounded down.
    """
    total = int(counts.sum())
    wanted = min(size, total)
    if not wanted:
        return np.zeros_like(counts)
    base = counts * wanted // total
    remainder = counts * wanted % total
    base[np.argsort(-remainder, kind="stable")[: wanted - int(base.sum())]] += 1
    return base


def equal(counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Split `size` as evenly as the counts allow, shape (strata,); sums to min(size, counts.sum())."""
    wanted = min(size, int(counts.sum()))
    low, high = 0, int(counts.max(initial=0))
    while low < high:  # the highest level that all strata can be filled to
        level = (low + high + 1) // 2
        low, high = (level, high) if int(np.minimum(counts, level).sum()) <= wanted else (low, level - 1)
    shares = np.minimum(counts, low)
    # What is left is less than one for each stratum that has more: the largest first.
    order = np.argsort(-counts, kind="stable")
    shares[order[: wanted - int(shares.sum())]] += 1
    return shares


# ---- asking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """What a judge is told."""

    template: str
    """User message with `{question}`, `{answer_a}` and `{answer_b}`; other braces are text."""
    system: str | None

    def check(self, *, where: str) -> None:
        """Check that every placeholder is there.

        Raises:
            ConfigError: one is missing, or the system message has one.
        """
        found = set(_PLACEHOLDER.findall(self.template))
        if missing := [name for name in PLACEHOLDERS if name not in found]:
            raise ConfigError(
                f"judge template {where} lacks {', '.join(f'{{{name}}}' for name in missing)}; a template needs "
                f"{', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}"
            )
        if self.system is not None and _PLACEHOLDER.search(self.system):
            raise ConfigError("judge.system holds a placeholder, but only judge.template is filled in; move it there")

    def fill(self) -> pl.Expr:
        """Fill the template from columns of its placeholders' names, in one pass: what is filled in stays text."""
        pieces = _PLACEHOLDER.split(self.template)
        texts = [pl.lit(text) for text in pieces[0::2]]
        columns = [pl.col(name) for name in pieces[1::2]]
        mixed = [piece for pair in zip(texts, columns, strict=False) for piece in pair]
        return pl.concat_str([*mixed, texts[-1]])


def questions(pairs: pl.DataFrame, judge: JudgePrompt) -> pl.DataFrame:
    """Two questions for each pair of answers: one row an order, `ab` before `ba`, pairs in their order.

    Args:
        pairs: row, query_id, prompt, answer_a and answer_b, without nulls.
        judge: What the judge is told.

    Returns:
        row, query_id, order, and what is sent: prompt, system, messages_json and max_output_tokens (null),
        content_sha256.
    """
    first, second = pl.col("answer_a"), pl.col("answer_b")
    orders = [
        pairs.select("row", "query_id", order=pl.lit(order), question="prompt", answer_a=shown[0], answer_b=shown[1])
        for order, shown in zip(ORDERS, ((first, second), (second, first)), strict=True)
    ]
    return (
        pl.concat(orders)
        .sort("row", maintain_order=True)
        .select(
            "row",
            "query_id",
            "order",
            prompt=judge.fill(),
            system=pl.lit(judge.system, pl.String),
            messages_json=pl.lit(None, pl.String),
            max_output_tokens=pl.lit(None, pl.Int64),
        )
        .with_columns(content_sha256=content_sha256())
    )


# ---- reading --------------------------------------------------------------------------------------------------------


def verdict(judgement: pl.Expr, order: str) -> pl.Expr:
    """Read who won: the last `[[A]]`, `[[B]]` or `[[C]]` of the text, null where there is none.

    The last one, because a judge may name the forms, or quote an answer that does, before it decides.

    Args:
        judgement: Text of the judge.
        order: `ab` or `ba`.
    """
    letter = judgement.str.extract_all(_VERDICT).list.last().str.extract(_VERDICT).str.to_uppercase()
    return letter.replace_strict(_MEANING[order], default=None, return_dtype=_WINNER)


def both_orders(ab: pl.Expr, ba: pl.Expr) -> pl.Expr:
    """Combine two verdicts: what both say, else a tie; null where one is missing."""
    return (
        pl.when(ab.is_null() | ba.is_null())
        .then(pl.lit(None, _WINNER))
        .when(ab == ba)
        .then(ab)
        .otherwise(pl.lit("tie", _WINNER))
    )


def by_score(strong: pl.Expr, weak: pl.Expr) -> pl.Expr:
    """Compare two scores: equal ones are a tie; null where one is missing."""
    return (
        pl.when(strong > weak)
        .then(pl.lit("model_a", _WINNER))
        .when(strong < weak)
        .then(pl.lit("model_b", _WINNER))
        .when(strong == weak)
        .then(pl.lit("tie", _WINNER))
    )
