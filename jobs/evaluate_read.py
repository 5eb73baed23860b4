"""Stage 1 of an evaluation: benchmarks from disk to BENCHMARK, with what was left out of them and what they cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path

import dataframely as dy
import numpy as np
import polars as pl
from numpy.typing import NDArray
from tokenizers import Tokenizer

from jobs.config_file import parse
from jobs.evaluate_config import BenchmarkSection, EvaluateConfig, EvaluateJob
from jobs.train import read_config
from jobs.train_config import StaticMfTrainConfig
from jobs.train_data import gather
from jobs.train_kinds import KINDS
from jobs.training import data_folder, read_table
from routing import benchmarks
from routing.artifact import BUILTIN, TOKENIZER
from routing.benchmark_costs import with_costs, with_tokens
from routing.benchmarks import Read
from routing.errors import ConfigError, DataError, InputMissingError
from routing.metrics import has_gap
from routing.prices import price_snapshot
from routing.training import preferences
from schemas.benchmarks import Benchmark
from schemas.evaluation import EvaluatedBenchmark

COUNTED_BY = BUILTIN / "static-mf" / TOKENIZER
"""Counts tokens of prompts and responses: one tokenizer for all, so that dollars do not depend on the routers."""
MIN_QUESTIONS = 10
TRAINED = "trained on"

_MMLU, _GSM8K = "responses", "gsm8k_responses.csv"
_QUESTIONS, _JUDGEMENTS, _CONTAMINATED = "question.jsonl", "judgements.jsonl", "contaminated_prompts.jsonl"


@dataclass(frozen=True, slots=True)
class ReadBenchmark:
    """A benchmark, ready to be measured on."""

    rows: dy.DataFrame[Benchmark]
    described: EvaluatedBenchmark
    notes: list[str]
    """What a reader has to know of it."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.described.name


def read_benchmarks(
    config: EvaluateConfig, data: Path, *, trained: Mapping[str, pl.Series], now: datetime
) -> list[ReadBenchmark]:
    """Read every benchmark of a config.

    Args:
        config: The evaluation.
        data: Folder of the tables.
        trained: Training config -> prompts that its sources draw.
        now: Moment whose prices hold where the config names no day.

    Raises:
        InputMissingError: a file is missing.
        DataError: a table breaks its contract, a model is not in it, or the strong one is not better.
    """
    at = now if config.priced_at is None else datetime.combine(config.priced_at, time(), UTC)
    prices = price_snapshot(config.prices)
    found = []
    for section in config.benchmarks:
        read = read_rows(section, data)
        for name in section.drop_trained:
            read = benchmarks.without(read, trained[name], f"{TRAINED} ({Path(name).name})", name=section.name)
        found.append(_ready(section, read, prices, at=at, seed=config.seed))
    return found


def read_trained(job: EvaluateJob, *, environment: Mapping[str, str]) -> dict[str, pl.Series]:
    """Return training config, as the evaluation names it -> prompts that its sources draw.

    Raises:
        ConfigError: it is no training config, or of a kind whose sources are not drawn from.
        InputMissingError: a table of it is missing.
    """
    config = job.config
    tables = () if config.transfer is None else config.transfer.tables
    named = (*(item.drop_trained for item in config.benchmarks), *(table.drop_trained for table in tables))
    names = {name for several in named for name in several}
    return {name: trained_prompts(job.path(name), environment=environment) for name in sorted(names)}


def read_rows(section: BenchmarkSection, data: Path) -> Read:
    """Read one benchmark, all its rows.

    Raises:
        InputMissingError: the path or a file of the folder is missing.
        DataError: a table breaks its contract.
    """
    path = data / section.path
    if section.layout == "routellm" or (section.layout is None and path.is_dir()):
        return _routellm(section, path)
    raw = read_table(path)
    layout = section.layout or benchmarks.detect([*raw.columns, *section.columns], name=section.name)
    where = {column: (value,) if isinstance(value, str) else value for column, value in section.where.items()}
    table = benchmarks.matching(raw, where, name=section.name)
    table = benchmarks.renamed(table, section.columns, layout, name=section.name)
    name, strong, weak = section.name, section.strong, section.weak
    if layout == "battles":
        return benchmarks.fought(table, name=name, strong=strong, weak=weak, winners=section.winners)
    if layout == "golden":
        return benchmarks.paired(table, name=name, largest=section.largest_score)
    return benchmarks.graded(table, name=name, strong=strong, weak=weak, largest=section.largest_score)


def trained_prompts(path: Path, *, environment: Mapping[str, str]) -> pl.Series:
    """Return the prompts that the sources of a training config draw, whether or not they were fitted on.

    Raises:
        ConfigError: it is no training config.
        InputMissingError: a table of it is missing.
    """
    data, _ = read_config(path)
    kind = KINDS.get(str(data.get("kind")))
    if kind is None:
        raise ConfigError(f"drop_trained: {path} is of kind {data.get('kind')!r}, expected one of {list(KINDS)}")
    config = parse(kind, data, source=str(path))
    folder = data_folder(config.data.path, base=path.resolve().parent, environment=environment)
    if isinstance(config, StaticMfTrainConfig):
        return _static_prompts(config, folder)
    return gather(folder, config).battles["prompt"].unique()


def _static_prompts(config: StaticMfTrainConfig, data: Path) -> pl.Series:
    exclusions = preferences.Exclusions(**config.exclude.model_dump())
    found = [
        preferences.correctness(read_table(data / config.data.correctness), exclusions)["prompt"],
        preferences.golden(read_table(data / config.data.golden), exclusions)["prompt"],
    ]
    if config.fit.battle_weight > 0:
        found.append(preferences.battles(read_table(data / config.data.battles), exclusions)["prompt"])
    return pl.concat(found).unique()


def count_tokens(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return the length of texts in tokens of `COUNTED_BY`, shape (n,)."""
    tokenizer = Tokenizer.from_file(str(COUNTED_BY))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return np.array([len(row.ids) for row in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)])


def _ready(section: BenchmarkSection, read: Read, prices: pl.DataFrame, *, at: datetime, seed: int) -> ReadBenchmark:
    rows: pl.DataFrame = read.rows
    if section.max_prompts is not None and section.max_prompts < len(rows):
        rows = rows.sample(section.max_prompts, seed=seed, shuffle=False)
    if len(rows) < MIN_QUESTIONS:
        raise DataError(
            f"{section.name}: {len(rows)} questions are too few to measure on; give at least {MIN_QUESTIONS}"
        )
    scores = [rows[f"{side}_score"].to_numpy() for side in benchmarks.SIDES]
    strong, weak = (float(score.mean()) for score in scores)
    if not has_gap(scores[0] - scores[1]):
        raise DataError(
            f"{section.name}: {section.strong} scores {strong:.3f}, {section.weak} {weak:.3f}; PGR needs a strong "
            "model that is better: swap them, or leave this benchmark out"
        )
    notes = [f"{section.name}: left out {count:,} {reason}" for reason, count in read.left_out.items()]
    if len(rows) < len(read.rows):
        notes.append(f"{section.name}: {len(rows):,} of {len(read.rows):,} questions drawn with seed {seed}")
    counted = rows.select(pl.col("strong_response", "weak_response").is_not_null().any()).row(0)
    rows, unpriced = with_costs(
        with_tokens(rows, count_tokens), prices, strong=section.strong, weak=section.weak, at=at
    )
    usd = {side: None if side in unpriced else float(rows[f"{side}_usd"].sum()) for side in benchmarks.SIDES}
    if any(counted):
        notes.append(
            f"{section.name}: tokens are those of the prompts and responses, counted with the tokenizer of "
            "builtin:static-mf; few-shot examples are not in the table and not counted"
        )
    known = rows.select(pl.col("^.*_(tokens|usd)$").is_not_null().any()).row(0)
    if any(known):
        notes += [f"{section.name}: no dollars for the {side} model: {why}" for side, why in unpriced.items()]
    counts = rows["category"].drop_nulls().value_counts(sort=False).sort("category")
    described = EvaluatedBenchmark(
        name=section.name,
        sha256=benchmarks.rows_sha256(rows),
        strong=section.strong,
        weak=section.weak,
        n=len(rows),
        strong_quality=strong,
        weak_quality=weak,
        categories=dict(counts.iter_rows()),
        all_strong_usd=usd["strong"],
        all_weak_usd=usd["weak"],
        protocol=section.protocol,
    )
    return ReadBenchmark(Benchmark.validate(rows), described, notes)


def _routellm(section: BenchmarkSection, folder: Path) -> Read:
    """RouteLLM's evals/mmlu, evals/gsm8k or evals/mt_bench: told from the files in it."""
    pair = {"name": section.name, "strong": section.strong, "weak": section.weak}
    contaminated = _contaminated(folder) if section.decontaminate else []
    if (folder / _MMLU).is_dir():
        parts = [
            read_table(file).with_columns(category=pl.lit(file.stem.removeprefix("mmlu_")))
            for file in sorted((folder / _MMLU).glob("*.csv"))
        ]
        if not parts:
            raise InputMissingError(f"{section.name}: {folder / _MMLU} holds no .csv; expected mmlu_<subject>.csv")
        raw = pl.concat(parts, how="diagonal_relaxed")
        return benchmarks.responses(raw, **pair, contaminated=contaminated)
    if (folder / _GSM8K).is_file():
        return benchmarks.responses(read_table(folder / _GSM8K), **pair, contaminated=contaminated)
    if (folder / _JUDGEMENTS).is_file():
        questions, judgements = read_table(folder / _QUESTIONS), read_table(folder / _JUDGEMENTS)
        return benchmarks.mt_bench(questions, judgements, **pair, contaminated=contaminated)
    raise InputMissingError(
        f"{section.name}: {folder} is no benchmark in RouteLLM's layout: neither {_MMLU}/*.csv (MMLU) nor {_GSM8K} nor "
        f"{_JUDGEMENTS} with {_QUESTIONS} (MT-Bench) is in it; name the folder of one benchmark"
    )


def _contaminated(folder: Path) -> list[str]:
    path = folder / _CONTAMINATED
    if not path.is_file():
        return []
    table = read_table(path)
    if "eval_prompt" not in table.columns:
        raise DataError(f"{path} has no column 'eval_prompt', got {table.columns}; or set decontaminate = false")
    return table["eval_prompt"].cast(pl.String).to_list()
