"""Money: dated price rows, the usage they are applied to, and the prices a user may set in the config.

Conventions (docs/cost.md): rates are USD per million tokens; cached and cache-write tokens are part of `input_tokens`,
reasoning tokens are part of `output_tokens` (OpenAI style); intervals are half open and in UTC; null money is unpriced,
never free.
"""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Self

import dataframely as dy
import polars as pl
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

USD = pl.Decimal(38, 12)
"""Every amount and every rate. Twelve decimals hold the price of one token at a rate of six decimals per million."""

STANDARD = "standard"
BATCH = "batch"

MAX_RATE = Decimal(1_000_000)
"""Upper bound (exclusive) of a rate: any Int64 token count times such a rate, five times over, still fits USD."""


class Prices(dy.Schema):
    """One row is the price of one model, one way of processing, one interval of time and one tier of prompt length.

    A row with an `excluded_reason` says that the model is known but that no such row can hold its price.
    """

    price_id = dy.String(primary_key=True, min_length=1)
    """For people: `provider/model@valid_from#processing>min_input_tokens`; an override's starts with `override:`."""
    provider = dy.String(nullable=True)
    """Provider id in genai-prices; null in an override that holds whoever serves the model."""
    model = dy.String(nullable=False, min_length=1)
    """Model id in genai-prices; in an override the exact name, as the response gives it."""
    processing = dy.String(nullable=False, min_length=1)
    """`standard`, `batch`, or a service tier or speed that has a price of its own: `flex`, `priority`, `fast`."""
    valid_from = dy.Datetime(nullable=True, time_zone="UTC", time_unit="us")
    """First instant of the price; null: since ever."""
    valid_to = dy.Datetime(nullable=True, time_zone="UTC", time_unit="us")
    """First instant after the price; null: no end known."""
    min_input_tokens = dy.Int64(nullable=False, min=0)
    """0: the base rate. Else the row holds, for all tokens of a call, when `input_tokens` is *above* this."""
    input_usd_per_mtok = dy.Decimal(38, 12, nullable=True, min=0, max_exclusive=MAX_RATE)
    cached_input_usd_per_mtok = dy.Decimal(38, 12, nullable=True, min=0, max_exclusive=MAX_RATE)
    """Null: cached tokens cost what input costs."""
    cache_write_usd_per_mtok = dy.Decimal(38, 12, nullable=True, min=0, max_exclusive=MAX_RATE)
    """Null: tokens written to the cache cost what input costs."""
    cache_write_1h_usd_per_mtok = dy.Decimal(38, 12, nullable=True, min=0, max_exclusive=MAX_RATE)
    """Of tokens that the cache keeps for an hour (Anthropic). Null: as `cache_write_usd_per_mtok`."""
    output_usd_per_mtok = dy.Decimal(38, 12, nullable=True, min=0, max_exclusive=MAX_RATE)
    """Null: unknown (an embedding model); a call with output tokens is then unpriced."""
    request_usd = dy.Decimal(38, 12, nullable=True, min=0, max_exclusive=MAX_RATE)
    """Charged once per call, on top of the tokens."""
    not_covered = dy.String(nullable=True)
    """What the provider bills besides these rates, e.g. `input_audio, web_searches`; such parts are not in the cost."""
    excluded_reason = dy.String(nullable=True)
    source = dy.String(nullable=False, min_length=1)
    """`genai-prices 0.2.3` or `override`."""

    @dy.rule()
    def interval_not_empty(cls) -> pl.Expr:
        """A price holds for some time."""
        return pl.col("valid_from") < pl.col("valid_to")

    @dy.rule()
    def priced_or_excluded(cls) -> pl.Expr:
        """A row has an input rate, or says why it has none."""
        return pl.col("input_usd_per_mtok").is_null() == pl.col("excluded_reason").is_not_null()


class Usage(dy.Schema):
    """One row is one billed call. Null tokens were not reported; other columns may stand beside these."""

    provider = dy.String(nullable=True)
    """A provider id of genai-prices or a name it knows (`openai`, `vertex_ai`), where the log has one."""
    base_url = dy.String(nullable=True)
    """Endpoint of the call: tells the provider where `provider` is null."""
    model = dy.String(nullable=True)
    """The model that the response names: this one is billed, not the one asked for."""
    processing = dy.String(nullable=True)
    """`batch`, or the service tier that the response names; null and `default` are `standard`."""
    called_at = dy.Datetime(nullable=True, time_zone="UTC", time_unit="us")
    input_tokens = dy.Int64(nullable=True)
    cached_tokens = dy.Int64(nullable=True)
    """Part of `input_tokens`. Null counts as none."""
    cache_write_tokens = dy.Int64(nullable=True)
    """Part of `input_tokens`, apart from `cached_tokens`. Null counts as none."""
    cache_write_1h_tokens = dy.Int64(nullable=True)
    """Part of `cache_write_tokens`: kept for an hour. Null counts as none."""
    output_tokens = dy.Int64(nullable=True)
    """Reasoning tokens included."""


class ResolvedNames(dy.Schema):
    """One row is one candidate price of a served name: the lowest `rank` with a price at the time of the call wins."""

    provider = dy.String(nullable=True)
    base_url = dy.String(nullable=True)
    model = dy.String(nullable=True)
    rank = dy.Int64(nullable=False, min=0)
    """0 override for this provider, 1 override for any provider, 2 snapshot."""
    price_provider = dy.String(nullable=True)
    price_model = dy.String(nullable=True)
    """Null: nothing matches this name; its calls are unpriced."""
    standard_only = dy.Bool(nullable=False)
    """True when a provider resells another's model: that owner's batch and tier prices do not hold for it."""


class Costs(dy.Schema):
    """What pricing adds to a usage row: exactly one of `cost_usd` and `unpriced_reason` is null."""

    cost_usd = dy.Decimal(38, 12, nullable=True)
    price_id = dy.String(nullable=True)
    unpriced_reason = dy.String(nullable=True)


def _exact(value: Any) -> Any:
    """Read a float by its shortest text, so that the 0.1 of a TOML file is exactly 0.1."""
    return repr(value) if isinstance(value, float) else value


def _utc(value: Any) -> Any:
    """Read a bare date as its first instant, and a time without a zone as UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001  # the zone is set below
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value


# Six decimals per million tokens are twelve per token; six more of a batch factor stay exact as well.
Rate = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, lt=MAX_RATE, decimal_places=6)]
Factor = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, le=1, decimal_places=6)]
Instant = Annotated[datetime, BeforeValidator(_utc)]


class PriceOverride(BaseModel):
    """A price set by the user: it wins over the snapshot for exactly this model name while it is valid."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    """The served name, letter by letter."""
    provider: str | None = Field(default=None, min_length=1)
    """Holds for this provider only; without it, for whoever serves the model."""
    input_usd_per_mtok: Rate
    output_usd_per_mtok: Rate
    cached_input_usd_per_mtok: Rate | None = None
    """Without it, cached tokens cost what input costs."""
    cache_write_usd_per_mtok: Rate | None = None
    """Without it, cache writes cost what input costs."""
    cache_write_1h_usd_per_mtok: Rate | None = None
    """Of tokens kept for an hour; without it, they cost what other cache writes cost."""
    request_usd: Rate | None = None
    """Charged once per call."""
    batch_factor: Factor | None = None
    """Batch rates are these rates times the factor (0.5 is half price); without it, batch calls are unpriced."""
    valid_from: Instant | None = None
    valid_to: Instant | None = None
    """First instant at which the price no longer holds."""

    @model_validator(mode="after")
    def _interval_not_empty(self) -> Self:
        if self.valid_from and self.valid_to and self.valid_from >= self.valid_to:
            raise ValueError(
                f"valid_from {self.valid_from.isoformat()} must lie before valid_to {self.valid_to.isoformat()}"
            )
        return self
