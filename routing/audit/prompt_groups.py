"""Prompts of one template: the same beginning, once numbers, names of things and white space are taken out.

A log may hold as many templates as prompts, so the table of groups is a mergeable heavy-hitter summary (Misra and Gries
1982; Agarwal et al. 2012, "Mergeable summaries", section 2) with cost for weight: once it holds more than `GROUPS`, the
cost of the next dearest is taken off every group's credit, and groups without credit are forgotten. A template that
costs more than 1/`GROUPS` of the whole is therefore never missing, and what its figures lack is less than that.
"""

import hashlib

import polars as pl

from routing.audit.cube import Tally
from schemas.audit import PromptGroup

GROUPS = 100_000
"""Templates kept: the figures of a dear one lack less than 0.001 % of the cost."""

TEMPLATE_CHARACTERS = 80
_READ_CHARACTERS = 400
"""Of a prompt: enough for a template of 80 characters with long names in it."""

_FIRST_LINE = r"^([^\r\n]{24,}?)\s*[\r\n]"
_VARIABLE = "|".join(
    (
        r'"[^"]*(?:"|$)|“[^”]*(?:”|$)|`[^`]*(?:`|$)',  # a quotation may go on beyond what is read
        r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
        r"\b[0-9a-f]{8,}\b",
        r"[0-9]+(?:[.,:][0-9]+)*",  # amounts, times, versions
    )
)
_SINGLE_QUOTED = r"(^|[\s(=:,])'[^']*'"
"""Not the apostrophes of "don't" and "users' "."""


def template(prompt: pl.Expr) -> pl.Expr:
    """Return the beginning of a prompt in lower case, variable things as `#`, white space folded, 80 characters.

    A first line that says enough (24 characters) is the template alone: what follows is the matter at hand.
    """
    text = prompt.str.strip_chars_start().str.slice(0, _READ_CHARACTERS).str.to_lowercase()
    return (
        pl.coalesce(text.str.extract(_FIRST_LINE), text)
        .str.replace_all(_VARIABLE, "#")
        .str.replace_all(_SINGLE_QUOTED, "${1}#")
        .str.replace_all(r"\s+", " ")
        .str.slice(0, TEMPLATE_CHARACTERS)
        .str.strip_chars_end()
    )


class PromptGroups:
    """The dearest templates of a log, found part by part."""

    def __init__(self, groups: int = GROUPS) -> None:
        """Start without a call; the first `add` makes the table.

        Args:
            groups: Templates kept.
        """
        self._groups = groups
        self._tally = Tally(self._merge)

    def add(self, calls: pl.DataFrame) -> None:
        """CALL_LOG + COSTS: add the calls that have prompt text. An unpriced call weighs nothing."""
        self._tally.add(_grouped(calls))

    def dearest(self, top: int, *, excerpts: bool) -> list[PromptGroup]:
        """Return the dearest groups.

        Args:
            top: How many.
            excerpts: Whether the template is shown; else its digest stands for it.
        """
        order = {"cost_usd": True, "calls": True, "template": False}
        rows = self._tally.total().sort(list(order), descending=list(order.values())).head(top)
        return [
            PromptGroup(
                template_sha256=hashlib.sha256(row["template"].encode()).hexdigest(),
                excerpt=row["template"] if excerpts else None,
                calls=row["calls"],
                input_tokens=row["input_tokens"],
                output_tokens=row["output_tokens"],
                cost_usd=row["cost_usd"],
            )
            for row in rows.iter_rows(named=True)
        ]

    def _merge(self, groups: pl.DataFrame) -> pl.DataFrame:
        merged = groups.group_by("template").agg(pl.all().sum())
        if merged.height <= self._groups:
            return merged
        spent = merged["credit"].top_k(self._groups + 1).min()
        return merged.with_columns(pl.col("credit") - spent).filter(pl.col("credit") > 0)


def _grouped(calls: pl.DataFrame) -> pl.DataFrame:
    return (
        calls.filter(pl.col("prompt").str.strip_chars() != "")
        .group_by(template(pl.col("prompt")).alias("template"))
        .agg(
            pl.len().cast(pl.Int64).alias("calls"),
            pl.col("input_tokens", "output_tokens", "cost_usd").sum(),
            credit=pl.col("cost_usd").sum().cast(pl.Float64),
        )
    )
