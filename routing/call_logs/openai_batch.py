"""OpenAI Batch API: output files and error files, with the input files for the prompts and models asked for."""

from functools import partial

import polars as pl

from routing.call_logs.columns import Columns
from routing.call_logs.layout import TEXT, Format, Prepared, operation, parsed
from routing.call_logs.prompts import REQUEST, mend_request, mending
from routing.call_logs.times import UTC_US
from routing.call_logs.usage import USAGE, counted

_ERROR = pl.Struct({"code": TEXT, "type": TEXT})
_BODY = pl.Struct(
    {
        **dict.fromkeys(("id", "object", "created", "created_at", "model"), TEXT),
        "usage": USAGE,
        "error": _ERROR,
    }
)
_FIELDS: dict[str, pl.DataType] = {
    "id": TEXT,
    "custom_id": TEXT,
    "response": pl.Struct({"status_code": TEXT, "body": _BODY}),
    "error": _ERROR,
}
_REQUESTS = Format(
    name="openai_batch input",
    needs=(("custom_id",), ("body",)),
    fields={"custom_id": TEXT, "body": pl.Struct({**REQUEST.to_schema(), "model": TEXT})},
    calls=lambda _: {},
    mend=mending(body=mend_request),
)
_PROMPT, _MODEL, _ENDED = "__prompt", "__model", "__ended"
_LIST = "list"
"""`object` of a body with embeddings."""


def requests(lines: pl.LazyFrame) -> pl.LazyFrame:
    """Input files -> custom_id, prompt and model, each id once.

    An id is unique within a batch only: where files differ about it, its prompt and model are null rather than guessed.

    Args:
        lines: Column `line`.
    """
    frame = parsed(lines, _REQUESTS, _REQUESTS.fields)
    columns = Columns(_REQUESTS.fields)
    named = frame.select(
        columns.text("custom_id"), columns.prompt("body").alias(_PROMPT), columns.text("body.model").alias(_MODEL)
    )
    one = [pl.when(pl.col(name).n_unique() == 1).then(pl.col(name).first()).alias(name) for name in (_PROMPT, _MODEL)]
    return named.drop_nulls("custom_id").group_by("custom_id").agg(*one)


def ended(lines: pl.LazyFrame) -> pl.LazyFrame:
    """The latest time in an output file, one row: the time of its lines that name none, failed ones above all.

    Args:
        lines: Column `line`.
    """
    return parsed(lines, OPENAI_BATCH, _FIELDS).select(_created(Columns(_FIELDS)).max().alias(_ENDED))


def openai_batch(asked: pl.LazyFrame | None, ended_at: pl.Expr) -> Format:
    """Make the format of one output file.

    Args:
        asked: `requests` of the input files; null where there are none.
        ended_at: Datetime that its lines without a time take.
    """
    return Format(
        name="openai_batch",
        needs=(("custom_id",), ("response", "error")),
        fields=_FIELDS,
        calls=_calls,
        prompts=() if asked is None else ("custom_id",),
        prepare=partial(_prepare, asked=asked, ended_at=ended_at),
    )


def _prepare(frame: pl.LazyFrame, columns: Columns, *, asked: pl.LazyFrame | None, ended_at: pl.Expr) -> Prepared:
    frame = frame.with_columns(ended_at.cast(UTC_US).alias(_ENDED))
    if asked is None:
        frame = frame.with_columns(pl.lit(None, pl.String).alias(name) for name in (_PROMPT, _MODEL))
    else:
        frame = frame.join(asked, on="custom_id", how="left", maintain_order="left")
    return frame, columns.plus(**{_PROMPT: TEXT, _MODEL: TEXT, _ENDED: UTC_US})


def _created(columns: Columns) -> pl.Expr:
    return columns.moment("response.body.created", "response.body.created_at")


def _calls(columns: Columns) -> dict[str, pl.Expr]:
    status = columns.integer("response.status_code")
    own_error = columns.text("error.code", "error.type")
    error = pl.coalesce(own_error, columns.text("response.body.error.code", "response.body.error.type"))
    failed = error.is_not_null() | status.is_null() | (status < 200) | (status >= 300)
    readable = pl.col("custom_id").is_not_null() | columns.text("id").is_not_null()
    kind = columns.text("response.body.object")
    model = columns.text("response.body.model")
    return {
        "call_id": columns.text("id", "response.body.id", "custom_id"),
        "called_at": pl.when(readable).then(pl.coalesce(_created(columns), pl.col(_ENDED))),
        "model": pl.coalesce(model, pl.col(_MODEL)),
        "requested_model": pl.coalesce(pl.col(_MODEL), model),
        "processing": pl.lit("batch"),
        "operation": pl.when(kind == _LIST).then(pl.lit("embedding")).otherwise(operation(kind)),
        **counted(columns.json("response.body.usage")),
        "outcome": pl.when(failed).then(pl.lit("failed")).otherwise(pl.lit("ok")),
        "error_code": pl.when(failed).then(pl.coalesce(error, status.cast(pl.String))),
        "prompt": pl.col(_PROMPT),
    }


OPENAI_BATCH = openai_batch(None, pl.lit(None, UTC_US))
