"""`nightroute train`: preference data in, a router artifact out; one config gives the same bytes on one machine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from jobs.config import parse, read_toml
from jobs.console import say, show_metrics
from jobs.train_config import Data, TrainConfig
from routing.artifact import file_sha256
from routing.errors import ConfigError, InputMissingError
from schemas.artifact import Metric, RouterCard, TrainingData
from schemas.preferences import Battles

if TYPE_CHECKING:
    from routing.training.export import Graph
    from routing.training.static_mf import Lexicon, StaticMfConfig, Tables, Trained

DATA_VARIABLE = "NIGHTROUTE_DATA"
DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Beside the checkout."""

TRAINING_PACKAGES = ("torch", "onnx", "safetensors")
VERSIONED = ("numpy", "onnx", "onnxruntime", "polars", "tokenizers", "torch")
"""Packages whose version the card names: the same ones give the same bytes."""


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """What a training run made."""

    folder: Path
    card: RouterCard
    validation: pl.DataFrame
    """See `routing.training.static_mf.leave_one_out`."""
    contaminated: int
    """Training prompts dropped because they are evaluation prompts, in the same words or in others."""

    def record(self) -> dict[str, object]:
        """Return the JSON summary."""
        return {
            "job": "train",
            "router": self.card.name,
            "folder": str(self.folder),
            "files": self.card.files,
            "parity_max_error": self.card.parity_max_error,
            "metrics": {f"{metric.benchmark}.{metric.name}": metric.value for metric in self.card.metrics},
        }


def train(
    config_path: Path, *, output: Path | None = None, environment: Mapping[str, str] = os.environ
) -> TrainSummary:
    """Train, check, measure and write the router of a config.

    Args:
        config_path: TOML file, see `TrainConfig`; its paths are relative to it.
        output: Folder of the artifact instead of the config's.
        environment: Where NIGHTROUTE_DATA is looked up.

    Raises:
        ConfigError: the config is wrong, or the extra `train` is not installed.
        InputMissingError: the data folder, a table or the encoder is missing.
        DataError: a table breaks its contract, or a filter leaves nothing.
        ArtifactError: the exported graph differs from torch; nothing was written.
    """
    config = parse(TrainConfig, read_toml(config_path), source=str(config_path))
    base = config_path.resolve().parent
    _require_training_packages()
    from routing.training import export, graph, matrix_factorization, onnx_graph, static_mf
    from routing.training.encoder import find_encoder, load_encoder

    data = data_folder(config.data.path, base=base, environment=environment)
    settings = _settings(config)
    matrix_factorization.make_deterministic(threads=config.threads)
    tables = read_tables(data, config)
    benchmarks = read_benchmarks(data, config)
    say(f"read {len(tables.graded):,} graded answers, {len(tables.golden):,} golden rows from {data}")

    encoder_path = base / config.encoder.path if config.encoder.path is not None else None
    words = static_mf.lexicon(load_encoder(find_encoder(encoder_path)))
    evaluated = pl.concat([pl.Series("prompt", [], pl.String), *(table["prompt"] for table in benchmarks.values())])
    found = static_mf.contaminated_prompts(tables.prompts(), evaluated.unique().sort(), words, settings)
    dropped = found.prompts()
    tables = tables.without(dropped)
    known = static_mf.corpus(
        tables.prompts(), words, words.table(dim=settings.dim, sif=settings.sif), settings.truncation
    )
    say(
        f"dropped {len(dropped)} contaminated prompts ({len(found.phrases)} by a shared phrase, "
        f"{len(found.embeddings)} by embeddings), {len(known.prompts):,} are left"
    )

    validation = static_mf.leave_one_out(tables, config.families, known, settings)
    trained = static_mf.train_static_mf(tables, known, words, settings)
    model = graph.static_graph(trained.router)
    session = export.Graph(model, threads=config.threads)
    parity = export.check_parity(session, trained.held_out_tokens, trained.router.win_rates(trained.held_out_features))
    metrics = [
        *_held_out_metrics(trained, settings),
        *_transfer_metrics(validation),
        *_benchmark_metrics(benchmarks, config, session, words),
    ]
    quantiles = np.quantile(session.win_rates(trained.held_out_tokens), np.linspace(0.0, 1.0, 101))

    def card(files: dict[str, str]) -> RouterCard:
        return RouterCard(
            name=config.name,
            kind="mf",
            description=config.card.description,
            trained_pair=config.card.trained_pair,
            truncation=config.truncation,
            lowercase_prompts=True,
            files=files,
            opset=onnx_graph.OPSET,
            score_quantiles=quantiles.tolist(),
            training=_training_data(trained.training, tables, data, config.data),
            seed=config.split.seed,
            config_sha256=file_sha256(config_path),
            parity_max_error=parity.max_error,
            parity_prompts=parity.prompts,
            metrics=metrics,
            licence=config.card.licence,
            limits=config.card.limits,
            versions={name: version(name) for name in VERSIONED},
        )

    folder = output if output is not None else Path(os.path.normpath(base / config.output))
    written = export.write_artifact(folder, model, words.encoder.tokenizer, card)
    return TrainSummary(folder=folder, card=written, validation=validation, contaminated=len(dropped))


def data_folder(path: str | None, *, base: Path, environment: Mapping[str, str]) -> Path:
    """Return the folder of the training tables: the config's, else NIGHTROUTE_DATA, else the one beside the checkout.

    Raises:
        InputMissingError: it is not there.
    """
    if path is not None:
        folder, origin = base / path, "data.path of the config"
    elif environment.get(DATA_VARIABLE):
        folder, origin = Path(environment[DATA_VARIABLE]), f"environment variable {DATA_VARIABLE}"
    else:
        folder, origin = DEFAULT_DATA, "default, beside the checkout"
    if not folder.is_dir():
        raise InputMissingError(
            f"data folder {folder} ({origin}) is not there; set data.path in the config, or export {DATA_VARIABLE}"
        )
    return folder


def read_tables(data: Path, config: TrainConfig) -> "Tables":
    """Read the training tables and filter them; battles are read only where they weigh something.

    Raises:
        InputMissingError: a table is missing.
        DataError: a table breaks its contract, or nothing is left of it.
    """
    from routing.training import preferences
    from routing.training.static_mf import Tables

    exclusions = preferences.Exclusions(
        sources=config.exclude.sources,
        benchmarks=config.exclude.benchmarks,
        task_pattern=config.exclude.task_pattern,
    )
    graded = preferences.correctness(_read(data / config.data.correctness), exclusions)
    golden: list[pl.DataFrame] = [preferences.golden(_read(data / config.data.golden), exclusions)]
    golden += [
        preferences.golden_pair(graded, benchmark=pair.benchmark, strong=pair.strong, weak=pair.weak)
        for pair in config.golden_pairs
    ]
    battles: pl.DataFrame = (
        preferences.battles(_read(data / config.data.battles), exclusions)
        if config.fit.battle_weight
        else Battles.create_empty()
    )
    return Tables(
        graded=graded, battles=battles, golden=pl.concat(golden).unique("prompt", keep="first", maintain_order=True)
    )


def read_benchmarks(data: Path, config: TrainConfig) -> dict[str, pl.DataFrame]:
    """Read the evaluation sets, one row per prompt.

    Raises:
        InputMissingError: a file is missing.
        DataError: a model of the pair has no rows in it.
    """
    from routing.training import preferences

    return {
        item.name: preferences.benchmark(_read(data / item.path), name=item.name, strong=item.strong, weak=item.weak)
        for item in config.evaluation
    }


def show(summary: TrainSummary) -> None:
    """Print what was made and how good it is."""
    show_metrics(summary.card.name, summary.card.metrics)
    say(f"graph against torch: {summary.card.parity_max_error:.1e} on {summary.card.parity_prompts:,} prompts")
    say(f"wrote {summary.folder}")


def _require_training_packages() -> None:
    missing = [name for name in TRAINING_PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"training needs {', '.join(missing)}, not installed here; run `pip install 'nightroute[train]'` "
            "(the nightly job needs none of it)"
        )


def _read(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise InputMissingError(
            f"table {path} is missing; check the file names in the config's [data] and [evaluation]"
        )
    return pl.read_parquet(path)


def _settings(config: TrainConfig) -> "StaticMfConfig":
    from routing.training.matrix_factorization import MatrixFactorizationConfig
    from routing.training.static_mf import StaticMfConfig

    return StaticMfConfig(
        dim=config.table.dim,
        sif=config.table.sif,
        truncation=config.truncation,
        held_out_share=config.split.held_out_share,
        seed=config.split.seed,
        factorization=MatrixFactorizationConfig(**config.fit.model_dump()),
        strong=config.pair.strong,
        weak=config.pair.weak,
    )


def _held_out_metrics(trained: "Trained", settings: "StaticMfConfig") -> list[Metric]:
    from routing.training.evaluation import evaluate

    rows = trained.held_out_golden.with_columns(source=pl.lit("golden_held_out"))
    tokens = trained.held_out_golden_features.shape[:, 0].astype(np.float64)
    return evaluate(
        rows, trained.held_out_win_rates, tokens, seed=settings.seed, protocol="held-out prompts of training benchmarks"
    )


def _transfer_metrics(validation: pl.DataFrame) -> list[Metric]:
    return [
        Metric(
            benchmark=row["family"],
            name="apgr_left_out",
            value=row["apgr"],
            low=row["low"],
            high=row["high"],
            n=row["n"],
            note=f"fitted without this family; beside random {row['random_low']:.3f}-{row['random_high']:.3f}, "
            f"length {row['length']:.3f}",
        )
        for row in validation.iter_rows(named=True)
    ]


def _benchmark_metrics(
    benchmarks: Mapping[str, pl.DataFrame], config: TrainConfig, graph: "Graph", words: "Lexicon"
) -> list[Metric]:
    from routing.training.evaluation import evaluate
    from routing.training.features import tokenize

    cut, found = config.truncation, []
    for item in config.evaluation:
        table = benchmarks[item.name]
        rows = tokenize(words.encoder.tokenizer, table["prompt"].to_list(), head=cut.head, tail=cut.tail)
        tokens = np.array([len(row) for row in rows], np.float64)
        found += evaluate(table, graph.win_rates(rows), tokens, seed=config.split.seed, protocol=item.protocol)
    return found


def _training_data(fitted: "Tables", tables: "Tables", data: Path, names: Data) -> list[TrainingData]:
    """Name every source of the fitted rows, and the golden rows that calibrate and validate."""
    parts = [
        ("graded answers", fitted.graded, names.correctness),
        ("battles", fitted.battles, names.battles),
        ("golden rows, for calibration and validation", tables.golden, names.golden),
    ]
    found = []
    for what, table, file in parts:
        if table.is_empty():
            continue
        digest = file_sha256(data / file)
        for source, rows in table.group_by("source").len().sort("source").iter_rows():
            licence = names.licences.get(source, names.default_licence)
            found.append(TrainingData(name=f"{source} ({what})", rows=rows, sha256=digest, licence=licence))
    return found
