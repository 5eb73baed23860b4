"""Which logged calls could have been routed, which model answered them, and why the others are left as they were."""

import re
from collections.abc import Iterable, Sequence
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
        pair = pl.DataFrame([strong.served, weak.served], schema=dict.fromkeys(NAME, pl.String))
        found = _priced_as(pair, prices)
        same = [found.get(tuple(model.served.values())) for model in (strong, weak)]
        sides = zip(same, (Side.STRONG, Side.WEAK), strict=True)
        self._priced = {} if same[0] == same[1] else {name: side for name, side in sides if name is not None}
        self._replaced = [_pattern(name) for name in replaces]
        self._known: dict[tuple[str | None, ...], Side | None] = {}

    def routed(self, calls: pl.DataFrame) -> pl.DataFrame:
        """CALL_LOG + COSTS -> `reason` (one of `REASONS`; null: routed) and `side` (Int8), one row for each call."""
        names = [name for name in served_names(calls).iter_rows() if name not in self._known]
        priced = _priced_as(pl.DataFrame(names, schema=dict.fromkeys(NAME, pl.String), orient="row"), self._prices)
        for name in names:
            self._known[name] = self._side(name[-1], priced.get(name))
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

    def _side(self, model: str | None, priced: str | None) -> Side | None:
        if model is None:
            return None
        if model in self._names:
            return self._names[model]
        if priced in self._priced:
            return self._priced[priced]
        return Side.OTHER if any(pattern.fullmatch(model) for pattern in self._replaced) else None


def idle_patterns(replaces: Sequence[str], models: Iterable[str]) -> list[str]:
    """Say which names of further models are the name of no model of the log: a typo leaves its calls unrouted."""
    served = list(models)
    return [
        f"what_if.replaces names {name!r}, which is no model of this log, so it moves no call; * stands for anything."
        for name in replaces
        if not any(_pattern(name).fullmatch(model) for model in served)
    ]


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in name.split("*")))


def _priced_as(names: pl.DataFrame, prices: pl.DataFrame) -> dict[tuple[str | None, ...], str]:
    """Served name -> the model that the price table takes it for; names that it does not know are left out."""
    known = resolve_models(names, prices).filter(pl.col("rank") == SNAPSHOT).drop_nulls("price_model")
    return {row[:-1]: row[-1] for row in known.select(*NAME, "price_model").iter_rows()}
