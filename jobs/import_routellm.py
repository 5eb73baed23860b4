"""`nightroute import-routellm PATH`: a checkpoint that RouteLLM published becomes an artifact; nothing is trained."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.training import data_folder, read_table, versions
from routing.artifact import file_sha256
from routing.errors import DataError, UsageError
from schemas.artifact import EmbeddingInput, Quantization, RouterCard, RouterKind, TrainingData, Truncation

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from routing.training.export import Parity

KINDS = ("mf", "bert", "causal_llm")
SEED = 0
PROMPTS = "query_logs/prompts.parquet"
"""In the data folder: real prompts for the comparison where none are named."""
MAX_PROMPTS = 1_000
TOKEN_BUDGET = 8_192
VERSIONED = ("numpy", "onnx", "onnxruntime", "safetensors", "tokenizers", "torch", "transformers")

_TRAINED_ON = (
    "trained by the authors of RouteLLM (arXiv 2406.18665) on Chatbot Arena battles, for the published variants "
    "augmented with LLM judgements; nightroute trained nothing and measured nothing"
)
_UNMEASURED = "no figure of this router was measured by nightroute: evaluate it on your own traffic before you trust it"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the command line may say."""

    kind: str | None = None
    """Null: told from the files."""
    output: Path | None = None
    name: str | None = None
    strong: str | None = None
    weak: str | None = None
    prompts: Path | None = None
    """Table with a column `prompt`; null takes the one of the data folder."""
    licence: str = "unknown: see where the checkpoint was published"
    int8: bool = False


@dataclass(frozen=True, slots=True)
class _Made:
    """A checkpoint as a graph, with what its card says."""

    model: Any
    """onnx.ModelProto"""
    tokenizer: "Tokenizer"
    parity: "Parity"
    truncation: Truncation
    files: tuple[str, ...]
    """Names of the checkpoint's files that hold its weights."""
    quantiles: list[float]
    limits: list[str]
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    lowercase: bool = False
    embedding: EmbeddingInput | None = None
    quantization: Quantization | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """For the JSON summary."""


def import_routellm(path: Path, options: ImportOptions, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Turn a checkpoint into an artifact; returns the JSON summary.

    Args:
        path: Folder of the checkpoint.
        options: What the command line says.
        environment: Where NIGHTROUTE_DATA is looked up.

    Raises:
        UsageError: an option does not fit the kind.
        InputMissingError: a file of the checkpoint, or the table of prompts, is missing.
        DataError: too few prompts.
        ArtifactError: pickled weights, another model than RouteLLM's, or a graph that differs from it.
    """
    from routing.training import import_routellm as reader
    from routing.training import onnx_graph
    from routing.training.export import write_artifact

    kind = _kind(path, options)
    strong, weak = options.strong or reader.STRONG, options.weak or reader.WEAK
    made = _mf(path, strong, weak) if kind == "mf" else _from_tokens(path, kind, options, environment)

    def card(files: dict[str, str]) -> RouterCard:
        return RouterCard(
            name=options.name or f"routellm-{kind.replace('_', '-')}",
            kind=kind,
            description=f"RouteLLM's {kind} checkpoint {path.resolve().name!r}, imported",
            trained_pair=f"{strong} against {weak}" if kind == "mf" else "tiers of strong and weak models of RouteLLM",
            truncation=made.truncation,
            prefix_tokens=list(made.prefix),
            suffix_tokens=list(made.suffix),
            embedding=made.embedding,
            lowercase_prompts=made.lowercase,
            files=files,
            opset=onnx_graph.OPSET,
            score_quantiles=made.quantiles,
            training=[
                TrainingData(name=f"{file}: {_TRAINED_ON}", rows=0, sha256=file_sha256(path / file), licence="unknown")
                for file in made.files
            ],
            seed=SEED,
            config_sha256=file_sha256(path / "config.json"),
            parity_max_error=made.parity.max_error,
            parity_mean_error=made.parity.mean_error,
            parity_prompts=made.parity.prompts,
            quantization=made.quantization,
            metrics=[],
            licence=options.licence,
            limits=[_UNMEASURED, *made.limits],
            versions=versions(VERSIONED),
        )

    folder = options.output or Path(f"routellm-{kind.replace('_', '-')}")
    written = write_artifact(folder, made.model, made.tokenizer, card)
    return {
        "job": "import-routellm",
        "router": written.name,
        "kind": kind,
        "folder": str(folder),
        "files": written.files,
        "parity_max_error": written.parity_max_error,
        "parity_prompts": written.parity_prompts,
        **made.extra,
    }


def _kind(path: Path, options: ImportOptions) -> RouterKind:
    from routing.training.import_routellm import detect_kind

    if options.kind is not None and options.kind not in KINDS:
        raise UsageError(f"--kind wants one of {', '.join(KINDS)}, got {options.kind!r}")
    found: RouterKind = options.kind or detect_kind(path)  # type: ignore[assignment]  # checked above
    if found == "mf" and options.int8:
        raise UsageError("--int8 is for bert and causal_llm: an mf router is one vector, there is nothing to shrink")
    if found != "mf" and (options.strong or options.weak):
        raise UsageError(f"--strong and --weak choose rows of an mf checkpoint; a {found} checkpoint has none")
    return found


def _mf(path: Path, strong: str, weak: str) -> _Made:
    from tokenizers import Tokenizer

    from routing.artifact import load, locate
    from routing.training.import_routellm import EMBEDDING_MODEL, MAX_EMBEDDING_TOKENS, import_mf, mf_parity

    found = import_mf(path, strong=strong, weak=weak)
    dim, model = found.pair.model.projection.shape[1], found.graph()
    counter = load(locate("builtin:static-mf", relative_to=Path.cwd()))
    return _Made(
        model=model,
        tokenizer=Tokenizer.from_file(str(counter.tokenizer)),
        parity=mf_parity(found, model, n=MAX_PROMPTS, seed=SEED),
        truncation=Truncation(head=MAX_EMBEDDING_TOKENS, tail=0),
        files=("model.safetensors",),
        quantiles=[],
        limits=[
            f"it needs embeddings of {EMBEDDING_MODEL}, bought from an endpoint for every prompt",
            "where alpha is likely to lie is not known: choose a strong share or a budget",
            f"the graph was compared on {MAX_PROMPTS:,} seeded unit vectors, because embedding prompts costs money",
            "its tokenizer counts and cuts prompts; the provider bills its own tokens",
        ],
        embedding=EmbeddingInput(provider="openai", model=EMBEDDING_MODEL, dim=dim, max_tokens=MAX_EMBEDDING_TOKENS),
    )


def _from_tokens(path: Path, kind: str, options: ImportOptions, environment: Mapping[str, str]) -> _Made:
    from routing.training.export import Graph, check_parity
    from routing.training.import_causal_llm import import_causal_llm
    from routing.training.import_routellm import import_bert
    from routing.training.quantize import compare, quantized
    from routing.training.router import TrainedRouter

    prompts = _prompts(options.prompts, environment)
    router: TrainedRouter
    limits, extra = [], dict[str, Any]()
    if kind == "bert":
        router = import_bert(path)
        limits.append("a tie counts as a loss of the strong model, as in RouteLLM")
    else:
        found = import_causal_llm(path, prompts)
        router = found.router
        extra = {"same_tokens_share": found.same_tokens, "lead_in_tokens": list(found.lead_in)}
        limits += [
            f"{found.same_tokens:.1%} of {len(prompts):,} prompts have exactly RouteLLM's tokens",
            "one forward pass reads the label behind the text that the model writes before it; RouteLLM writes that "
            "text anew for each prompt, and routes to the strong model where no label follows",
            "computed in float32, where RouteLLM computes in bfloat16",
        ]
    rows = router.text.tokens(prompts)
    model = router.graph()
    graph = Graph(model, threads=0, token_budget=TOKEN_BUDGET)
    parity = check_parity(graph, rows, router.win_rates(rows))
    rates, quantization = graph.win_rates(rows), None
    if options.int8:
        model = quantized(model)
        full, rates = rates, Graph(model, threads=0, token_budget=TOKEN_BUDGET).win_rates(rows)
        quantization = compare(full, rates)
    return _Made(
        model=model,
        tokenizer=router.text.tokenizer,
        parity=parity,
        truncation=router.text.truncation,
        files=tuple(sorted(file.name for file in path.glob("*.safetensors"))),
        quantiles=np.quantile(rates, np.linspace(0.0, 1.0, 101)).tolist(),
        limits=limits,
        prefix=router.text.prefix,
        suffix=router.text.suffix,
        lowercase=router.text.lowercase,
        quantization=quantization,
        extra=extra,
    )


def _prompts(table: Path | None, environment: Mapping[str, str]) -> list[str]:
    """Draw distinct prompts of a table, the same ones each time."""
    from routing.training.export import MIN_PARITY_PROMPTS

    path = table or data_folder(None, base=Path.cwd(), environment=environment) / PROMPTS
    rows = read_table(path)
    if "prompt" not in rows.columns:
        raise DataError(f"table {path} has no column prompt; it has {rows.columns}: name another with --prompts")
    prompts = rows["prompt"].drop_nulls().unique().sort()
    if len(prompts) < MIN_PARITY_PROMPTS:
        raise DataError(
            f"table {path} has {len(prompts)} distinct prompts, the graph is compared on at least "
            f"{MIN_PARITY_PROMPTS}; name a larger table with --prompts"
        )
    return prompts.sample(MAX_PROMPTS, seed=SEED).to_list()
