"""Which logged calls could have been routed, which model answered them, and why the others are left as they were."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import polars as pl

from routing.matching import NAME, SNAPSHOT, resolve_models, served_names

REASONS = ("failed", "answered by a cache", "not a chat", "another model", "unpriced", "no prompt text")
"""Why a call is left as it was; of several, the first."""

COLUMNS = (*NAME, "operation", "billed", "outcome", "prompt", "unpriced_reason")
"""What is read of CALL_LOG + COSTS."""

_CHAT = r"(?i)chat|complet|respon|messag|generat"
_NO_CHAT = r"(?i)embed|image|moderat|rerank|speech|transcri|audio|video"
"""Names of operations differ from tool to tool: `acompletion`, `chat`, `/v1/responses`, `GENERATION`."""


class Side(IntEnum):
    """Which model answered a call."""

    OTHER = 0
    """One that the pair replaces: such a call moves wherever it is routed."""
    STRONG = 1
    WEAK = 2


@dataclass(frozen=True, slots=True)
class PairModel:
    """One model of the pair, as prices know it."""

    name: str
    provider: str | None = None
    base_url: str | None = None

    @property
    def served(self) -> dict[str, str | None]:
        """The columns that name it in USAGE."""
        return {"provider": self.provider, "base_url": self.base_url, "model": self.name}


class Served:
    """Tells by served names which calls are the pair's.

    A model of the pair is known by its name, or by another one that the price table takes for the same model: dated
    versions, prefixes of a provider. Where it takes both models of the pair for one, only names count.
    """

    def __init__(self, strong: PairModel, weak: PairModel, replaces: Sequence[str], prices: pl.DataFrame) -> None:
        """Learn the pair.

        Args:
            strong: The strong model.
            weak: The weak one.
            replaces: Names of further models; `*` stands for anything.
            prices: See `routing.prices.price_snapshot`.
        """
        self._prices = prices
        self._names = {strong.name: Side.STRONG, weak.name: Side.WEAK}
        same = {side: self._priced_as(model.served) for side, model in ((Side.STRONG, strong), (Side.WEAK, weak))}
        distinct = same[Side.STRONG] != same[Side.WEAK]
        self._priced = {name: side for side, name in same.items() if name is not None and distinct}
        self._replaced = [re.compile(".*".join(re.escape(part) for part in name.split("*"))) for name in replaces]
        self._known: dict[tuple[str | None, ...], Side | None] = {}

    def routed(self, calls: pl.DataFrame) -> pl.DataFrame:
        """CALL_LOG + COSTS -> `reason` (one of `REASONS`; null: routed) and `side` (Int8), one row for each call."""
        for name in served_names(calls).iter_rows(named=True):
            key = tuple(name.values())
            if key not in self._known:
                self._known[key] = self._side(name)
        rows = [(*name, side) for name, side in self._known.items()]
        sides = pl.DataFrame(rows, schema={**dict.fromkeys(NAME, pl.String), "side": pl.Int8}, orient="row")
        named = calls.select(COLUMNS).join(sides, on=NAME, how="left", nulls_equal=True, maintain_order="left")
        operation = pl.col("operation")
        chat = operation.is_null() | (operation.str.contains(_CHAT) & ~operation.str.contains(_NO_CHAT))
        no_text = pl.col("prompt").is_null() | (pl.col("prompt").str.strip_chars() == "")
        broken = (
            pl.col("outcome") != "ok",
            ~pl.col("billed"),
            ~chat,
            pl.col("side").is_null(),
            pl.col("unpriced_reason").is_not_null(),
            no_text,
        )
        reason = pl.coalesce(pl.when(rule).then(pl.lit(name)) for rule, name in zip(broken, REASONS, strict=True))
        return named.select(reason.alias("reason"), "side")

    def _side(self, name: dict[str, str | None]) -> Side | None:
        model = name["model"]
        if model is None:
            return None
        if model in self._names:
            return self._names[model]
        priced = self._priced.get(self._priced_as(name) or "")
        if priced is not None:
            return priced
        return Side.OTHER if any(pattern.fullmatch(model) for pattern in self._replaced) else None

    def _priced_as(self, name: dict[str, str | None]) -> str | None:
        resolved = resolve_models(pl.DataFrame([name], schema=dict.fromkeys(NAME, pl.String)), self._prices)
        found = resolved.filter(pl.col("rank") == SNAPSHOT)["price_model"].drop_nulls()
        return None if found.is_empty() else str(found[0])
