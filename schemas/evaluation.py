"""What an evaluation found: one JSON file, from which every table, page and picture of it is drawn."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION: Literal[1] = 1

Bins = Literal["ranks", "routellm"]
"""How a curve was read: over all ranks (`routing.metrics`), or at RouteLLM's ten bins (`routing.routellm_metrics`)."""


class Part(BaseModel):
    """A part of the report; unknown keys are refused, and what is no number is null, never NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EvaluatedRouter(Part):
    """A router or a baseline."""

    name: str
    kind: str
    """A router kind, or `baseline` for `random`, `length`, `constant` and `oracle`."""
    sha256: str | None = None
    """Digest of the artifact's card; null for a baseline."""
    trained_pair: str = ""
    licence: str = ""


class EvaluatedBenchmark(Part):
    """A set of prompts whose two scores are known."""

    name: str
    sha256: str
    """Digest of the rows as read: prompts and scores."""
    strong: str
    weak: str
    n: int = Field(ge=1)
    strong_quality: float
    """Mean score of the strong model, in the unit of the benchmark divided by its largest grade (0..1)."""
    weak_quality: float
    categories: dict[str, int] = {}
    """Category -> prompts; empty where the table has none."""
    all_strong_usd: float | None = None
    """Cost of answering every prompt with the strong model; null where no token counts are known."""
    all_weak_usd: float | None = None
    protocol: str = ""
    """How its figures have to be read, e.g. `zero-shot`."""


class Figure(Part):
    """One metric of one router on one benchmark, with the 95 % interval of a bootstrap over prompts."""

    benchmark: str
    category: str | None = None
    """Null for the whole benchmark."""
    router: str
    metric: str
    """`apgr`, `cpt20`, `cpt50`, `cpt80`, `auc`, `usd_apgr`, `usd_cpt50`, `ece`, ... (docs/evaluate.md)."""
    bins: Bins = "ranks"
    value: float | None
    """Null where the metric has no value, e.g. a PGR that no share reaches."""
    low: float | None = None
    high: float | None = None
    n: int = Field(ge=1)


class Comparison(Part):
    """`router` minus `other` on the same resampled prompts."""

    benchmark: str
    router: str
    other: str
    metric: str
    difference: float
    low: float
    high: float
    p: float = Field(ge=0, le=1)
    """Two-sided: twice the smaller share of resamples on one side of zero, at most 1."""


class Curve(Part):
    """Quality over the strong share, and over dollars where costs are known; thinned for drawing."""

    benchmark: str
    router: str
    strong_share: list[float]
    quality: list[float]
    pgr: list[float]
    usd: list[float] | None = None
    """Cost of the benchmark at each point."""


class ReliabilityBin(Part):
    """Prompts whose win rates lie together."""

    n: int = Field(ge=1)
    predicted: float
    """Mean win rate."""
    observed: float
    """Share of them that the strong model won, a tie counting one half."""
    low: float
    high: float


class Reliability(Part):
    """Does a win rate mean what it says?"""

    benchmark: str
    router: str
    ece: float
    """Expected calibration error: mean |predicted - observed|, weighted by the bins' prompts."""
    bins: list[ReliabilityBin]


class ScoreHistogram(Part):
    """Distribution of win rates."""

    benchmark: str
    router: str
    edges: list[float]
    """counts + 1 values, rising."""
    counts: list[int]


class Agreement(Part):
    """How alike two routers order a benchmark's prompts."""

    benchmark: str
    router: str
    other: str
    spearman: float | None
    """Null where one of them gives all prompts one win rate."""
    same_side: dict[str, float]
    """Strong share (`0.2`, `0.5`, `0.8`) -> share of prompts that both send to the same model."""


class Transfer(Part):
    """A router on a pair of models that it was not trained on."""

    router: str
    benchmark: str
    strong: str
    weak: str
    n: int
    gap: float
    """Mean score of the strong model minus that of the weak one."""
    apgr: float
    low: float
    high: float
    retention: float | None
    """APGR here over APGR on the seen pair, same benchmark family; null without one."""


class TransferSummary(Part):
    """A router over all unseen pairs."""

    router: str
    pairs: int
    mean_retention: float | None
    low: float | None
    high: float | None
    """95 % interval of the mean over resampled pairs."""
    lift_kept: float | None = None
    """Mean of APGR - 1/2 over the pairs, over that on the seen pair: what is left of the lead over a random router, for
    which `mean_retention` is 1. Null where there is no such lead."""
    ranking_kept: float | None
    """Share of (pair, other router) in which the order of the two routers' APGR is that of the seen pair; null without
    another router, and for a baseline."""


class Robustness(Part):
    """What a change of the prompts that leaves their meaning alone does to the routes."""

    benchmark: str
    router: str
    perturbation: str
    n: int
    flips: dict[str, float]
    """Strong share -> share of prompts that change sides, alpha fixed on the unchanged prompts."""
    to_strong: dict[str, float]
    """Strong share -> share of all prompts that move from weak to strong: what an attacker can make the owner pay."""
    mean_shift: float
    """Mean of win rate after minus before."""
    detail: str = ""
    """E.g. the suffix that was found."""


class Drift(Part):
    """Win rates of prompts in another language or category, against the whole table."""

    router: str
    group: str
    n: int
    mean: float
    quantiles: list[float]
    """Of the win rates, at 0.05, 0.25, 0.5, 0.75, 0.95."""
    strong_share: float
    """Share of the group above the alpha that sends half of the whole table to the strong model."""


class LabelStudy(Part):
    """What a router of one kind gains from labels."""

    kind: str
    benchmark: str
    data: str
    """`preferences`, `preferences + golden`, `in-domain`, `preferences + in-domain`, ..."""
    n_labels: int
    """In-domain labels drawn; `protocol` says how many of them were used."""
    draws: int
    """Seeded draws of the labels, or of the folds, that the value is a mean of."""
    apgr: float
    low: float
    high: float
    """95 % interval of one draw's bootstrap; draws share the evaluated prompts, so they do not narrow it."""
    spread: float | None = None
    """Standard deviation over draws."""
    cpt50: float | None = None
    protocol: str


class EvaluationReport(Part):
    """Everything that one evaluation found."""

    format_version: Literal[1] = FORMAT_VERSION
    name: str
    created_at: datetime
    seed: int
    resamples: int
    machine: str
    """E.g. `2 cores, Python 3.11`."""
    versions: dict[str, str] = {}
    routers: list[EvaluatedRouter] = []
    benchmarks: list[EvaluatedBenchmark] = []
    figures: list[Figure] = []
    comparisons: list[Comparison] = []
    curves: list[Curve] = []
    reliability: list[Reliability] = []
    histograms: list[ScoreHistogram] = []
    agreement: list[Agreement] = []
    transfer: list[Transfer] = []
    transfer_summaries: list[TransferSummary] = []
    robustness: list[Robustness] = []
    drift: list[Drift] = []
    label_study: list[LabelStudy] = []
    notes: list[str] = []
    """What a reader must know, e.g. what was left out and why."""
