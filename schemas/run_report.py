"""What the page of a run shows: its manifest, and what is worked out from the table that it published.

Money that was paid is Decimal and exact; the curve over alpha is modelled where a query would have gone elsewhere.
"""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from pydantic import Field

from schemas.run import Manifest
from schemas.sweep import Histogram, Part, Sweep

FORMAT_VERSION: Literal[1] = 1


class Flow(Part):
    """Queries of one route that ended in one way."""

    route: str
    status: str
    """`ok`, `truncated`, `failed` or `unsent`."""
    queries: int


class FailedQueries(Part):
    """Queries that have an error."""

    route: str
    error_code: str
    queries: int
    attempts: int


class RouteBill(Part):
    """One side of the split."""

    route: str
    model: str
    """As requested."""
    served_models: list[str]
    """What the provider says that it used; these were billed."""
    queries: int
    answered: int
    attempts: int
    unpriced: int
    input_tokens: int
    cached_tokens: int
    """Part of the input."""
    output_tokens: int
    reasoning_tokens: int
    """Part of the output."""
    mean_output_tokens: float | None
    """Over answers; null without any."""
    latency_p50_s: float | None
    latency_p95_s: float | None
    cost_usd: Decimal
    """Sum over priced queries."""


class GroupBill(Part):
    """Queries that share the values of the columns asked for."""

    group: str | None
    """Values joined by ` / `; null where one is missing."""
    queries: int
    strong: int
    failed: int
    """Failed or unsent."""
    unpriced: int
    output_tokens: int
    cost_usd: Decimal


class TimeSlice(Part):
    """What was answered in a stretch of time."""

    start: datetime
    queries: int
    strong_usd: Decimal
    weak_usd: Decimal


class RunReport(Part):
    """Everything that the page of a run shows."""

    format_version: Literal[1] = FORMAT_VERSION
    name: str
    created_at: datetime
    """When the page was made; the run's own times are in the manifest."""
    nightroute_version: str
    manifest: Manifest
    flows: list[Flow]
    errors: list[FailedQueries]
    """Most frequent first."""
    routes: list[RouteBill]
    group_columns: list[str] = Field(default_factory=list)
    groups: list[GroupBill] = Field(default_factory=list)
    """By cost, dearest first; the groups of the sweep are in the same order."""
    slice_s: float | None
    """Width of a slice; null where nothing was answered."""
    slices: list[TimeSlice]
    """In order, the empty ones included."""
    unpriced: dict[str, int]
    """Reason -> queries."""
    win_rates: Histogram
    sweep: Sweep | None
    """Over the queries whose cost is known on both models; null without any."""
    compared: int
    """Queries that the sweep is about."""
    compared_strong: int
    """Those of them that went to the strong model."""
    compared_usd: Decimal
    """What they did cost."""
    at_run: int | None
    """Index of the point where the table was cut; null where no alpha cuts it so (ties, another order)."""
    notes: list[str] = Field(default_factory=list)
