"""The log against totals from another source: a provider's usage export, in days of UTC."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

import polars as pl

from routing.errors import DataError
from schemas.audit import ControlDifference
from schemas.billing import USD

KEYS = ("day", "model")
MEASURES = ("calls", "input_tokens", "output_tokens", "usd")

_DTYPES: dict[str, pl.DataType] = {
    "day": pl.Date(),
    "model": pl.String(),
    "calls": pl.Int64(),
    "input_tokens": pl.Int64(),
    "output_tokens": pl.Int64(),
    "usd": USD,
}

ABSOLUTE_USD = Decimal("0.005")
RELATIVE = Decimal("0.001")
"""Money differs when it is off by more than both: exports round to the cent."""


def conform(control: pl.DataFrame) -> pl.DataFrame:
    """Return control totals in our types, rows of one key added up.

    Args:
        control: `day` (date, time, ISO text or seconds since 1970; of UTC) and/or `model`, and any of `calls`,
            `input_tokens`, `output_tokens`, `usd`.

    Raises:
        DataError: A column is missing, or a value cannot be read.
    """
    if not _of(control, KEYS) or not _of(control, MEASURES):
        raise DataError(
            f"the control totals have the columns {control.columns}, but need one or both of {', '.join(KEYS)} and at "
            f"least one of {', '.join(MEASURES)}; name yours in control.columns"
        )
    return _totals(pl.DataFrame([_read(control[name]) for name in (*_of(control, KEYS), *_of(control, MEASURES))]))


def compare(daily: pl.DataFrame, control: pl.DataFrame) -> tuple[list[ControlDifference], int]:
    """DAILY x control totals -> the measures that differ, by key, and how many keys were compared.

    The log's side is what a provider can have seen: calls that it answered, the tokens of billed calls, recomputed
    cost. Every key of the control totals is compared, and every key of the log on the days that they span. Counts
    differ when they are not equal.

    Args:
        daily: DAILY.
        control: As `conform` returns it.
    """
    keys, measures = _of(control, KEYS), _of(control, MEASURES)
    logged = _logged(daily)
    if "day" in keys:
        logged = logged.filter(pl.col("day").is_between(control["day"].min(), control["day"].max()))
    ours = _totals(logged.select(*keys, *measures))
    both = ours.join(control, on=keys, how="full", coalesce=True, nulls_equal=True, suffix="_control")
    found = []
    for row in both.sort(keys, nulls_last=True).iter_rows(named=True):
        for measure in measures:
            logs, controls = (Decimal(row[name] or 0) for name in (measure, f"{measure}_control"))
            if _differ(logs, controls, measure):
                found.append(
                    ControlDifference(
                        key=" / ".join(_text(row[key]) for key in keys),
                        measure=measure,
                        logged=logs,
                        control=controls,
                        difference=logs - controls,
                    )
                )
    return found, both.height


def _of(table: pl.DataFrame, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in table.columns]


def _read(given: pl.Series) -> pl.Series:
    """A column in our type; only a model may be null."""
    name, dtype = given.name, _DTYPES[given.name]
    if name == "day" and given.dtype == pl.String:
        read = given.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    elif name == "day" and given.dtype.is_integer():
        read = pl.from_epoch(given, time_unit="s").dt.date()  # OpenAI's buckets
    elif isinstance(given.dtype, pl.Datetime) and given.dtype.time_zone is not None:
        read = given.dt.convert_time_zone("UTC").dt.date()
    elif name == "usd" and given.dtype.is_float():
        read = given.cast(pl.String).cast(dtype, strict=False)  # 0.1 is 0.1
    else:
        read = given.cast(dtype, strict=False)
    lost = given.filter(read.is_null() & ((name != "model") | given.is_not_null()))
    if len(lost):
        raise DataError(
            f"control totals: {name} has {len(lost)} values that are no {dtype}, e.g. {lost[0]!r}; mend the table"
        )
    return read


def _logged(daily: pl.DataFrame) -> pl.DataFrame:
    billed = pl.col("billed_calls") > 0
    return daily.filter(billed).select(
        *KEYS, "input_tokens", "output_tokens", calls="answered_calls", usd=pl.col("cost_usd").fill_null(0)
    )


def _totals(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by(_of(rows, KEYS)).agg(pl.col(_of(rows, MEASURES)).sum())


def _differ(ours: Decimal, theirs: Decimal, measure: str) -> bool:
    off = abs(ours - theirs)
    return off > max(ABSOLUTE_USD, RELATIVE * abs(theirs)) if measure == "usd" else off > 0


def _text(key: date | str | None) -> str:
    return "(no model)" if key is None else str(key)
