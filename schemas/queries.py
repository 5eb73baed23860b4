"""The nightly chain: QUERIES > SCORED > ROUTED > ANSWERED > COSTED, each contract the previous one plus columns.

Read from top to bottom, this file is the pipeline. The contracts name the columns that nightroute reads or writes;
every further column of the user's table (tenant, day, ...) travels beside them untouched.
"""

import dataframely as dy
import polars as pl

ROUTES = ("weak", "strong")
STATUSES = ("ok", "truncated", "failed", "unsent")
MESSAGE = pl.Struct({"role": pl.String, "content": pl.String})

INPUT_COLUMNS = ("query_id", "prompt", "messages", "system", "max_output_tokens")
"""Contract columns that a config may map to columns of the user's table."""


class Queries(dy.Schema):
    """One row is one query to answer.

    Either `prompt` or `messages` was in the user's table; `prompt` is then the text the router reads (the user's
    turns).
    """

    row = dy.UInt32(nullable=False)
    """Position in its part, counted before any row was rejected: with the part, the address of the row."""
    given_id = dy.String(nullable=True)
    """The id from the user's table; null where the table has none and nightroute derives one."""
    prompt = dy.String(nullable=True)
    messages_json = dy.String(nullable=True)
    """The chat messages to send, as a JSON list of {role, content}; null where `prompt` alone is sent."""
    system = dy.String(nullable=True)
    other_text = dy.String(nullable=True)
    """What is sent besides `prompt` (system message, earlier answers): billed, but not read by the router."""
    n_messages = dy.UInt32(nullable=False)
    """Messages that will be sent."""
    max_output_tokens = dy.Int64(nullable=True)
    valid_utf8 = dy.Bool(nullable=False)
    has_id = dy.Bool(nullable=False)
    """False where the id column is mapped but null in this row."""

    @dy.rule()
    def prompt_not_null(cls) -> pl.Expr:
        """A query without text cannot be routed."""
        return pl.col("prompt").is_not_null()

    @dy.rule()
    def prompt_not_blank(cls) -> pl.Expr:
        """White space alone is no query."""
        return pl.col("prompt").str.strip_chars() != ""

    @dy.rule()
    def prompt_valid_utf8(cls) -> pl.Expr:
        """Text that is not UTF-8 cannot be sent as JSON."""
        return pl.col("valid_utf8")

    @dy.rule()
    def max_output_tokens_positive(cls) -> pl.Expr:
        """Providers refuse a limit below one token."""
        return pl.col("max_output_tokens") >= 1

    @dy.rule()
    def query_id_not_null(cls) -> pl.Expr:
        """A mapped id column has an id in every row."""
        return pl.col("has_id")


class Scored(dy.Schema):
    """QUERIES plus what the router said. Written to `scores/` before any money is spent."""

    row = dy.UInt32(nullable=False)
    query_id = dy.String(nullable=False, min_length=1)
    content_sha256 = dy.String(nullable=False)
    """Digest of everything that is sent for this query but the model's own parameters."""
    win_rate = dy.Float64(nullable=False, min=0.0, max=1.0)
    """P(strong answer beats weak answer | query)."""
    prompt_tokens = dy.Int64(nullable=False, min=0)
    """Tokens that will be sent, counted with the router's tokenizer: an estimate of what the provider will bill."""
    max_output_tokens = dy.Int64(nullable=True)
    tie_key = dy.UInt64(nullable=False)
    """Hash of the id: the order among equal win rates (docs/splitting.md)."""


class Routed(Scored):
    """SCORED plus the side of alpha that each query fell on."""

    route = dy.Enum(list(ROUTES), nullable=False)
    model = dy.String(nullable=False)
    alpha = dy.Float64(nullable=False)
    call_key = dy.String(nullable=False)
    """Identity of the call: query id, content, model, endpoint, parameters (DESIGN section 3)."""


class Answered(Routed):
    """ROUTED plus what came back. Errors are data: a failed query keeps its row."""

    status = dy.Enum(list(STATUSES), nullable=False)
    """`ok`, `truncated` (the answer hit its token limit), `failed`, or `unsent` (the run stopped before this query)."""
    answer = dy.String(nullable=True)
    requested_model = dy.String(nullable=False)
    served_model = dy.String(nullable=True)
    """The model that the provider says it used: this one is billed."""
    service_tier = dy.String(nullable=True)
    finish_reason = dy.String(nullable=True)
    input_tokens = dy.Int64(nullable=True)
    cached_tokens = dy.Int64(nullable=True)
    """Part of `input_tokens`."""
    output_tokens = dy.Int64(nullable=True)
    reasoning_tokens = dy.Int64(nullable=True)
    """Part of `output_tokens`."""
    attempts = dy.Int64(nullable=False)
    """HTTP calls made for this query on this model, the first included."""
    latency_s = dy.Float64(nullable=True)
    """Duration of the attempt that ended the query."""
    answered_at = dy.Datetime(nullable=True, time_zone="UTC", time_unit="us")
    error_code = dy.String(nullable=True)
    error_message = dy.String(nullable=True)


class Costed(Answered):
    """ANSWERED plus money. Null means unpriced, never free."""

    cost_usd = dy.Decimal(38, 12, nullable=True)
    price_id = dy.String(nullable=True)
    unpriced_reason = dy.String(nullable=True)
    strong_cost_usd = dy.Decimal(38, 12, nullable=True)
    """What this query costs on the strong model: observed where it went there, else modelled (docs/cost.md)."""
    weak_cost_usd = dy.Decimal(38, 12, nullable=True)
    saved_vs_strong_usd = dy.Decimal(38, 12, nullable=True)


INTERNAL_COLUMNS = ("row", "tie_key", "call_key", "content_sha256", "prompt_tokens")
"""Columns of the chain that are not published."""

PUBLISHED_COLUMNS = tuple(name for name in Costed.column_names() if name not in INTERNAL_COLUMNS)
"""Columns that nightroute adds to (or takes from) the user's table in the published one, in this order."""
