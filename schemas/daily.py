"""DAILY and HOURLY: the small tables that an audit derives everything it says about the past from."""

import dataframely as dy
import polars as pl


class Daily(dy.Schema):
    """One row is all kept calls of one day, tenant, model, way of processing and price. Days are UTC, half open.

    `price_id` and `unpriced_reason` are both null where a gateway's cache answered: such calls cost $0.
    """

    day = dy.Date(nullable=False)
    tenant = dy.String(nullable=True)
    provider = dy.String(nullable=True)
    """As logged."""
    model = dy.String(nullable=True)
    processing = dy.String(nullable=False)
    """`standard` where the log says nothing, or `default`."""
    price_id = dy.String(nullable=True)
    unpriced_reason = dy.String(nullable=True)
    calls = dy.Int64(nullable=False, min=1)
    failed_calls = dy.Int64(nullable=False, min=0)
    billed_calls = dy.Int64(nullable=False, min=0)
    """Calls that went to a provider."""
    answered_calls = dy.Int64(nullable=False, min=0)
    """Billed calls that did not fail, or used tokens all the same: what a provider's own usage counts."""
    retried_calls = dy.Int64(nullable=False, min=0)
    extra_attempts = dy.Int64(nullable=False, min=0)
    """Attempts beyond the first."""
    missing_prompts = dy.Int64(nullable=False, min=0)
    input_tokens = dy.Int64(nullable=False, min=0)
    cached_tokens = dy.Int64(nullable=False, min=0)
    """Part of the input."""
    cache_write_tokens = dy.Int64(nullable=False, min=0)
    """Part of the input."""
    cache_write_1h_tokens = dy.Int64(nullable=False, min=0)
    """Part of the cache writes: kept for an hour."""
    output_tokens = dy.Int64(nullable=False, min=0)
    reasoning_tokens = dy.Int64(nullable=False, min=0)
    """Part of the output."""
    cost_usd = dy.Decimal(38, 12, nullable=True, min=0)
    """Exact sum; null where the calls are unpriced."""
    failed_usd = dy.Decimal(38, 12, nullable=True, min=0)
    """Of it, what failed calls cost."""
    logged_calls = dy.Int64(nullable=False, min=0)
    """Calls whose spend the log states."""
    logged_usd = dy.Decimal(38, 12, nullable=True)
    """What the log says they cost; null where it says nothing."""
    compared_usd = dy.Decimal(38, 12, nullable=True)
    """Cost of the logged calls, to hold against `logged_usd`; null where one of the two is unknown."""
    differing_calls = dy.Int64(nullable=False, min=0)
    """Logged calls whose logged spend is not their cost (`routing.audit.cube.differs`)."""
    first_called_at = dy.Datetime(nullable=False, time_zone="UTC", time_unit="us")
    last_called_at = dy.Datetime(nullable=False, time_zone="UTC", time_unit="us")

    @dy.rule()
    def priced_or_not(cls) -> pl.Expr:
        """Calls have a price, or a reason why not, or neither: never both."""
        return pl.col("price_id").is_null() | pl.col("unpriced_reason").is_null()


class Hourly(dy.Schema):
    """One row is one hour, in UTC, with at least one kept call."""

    hour = dy.Datetime(primary_key=True, time_zone="UTC", time_unit="us")
    calls = dy.Int64(nullable=False, min=1)
