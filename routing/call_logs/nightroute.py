"""nightroute: the tables it published itself (`schemas.queries`), counted in our convention already."""

import polars as pl

from routing.call_logs.columns import Columns
from routing.call_logs.layout import IS_CALL, TEXT, Format, processing

_FIELDS: dict[str, pl.DataType] = dict.fromkeys(
    (
        *(
            "query_id",
            "answered_at",
            "served_model",
            "requested_model",
            "service_tier",
            "input_tokens",
            "cached_tokens",
        ),
        *("output_tokens", "reasoning_tokens", "cost_usd", "status", "error_code", "attempts", "latency_s", "prompt"),
    ),
    TEXT,
)


def _calls(columns: Columns) -> dict[str, pl.Expr]:
    status = columns.text("status")
    same = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "attempts")
    return {
        "call_id": columns.text("query_id"),
        "called_at": columns.moment("answered_at"),
        "model": columns.text("served_model", "requested_model"),
        "requested_model": columns.text("requested_model"),
        "processing": processing(columns.text("service_tier")),
        "operation": pl.lit("chat"),
        **{name: columns.integer(name) for name in same},
        "logged_usd": columns.usd("cost_usd"),
        "outcome": pl.when(status == "failed").then(pl.lit("failed")).otherwise(pl.lit("ok")),
        "error_code": columns.text("error_code"),
        "latency_s": columns.number("latency_s"),
        "prompt": columns.prompt("prompt", plain=True),
        IS_CALL: status.is_null() | (status != "unsent"),  # no call was made for these
    }


NIGHTROUTE = Format(
    name="nightroute",
    needs=(("query_id",), ("win_rate",), ("route",), ("requested_model",), ("answered_at",)),
    fields=_FIELDS,
    calls=_calls,
    prompts=("prompt",),
)
