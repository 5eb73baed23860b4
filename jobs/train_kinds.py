"""The training config of each kind of router: what `jobs.train_config` gives all of them, and its hyperparameters.

The defaults are those of the kind's module in `routing.training`; a test holds them together.
"""

from typing import Literal

from pydantic import Field

from jobs.config_file import Section
from jobs.train_config import RouterConfig, StaticMfTrainConfig


class LoopSection(Section):
    """The optimisation of `mf`, `bert` and `causal_llm`; see `routing.training.loop.LoopConfig`."""

    learning_rate: float = Field(gt=0)
    epochs: int = Field(ge=1)
    max_steps: int | None = Field(None, ge=1)
    batch_rows: int = Field(ge=1)
    batch_tokens: int = Field(8_192, ge=1)
    """Padded tokens of one pass: bounds memory, changes no result."""
    warmup_share: float = Field(0.1, ge=0, lt=1)
    decay: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    eval_every: int = Field(ge=1)
    """Steps between validations; each writes a checkpoint where a folder for them is given."""
    patience: int = Field(0, ge=0)
    """Validations without a better one after which training stops; 0 never stops."""
    keep: Literal["loss", "apgr"] = "loss"
    """Which validation is exported: the one of the lowest held-out loss, or of the highest held-out APGR."""


class LoraSection(Section):
    """Low-rank adaptation, merged before the export; see `routing.training.base_models.LoraConfig`."""

    rank: int = Field(8, ge=1)
    scaling: float = Field(2.0, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)
    targets: tuple[str, ...] = ()


class EmbedderSection(Section):
    """What turns tokens into the embedding that the head reads; it becomes the first part of the graph."""

    kind: Literal["static", "encoder"] = "encoder"
    """`static`: a token table distilled from the encoder, thousands of prompts a second. `encoder`: the encoder."""
    dim: int = Field(256, ge=1)
    """Width of the static table."""
    sif: float = Field(1e-4, gt=0)
    """Smoothing of the static table's word weights."""
    head_tokens: int = Field(192, ge=1)
    """Tokens read from the start of a prompt."""
    tail_tokens: int = Field(62, ge=0)
    counts: bool = False
    """Append the logs of four counts (tokens, digits, punctuation, word pieces); `linear` reads them."""


class SwFit(Section):
    """See `routing.training.sw.SwConfig`."""

    tiers: int = Field(10, ge=2)
    same_tier: Literal["ignored", "as_routellm"] = "ignored"
    dtype: Literal["float32", "float16"] = "float16"
    max_prototypes: int | None = Field(None, ge=1)
    min_battles: int = Field(1, ge=1)


class MfFit(Section):
    """See `routing.training.mf.MfConfig`."""

    rank: int = Field(128, ge=1)
    bias: bool = False
    noise: float = Field(0.05, ge=0)
    drop_ties: bool = False
    loop: LoopSection


class BertFit(Section):
    """See `routing.training.bert.BertConfig`."""

    base: str | None = None
    """Path (relative to the config) or hub id of an encoder; left out: the installed all-MiniLM-L6-v2."""
    pooling: Literal["cls", "mean"] = "mean"
    classes: Literal[2, 3] = 2
    dropout: float = Field(0.1, ge=0, lt=1)
    lora: LoraSection | None = None
    head_tokens: int = Field(192, ge=1)
    tail_tokens: int = Field(62, ge=0)
    loop: LoopSection


class CausalLlmFit(Section):
    """See `routing.training.causal_llm.CausalLlmConfig`."""

    base: str | None = None
    """Path (relative to the config) or hub id of a causal LM; left out: the installed SmolLM2-135M-Instruct."""
    template: str | None = None
    """File of the instruction, relative to the config; left out: the one that nightroute ships."""
    chat: bool = True
    win_label: int = Field(1, ge=1, le=5)
    tie_label: int = Field(4, ge=1, le=5)
    loss_label: int = Field(5, ge=1, le=5)
    lora: LoraSection | None = None
    gradient_checkpointing: bool = False
    head_tokens: int = Field(384, ge=1)
    tail_tokens: int = Field(128, ge=0)
    loop: LoopSection


class LinearFit(Section):
    """See `routing.training.linear.LinearConfig`."""

    loss: Literal["logistic", "ridge"] = "logistic"
    decay: float | None = Field(None, gt=0)
    decays: tuple[float, ...] = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
    folds: int = Field(5, ge=2)


class NgramFit(Section):
    """See `routing.training.ngram.NgramConfig`."""

    order: int = Field(3, ge=1, le=8)
    buckets: int = Field(524_288, ge=1_024)
    counts: float = Field(0.1, ge=0)
    decay: float | None = Field(None, gt=0)
    decays: tuple[float, ...] = (10.0, 3.0, 1.0, 0.3)
    folds: int = Field(5, ge=2)
    repeats: int = Field(4, ge=1)
    head_tokens: int = Field(384, ge=1)
    tail_tokens: int = Field(128, ge=0)


class ClusterFit(Section):
    """See `routing.training.cluster.ClusterConfig`."""

    clusters: int = Field(25, ge=2)
    nearest: int = Field(3, ge=1)
    sharpness: float = Field(9.0, gt=0)
    prior: float = Field(10.0, ge=0)
    restarts: int = Field(4, ge=1)


class LengthFit(Section):
    """See `routing.training.baselines.LengthConfig`."""

    smallest_slope: float = Field(0.05, gt=0)


class ConstantFit(Section):
    """See `routing.training.baselines.ConstantConfig`."""

    win_rate: float | None = Field(None, ge=0, le=1)


class SwTrainConfig(RouterConfig):
    """Similarity-weighted Bradley-Terry."""

    kind: Literal["sw"]
    embedder: EmbedderSection = EmbedderSection()
    fit: SwFit = SwFit()


class MfTrainConfig(RouterConfig):
    """Matrix factorization."""

    kind: Literal["mf"]
    embedder: EmbedderSection = EmbedderSection()
    fit: MfFit


class BertTrainConfig(RouterConfig):
    """A fine-tuned encoder."""

    kind: Literal["bert"]
    fit: BertFit


class CausalLlmTrainConfig(RouterConfig):
    """A fine-tuned causal language model."""

    kind: Literal["causal_llm"]
    fit: CausalLlmFit


class LinearTrainConfig(RouterConfig):
    """Logistic or ridge regression on embeddings, length and counts."""

    kind: Literal["linear"]
    embedder: EmbedderSection = EmbedderSection(counts=True)
    fit: LinearFit = LinearFit()


class NgramTrainConfig(RouterConfig):
    """Ridge regression on n-grams of word pieces and counts."""

    kind: Literal["ngram"]
    fit: NgramFit = NgramFit()


class ClusterTrainConfig(RouterConfig):
    """A soft k-means table."""

    kind: Literal["cluster"]
    embedder: EmbedderSection = EmbedderSection()
    fit: ClusterFit = ClusterFit()


class LengthTrainConfig(RouterConfig):
    """Baseline: longer prompts to the strong model."""

    kind: Literal["length"]
    fit: LengthFit = LengthFit()


class RandomTrainConfig(RouterConfig):
    """Baseline: a seeded hash of the prompt."""

    kind: Literal["random"]


class ConstantTrainConfig(RouterConfig):
    """Baseline: one win rate for all."""

    kind: Literal["constant"]
    fit: ConstantFit = ConstantFit()


KINDS: dict[str, type[RouterConfig] | type[StaticMfTrainConfig]] = {
    "static_mf": StaticMfTrainConfig,
    "mf": MfTrainConfig,
    "sw": SwTrainConfig,
    "bert": BertTrainConfig,
    "causal_llm": CausalLlmTrainConfig,
    "linear": LinearTrainConfig,
    "ngram": NgramTrainConfig,
    "cluster": ClusterTrainConfig,
    "length": LengthTrainConfig,
    "random": RandomTrainConfig,
    "constant": ConstantTrainConfig,
}
"""`kind` of a config -> its model."""
