"""`nightroute train` for every kind but the static one: sources -> battles -> labels -> fit -> graph -> artifact."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from jobs.console import say
from jobs.fitting import fit_router, words
from jobs.train_config import RouterConfig
from jobs.train_data import SCREEN_CUT, SCREEN_DIM, SCREEN_SIF, decontaminated, gather, training_set
from jobs.training import TrainSummary, data_folder, read_benchmarks, versions
from routing.artifact import file_sha256
from schemas.artifact import Metric, Quantization, RouterCard, TrainingData

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routing.batching import Tokens
    from routing.training.dataset import TrainingSet
    from routing.training.export import Graph
    from routing.training.router import TrainedRouter

VERSIONED = (
    "numpy", "onnx", "onnxruntime", "peft", "polars", "scikit-learn", "tokenizers", "torch", "transformers"
)  # fmt: skip
TOKEN_BUDGET = 8_192
"""Padded tokens a graph run: attention at 512 tokens stays below half a gigabyte."""
PICTURE = "training.png"
BATTLE_KINDS = ("sw", "mf")
MOST_BEGINNINGS = 128
"""A prompt gives the parity check beginnings of a half, a third, ... of it, at most this many."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The graph that ships, and how far it is from the training framework."""

    graph: "Graph"
    parity_max_error: float
    parity_mean_error: float
    parity_prompts: int
    quantization: Quantization | None


def train_router(
    config: RouterConfig,
    base: Path,
    digest: str,
    *,
    output: Path | None,
    checkpoints: Path | None,
    environment: Mapping[str, str],
) -> TrainSummary:
    """Train, check, measure and write the router of a config.

    Args:
        config: The config.
        base: Folder that its paths are relative to.
        digest: Of its file, for the card.
        output: Folder of the artifact instead of the config's.
        checkpoints: Folder of resumable checkpoints.
        environment: Where NIGHTROUTE_DATA is looked up.

    Raises:
        InputMissingError: the data folder, a table or a base model is missing.
        DataError: a table breaks its contract, a filter leaves nothing, or the loss is no number.
        ArtifactError: the exported graph differs from the training framework; nothing was written.
    """
    from routing.training import onnx_graph
    from routing.training.export import check_enough, check_replaceable, write_artifact
    from routing.training.loop import use_threads

    folder = output if output is not None else Path(os.path.normpath(base / config.output))
    check_replaceable(folder)
    use_threads(config.threads)
    data = data_folder(config.data.path, base=base, environment=environment)
    gathered = gather(data, config)
    benchmarks = read_benchmarks(
        data, config.evaluation, seed=config.split.seed, trained=gathered.battles["prompt"].unique()
    )
    battles, dropped, contaminated = gathered.battles, gathered.dropped, 0
    if config.data.decontaminate and benchmarks:
        evaluated = pl.concat([table["prompt"] for table in benchmarks.values()])
        battles, contaminated = decontaminated(battles, evaluated, config, base)
        rows = dropped.get("contaminated", 0) + len(gathered.battles) - len(battles)
        dropped = dropped | {"contaminated": rows}
    seed = config.split.seed
    dataset = training_set(battles, config)
    say(
        f"{len(dataset.battles):,} battles, {len(dataset.labels):,} labelled prompts to fit on, "
        f"{len(dataset.held_out_labels):,} held out"
    )

    parity_prompts, whole = _parity_prompts(dataset, benchmarks, config.export.parity_prompts)
    check_enough(len(parity_prompts))
    fitted = fit_router(config, dataset, base=base, checkpoints=checkpoints)
    router, history = fitted.router, fitted.picture(config.name)
    exported = export(router, router.text.tokens(parity_prompts), config)
    held_out = exported.graph.win_rates(router.text.tokens(dataset.held_out_labels["prompt"].to_list()))
    metrics = [
        *_metrics(
            dataset, held_out, benchmarks, config, router, exported.graph, chosen=any(p.apgr for p in fitted.history)
        ),
        *_similarities(dataset, benchmarks, config, base),
    ]

    def card(files: dict[str, str]) -> RouterCard:
        return RouterCard(
            name=config.name,
            kind=router.kind,
            description=config.card.description,
            trained_pair=config.card.trained_pair,
            truncation=router.text.truncation,
            prefix_tokens=list(router.text.prefix),
            suffix_tokens=list(router.text.suffix),
            lowercase_prompts=router.text.lowercase,
            files=files,
            opset=onnx_graph.OPSET,
            score_quantiles=np.quantile(held_out, np.linspace(0.0, 1.0, 101)).tolist(),
            training=_training_data(dataset, config, data, router.kind),
            dropped={reason: count for reason, count in dropped.items() if count},
            notes=dict(getattr(router, "notes", {}))
            | ({"parity_whole_prompts": float(whole)} if whole < len(parity_prompts) else {}),
            seed=seed,
            config_sha256=digest,
            parity_max_error=exported.parity_max_error,
            parity_mean_error=exported.parity_mean_error,
            parity_prompts=exported.parity_prompts,
            quantization=exported.quantization,
            metrics=metrics,
            licence=config.card.licence,
            limits=config.card.limits,
            versions=versions(VERSIONED),
        )

    extras = {PICTURE: history} if history is not None else {}
    written = write_artifact(folder, exported.graph.model, router.text.tokenizer, card, extras=extras)
    return TrainSummary(folder=folder, card=written, contaminated=contaminated)


def export(router: "TrainedRouter", rows: "Tokens", config: RouterConfig) -> Exported:
    """Export a router, compare its graph with the training framework, quantize it where the config asks for it.

    Args:
        router: The fitted router.
        rows: Tokens of the parity prompts.
        config: Threads, and whether int8 ships.

    Raises:
        ArtifactError: the graph differs from the training framework.
    """
    from routing.training.export import Graph, check_parity
    from routing.training.quantize import compare, quantized

    graph = Graph(router.graph(), threads=config.threads, token_budget=TOKEN_BUDGET)
    parity = check_parity(graph, rows, router.win_rates(rows))
    quantization = None
    if config.export.int8:
        graph = Graph(quantized(graph.model), threads=config.threads, token_budget=TOKEN_BUDGET)
        quantization = compare(parity.win_rates, graph.win_rates(rows))
    return Exported(graph, parity.max_error, parity.mean_error, parity.prompts, quantization)


def _parity_prompts(dataset: "TrainingSet", benchmarks: Mapping[str, pl.DataFrame], n: int) -> tuple[list[str], int]:
    """Held-out prompts first, then those of the evaluation sets and of training, then beginnings of them: real text.

    A few hundred labels of one's own traffic are the best there is to train on, and fewer than the check wants to see.

    Returns:
        The prompts, and how many of them are whole.
    """
    parts = [dataset.held_out_labels, *benchmarks.values(), dataset.labels, dataset.battles]
    prompts = pl.concat([part["prompt"] for part in parts]).unique(maintain_order=True)
    length = pl.col("prompt").str.len_chars()
    pieces = [prompts]
    for share in range(2, MOST_BEGINNINGS):
        if sum(map(len, pieces)) >= 2 * n:
            break
        pieces.append(prompts.to_frame("prompt").select(pl.col("prompt").str.head(length // share)).to_series())
    found = pl.concat(pieces).unique(maintain_order=True)
    return found.filter(found != "").head(n).to_list(), min(n, len(prompts))


def _metrics(
    dataset: "TrainingSet",
    held_out: "NDArray[np.float64]",
    benchmarks: Mapping[str, pl.DataFrame],
    config: RouterConfig,
    router: "TrainedRouter",
    graph: "Graph",
    *,
    chosen: bool,
) -> list[Metric]:
    from routing.training.evaluation import evaluate

    aside = dataset.held_out_labels.select(
        "prompt", strong_score="target", weak_score=1.0 - pl.col("target"), source=pl.lit("held_out")
    )
    protocol = "labels of prompts that were held out" + (", centred by source" if config.data.centre_labels else "")
    protocol += "; the exported step was chosen on them" if chosen else ""
    found: list[Metric] = []
    if float(aside["strong_score"].to_numpy().mean()) > 0.5:
        found = evaluate(aside, held_out, _lengths(router, aside["prompt"]), seed=config.split.seed, protocol=protocol)
    else:
        say("the held-out labels do not favour the strong side: there is no gap to recover, and no APGR on them")
    for item in config.evaluation:
        table = benchmarks[item.name]
        note = item.protocol if item.max_prompts is None else f"{item.protocol}; {len(table)} prompts drawn by seed"
        rows = router.text.tokens(table["prompt"].to_list())
        found += evaluate(
            table, graph.win_rates(rows), _lengths(router, table["prompt"]), seed=config.split.seed, protocol=note
        )
    return found


def _similarities(
    dataset: "TrainingSet", benchmarks: Mapping[str, pl.DataFrame], config: RouterConfig, base: Path
) -> list[Metric]:
    """S(B, D) of arXiv 2406.18665, appendix C, on static embeddings: comparable between routers, not with the paper."""
    from routing.training.embedders import static_embedder
    from routing.training.similarity import benchmark_similarity

    if not benchmarks:
        return []
    lexicon = words(config, base)
    dim = min(SCREEN_DIM, lexicon.states.shape[1])
    embedder = static_embedder(lexicon, dim=dim, sif=SCREEN_SIF, truncation=SCREEN_CUT, counts=False)

    def embedded(prompts: pl.Series) -> "NDArray[np.float32]":
        return embedder.embed(embedder.text.tokens(prompts.to_list()))

    known = embedded(dataset.battles["prompt"].unique().sort())
    found = []
    for name, table in benchmarks.items():
        near = benchmark_similarity(embedded(table["prompt"]), known, seed=config.split.seed)
        found.append(
            Metric(
                benchmark=name,
                name="similarity",
                value=near.value,
                low=near.low,
                high=near.high,
                n=len(table),
                note=f"S(B, D): mean cosine to the nearest training prompt, static embeddings of {dim} dimensions",
            )
        )
    return found


def _lengths(router: "TrainedRouter", prompts: pl.Series) -> "NDArray[np.float64]":
    encodings = router.text.tokenizer.encode_batch_fast(prompts.to_list(), add_special_tokens=False)
    return np.array([len(encoding.ids) for encoding in encodings], np.float64)


def _training_data(dataset: "TrainingSet", config: RouterConfig, data: Path, kind: str) -> list[TrainingData]:
    """Name every source of the fitted rows: labelled prompts, or battles for kinds that learn from those."""
    what, fitted = "battles", dataset.battles
    if kind not in BATTLE_KINDS:
        what = "labelled prompts"
        fitted = fitted.join(dataset.labels, on="prompt", how="semi").unique(["table", "source", "prompt"])
    counts = fitted.group_by("table", "source").len().sort("table", "source")
    digests = {item.path: file_sha256(data / item.path) for item in config.sources}
    rows = [(config.sources[table], source, count) for table, source, count in counts.iter_rows()]
    return [
        TrainingData(
            name=f"{source} ({what}, {item.path})", rows=count, sha256=digests[item.path], licence=item.licence
        )
        for item, source, count in rows
    ]
