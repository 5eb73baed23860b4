"""What routing costs and is worth at every alpha: the curve behind the sliders of the pages.

Every point is a list index shared by the curve and by the groups, so that a page moves one number to move them all.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Basis = Literal["observed", "modelled"]


class Part(BaseModel):
    """A part of a report; unknown keys are refused, and what is no number is null, never NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Estimate(Part):
    """A figure with its 95 % interval; equal ends where it was observed."""

    value: float
    low: float
    high: float


class SweepPoint(Part):
    """All routed calls at one alpha."""

    alpha: float | None
    """Cost threshold: strong iff win_rate >= alpha. Null: above every win rate, all weak."""
    strong_share: float
    n_strong: int
    cost_usd: Estimate
    observed_usd: float
    """The part of the cost that was paid just so: calls that stay on the model that answered them."""
    saving_usd: Estimate
    """Against all strong."""
    saving_share: Estimate
    saving_vs_best_share: Estimate
    """Against the best single model, as a share of its cost; negative where routing costs more."""
    quality: Estimate | None = None
    """Mean score 0..1 of the answers, as the labels grade them; null without labels."""
    quality_share: Estimate | None = None
    """Quality over that of all strong."""
    expected_wins: float
    """Mean win rate of the calls sent strong plus mean loss rate of those sent weak: the router's own claim."""


class GroupSweep(Part):
    """One group (a tenant) along the same points: lists as long as `Sweep.points`."""

    group: str | None
    """Null: the log names none."""
    calls: int
    routed_calls: int
    paid_usd: float
    """What all its calls cost, the unrouted ones included."""
    routed_paid_usd: float
    all_strong_usd: float
    strong_share: list[float]
    cost_usd: list[float]
    """Of its routed calls."""
    quality: list[float] | None = None


class SingleModel(Part):
    """Every routed call on one model."""

    model: str
    cost_usd: Estimate
    saving_share: Estimate
    """Against all strong."""
    quality: Estimate | None = None


class Histogram(Part):
    """Calls by win rate, in bins of equal width over [0, 1]."""

    counts: list[int] = Field(min_length=1)


class Sweep(Part):
    """The curve over alpha, from all weak (first) to all strong (last)."""

    strong: SingleModel
    weak: SingleModel
    best_single: str
    """Name of the cheapest single model that holds the quality floor; without floor or labels, the strong model."""
    points: list[SweepPoint]
    groups: list[GroupSweep] = []
    """By cost, dearest first."""
    histogram: Histogram
