"""CALL_LOG: calls that somebody made, in one shape, whatever tool wrote them down.

An importer (`routing.call_logs`) turns each log format into it: times in UTC, tokens counted as in `schemas.billing`
(cached and cache-write tokens part of the input, reasoning tokens part of the output), the served model as the model.
"""

from datetime import UTC, datetime
from decimal import Decimal

import dataframely as dy
import polars as pl

OUTCOMES = ("ok", "failed")
TOKENS = (
    *("input_tokens", "cached_tokens", "cache_write_tokens", "cache_write_1h_tokens"),
    *("output_tokens", "reasoning_tokens"),
)

YEARS = (2000, 2100)
"""A call was made from the first on and before the second; else its time is in another unit."""


class CallLog(dy.Schema):
    """One row is one call. A row that breaks a rule is rejected and counted; null means that the log does not say."""

    row = dy.UInt64(nullable=False)
    """Position in the log, counted over all its files in order of their paths."""
    call_id = dy.String(nullable=True)
    """As logged. Not trusted to be unique: gateways write null, static and repeated ids."""
    called_at = dy.Datetime(nullable=True, time_zone="UTC", time_unit="us")
    """When the call was made, else when it ended."""
    provider = dy.String(nullable=True)
    base_url = dy.String(nullable=True)
    model = dy.String(nullable=True)
    """The model that the response names: this one was billed. The one asked for where the log knows no other."""
    requested_model = dy.String(nullable=True)
    processing = dy.String(nullable=True)
    """`batch`, or the service tier of the response; null is standard."""
    operation = dy.String(nullable=True)
    """`chat`, `embedding`, ... as the log calls it; null where it does not."""
    input_tokens = dy.Int64(nullable=True)
    """Cached and cache-write tokens included."""
    cached_tokens = dy.Int64(nullable=True)
    cache_write_tokens = dy.Int64(nullable=True)
    cache_write_1h_tokens = dy.Int64(nullable=True)
    """Of `cache_write_tokens`, those that the cache keeps for an hour."""
    output_tokens = dy.Int64(nullable=True)
    """Reasoning tokens included."""
    reasoning_tokens = dy.Int64(nullable=True)
    logged_usd = dy.Decimal(38, 12, nullable=True)
    """What the log says the call cost. Compared, never trusted."""
    billed = dy.Bool(nullable=False)
    """False where a gateway answered from its own cache: the provider saw nothing, and the call cost $0."""
    outcome = dy.Enum(list(OUTCOMES), nullable=False)
    error_code = dy.String(nullable=True)
    attempts = dy.Int64(nullable=True)
    """HTTP calls behind this row, the first included, where the log counts them."""
    latency_s = dy.Float64(nullable=True)
    tenant = dy.String(nullable=True)
    """Who the call was made for: the columns that the config names, joined by ` / `."""
    prompt = dy.String(nullable=True)
    """The user's turns, joined by blank lines: what a router reads. Null where the log holds no text."""

    @dy.rule()
    def time_known(cls) -> pl.Expr:
        """A call without a time belongs to no day and has no price."""
        return pl.col("called_at").is_not_null()

    @dy.rule()
    def tokens_not_negative(cls) -> pl.Expr:
        """A negative count is damage."""
        return pl.min_horizontal(TOKENS).fill_null(0) >= 0

    @dy.rule()
    def time_plausible(cls) -> pl.Expr:
        """A call of 1970, or of the year 50,000, has a wrong unit or a default for a time."""
        first, end = (datetime(year, 1, 1, tzinfo=UTC) for year in YEARS)
        return pl.col("called_at").is_between(first, end, closed="left")

    @dy.rule()
    def tokens_plausible(cls) -> pl.Expr:
        """Ten billion tokens are no call; the sum over a billion rows fits."""
        return pl.max_horizontal(TOKENS).fill_null(0) <= 10**10

    @dy.rule()
    def logged_usd_plausible(cls) -> pl.Expr:
        """A billion dollars are no call."""
        return pl.col("logged_usd").abs() <= Decimal(10**9)

    @dy.rule()
    def attempts_plausible(cls) -> pl.Expr:
        """A call is made at least not at all, and not a million times."""
        return pl.col("attempts").is_between(0, 10**6)
