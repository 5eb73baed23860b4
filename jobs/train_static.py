"""`nightroute train`, `kind = "static_mf"`: graded answers in, the static router out; one config, the same bytes."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from jobs.console import say
from jobs.train_config import StaticData, StaticMfTrainConfig
from jobs.training import TrainSummary, data_folder, read_benchmarks, read_table, versions
from routing.artifact import file_sha256
from schemas.artifact import Metric, RouterCard, TrainingData
from schemas.preferences import Battles

if TYPE_CHECKING:
    from routing.training.export import Graph
    from routing.training.static_mf import Lexicon, StaticMfConfig, Tables, Trained

VERSIONED = ("numpy", "onnx", "onnxruntime", "polars", "tokenizers", "torch")
"""Packages whose version the card names: the same ones give the same bytes."""


def train_static(
    config: StaticMfTrainConfig, base: Path, digest: str, *, output: Path | None, environment: Mapping[str, str]
) -> TrainSummary:
    """Train, check, measure and write the static router of a config.

    Args:
        config: The config.
        base: Folder that its paths are relative to.
        digest: Of its file, for the card.
        output: Folder of the artifact instead of the config's.
        environment: Where NIGHTROUTE_DATA is looked up.

    Raises:
        InputMissingError: the data folder, a table or the encoder is missing.
        DataError: a table breaks its contract, or a filter leaves nothing.
        ArtifactError: the exported graph differs from torch; nothing was written.
    """
    from routing.training import export, graph, matrix_factorization, onnx_graph, static_mf
    from routing.training.encoder import find_encoder, load_encoder

    folder = output if output is not None else Path(os.path.normpath(base / config.output))
    export.check_replaceable(folder)
    data = data_folder(config.data.path, base=base, environment=environment)
    settings = _settings(config)
    matrix_factorization.make_deterministic(threads=config.threads)
    tables = read_tables(data, config)
    benchmarks = read_benchmarks(data, config.evaluation, seed=config.split.seed)
    say(f"read {len(tables.graded):,} graded answers, {len(tables.golden):,} golden rows from {data}")

    encoder_path = base / config.encoder.path if config.encoder.path is not None else None
    words = static_mf.lexicon(load_encoder(find_encoder(encoder_path)))
    evaluated = pl.concat([pl.Series("prompt", [], pl.String), *(table["prompt"] for table in benchmarks.values())])
    found = static_mf.contaminated_prompts(
        tables.prompts(), evaluated.unique().sort(), words, sif=settings.sif, truncation=settings.truncation
    )
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
            dropped={"contaminated": len(dropped)},
            seed=config.split.seed,
            config_sha256=digest,
            parity_max_error=parity.max_error,
            parity_mean_error=parity.mean_error,
            parity_prompts=parity.prompts,
            metrics=metrics,
            licence=config.card.licence,
            limits=config.card.limits,
            versions=versions(VERSIONED),
        )

    written = export.write_artifact(folder, model, words.encoder.tokenizer, card)
    return TrainSummary(folder=folder, card=written, contaminated=len(dropped))


def read_tables(data: Path, config: StaticMfTrainConfig) -> "Tables":
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
    graded = preferences.correctness(read_table(data / config.data.correctness), exclusions)
    golden: list[pl.DataFrame] = [preferences.golden(read_table(data / config.data.golden), exclusions)]
    golden += [
        preferences.golden_pair(graded, benchmark=pair.benchmark, strong=pair.strong, weak=pair.weak)
        for pair in config.golden_pairs
    ]
    battles: pl.DataFrame = (
        preferences.battles(read_table(data / config.data.battles), exclusions)
        if config.fit.battle_weight
        else Battles.create_empty()
    )
    return Tables(
        graded=graded, battles=battles, golden=pl.concat(golden).unique("prompt", keep="first", maintain_order=True)
    )


def _settings(config: StaticMfTrainConfig) -> "StaticMfConfig":
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
    benchmarks: Mapping[str, pl.DataFrame], config: StaticMfTrainConfig, graph: "Graph", words: "Lexicon"
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


def _training_data(fitted: "Tables", tables: "Tables", data: Path, names: StaticData) -> list[TrainingData]:
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
