"""The fit of each kind: a config's sections become the hyperparameters of its module in `routing.training`."""

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jobs import train_kinds as kinds
from jobs.console import fit_bar
from jobs.train_config import RouterConfig
from schemas.artifact import Truncation

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    with _run(config, checkpoints) as (run, history):
        if isinstance(config, EmbeddingKinds):
            router = _on_embeddings(config, dataset, base, run)
        elif isinstance(config, kinds.BertTrainConfig | kinds.CausalLlmTrainConfig):
            router = _fine_tuned(config, dataset, base, run)
        else:
            router = _baseline(config, dataset, base, run)
    return Fitted(router, history)


def words(config: RouterConfig, base: Path) -> "Lexicon":
    """Return the lexicon of the config's encoder: made once a process, since it passes every token through it."""
    return _lexicon(_encoder_folder(config, base))


def _encoder(config: RouterConfig, base: Path) -> "Encoder":
    """Return the config's encoder; read once a process."""
    return _loaded(_encoder_folder(config, base))


def _encoder_folder(config: RouterConfig, base: Path) -> Path:
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


def _on_embeddings(config: EmbeddingKinds, dataset: "TrainingSet", base: Path, run: "Run") -> "TrainedRouter":
    from routing.training.cluster import ClusterConfig, fit_cluster
    from routing.training.linear import LinearConfig, fit_linear
    from routing.training.mf import MfConfig
    from routing.training.mf_router import fit_mf_router
    from routing.training.sw import SwConfig, fit_sw

    embed = _embeddings(config, base)
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
    from routing.training.embedders import encoder_embedder, static_embedder
    from routing.training.prompt_embeddings import PromptEmbeddings

    wanted = config.embedder
    cut = Truncation(head=wanted.head_tokens, tail=wanted.tail_tokens)
    folder = None if config.data.embedding_cache is None else base / config.data.embedding_cache
    if wanted.kind == "static":
        lexicon = words(config, base)
        embedder = static_embedder(lexicon, dim=wanted.dim, sif=wanted.sif, truncation=cut, counts=wanted.counts)
        return PromptEmbeddings(embedder, cache=folder)
    return PromptEmbeddings(
        encoder_embedder(_encoder(config, base), truncation=cut, counts=wanted.counts), cache=folder
    )


def _base_model(name: str | None, base: Path) -> str | None:
    """Return a path relative to the config, or a hub id as it is; a path that is not there is told by its reader."""
    if name is None:
        return None
    local = base / name
    return str(local) if local.exists() or name.startswith((".", "/")) else name


def _loop(section: kinds.LoopSection) -> "LoopConfig":
    from routing.training.loop import LoopConfig

    return LoopConfig(**section.model_dump())
