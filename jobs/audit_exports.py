"""What an audit leaves for other tools: Parquet tables for BI, the same as CSV, FOCUS 1.2 rows (docs/audit-exports.md).

Text in CSV is made inert: a spreadsheet takes a cell that begins like a formula for one, and prompts, tenants and names
of models are untrusted. Parquet keeps every text as it was.
"""

import types
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import polars as pl
from polars import selectors as cs

from jobs.audit_books import Books
from jobs.audit_config import ExportSection
from jobs.audit_results import CSV, FOCUS, FOCUS_FILES, NAMES, TABLES
from jobs.audit_what_if import WhatIfResult
from jobs.rundir import RunDir, storing, write_atomic, write_parquet
from routing.audit.focus import focus_rows
from schemas.audit import AuditReport, ControlDifference, LoggedSpend, PromptGroup, Spend, UnpricedCalls
from schemas.billing import USD
from schemas.sweep import Estimate, GroupSweep, Part, Sweep, SweepPoint

_DTYPES: dict[type, pl.DataType] = {
    int: pl.Int64(),
    float: pl.Float64(),
    str: pl.String(),
    Decimal: USD,
    datetime: pl.Datetime("us", "UTC"),
    date: pl.Date(),
}

_FORMULA = r"[=+\-@\uFF1D\uFF0B\uFF0D\uFF20]"
"""The signs and their full-width forms."""
_BEGINS_LIKE_A_FORMULA = rf"^\s*{_FORMULA}|^[\t\r\n]"
_FORMULA_BEHIND_A_CUT = rf"([;\t\r\n]\s*)({_FORMULA})"
"""Programs of other settings cut cells at semicolons and tabs, careless ones at line ends inside quotes."""


def write_exports(
    report: AuditReport,
    books: Books,
    what_if: WhatIfResult | None,
    folder: Path,
    section: ExportSection,
    *,
    prices: pl.DataFrame,
) -> list[Path]:
    """Write the tables of an audit, each atomically; returns their paths.

    Args:
        report: What was found.
        books: Its daily and hourly tables.
        what_if: The curve by day, where one was asked for.
        folder: Output of the audit.
        section: What is written beside Parquet.
        prices: The PRICES of the audit, for the rates of FOCUS.

    Raises:
        StorageError: the disk refuses.
    """
    staging, written = RunDir(folder).staging, []
    for name, frame in _tables(report, books, what_if):
        written.append(folder / TABLES / f"{name}.parquet")
        write_parquet(written[-1], frame, staging)
        if section.csv:
            written.append(folder / CSV / f"{name}.csv")
            write_csv(written[-1], frame, staging)
    if section.focus:
        rows = focus_rows(books.daily, prices, account=report.name)
        written += [folder / FOCUS / name for name in FOCUS_FILES]
        write_parquet(written[-2], rows, staging)
        write_csv(written[-1], rows, staging)
    _forget_others(folder, written)
    return written


def write_csv(path: Path, frame: pl.DataFrame, staging: Path) -> None:
    """Write a table as CSV atomically: text inert and in quotes, numbers bare, times in UTC with `Z`, null empty.

    Raises:
        StorageError: the disk refuses.
    """
    write_atomic(
        path,
        lambda draft: inert(frame).write_csv(
            draft, quote_style="non_numeric", datetime_format="%Y-%m-%dT%H:%M:%SZ", float_scientific=False
        ),
        staging,
    )


def inert(frame: pl.DataFrame) -> pl.DataFrame:
    """Put an apostrophe before every text that a spreadsheet would take for a formula; numbers stay numbers."""
    names = frame.select(cs.string() | cs.categorical() | cs.enum()).columns
    texts = [pl.col(name).cast(pl.String).str.replace_all(_FORMULA_BEHIND_A_CUT, "$1'$2") for name in names]
    return frame.with_columns(
        pl.when(text.str.contains(_BEGINS_LIKE_A_FORMULA)).then("'" + text).otherwise(text).alias(name)
        for name, text in zip(names, texts, strict=True)
    )


def _tables(report: AuditReport, books: Books, what_if: WhatIfResult | None) -> Iterator[tuple[str, pl.DataFrame]]:
    paid, reconciliation = report.paid, report.reconciliation
    yield "daily", books.daily
    yield "hourly", books.hourly
    for name in ("tenants", "models", "providers", "tiers"):
        yield name, table_of(Spend, getattr(paid, name))
    yield "prompt_groups", table_of(PromptGroup, paid.prompt_groups)
    yield "unpriced", table_of(UnpricedCalls, reconciliation.unpriced)
    yield "logged_spend", table_of(LoggedSpend, reconciliation.models)
    yield "control", table_of(ControlDifference, reconciliation.control)
    if what_if is not None:
        found = what_if.report  # a single model is no point of the curve
        yield "what_if_curve", _curve(found.sweep, None if found.alone else found.recommended)
        yield "what_if_groups", _groups(what_if.report.sweep)
        yield "what_if_days", what_if.by_day


def table_of(part: type[Part], rows: Sequence[Part]) -> pl.DataFrame:
    """Parts of a report as a table: a column a field, an estimate as three (`x`, `x_low`, `x_high`), no lists."""
    schema = dict(_columns(part))
    return pl.DataFrame([_values(row, schema) for row in rows], schema=schema, orient="row")


def _columns(part: type[Part]) -> Iterator[tuple[str, pl.DataType]]:
    for name, field in part.model_fields.items():
        dtype = _without_none(field.annotation)
        if dtype is Estimate:
            yield from ((f"{name}{end}", pl.Float64()) for end in ("", "_low", "_high"))
        elif dtype in _DTYPES:
            yield name, _DTYPES[dtype]


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        return next(one for one in get_args(annotation) if one is not type(None))
    return annotation


def _values(row: Part, schema: Mapping[str, pl.DataType]) -> list[Any]:
    found: dict[str, Any] = {}
    for name, value in row:
        if isinstance(value, Estimate):
            found |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        else:
            found[name] = value
    return [found.get(name) for name in schema]


def _curve(sweep: Sweep, recommended: int | None) -> pl.DataFrame:
    """One row a point, all weak first."""
    curve = table_of(SweepPoint, sweep.points).with_row_index("point")
    return curve.with_columns(recommended=pl.col("point").eq_missing(pl.lit(recommended)))


def _groups(sweep: Sweep) -> pl.DataFrame:
    """One row a group and point."""
    alphas = table_of(SweepPoint, sweep.points).select("alpha").with_row_index("point")
    unknown = [None] * len(sweep.points)
    lists = {
        "point": (pl.UInt32(), [alphas["point"].to_list()] * len(sweep.groups)),
        "strong_share": (pl.Float64(), [one.strong_share for one in sweep.groups]),
        "cost_usd": (pl.Float64(), [one.cost_usd for one in sweep.groups]),
        "quality": (pl.Float64(), [one.quality or unknown for one in sweep.groups]),
    }
    columns = [pl.Series(name, values, dtype=pl.List(dtype)) for name, (dtype, values) in lists.items()]
    groups = table_of(GroupSweep, sweep.groups).with_columns(columns).explode(*lists)
    return groups.join(alphas, on="point", how="left", maintain_order="left")


def _forget_others(folder: Path, written: Sequence[Path]) -> None:
    """Remove the tables of an earlier audit that this one did not write: a table without its audit misleads."""
    ours = {TABLES: (NAMES, ".parquet"), CSV: (NAMES, ".csv"), FOCUS: (FOCUS_FILES, "")}
    for name, (stems, suffix) in ours.items():
        with storing(folder / name):
            for path in (folder / name / f"{stem}{suffix}" for stem in stems):
                if path not in written:
                    path.unlink(missing_ok=True)
