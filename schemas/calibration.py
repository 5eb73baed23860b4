"""What `nightroute calibrate` found: one JSON file with alpha for each target, and how sure it is."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.artifact import WinRateCalibration

FORMAT_VERSION: Literal[1] = 1


class Part(BaseModel):
    """A part of the report; unknown keys are refused, and what is no number is null, never NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Range(Part):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class ShareTarget(Part):
    """Alpha for a strong share. No alpha splits queries of one win rate, so the nearest share that one reaches."""

    wanted: float
    alpha: float
    n: int = Field(ge=1)
    """Queries that alpha was read from."""
    strong_share: Range
    """Of those queries; the interval is that of the source they were drawn from (Clopper-Pearson)."""
    next_table: Range
    """The same for another table of as many rows from the same source: the interval adds that table's own chance."""


class BudgetTarget(Part):
    """Alpha for a budget: the smallest whose expected cost stays within it on this table."""

    max_usd: Decimal
    alpha: float
    n: int = Field(ge=1)
    strong_share: Range
    expected_usd: Decimal
    """Of this table at alpha."""
    next_usd: Range
    """Of another table of as many rows from the same source, at the same alpha."""


class PgrTarget(Part):
    """Alpha for a share of the quality gap, with a guarantee; the largest alpha that the labels support."""

    wanted: float
    """PGR to reach on new prompts from the source of the labels."""
    confidence: float
    """At least this probability, over the draw of the labels, that the alpha found reaches it."""
    alpha: float | None
    """Null where the labels do not even support sending every query to the strong model."""
    n: int = Field(ge=1)
    """Labelled prompts."""
    decided: int = Field(ge=0)
    """Of these, prompts on which one model was better: all that the guarantee can learn from."""
    gap: float
    """Mean score of the strong model minus that of the weak one, 0..1."""
    strong_share: Range | None
    """Of the labelled prompts."""
    pgr: Range | None
    """Estimated at alpha, with the interval of a bootstrap: the guarantee stands on a test, not on this interval. Null
    with alpha, and where the labels' own gap is not above zero."""
    labels_needed: int | None
    """Where alpha is null: about so many labels would support all strong, if the gap is what it seems; else null."""


class CalibrationReport(Part):
    """Everything that one calibration found."""

    format_version: Literal[1] = FORMAT_VERSION
    created_at: datetime
    router: str
    router_sha256: str
    """Digest of the card of the router whose win rates every alpha here is compared with."""
    artifact: str
    """Where that router is."""
    input_rows: int | None
    """Rows of the table of queries; null without one."""
    labels_sha256: str | None
    """Digest of prompts and scores of the labels; null without labels."""
    label_rows: int | None
    left_out: dict[str, int] = {}
    """Why rows of the labels were left out -> how many."""
    strong_share: ShareTarget | None = None
    max_usd: BudgetTarget | None = None
    pgr: PgrTarget | None = None
    calibration: WinRateCalibration | None = None
    """Of the router named above; null where it has none."""
