"""Times of logs: with a zone or without, as text or as a number since 1970, all into UTC."""

import polars as pl

UTC_US = pl.Datetime("us", "UTC")

_WRITTEN = (
    r"^(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<clock>\d{2}:\d{2}(?::\d{2})?)(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"\s*(?P<offset>Z|z|UTC|[+-]\d{2}(?::?\d{2})?)?$"
)
_SECONDS_END, _MILLIS_END, _MICROS_END = 10**11, 10**14, 10**17
"""A number below the first is seconds, below the second milliseconds, ...: each unit covers the years 1973 to 5138."""


def moment(value: pl.Expr, dtype: pl.DataType, time_zone: str) -> pl.Expr:
    """Times of any column as Datetime(us, UTC); what is no time is null, and so is a number that is not positive.

    Args:
        value: The column.
        dtype: Its type.
        time_zone: Zone of times that are written without one (IANA name). Of an hour that a change of the clocks
            repeats the first is taken; one that it skips is null.
    """
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is not None:
            return value.dt.convert_time_zone("UTC").cast(UTC_US)
        return _localized(value.cast(pl.Datetime("us")), time_zone)
    if dtype == pl.Date:
        return _localized(value.cast(pl.Datetime("us")), time_zone)
    if dtype.is_integer():
        return _epoch(value.cast(pl.Int64, strict=False))
    if dtype.is_numeric():
        return _epoch(value.cast(pl.Float64, strict=False))
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        text = value.cast(pl.String).str.strip_chars()
        whole, broken = text.cast(pl.Int64, strict=False), text.cast(pl.Float64, strict=False)
        return pl.coalesce(_written(text, time_zone), _epoch(whole), _epoch(broken))
    return pl.lit(None, UTC_US)


def seconds(start: pl.Expr, end: pl.Expr) -> pl.Expr:
    """Seconds between two times, to the microsecond."""
    return ((end - start).dt.total_microseconds() / 1_000_000).round(6)  # polars divides 900,000 to 0.89999...


def _localized(naive: pl.Expr, time_zone: str) -> pl.Expr:
    zoned = naive.dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null")
    return zoned.dt.convert_time_zone("UTC").cast(UTC_US)


def _epoch(number: pl.Expr) -> pl.Expr:
    micros = (
        pl.when(number < _SECONDS_END)
        .then(number * 1_000_000)
        .when(number < _MILLIS_END)
        .then(number * 1_000)
        .when(number < _MICROS_END)
        .then(number)
        .otherwise(number // 1_000)
    )
    return pl.when(number > 0).then(micros).cast(pl.Int64, strict=False).cast(UTC_US)


def _written(text: pl.Expr, time_zone: str) -> pl.Expr:
    """ISO 8601 and what databases make of it: `2026-01-31 23:59:59.123+00`, `...T23:59:59Z`, `2026-01-31`."""
    part = text.str.extract_groups(_WRITTEN).struct
    clock = part.field("clock").fill_null("00:00:00")
    clock = pl.when(clock.str.len_bytes() == len("00:00")).then(clock + ":00").otherwise(clock)
    micros = part.field("fraction").str.pad_end(6, "0").str.head(6).cast(pl.Int64).fill_null(0)
    naive = (part.field("date") + " " + clock).str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
    naive = naive + pl.duration(microseconds=micros)
    offset = part.field("offset")
    sign = pl.when(offset.str.starts_with("-")).then(-1).otherwise(1)
    digits = offset.str.replace_all(r"\D", "").str.pad_end(4, "0")  # Z and UTC have none: 0000
    minutes = digits.str.head(2).cast(pl.Int64) * 60 + digits.str.tail(2).cast(pl.Int64)
    shifted = (naive - pl.duration(minutes=sign * minutes)).dt.replace_time_zone("UTC").cast(UTC_US)
    return pl.when(offset.is_null()).then(_localized(naive, time_zone)).otherwise(shifted)
