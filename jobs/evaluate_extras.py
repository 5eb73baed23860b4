"""Stage 4 of an evaluation: pairs that the routers never saw, changed prompts, other languages. Each is optional."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from jobs.console import part_bar
from jobs.evaluate_config import EvaluateConfig
from jobs.evaluate_read import ReadBenchmark
from jobs.evaluate_robustness import Target, different_prompts, drift, drift_table, robustness
from jobs.evaluate_scores import OpenRouter, Scorer
from jobs.evaluate_transfer import LENGTH, GradedTable, UnseenPair, pairs_of, transfer, transfer_table
from routing.confounder import word_pieces
from routing.metrics import Floats
from schemas.evaluation import Drift, Figure, Robustness, Transfer, TransferSummary


@dataclass(frozen=True, slots=True)
class ExtraTables:
    """What the sections read; empty where a section is left out."""

    transfer: tuple[GradedTable, ...] = ()
    pairs: tuple[tuple[GradedTable, UnseenPair], ...] = ()
    """Of the transfer tables."""
    drift: pl.DataFrame | None = None


@dataclass(frozen=True, slots=True)
class Extras:
    """What the sections found."""

    transfer: list[Transfer] = field(default_factory=list)
    transfer_summaries: list[TransferSummary] = field(default_factory=list)
    robustness: list[Robustness] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)


def read_extras(
    config: EvaluateConfig, data: Path, benchmarks: Sequence[ReadBenchmark], *, trained: Mapping[str, pl.Series]
) -> ExtraTables:
    """Read the tables of the sections [transfer] and [drift], and check that all sections can be carried out.

    Args:
        config: The evaluation.
        data: Folder of the tables.
        benchmarks: Whose prompts [robustness] changes.
        trained: Training config -> prompts that its sources draw.

    Raises:
        InputMissingError: a table is missing.
        DataError: a table breaks its contract, nothing is left of it, no pair of models fits the rule, or a benchmark
            has too few different prompts to change.
    """
    for item in _changed(config, benchmarks):
        different_prompts(item.rows["prompt"].to_list())
    tables = () if config.transfer is None else config.transfer.tables
    graded = tuple(
        transfer_table(
            section,
            data,
            trained=pl.concat([trained[name] for name in section.drop_trained]) if section.drop_trained else None,
        )
        for section in tables
    )
    return ExtraTables(
        transfer=graded,
        pairs=() if config.transfer is None else tuple(pairs_of(graded, config.transfer, seed=config.seed)),
        drift=None if config.drift is None else drift_table(config.drift, data),
    )


def measure_extras(
    config: EvaluateConfig,
    tables: ExtraTables,
    routers: Sequence[OpenRouter],
    scorer: Scorer,
    benchmarks: Sequence[ReadBenchmark],
    figures: Sequence[Figure],
) -> Extras:
    """Carry out the sections of a config.

    Args:
        config: The evaluation.
        tables: What the sections read.
        routers: Who is measured.
        scorer: Gives their win rates.
        benchmarks: Whose prompts are changed.
        figures: Of the benchmarks, for the APGR on the seen pair.
    """
    moved, summaries = _transfer(config, tables, routers, scorer, figures)
    return Extras(
        transfer=moved,
        transfer_summaries=summaries,
        robustness=_robustness(config, routers, benchmarks),
        drift=_drift(config, tables, routers, scorer),
    )


def _transfer(
    config: EvaluateConfig,
    tables: ExtraTables,
    routers: Sequence[OpenRouter],
    scorer: Scorer,
    figures: Sequence[Figure],
) -> tuple[list[Transfer], list[TransferSummary]]:
    if config.transfer is None:
        return [], []
    rates: dict[str, dict[str, Floats]] = {
        router.name: {
            table.name: scorer.win_rates(router.name, table.grades["prompt"].to_list()) for table in tables.transfer
        }
        for router in routers
    }
    rates[LENGTH] = {
        table.name: table.grades["prompt"].str.len_chars().cast(pl.Float64).to_numpy() for table in tables.transfer
    }
    seen: dict[str, dict[str, float]] = {}
    for one in figures:
        if (one.metric, one.bins, one.category) == ("apgr", "ranks", None) and one.value is not None:
            seen.setdefault(one.router, {})[one.benchmark] = one.value
    return transfer(tables.pairs, rates, seen, resamples=config.resamples, seed=config.seed)


def _robustness(
    config: EvaluateConfig, routers: Sequence[OpenRouter], benchmarks: Sequence[ReadBenchmark]
) -> list[Robustness]:
    if config.robustness is None:
        return []
    asked = _changed(config, benchmarks)
    found = []
    with part_bar("change prompts", len(asked) * len(routers)) as on_part:
        for item in asked:
            for router in routers:
                target = Target(router.name, _uncached(router), word_pieces(router.router.tokenizer))
                prompts = item.rows["prompt"].to_list()
                found += robustness(target, prompts, benchmark=item.name, section=config.robustness, seed=config.seed)
                on_part(router)
    return found


def _changed(config: EvaluateConfig, benchmarks: Sequence[ReadBenchmark]) -> list[ReadBenchmark]:
    """Benchmarks whose prompts [robustness] changes."""
    return [] if config.robustness is None else [one for one in benchmarks if one.name in config.robustness.benchmarks]


def _uncached(router: OpenRouter) -> Callable[[Sequence[str]], Floats]:
    """An attack asks for thousands of texts that nobody needs again."""
    return lambda texts: np.asarray(router.router.win_rates(texts).win_rate)


def _drift(config: EvaluateConfig, tables: ExtraTables, routers: Sequence[OpenRouter], scorer: Scorer) -> list[Drift]:
    if config.drift is None or tables.drift is None:
        return []
    prompts = tables.drift["prompt"].to_list()
    return [
        row
        for router in routers
        for row in drift(tables.drift, scorer.win_rates(router.name, prompts), router=router.name, section=config.drift)
    ]
