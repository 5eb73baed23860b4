"""One source table of a training config -> BATTLES, with what was left out and why."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import polars as pl

from routing.errors import DataError
from routing.training import importers
from routing.training.dataset import Classes
from routing.training.importers import Imported
from routing.training.preferences import HUMAN_WEIGHT, OVERLAP_COLUMNS, Exclusions, without_overlap
from schemas.preferences import Battles

LAYOUTS = (*importers.LAYOUTS, "gpt4_judge")
_ANY_LAYOUT = ("source", "benchmark", "task", "label_kind", *OVERLAP_COLUMNS)
COLUMNS = tuple(dict.fromkeys((*chain.from_iterable(importers.LAYOUTS.values()), *_ANY_LAYOUT)))
"""What is read of a table, whatever its layout."""


@dataclass(frozen=True, slots=True)
class Source:
    """How to read one table; see `routing.training.importers` for the layouts."""

    name: str
    """For messages, and the source of the battles where the table has no column `source`."""
    layout: str | None = None
    """One of `LAYOUTS`; null takes the one that the columns fit."""
    weight: float = 1.0
    """Of every battle of this table, against the other tables."""
    human_weight: float = HUMAN_WEIGHT
    """Besides, where the column `label_kind` says `human`."""
    exclude: Exclusions = field(default_factory=Exclusions)
    columns: dict[str, str] = field(default_factory=dict)
    """Our name of a column, one of `COLUMNS` -> the table's."""
    winners: dict[str, str] = field(default_factory=dict)
    turn: importers.Turn = "first"
    max_prompts: int | None = None
    """Read this many of the table's prompts, drawn by seed: the labelled sample of a benchmark, say."""


@dataclass(frozen=True, slots=True)
class Read:
    """What one table gave."""

    battles: pl.DataFrame
    """BATTLES."""
    dropped: dict[str, int]
    """Reason -> rows of the table (or battles, for `short`) that were left out."""


def read_source(
    raw: pl.DataFrame, source: Source, classes: Classes, *, min_prompt_chars: int, balance: bool, seed: int
) -> Read:
    """Source table -> BATTLES.

    A prompt with n battles in a table weighs sqrt(n) there, not n, so that no prompt outshouts the rest by being judged
    often; balanced, a source of n prompts weighs sqrt(n) for the same reason.

    Args:
        raw: The table as read.
        source: How to read it.
        classes: Graded answers become battles of every strong against every weak model of these.
        min_prompt_chars: Shorter prompts are left out.
        balance: Whether sources are balanced.
        seed: Draws `source.max_prompts`.

    Raises:
        DataError: the layout is unknown, a column is missing, a winner is unknown, or nothing is left.
    """
    table = _ours(raw, source)
    kept = table.filter(source.exclude.keep(table.columns))
    clean = without_overlap(kept)
    dropped = {"excluded": len(raw) - len(kept), "contaminated": len(kept) - len(clean)}
    parts = []
    for rows, votes in _by_voter(clean, source.human_weight):
        imported = _import(rows, source, classes, min_prompt_chars)
        parts.append(imported.battles.with_columns(votes=pl.lit(votes)))
        dropped["rejected"] = dropped.get("rejected", 0) + len(imported.rejected)
        dropped["short"] = dropped.get("short", 0) + imported.n_short
    battles = pl.concat(parts) if parts else Battles.create_empty()
    if battles.is_empty():
        said = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count) or "the table is empty"
        raise DataError(
            f"source {source.name!r}: no battle is left of {len(raw)} rows ({said}); check exclusions and columns"
        )
    battles = _drawn(battles, source.max_prompts, seed)
    rows = battles.with_columns(weight=(pl.col("votes") / pl.len().over("prompt").sqrt()).cast(pl.Float64))
    if balance:
        total, prompts = pl.col("weight").sum().over("source"), pl.col("prompt").n_unique().over("source")
        rows = rows.with_columns(weight=pl.col("weight") * prompts.sqrt() / total)
    rows = rows.with_columns(pl.col("weight") * source.weight).select(Battles.column_names())
    return Read(Battles.validate(rows), {reason: count for reason, count in dropped.items() if count})


def _drawn(battles: pl.DataFrame, max_prompts: int | None, seed: int) -> pl.DataFrame:
    prompts = battles["prompt"].unique().sort()
    if max_prompts is None or len(prompts) <= max_prompts:
        return battles
    drawn = prompts.sample(max_prompts, seed=seed).to_frame("prompt")
    return battles.join(drawn, on="prompt", how="semi", maintain_order="left")


def _ours(raw: pl.DataFrame, source: Source) -> pl.DataFrame:
    """Return the table with the columns that `source.columns` maps under our names."""
    if unknown := [ours for ours in source.columns if ours not in COLUMNS]:
        raise DataError(f"source {source.name!r}: columns maps {unknown}, which are not read; map some of {[*COLUMNS]}")
    if missing := [theirs for theirs in source.columns.values() if theirs not in raw.columns]:
        raise DataError(f"source {source.name!r}: columns maps to {missing}, but the table has {raw.columns}")
    return raw.with_columns(pl.col(theirs).alias(ours) for ours, theirs in source.columns.items())


def _by_voter(rows: pl.DataFrame, human_weight: float) -> list[tuple[pl.DataFrame, float]]:
    if rows.is_empty():
        return []
    if "label_kind" not in rows.columns:
        return [(rows, 1.0)]
    human = (pl.col("label_kind").cast(pl.String) == "human").fill_null(value=False)
    sides = [(rows.filter(human), human_weight), (rows.filter(~human), 1.0)]
    return [side for side in sides if len(side[0])]


def _import(rows: pl.DataFrame, source: Source, classes: Classes, min_prompt_chars: int) -> Imported:
    layout = source.layout or importers.detect(rows.columns)
    if layout == "battles":
        return importers.battle_table(
            rows,
            winners=source.winners,
            source=None if "source" in rows.columns else source.name,
            min_prompt_chars=min_prompt_chars,
        )
    if layout == "arena_55k":
        return importers.arena_55k(rows, turn=source.turn, source=source.name, min_prompt_chars=min_prompt_chars)
    if layout == "gpt4_judge":
        return importers.gpt4_judge(rows, turn=source.turn, source=source.name, min_prompt_chars=min_prompt_chars)
    if layout == "golden":
        return importers.golden_scores(
            rows,
            model_a=classes.strong[0],
            model_b=classes.weak[0],
            source=source.name,
            min_prompt_chars=min_prompt_chars,
        )
    if layout == "correctness":
        return _graded(rows, source, classes, min_prompt_chars)
    raise DataError(f"source {source.name!r}: layout {layout!r} is unknown; expected one of {list(LAYOUTS)}")


def _graded(rows: pl.DataFrame, source: Source, classes: Classes, min_prompt_chars: int) -> Imported:
    """Graded answers -> battles of every strong against every weak model that the table has, benchmark by benchmark."""
    if missing := [column for column in importers.LAYOUTS["correctness"] if column not in rows.columns]:
        raise DataError(f"source {source.name!r}: columns {missing} are missing, got {rows.columns}")
    graded = rows.filter(pl.col("model").cast(pl.String).is_in([*classes.strong, *classes.weak]))
    found: list[Imported] = []
    for name, part in _benchmarks(graded, source.name):
        held = set(part["model"].cast(pl.String).unique())
        found += [
            importers.golden_battles(part, model_a=a, model_b=b, source=name, min_prompt_chars=min_prompt_chars)
            for a in classes.strong
            for b in classes.weak
            if {a, b} <= held
        ]
    if not found:
        there = rows["model"].cast(pl.String).unique().drop_nulls().sort()
        raise DataError(
            f"source {source.name!r}: no benchmark grades both a strong model of {list(classes.strong)} and a weak one "
            f"of {list(classes.weak)}; the table has {there.head(20).to_list()}: name them in pair.strong_models and "
            "pair.weak_models"
        )
    # A prompt that one pair of models lacks is no bad row: other pairs, or none, have answered it.
    return Imported(
        battles=pl.concat([one.battles for one in found]),
        rejected=found[0].rejected.clear(),
        n_short=sum(one.n_short for one in found),
    )


def _benchmarks(rows: pl.DataFrame, name: str) -> Sequence[tuple[str, pl.DataFrame]]:
    if "benchmark" not in rows.columns:
        return [(name, rows)]
    named = rows.with_columns(pl.col("benchmark").cast(pl.String).fill_null(name))
    parts = named.partition_by("benchmark", maintain_order=True)
    return sorted(((str(part["benchmark"][0]), part) for part in parts), key=lambda part: part[0])
