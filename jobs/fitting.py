"""The fit of each kind: a config's sections become the hyperparameters of its module in `routing.training`."""

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from jobs import train_kinds as kinds
from jobs.console import fit_bar
from jobs.train_config import RouterConfig
from schemas.artifact import Truncation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from routing.training.dataset import TrainingSet
    from routing.training.encoder import Encoder
    from routing.training.loop import LoopConfig
    from routing.training.prompt_embeddings import PromptEmbeddings
    from routing.training.router import Progress, Run, TrainedRouter
    from routing.training.static_mf import Lexicon
    from routing.training.text_input import TextInput

EmbeddingKinds = kinds.SwTrainConfig | kinds.MfTrainConfig | kinds.LinearTrainConfig | kinds.ClusterTrainConfig


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted router and the course of its fit."""

    router: "TrainedRouter"
    history: list["Progress"] = field(default_factory=list)
    """Empty for kinds that have no steps."""
    embeddings: "PromptEmbeddings | None" = None
    """What it was fitted on, for kinds that have an embedder."""

    def win_rates(self, prompts: pl.Series) -> "NDArray[np.float64]":
        """Return the router's win rates of prompts, shape (n,); embeddings that are known are not made again."""
        from routing.training.fuse import EmbeddingRouter

        if self.embeddings is None or not isinstance(self.router, EmbeddingRouter):
            return self.router.win_rates(self.router.text.tokens(prompts.to_list()))
        embed = self.embeddings if self.router.embedder.counts else self.embeddings.directions
        return self.router.head.win_rates(embed(prompts))

    def picture(self, title: str) -> bytes | None:
        """Return the loss curve as PNG; null for kinds without steps."""
        from routing.training.curve import draw_curve

        if not self.history:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "curve.png"
            draw_curve(self.history, path, title=title)
            return path.read_bytes()


def fit_router(config: RouterConfig, dataset: "TrainingSet", *, base: Path, checkpoints: Path | None) -> Fitted:
    """Fit the router of a config.

    Args:
        config: The config.
        dataset: What to fit on.
        base: Folder that the config's paths are relative to.
        checkpoints: Folder of resumable checkpoints; null keeps none.

    Raises:
        InputMissingError: a base model is not there.
        ConfigError: hyperparameters that do not fit the base model, a diverging loss, or too little memory.
        DataError: nothing to fit.
    """
    embeddings = None
    with _run(config, checkpoints) as (run, history):
        if isinstance(config, EmbeddingKinds):
            embeddings = _embeddings(config, base)
            router = _on_embeddings(config, dataset, embeddings, run)
        elif isinstance(config, kinds.NgramTrainConfig):
            router = _ngram(config, dataset, base, run)
        elif isinstance(config, kinds.BertTrainConfig | kinds.CausalLlmTrainConfig):
            router = _fine_tuned(config, dataset, base, run)
        else:
            router = _baseline(config, dataset, base, run)
    return Fitted(router, history, embeddings)


def token_counts(config: RouterConfig, base: Path, prompts: pl.Series) -> "NDArray[np.float64]":
    """Return the tokens of each prompt by the config's encoder, shape (n,): the length baseline."""
    encodings = _encoder(config, base).tokenizer.encode_batch_fast(prompts.to_list(), add_special_tokens=False)
    return np.array([len(encoding.ids) for encoding in encodings], np.float64)


def words(config: RouterConfig, base: Path) -> "Lexicon":
    """Return the lexicon of the config's encoder: made once a process, since it passes every token through it."""
    return _lexicon(encoder_folder(config, base))


def _encoder(config: RouterConfig, base: Path) -> "Encoder":
    """Return the config's encoder; read once a process."""
    return _loaded(encoder_folder(config, base))


def encoder_folder(config: RouterConfig, base: Path) -> Path:
    """Return the folder of the config's encoder.

    Raises:
        InputMissingError: it is not there.
    """
    from routing.training.encoder import find_encoder

    path = config.encoder.path
    return find_encoder(base / path if path is not None else None)


@cache
def _loaded(folder: Path) -> "Encoder":
    from routing.training.encoder import load_encoder

    return load_encoder(folder)


@cache
def _lexicon(folder: Path) -> "Lexicon":
    from routing.training.static_mf import lexicon

    return lexicon(_loaded(folder))


@contextmanager
def _run(config: RouterConfig, checkpoints: Path | None) -> "Iterator[tuple[Run, list[Progress]]]":
    from routing.training.router import Run

    history: list[Progress] = []
    with fit_bar(config.name) as show:

        def report(progress: "Progress") -> None:
            history.append(progress)
            show(progress)

        seed, threads = config.split.seed, config.threads
        yield Run(seed=seed, threads=threads, device=config.device, report=report, checkpoints=checkpoints), history


def _on_embeddings(
    config: EmbeddingKinds, dataset: "TrainingSet", embed: "PromptEmbeddings", run: "Run"
) -> "TrainedRouter":
    from routing.training.cluster import ClusterConfig, fit_cluster
    from routing.training.linear import LinearConfig, fit_linear
    from routing.training.mf import MfConfig
    from routing.training.mf_router import fit_mf_router
    from routing.training.sw import SwConfig, fit_sw

    match config:
        case kinds.SwTrainConfig(fit=fit):
            return fit_sw(dataset, embed, SwConfig(**fit.model_dump()), run)
        case kinds.MfTrainConfig(fit=fit):
            return fit_mf_router(
                dataset, embed, MfConfig(**fit.model_dump(exclude={"loop"}), loop=_loop(fit.loop)), run
            )
        case kinds.LinearTrainConfig(fit=fit):
            return fit_linear(dataset, embed, LinearConfig(**fit.model_dump()), run)
        case kinds.ClusterTrainConfig(fit=fit):
            return fit_cluster(dataset, embed, ClusterConfig(**fit.model_dump()), run)


def _ngram(config: kinds.NgramTrainConfig, dataset: "TrainingSet", base: Path, run: "Run") -> "TrainedRouter":
    from routing.training.ngram import NgramConfig, fit_ngram

    return fit_ngram(dataset, _encoder(config, base).tokenizer, NgramConfig(**config.fit.model_dump()), run)


def _fine_tuned(
    config: kinds.BertTrainConfig | kinds.CausalLlmTrainConfig, dataset: "TrainingSet", base: Path, run: "Run"
) -> "TrainedRouter":
    from routing.training.base_models import LoraConfig
    from routing.training.bert import BertConfig, fit_bert
    from routing.training.causal_llm import TEMPLATE, CausalLlmConfig, fit_causal_llm

    fit = config.fit
    lora = None if fit.lora is None else LoraConfig(**fit.lora.model_dump())
    shared = fit.model_dump(exclude={"base", "template", "lora", "loop"})
    model = _base_model(fit.base, base)
    if isinstance(fit, kinds.BertFit):
        return fit_bert(dataset, BertConfig(**shared, base=model, lora=lora, loop=_loop(fit.loop)), run)
    template = TEMPLATE if fit.template is None else base / fit.template
    settings = CausalLlmConfig(**shared, base=model, template=template, lora=lora, loop=_loop(fit.loop))
    return fit_causal_llm(dataset, settings, run)


def _baseline(config: RouterConfig, dataset: "TrainingSet", base: Path, run: "Run") -> "TrainedRouter":
    from routing.training.baselines import ConstantConfig, LengthConfig, fit_constant, fit_length, fit_random

    text = _baseline_text(config, base)
    match config:
        case kinds.LengthTrainConfig(fit=fit):
            return fit_length(dataset, text, LengthConfig(**fit.model_dump()), run)
        case kinds.ConstantTrainConfig(fit=fit):
            return fit_constant(dataset, text, ConstantConfig(**fit.model_dump()), run)
        case _:
            return fit_random(text, run)


def _baseline_text(config: RouterConfig, base: Path) -> "TextInput":
    from routing.training.text_input import TextInput

    return TextInput(_encoder(config, base).tokenizer, Truncation(head=BASELINE_TOKENS, tail=0))


BASELINE_TOKENS = 8_192
"""What a baseline reads of a prompt."""


def _embeddings(config: EmbeddingKinds, base: Path) -> "PromptEmbeddings":
    folder = None if config.data.embedding_cache is None else base / config.data.embedding_cache
    return _shared_embeddings(encoder_folder(config, base), config.embedder, folder)


@cache
def _shared_embeddings(encoder: Path, wanted: kinds.EmbedderSection, folder: Path | None) -> "PromptEmbeddings":
    """One store a process: the fits of a study embed each prompt once, also without a folder."""
    from routing.training.embedders import encoder_embedder, static_embedder
    from routing.training.prompt_embeddings import PromptEmbeddings

    cut = Truncation(head=wanted.head_tokens, tail=wanted.tail_tokens)
    if wanted.kind == "encoder":
        return PromptEmbeddings(encoder_embedder(_loaded(encoder), truncation=cut, counts=wanted.counts), cache=folder)
    embedder = static_embedder(_lexicon(encoder), dim=wanted.dim, sif=wanted.sif, truncation=cut, counts=wanted.counts)
    return PromptEmbeddings(embedder, cache=folder)


def _base_model(name: str | None, base: Path) -> str | None:
    """Return a path relative to the config, or a hub id as it is; a path that is not there is told by its reader."""
    if name is None:
        return None
    local = base / name
    return str(local) if local.exists() or name.startswith((".", "/")) else name


def _loop(section: kinds.LoopSection) -> "LoopConfig":
    from routing.training.loop import LoopConfig

    return LoopConfig(**section.model_dump())
