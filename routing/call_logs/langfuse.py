"""Langfuse: exported observations, enriched (`observations_v2/`) or legacy (`observations/`), and dumps of its API.

Usage types are buckets that do not overlap: `input` leaves out what is counted under `input_*`, `output` what is
counted under `output_*`. SDKs and integrations see to that; usage that an application hands in as it likes is stored
as it is. Where a row's own `total` shows that a bucket lies inside another, it is counted there.
"""

import polars as pl

from routing.call_logs.columns import PAIRS, Columns
from routing.call_logs.layout import IS_CALL, TEXT, Format, Prepared, processing, renamed
from routing.call_logs.times import seconds

_TYPES = {"GENERATION": "chat", "EMBEDDING": "embedding"}
"""Observations with usage of their own; the others are spans around them."""

_FIELDS: dict[str, pl.DataType] = {
    **dict.fromkeys(
        (
            *("id", "type", "start_time", "startTime", "end_time", "endTime", "level"),
            *("provided_model_name", "providedModelName", "model", "total_cost", "totalCost", "calculatedTotalCost"),
            *("user_id", "userId", "input"),
        ),
        TEXT,
    ),
    "usage_details": PAIRS,
    "usageDetails": PAIRS,
    "cost_details": PAIRS,
    "costDetails": PAIRS,
    "model_parameters": PAIRS,
    "modelParameters": PAIRS,
}
_INPUT = "input|prompt|cache|ephemeral|audio|image|video"
_OUTPUT = "output|completion|candidate"
_READ = "cache_read|cached|cache_hit"
_WRITTEN, _BY_AGE = "cache_creation|cache_write", "ephemeral"
"""The second is the first by how long it is kept: of both beside each other one counts."""
_HOUR = r"ephemeral_1h|cache_(?:creation|write)_1h"
"""What applications hand in, and what Langfuse itself makes of it."""
_REASONING = "reasoning|thought|thinking"
_PLAIN_INPUT, _PLAIN_OUTPUT = (
    ("input", "prompt_tokens", "input_tokens"),
    ("output", "completion_tokens", "output_tokens"),
)


def _prepare(frame: pl.LazyFrame, columns: Columns) -> Prepared:
    """Sum the buckets of each row by what their names say."""
    entry = pl.element().struct
    name = entry.field("key").str.to_lowercase()
    count = entry.field("value").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
    plain = name.is_in([*_PLAIN_INPUT, *_PLAIN_OUTPUT]) | name.str.starts_with("total")
    is_output = ~plain & name.str.contains(f"{_OUTPUT}|{_REASONING}")
    is_input = ~plain & ~is_output & name.str.contains(_INPUT)
    wanted = {
        "total": name.str.starts_with("total"),
        "input": name.is_in(_PLAIN_INPUT),
        "output": name.is_in(_PLAIN_OUTPUT),
        "read": is_input & name.str.contains(_READ),
        "written": is_input & name.str.contains(_WRITTEN) & ~name.str.contains(_BY_AGE),
        "by_age": is_input & name.str.contains(_BY_AGE),
        "hour": is_input & name.str.contains(_HOUR),
        "reasoning": is_output & name.str.contains(_REASONING),
        "beside_input": is_input,
        "beside_output": is_output,
    }
    frame = frame.with_columns(__usage=columns.pairs("usage_details", "usageDetails").map.entries())
    buckets = {key: pl.col("__usage").list.eval(count.filter(test).drop_nulls()) for key, test in wanted.items()}
    sums = {f"__{key}": pl.when(found.list.len() > 0).then(found.list.sum()) for key, found in buckets.items()}
    twice = pl.min_horizontal(pl.col("__written", "__by_age").fill_null(0))
    frame = frame.with_columns(**sums).with_columns(
        __written=pl.max_horizontal("__written", "__by_age"), __beside_input=pl.col("__beside_input") - twice
    )
    return frame, columns.plus(**dict.fromkeys(sums, pl.Int64()))


def _tokens(is_embedding: pl.Expr) -> dict[str, pl.Expr]:
    """Input and output with their parts in them; the total tells whether the plain bucket holds them already."""
    total, read_in, written_out = (pl.col(f"__{key}") for key in ("total", "input", "output"))
    plain_in, plain_out = read_in.fill_null(0), written_out.fill_null(0)
    beside_in, beside_out = pl.col("__beside_input").fill_null(0), pl.col("__beside_output").fill_null(0)
    plain = plain_in + plain_out
    apart = (total == plain + beside_in + beside_out) | total.is_null()
    answer_whole = ~apart & ((total == plain) | (total == plain + beside_in)) & (beside_out <= plain_out)
    prompt_whole = ~apart & ~(total == plain + beside_in) & ((total == plain) | (total == plain + beside_out))
    said = pl.any_horizontal(pl.col("__input", "__output", "__beside_input", "__beside_output").is_not_null())
    tokens_in = pl.when(prompt_whole & (beside_in <= plain_in)).then(plain_in).otherwise(plain_in + beside_in)
    tokens_out = pl.when(answer_whole).then(plain_out).otherwise(plain_out + beside_out)
    only_total = ~said & is_embedding
    return {
        "input_tokens": pl.when(said).then(tokens_in).when(only_total).then(total),
        "cached_tokens": pl.col("__read"),
        "cache_write_tokens": pl.col("__written"),
        "cache_write_1h_tokens": pl.col("__hour"),
        "output_tokens": pl.when(said).then(tokens_out).when(only_total & total.is_not_null()).then(0),
        "reasoning_tokens": pl.col("__reasoning"),
    }


def _logged(columns: Columns) -> pl.Expr:
    """What Langfuse says a call cost; a zero that it puts where it knows no price is no cost."""
    cost = columns.usd("total_cost", "totalCost", "calculatedTotalCost", "cost_details.total", "costDetails.total")
    parts = columns.pairs("cost_details", "costDetails").map.len()
    return pl.when((cost != 0) | (parts > 0) | parts.is_null()).then(cost)


def _calls(columns: Columns) -> dict[str, pl.Expr]:
    started, ended = columns.moment("start_time", "startTime"), columns.moment("end_time", "endTime")
    kind, model = columns.text("type"), columns.text("provided_model_name", "providedModelName", "model")
    failed = columns.text("level") == "ERROR"
    return {
        "call_id": columns.text("id"),
        "called_at": pl.coalesce(started, ended),
        "model": model,
        "requested_model": model,
        "processing": processing(columns.text("model_parameters.service_tier", "modelParameters.service_tier")),
        "operation": renamed(pl.when(kind.is_in(list(_TYPES))).then(kind), _TYPES),
        **_tokens((kind == "EMBEDDING").fill_null(value=False)),
        "logged_usd": _logged(columns),
        "outcome": pl.when(failed).then(pl.lit("failed")).otherwise(pl.lit("ok")),
        "latency_s": seconds(started, ended),
        "tenant": columns.text("user_id", "userId"),
        "prompt": columns.prompt("input"),
        # A line that cannot be read has no type: it has to be seen, and is rejected for want of a time.
        IS_CALL: kind.is_null() | kind.is_in(list(_TYPES)),
    }


LANGFUSE = Format(
    name="langfuse",
    needs=(("id",), ("type",), ("start_time", "startTime"), ("usage_details", "usageDetails")),
    fields=_FIELDS,
    calls=_calls,
    prompts=("input",),
    prepare=_prepare,
)
