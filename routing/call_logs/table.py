"""Any table whose columns the config maps to those of CALL_LOG."""

from collections.abc import Mapping
from functools import partial

import polars as pl

from routing.call_logs.columns import Columns
from routing.call_logs.layout import TEXT, Format, http_error, mapped
from routing.call_logs.tokens import counts_cache_apart, inclusive_input, inclusive_written


def table(mapping: Mapping[str, str], *, cache_in_input: bool | None, provider: str | None = None) -> Format:
    """Make the format of one table.

    Args:
        mapping: CALL_LOG name -> raw column.
        cache_in_input: Whether its `input_tokens` include cached and cache-write tokens; null: as the provider of
            each row counts.
        provider: Of rows that name none.
    """
    return Format(
        name="table",
        needs=tuple((name.partition(".")[0], name) for name in mapping.values()),
        fields=dict.fromkeys((name.partition(".")[0] for name in mapping.values()), TEXT),
        calls=partial(_calls, mapping=mapping, cache_in_input=cache_in_input, provider=provider),
        prompts=tuple(name for ours, name in mapping.items() if ours == "prompt"),
    )


def _calls(
    columns: Columns, *, mapping: Mapping[str, str], cache_in_input: bool | None, provider: str | None
) -> dict[str, pl.Expr]:
    calls = mapped(columns, mapping)
    null, nothing = pl.lit(None, pl.String), pl.lit(None, pl.Int64)
    if cache_in_input is None:
        apart: pl.Expr | bool = counts_cache_apart(
            calls.get("provider", null).fill_null(pl.lit(provider, TEXT)), calls.get("model", null)
        )
    else:
        apart = not cache_in_input
    if "cache_write_1h_tokens" in calls:
        written = calls.get("cache_write_tokens", nothing)
        calls["cache_write_tokens"] = inclusive_written(written, hour=calls["cache_write_1h_tokens"])
    if "input_tokens" in calls:
        cached, written = calls.get("cached_tokens", nothing), calls.get("cache_write_tokens", nothing)
        calls["input_tokens"] = inclusive_input(calls["input_tokens"], cached=cached, written=written, apart=apart)
    if "outcome" in mapping:
        code = http_error(columns.text(mapping["outcome"]))
        calls["error_code"] = pl.coalesce(calls.get("error_code", null), code)
    return calls
