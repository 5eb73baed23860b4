"""Stage of an evaluation: a router, fixed on one pair of models, on pairs that it never saw.

The pairs are chosen by a rule that looks at no router: every two models of a table that graded enough prompts in common
and lie far enough apart, thinned by a seeded draw. Two models with all but the same grades are one model under two
names (HELM's MMLU holds such twins) and count once. Prompts that a router trained on are left out by their words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from jobs.config_file import Section
from jobs.training import read_table
from routing.benchmarks import matching
from routing.errors import DataError
from routing.metrics import Floats, average_pgr, bootstrap
from schemas.evaluation import Transfer, TransferSummary

LENGTH = "length"
"""The baseline that transfers too: it knows no pair. It is no router whose place among the routers is asked for."""
RANDOM_APGR = 0.5
TWINS = 0.99
"""Share of equal grades from which two models are twins; different models of one quality agree on 80 to 90 %."""
_COLUMNS = ("prompt", "model", "score")


class TransferTableSection(Section):
    """Graded answers of several models to the same prompts."""

    name: str = Field(min_length=1)
    """Benchmark in the report."""
    path: str
    """Table in the data folder: prompt, model, score (0..1), one graded answer a row."""
    where: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    """Column -> value or values; other rows are passed over."""
    exclude_tasks: str | None = None
    """Regular expression; rows whose `task` it finds are left out."""
    drop_trained: tuple[str, ...] = ()
    """Training configs (relative to this one); prompts that their sources draw are left out."""
    seen: str | None = None
    """Benchmark of this evaluation whose pair the routers were fixed on: what retention is measured against."""
    strong_trained: tuple[str, ...] = ()
    """Models that stood for the strong side in training ..."""
    weak_trained: tuple[str, ...] = ()
    """... and for the weak one; a pair of one of those over one of these was seen."""


class TransferSection(Section):
    """Which unseen pairs are measured."""

    tables: tuple[TransferTableSection, ...] = Field(min_length=1)
    min_gap: float = Field(0.05, gt=0, lt=1)
    """Smallest difference of the two models' mean scores: with less of a gap there is little to route for."""
    min_prompts: int = Field(500, ge=10)
    """Fewest prompts that both models answered."""
    max_pairs: int = Field(24, ge=1)
    """Pairs of one table; more are thinned by a draw with the seed."""


@dataclass(frozen=True, slots=True)
class GradedTable:
    """Prompts and what each model scored on them."""

    name: str
    grades: pl.DataFrame
    """`prompt`, different in each row, and a Float64 column for each model, null where it was not graded."""
    seen: str | None = None
    """Benchmark of the seen pair."""
    strong_trained: frozenset[str] = frozenset()
    weak_trained: frozenset[str] = frozenset()

    @property
    def models(self) -> list[str]:
        """Its models, in the order of the alphabet."""
        return sorted(set(self.grades.columns) - {"prompt"})

    def twins(self, *, min_prompts: int) -> dict[str, str]:
        """Return the models that are left out -> the one that they are twins of."""
        found: dict[str, str] = {}
        for one, two in combinations(self.models, 2):
            equal = (self.grades[one] == self.grades[two]).drop_nulls().to_numpy()
            if one not in found and len(equal) >= min_prompts and equal.mean() >= TWINS:
                found.setdefault(two, one)
        return found


@dataclass(frozen=True, slots=True)
class UnseenPair:
    """Two models of a table, the better one first."""

    strong: str
    weak: str
    gap: float
    rows: NDArray[np.bool_]
    """Which rows of the table both were graded on."""


def transfer_table(section: TransferTableSection, data: Path, *, trained: pl.Series | None = None) -> GradedTable:
    """Read a table of graded answers and leave out what routers were trained on.

    Args:
        section: Which table, and which of its rows.
        data: The data folder.
        trained: Prompts that any of the routers was trained on. A prompt of the same words is left out, whatever its
            case, punctuation and white space; a paraphrase is not found (see `routing.training.decontamination`).

    Raises:
        InputMissingError: the table is missing.
        DataError: a column is missing, a score lies outside 0..1, or no row is left.
    """
    where = {name: (value,) if isinstance(value, str) else value for name, value in section.where.items()}
    rows = matching(read_table(data / section.path), where, name=section.name)
    needed = (*_COLUMNS, "task") if section.exclude_tasks else _COLUMNS
    if missing := [name for name in needed if name not in rows.columns]:
        raise DataError(f"{section.name}: columns {missing} are missing, got {rows.columns}")
    if section.exclude_tasks:
        rows = rows.filter(~pl.col("task").cast(pl.String).str.contains(section.exclude_tasks).fill_null(value=False))
    graded = rows.select(
        pl.col("prompt"), pl.col("model").cast(pl.String), pl.col("score").cast(pl.Float64)
    ).drop_nulls()
    if trained is not None:
        seen_words = pl.DataFrame({"words": trained}).select(_words("words")).unique()
        graded = graded.with_columns(words=_words("prompt")).join(seen_words, on="words", how="anti").drop("words")
    if graded.is_empty():
        raise DataError(f"{section.name}: no graded prompt is left of {len(rows):,} rows; check where and drop_trained")
    scores = graded["score"].to_numpy()
    if not ((scores >= 0) & (scores <= 1)).all():
        span = f"{scores.min()} to {scores.max()}"
        raise DataError(f"{section.name}: scores must lie in 0..1, got {span}; divide them by the largest grade")
    grades = (
        graded.group_by("prompt", "model").agg(pl.col("score").mean()).pivot("model", index="prompt", values="score")
    )
    return GradedTable(
        section.name,
        grades.sort("prompt"),
        seen=section.seen,
        strong_trained=frozenset(section.strong_trained),
        weak_trained=frozenset(section.weak_trained),
    )


def unseen_pairs(table: GradedTable, section: TransferSection, *, seed: int) -> list[UnseenPair]:
    """Return the pairs of a table that were not trained on and have prompts and a gap enough, thinned by a draw."""
    twins = table.twins(min_prompts=section.min_prompts)
    columns = {model: table.grades[model].to_numpy() for model in table.models if model not in twins}
    found = []
    for one, two in combinations(columns, 2):
        rows = ~(np.isnan(columns[one]) | np.isnan(columns[two]))
        if rows.sum() < section.min_prompts:
            continue
        gap = float((columns[one][rows] - columns[two][rows]).mean())
        strong, weak = (one, two) if gap > 0 else (two, one)
        seen = strong in table.strong_trained and weak in table.weak_trained
        if abs(gap) >= section.min_gap and not seen:
            found.append(UnseenPair(strong, weak, abs(gap), rows))
    if len(found) > section.max_pairs:
        drawn = np.random.default_rng(seed).choice(len(found), section.max_pairs, replace=False)
        found = [found[i] for i in sorted(drawn)]
    return found


def pairs_of(
    tables: Sequence[GradedTable], section: TransferSection, *, seed: int
) -> list[tuple[GradedTable, UnseenPair]]:
    """Return the pairs of all tables, each with its table.

    Raises:
        DataError: none fits the rule.
    """
    found = [(table, pair) for table in tables for pair in unseen_pairs(table, section, seed=seed)]
    if not found:
        names = [f"{table.name} ({len(table.models)} models, {len(table.grades):,} prompts)" for table in tables]
        raise DataError(
            f"no pair of {names} has {section.min_prompts} prompts in common and a gap of {section.min_gap}; "
            "lower transfer.min_prompts or transfer.min_gap"
        )
    return found


def transfer(
    pairs: Sequence[tuple[GradedTable, UnseenPair]],
    rates: Mapping[str, Mapping[str, Floats]],
    seen: Mapping[str, Mapping[str, float]],
    *,
    resamples: int = 1_000,
    seed: int,
) -> tuple[list[Transfer], list[TransferSummary]]:
    """Measure routers on pairs of models that they were not trained on.

    Retention is APGR(unseen) / APGR(seen). Read it with care, because a ratio of APGRs rewards routers that know
    nothing: one that is random on both pairs has an APGR of one half on both and a retention of 1, and one that falls
    from .60 to .55 keeps .92 though half of its lead over a random one is gone. `TransferSummary.lift_kept`, the ratio
    of APGR - 1/2, does not reward that, and the interval of each APGR says whether one half lies in it. Pairs of one
    table share models and prompts, so the interval of a mean over pairs is too narrow for pairs of other tables.

    Args:
        pairs: At least one, of `pairs_of`.
        rates: Router (or `LENGTH`) -> table -> win rates in the order of its prompts.
        seen: Router -> benchmark -> APGR on the seen pair.
        resamples: Bootstrap samples behind each interval.
        seed: Of all resampling.

    Returns:
        One row for each router and pair, and one for each router.

    Raises:
        DataError: win rates do not fit their table.
    """
    found = [
        _measured(router, of_tables[table.name], table, pair, seen, resamples=resamples, seed=seed)
        for table, pair in pairs
        for router, of_tables in rates.items()
    ]
    benchmarks = {table.name: table.seen for table, _ in pairs}
    known = {
        (row.router, row.benchmark): seen.get(row.router, {}).get(benchmarks[row.benchmark] or "") for row in found
    }
    return found, [_summary(router, found, known, resamples=resamples, seed=seed) for router in rates]


def _measured(
    router: str,
    win_rates: Floats,
    table: GradedTable,
    pair: UnseenPair,
    seen: Mapping[str, Mapping[str, float]],
    *,
    resamples: int,
    seed: int,
) -> Transfer:
    if win_rates.shape != (len(table.grades),):
        raise DataError(f"{table.name}: {router} has win rates {win_rates.shape} for {len(table.grades):,} prompts")
    strong, weak = (table.grades[model].to_numpy()[pair.rows] for model in (pair.strong, pair.weak))
    apgr = bootstrap(win_rates[pair.rows], strong, weak, average_pgr, resamples=resamples, seed=seed)
    on_seen = seen.get(router, {}).get(table.seen or "")
    return Transfer(
        router=router,
        benchmark=table.name,
        strong=pair.strong,
        weak=pair.weak,
        n=len(strong),
        gap=pair.gap,
        apgr=apgr.value,
        low=apgr.low,
        high=apgr.high,
        retention=apgr.value / on_seen if on_seen else None,
    )


def _summary(
    router: str,
    found: Sequence[Transfer],
    seen: Mapping[tuple[str, str], float | None],
    *,
    resamples: int,
    seed: int,
) -> TransferSummary:
    own = [row for row in found if row.router == router]
    kept = np.array([row.retention for row in own if row.retention is not None])
    drawn = np.random.default_rng(seed).integers(0, max(len(kept), 1), (resamples, len(kept)))
    low, high = np.quantile(kept[drawn].mean(axis=1), [0.025, 0.975]).tolist() if len(kept) > 1 else (None, None)
    lifts = [
        (row.apgr - RANDOM_APGR, on_seen - RANDOM_APGR)
        for row in own
        if (on_seen := seen[router, row.benchmark]) is not None
    ]
    here, there = (float(np.mean(side)) for side in zip(*lifts, strict=True)) if lifts else (0.0, 0.0)
    return TransferSummary(
        router=router,
        pairs=len(own),
        mean_retention=float(kept.mean()) if len(kept) else None,
        low=low,
        high=high,
        lift_kept=here / there if there > 0 else None,
        ranking_kept=_ranking_kept(router, found, seen),
    )


def _ranking_kept(router: str, found: Sequence[Transfer], seen: Mapping[tuple[str, str], float | None]) -> float | None:
    """Share of (pair, other router) in which the better one of the two is the better one on the seen pair."""
    if router == LENGTH:
        return None
    apgr = {(row.router, row.benchmark, row.strong, row.weak): row.apgr for row in found}
    kept = []
    for row in found:
        own, other = seen[router, row.benchmark], seen[row.router, row.benchmark]
        if row.router not in (router, LENGTH) and own is not None and other is not None:
            here = apgr[router, row.benchmark, row.strong, row.weak] - row.apgr
            kept.append(np.sign(here) == np.sign(own - other))
    return float(np.mean(kept)) if kept else None


def _words(column: str) -> pl.Expr:
    plain = pl.col(column).str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", " ").str.strip_chars()
    return plain.alias("words")
