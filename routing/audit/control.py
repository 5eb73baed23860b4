"""The log against totals from another source: a provider's usage export, in days of UTC."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

import polars as pl

from routing.call_logs.times import moment
from routing.errors import DataError
from schemas.audit import ControlDifference
from schemas.billing import USD
from schemas.call_log import YEARS

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

FIRST_DAY, LAST_DAY = date(YEARS[0], 1, 1), date(YEARS[1] - 1, 12, 31)
"""As for calls: other days are of a wrong unit."""


def conform(control: pl.DataFrame) -> pl.DataFrame:
    """Return control totals in our types, rows of one key added up.

    Args:
        control: `day` (date, time, ISO text or a number since 1970; of UTC where no zone is written) and/or `model`,
            and any of `calls`, `input_tokens`, `output_tokens`, `usd`.

    Raises:
        DataError: There is no row, a column is missing, or a value cannot be read.
    """
    if not _of(control, KEYS) or not _of(control, MEASURES):
        raise DataError(
            f"the control totals have the columns {control.columns}, but need one or both of {', '.join(KEYS)} and at "
            f"least one of {', '.join(MEASURES)}; name yours in control.columns"
        )
    if control.is_empty():
        raise DataError(
            "the control totals hold no rows: nothing could be held against them; export the days of the log, or take "
            "[control] out of the config"
        )
    return _totals(pl.DataFrame([_read(control[name]) for name in (*_of(control, KEYS), *_of(control, MEASURES))]))


def compare(daily: pl.DataFrame, control: pl.DataFrame) -> tuple[list[ControlDifference], int]:
    """DAILY x control totals -> the measures that differ, by key, and how many keys were compared.

    Nothing is compared, not even one key, where the days of the two do not meet: totals of another month say nothing.

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
        if not daily.is_empty() and not _meet(daily["day"], control["day"]):
            return [], 0
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


def _meet(days: pl.Series, others: pl.Series) -> bool:
    """Whether two spans of days share one."""
    return bool(days.is_between(others.min(), others.max()).any() or others.is_between(days.min(), days.max()).any())


def _of(table: pl.DataFrame, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in table.columns]


def _read(given: pl.Series) -> pl.Series:
    """A column in our type; only a model may be null."""
    name, dtype = given.name, _DTYPES[given.name]
    if name == "day":
        day = moment(pl.col(name), given.dtype, "UTC").dt.date()
        plausible = pl.when(day.is_between(FIRST_DAY, LAST_DAY)).then(day)
        read = given.to_frame().select(plausible.alias(name)).to_series()
    elif name == "usd" and given.dtype.is_float():
        read = given.cast(pl.String).cast(dtype, strict=False)  # 0.1 is 0.1
    else:
        read = given.cast(dtype, strict=False)
    lost = given.filter(read.is_null() & ((name != "model") | given.is_not_null()))
    if len(lost):
        wanted = f"day from {FIRST_DAY.year} to {LAST_DAY.year}" if name == "day" else str(dtype)
        raise DataError(
            f"control totals: {name} has {len(lost)} values that are no {wanted}, e.g. {_shown(lost)}; mend the table"
        )
    return read


def _shown(values: pl.Series) -> str:
    """The first value; not through Python, which has no year 50,000."""
    text = values.head(1).cast(pl.String, strict=False)[0]
    return repr(text) if values.dtype == pl.String else str(text)


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
