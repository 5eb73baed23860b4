"""What an audit found: one JSON file, from which its page, its tables and its exports are drawn.

Money that was paid is Decimal and exact; money that routing would have cost is modelled, a float with an interval.
"""

from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from pydantic import Field

from schemas.sweep import Part, Sweep

FORMAT_VERSION: Literal[1] = 1


class LogFile(Part):
    """One file of the log."""

    path: str
    rows: int
    sha256: str


class RowCounts(Part):
    """What became of the rows. read = rejected + duplicated + kept; the others count kept rows."""

    read: int
    left_out: int = 0
    """Rows of the log that are no calls, and in none of the others: spans around calls, queries that were not sent."""
    rejected: int
    duplicated: int
    """Rows that repeat an earlier one: same id, same time, model and tokens. Counted once."""
    kept: int
    null_ids: int
    identical_null_ids: int = 0
    """Rows without an id that are like an earlier one in everything else. Kept: they may be two calls."""
    reused_ids: int
    """Rows whose id stands on another, different call too. Kept: gateways write static ids."""
    unpriced: int
    unbilled: int
    """Answered by a gateway's cache."""
    failed: int
    missing_prompts: int
    """No prompt text: such calls cannot be routed."""


class RejectedRows(Part):
    """Rows that broke one rule of CALL_LOG."""

    rule: str
    rows: int


class UnpricedCalls(Part):
    """Calls whose cost is unknown, which is not $0."""

    reason: str
    calls: int
    input_tokens: int
    output_tokens: int
    logged_usd: Decimal | None
    """What the log says they cost, where it does."""


class Gap(Part):
    """Hours without a call where there should have been some."""

    start: datetime
    end: datetime
    """First instant after the gap."""
    hours: int
    expected_calls: float
    """By the same hours of other weeks."""


class LoggedSpend(Part):
    """Spend of one model: logged against recomputed, over the calls that have both."""

    provider: str | None
    model: str | None
    calls: int
    """All its calls."""
    compared_calls: int
    logged_usd: Decimal
    recomputed_usd: Decimal
    difference_usd: Decimal
    """Logged minus recomputed."""
    differing_calls: int
    """Calls whose logged spend differs by more than a ten-thousandth of a cent and one part in a thousand."""
    first_called_at: datetime
    last_called_at: datetime


class ModelChange(Part):
    """A model that ended where another one of the same provider began: a rename, or a successor."""

    provider: str | None
    before: str
    after: str
    changed_at: datetime
    """First call of the new name."""
    calls_before: int
    calls_after: int
    same_price: bool


class PriceChange(Part):
    """A price that changed while the log ran."""

    provider: str | None
    model: str
    processing: str
    changed_at: datetime
    """`valid_from` of the new price."""
    before_price_id: str
    after_price_id: str
    calls_before: int
    calls_after: int
    stale_calls: int
    """Calls after it whose logged spend is what the old price gives: the logger's table was not updated."""
    stale_usd: Decimal = Decimal(0)
    """Logged minus recomputed, over those."""


class ControlDifference(Part):
    """One key of the control totals (a provider's usage export) against the log."""

    key: str
    """Day, model or both, as the control table has them."""
    measure: str
    """`calls`, `input_tokens`, `output_tokens` or `usd`."""
    logged: Decimal
    control: Decimal
    difference: Decimal
    """Log minus control: negative where the log lacks calls."""


class Reconciliation(Part):
    """Can the log be trusted?"""

    rows: RowCounts
    rejected: list[RejectedRows]
    unpriced: list[UnpricedCalls]
    gaps: list[Gap]
    models: list[LoggedSpend]
    model_changes: list[ModelChange]
    price_changes: list[PriceChange]
    control: list[ControlDifference] = Field(default_factory=list)
    control_keys: int | None = None
    """Keys compared; null without control totals, 0 where they are of other days than the log."""


class Spend(Part):
    """Calls of one group. Cost is recomputed from tokens and dated prices, over priced calls."""

    key: str | None
    calls: int
    failed_calls: int
    unpriced_calls: int
    input_tokens: int
    cached_tokens: int
    """Part of the input."""
    output_tokens: int
    reasoning_tokens: int
    """Part of the output."""
    cost_usd: Decimal
    logged_usd: Decimal
    """Over the calls whose spend was logged."""


class DaySpend(Part):
    """One day, in UTC."""

    day: date
    spend: Spend
    groups: list[Decimal]
    """Cost of each tenant, in the order of `Paid.tenants`."""


class PromptGroup(Part):
    """Prompts of one template: the same beginning, numbers and names of things taken out."""

    template_sha256: str
    excerpt: str | None
    """Beginning of the template; null where the config hides it."""
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal


class ErrorCount(Part):
    """Failed calls by their code."""

    error_code: str | None
    calls: int
    cost_usd: Decimal


class Waste(Part):
    """What was paid for nothing."""

    failed_calls: int
    failed_usd: Decimal
    """Cost of failed calls whose tokens are in the log: they are taken as charged, unless it says otherwise."""
    retried_calls: int
    extra_attempts: int
    """Attempts beyond the first; what they cost, no log says."""
    duplicated_logged_usd: Decimal
    """Logged spend of duplicated rows: what a plain sum over the log counts too much."""
    errors: list[ErrorCount]


class Paid(Part):
    """What was paid, by each dimension, dearest first (days in order)."""

    total: Spend
    days: list[DaySpend]
    tenants: list[Spend]
    models: list[Spend]
    providers: list[Spend]
    tiers: list[Spend]
    prompt_groups: list[PromptGroup]
    waste: Waste


class UnroutedCalls(Part):
    """Calls that the what-if leaves as they were."""

    reason: str
    """`no prompt text`, `failed`, `another model`, `not a chat`, `unpriced`, `answered by a cache`."""
    calls: int
    cost_usd: Decimal


class AnswerLengths(Part):
    """How the length of a model's answers was modelled, from its own calls."""

    model: str
    calls: int
    """Answers that it was fitted on; 0: assumed."""
    mean_output_tokens: float
    assumed: bool


class WhatIf(Part):
    """What routing would have cost and been worth."""

    router: str
    router_sha256: str
    sweep: Sweep
    routed_calls: int
    routed_paid_usd: Decimal
    unrouted: list[UnroutedCalls]
    answer_lengths: list[AnswerLengths]
    labels_sha256: str | None = None
    label_rows: int | None = None
    calibration: str
    """Where the quality comes from, or why there is none."""
    quality_floor: float | None = None
    """Share of the strong model's quality that has to be kept."""
    recommended: int | None = None
    """Index of the cheapest point whose quality, at the lower end, holds the floor; null without one."""
    alone: str | None = None
    """The model to send every call to, since no point is cheaper and shown to hold the floor: routing buys nothing.
    `recommended` is then its end of the curve, but the figures are those of the single model."""
    advice: str
    """The recommendation in a sentence, or why there is none."""
    assumptions: list[str]


class AuditReport(Part):
    """Everything that one audit found."""

    format_version: Literal[1] = FORMAT_VERSION
    name: str
    created_at: datetime
    nightroute_version: str
    log_format: str
    files: list[LogFile]
    first_called_at: datetime | None
    last_called_at: datetime | None
    prices_sha256: str
    price_source: str
    reconciliation: Reconciliation
    paid: Paid
    what_if: WhatIf | None = None
    notes: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
