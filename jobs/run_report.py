"""RUN_DIR -> RunReport: a published table, added up for its page. No prompt and no answer is read."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote

import numpy as np
import polars as pl

from jobs.config import Job
from jobs.night import SIDES, package_version, saved_job
from jobs.publishing import MANIFEST
from jobs.report.phrases import plural
from jobs.run_sweep import Compared, Doubt, GroupOf, doubt, histogram, sweep_run
from jobs.rundir import RunDir, read_json
from routing.errors import DataError, InputMissingError, TryLaterError, UsageError
from routing.pricing import Unpriced, rate_card
from routing.split import ALL_TIES, WIN_RATE
from schemas.run import Manifest, Plan
from schemas.run_report import FailedQueries, Flow, GroupBill, RouteBill, RunReport, TimeSlice
from schemas.sweep import Sweep

MOST_GROUPS: Final = 1_000
MOST_SLICES: Final = 90
_SLICES_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400)
_HIVE_NULL: Final = "__HIVE_DEFAULT_PARTITION__"
_COST: Final = ("cost_usd", "strong_cost_usd", "weak_cost_usd")
_STRONG: Final = pl.col("route") == "strong"
_GROUP: Final = "(group)"


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """A published table with everything that explains it."""

    run: RunDir
    job: Job
    manifest: Manifest
    table: pl.LazyFrame
    """Hive keys of the output included, as text."""


def run_report(run_dir: Path, *, groups: Sequence[str] = (), now: datetime) -> RunReport:
    """Return what the page of a run shows.

    Args:
        run_dir: Folder of a run.
        groups: Columns of the published table to add up by; their values are joined by ` / `.
        now: Moment of the page.

    Raises:
        InputMissingError: the folder holds no run, or its table is gone.
        TryLaterError: the run is not published yet.
        ConfigError: it is a labelling run.
        DataError: the output folder holds another run's table.
        UsageError: a group is no column, or has too many values.
    """
    published = open_run(run_dir)
    _check_groups(published.table, groups)
    manifest, table = published.manifest, published.table
    if groups:
        name = pl.concat_str([pl.col(group).cast(pl.String) for group in groups], separator=" / ")
        table = table.with_columns(name.alias(_GROUP))
    bills = _groups(table) if groups else []
    compared = _collect(
        _compared(table).select(pl.len().alias("n"), _STRONG.sum().alias("strong"), pl.col("cost_usd").sum())
    )
    n, n_strong, paid = compared.row(0)
    sweep, at_run = _sweep(published, table, bills) if n else (None, None)
    slice_s, slices = _slices(table)
    notes = [*_outcomes(manifest, _failed(table)), *_about_the_curve(manifest, n, sweep=sweep, at_run=at_run)]
    return RunReport(
        name=published.job.config.name + (f", {published.job.date}" if published.job.date else ""),
        created_at=now,
        nightroute_version=package_version(),
        manifest=manifest,
        flows=_flows(table),
        errors=_errors(table),
        routes=_routes(table, manifest),
        group_columns=list(groups),
        groups=bills,
        slice_s=slice_s,
        slices=slices,
        unpriced=_unpriced(table),
        win_rates=histogram(_collect(table.select("win_rate"))["win_rate"].to_numpy()),
        sweep=sweep,
        compared=n,
        compared_strong=n_strong,
        compared_usd=paid,
        at_run=at_run,
        notes=notes,
    )


def open_run(run_dir: Path) -> PublishedRun:
    """Find the published table of a run.

    Raises:
        NightrouteError: see `run_report`.
    """
    run = RunDir(run_dir)
    plan, job = read_json(Plan, run.plan), saved_job(run_dir)
    if not run.manifest.exists():
        raise TryLaterError(
            f"run {run.root} is not published yet; finish it with: nightroute resume {run.root} (with --publish-unsent "
            "it publishes what there is), then ask for its report again"
        )
    if not (job.output / MANIFEST).exists():
        raise InputMissingError(
            f"the table of run {run.root} at {job.output} is not there any more; put it back, or publish it again "
            f"with: nightroute resume {run.root}"
        )
    manifest = read_json(Manifest, job.output / MANIFEST)
    if manifest.run_id != plan.run_id:
        raise DataError(
            f"{job.output} holds the table of run {manifest.run_id}, not that of {plan.run_id} in {run.root}; "
            "give every run an output.path of its own"
        )
    if missing := [file.path for file in manifest.files if not (job.output / file.path).exists()]:
        raise InputMissingError(f"{job.output} lacks {missing[0]} and {len(missing) - 1} more files of its manifest")
    return PublishedRun(run, job, manifest, _table(job, manifest))


def _table(job: Job, manifest: Manifest) -> pl.LazyFrame:
    date = {} if job.date_key is None else {job.date_key: job.date}
    parts = [
        pl.scan_parquet(job.output / file.path, hive_partitioning=False).with_columns(
            pl.lit(value, pl.String).alias(key) for key, value in (date | _hive(file.path)).items()
        )
        for file in manifest.files
    ]
    if not parts:
        raise InputMissingError(f"run {manifest.run_id} published no rows; there is nothing to report")
    return pl.concat(parts)


def _hive(path: str) -> dict[str, str | None]:
    """Keys of a path of the output, as `jobs.publishing` wrote them."""
    pairs = [folder.partition("=") for folder in PurePosixPath(path).parent.parts]
    return {key: None if value == _HIVE_NULL else unquote(value) for key, _, value in pairs}


def _check_groups(table: pl.LazyFrame, groups: Sequence[str]) -> None:
    schema = table.collect_schema()
    for group in groups:
        if group not in schema:
            near = difflib.get_close_matches(group, schema.names(), n=1)
            hint = f", did you mean {near[0]!r}" if near else ""
            raise UsageError(f"--group {group!r} is no column of the published table{hint}? It has {schema.names()}")
        if schema[group].is_nested():
            raise UsageError(f"--group {group!r} holds {schema[group]}, groups need plain values")
    if groups:
        n = int(_collect(table.select(pl.struct(groups).n_unique())).item())
        if n > MOST_GROUPS:
            raise UsageError(
                f"--group {' '.join(groups)} tells {n:,} groups apart; a page is readable up to {MOST_GROUPS:,}: "
                "choose columns with fewer values"
            )


def _collect(table: pl.LazyFrame) -> pl.DataFrame:
    return table.collect(engine="streaming")


def _rows(table: pl.LazyFrame) -> list[dict[str, Any]]:
    return _collect(table).to_dicts()


def _counted() -> dict[str, pl.Expr]:
    return {"queries": pl.len(), "unpriced": pl.col("unpriced_reason").count()}


def _flows(table: pl.LazyFrame) -> list[Flow]:
    found = table.group_by("route", "status").agg(queries=pl.len()).sort("route", "status", descending=[True, False])
    return [Flow.model_validate(row) for row in _rows(found)]


def _errors(table: pl.LazyFrame) -> list[FailedQueries]:
    found = table.filter(pl.col("error_code").is_not_null()).group_by("route", "error_code")
    counted = found.agg(queries=pl.len(), attempts=pl.col("attempts").sum())
    ordered = counted.sort("queries", "error_code", "route", descending=[True, False, True])
    return [FailedQueries.model_validate(row) for row in _rows(ordered)]


def _failed(table: pl.LazyFrame) -> dict[str, int]:
    """Error code -> queries without an answer; a truncated answer has a code too."""
    found = table.filter(pl.col("status") == "failed").group_by("error_code").agg(n=pl.len())
    return {row["error_code"]: row["n"] for row in _rows(found.sort("n", "error_code", descending=[True, False]))}


def _routes(table: pl.LazyFrame, manifest: Manifest) -> list[RouteBill]:
    tokens = [pl.col(f"{kind}_tokens").sum() for kind in ("input", "cached", "output", "reasoning")]
    found = table.group_by("route", "model").agg(
        *tokens,
        pl.col("attempts", "cost_usd").sum(),
        served_models=pl.col("served_model").drop_nulls().unique().sort(),
        answered=pl.col("answer").count(),
        mean_output_tokens=pl.col("output_tokens").filter(pl.col("answer").is_not_null()).mean(),
        latency_p50_s=pl.col("latency_s").quantile(0.5, "linear"),
        latency_p95_s=pl.col("latency_s").quantile(0.95, "linear"),
        **_counted(),
    )
    return [RouteBill.model_validate(row) for row in _rows(found.sort("route", descending=True))]


def _groups(table: pl.LazyFrame) -> list[GroupBill]:
    found = table.group_by(pl.col(_GROUP).alias("group")).agg(
        pl.col("cost_usd", "output_tokens").sum(),
        strong=_STRONG.sum(),
        failed=pl.col("status").is_in(["failed", "unsent"]).sum(),
        **_counted(),
    )
    ordered = found.sort("cost_usd", "group", descending=[True, False], nulls_last=True)
    return [GroupBill.model_validate(row) for row in _rows(ordered)]


def _unpriced(table: pl.LazyFrame) -> dict[str, int]:
    found = table.filter(pl.col("unpriced_reason").is_not_null()).group_by("unpriced_reason").agg(n=pl.len())
    return {
        row["unpriced_reason"]: row["n"] for row in _rows(found.sort("n", "unpriced_reason", descending=[True, False]))
    }


def _slices(table: pl.LazyFrame) -> tuple[float | None, list[TimeSlice]]:
    at = pl.col("answered_at")
    first, last = _collect(table.select(at.min().alias("first"), at.max().alias("last"))).row(0)
    if first is None:
        return None, []
    span_s = (last - first).total_seconds()
    days = 86_400 * (1 + int(span_s / 86_400 / MOST_SLICES))
    width_s = next((s for s in _SLICES_S if span_s / s < MOST_SLICES - 1), days)
    usd = {f"{side}_usd": pl.col("cost_usd").filter(pl.col("route") == side).sum() for side in SIDES}
    start = at.dt.truncate(f"{width_s}s").alias("start")
    found = _collect(table.filter(at.is_not_null()).group_by(start).agg(queries=pl.len(), **usd))
    whole = (
        found.select(pl.datetime_range(pl.col("start").min(), pl.col("start").max(), timedelta(seconds=width_s)))
        .join(found, on="start", how="left", maintain_order="left")
        .with_columns(pl.exclude("start").fill_null(0))
    )
    return float(width_s), [TimeSlice.model_validate(row) for row in whole.to_dicts()]


def _compared(table: pl.LazyFrame) -> pl.LazyFrame:
    """Queries whose cost is known on both models."""
    return table.filter(pl.all_horizontal(pl.col(*_COST).is_not_null()))


def _sweep(published: PublishedRun, table: pl.LazyFrame, bills: Sequence[GroupBill]) -> tuple[Sweep | None, int | None]:
    doubts = [_doubt(published, table, side) for side in SIDES]
    strong, weak = doubts
    if strong is None or weak is None:
        return None, None
    rows = _collect(
        _compared(table).select(
            "win_rate",
            _STRONG.alias("to_strong"),
            pl.col("strong_cost_usd", "weak_cost_usd").cast(pl.Float64),
            *([_GROUP] if bills else []),
        )
    )
    places = {bill.group: k for k, bill in enumerate(bills)}
    compared = Compared(
        win_rate=rows["win_rate"].to_numpy(),
        to_strong=rows["to_strong"].to_numpy(),
        strong_usd=rows["strong_cost_usd"].to_numpy(),
        weak_usd=rows["weak_cost_usd"].to_numpy(),
        group=np.array([places[name] for name in rows[_GROUP]], dtype=np.intp) if bills else None,
    )
    models = published.job.config.models
    return sweep_run(
        compared,
        (strong, weak),
        models=(models.strong.name, models.weak.name),
        alpha=_alpha(published.manifest),
        groups=[GroupOf(bill.group, bill.queries, float(bill.cost_usd)) for bill in bills],
    )


def _alpha(manifest: Manifest) -> float | None:
    """The alpha that cuts the table as the run did: strong iff win_rate >= alpha, no tie cut."""
    split = manifest.split
    whole = split.order == WIN_RATE and split.n_tied_strong == split.n_tied and split.tie_key_max == ALL_TIES
    return split.alpha if whole else None


def _doubt(published: PublishedRun, table: pl.LazyFrame, side: str) -> Doubt | None:
    """Modelled answers pay the standard rate (docs/cost.md), whatever tier the replies of this run came from."""
    models, prices = published.job.config.models, pl.read_parquet(published.run.prices)
    model = models.strong if side == "strong" else models.weak
    rates = rate_card(
        model.name, prices, at=published.manifest.started_at, provider=model.provider, base_url=model.base_url
    )
    if isinstance(rates, Unpriced):
        return None
    answers = (
        table.filter((pl.col("route") == side) & pl.col("answer").is_not_null()).select("output_tokens").drop_nulls()
    )
    lengths = _collect(answers)["output_tokens"].cast(pl.Float64).to_numpy()
    return doubt(lengths, float(rates.output_usd_per_mtok or 0), assumed_tokens=model.expected_output_tokens)


def _outcomes(manifest: Manifest, failed: dict[str, int]) -> Iterator[str]:
    """What became of the queries, where it is not an answer."""
    rows, unknown = manifest.rows, manifest.totals.unknown_calls
    answered = rows["ok"] + rows["truncated"]
    if failed:
        codes = ", ".join(f"{code} {count:,}" for code, count in failed.items())
        nothing = "" if answered else "Nothing was answered: "
        yield f"{nothing}{rows['failed']:,} of {rows['published']:,} queries failed ({codes})."
    if rows["unsent"]:
        yield f"{rows['unsent']:,} queries were not sent: the run was stopped before them and published as it was."
    if rows["truncated"]:
        verb = plural(rows["truncated"], "was", "were")
        yield f"{rows['truncated']:,} of {answered:,} answers {verb} truncated at the token limit."
    if unknown:
        yield (
            f"{unknown:,} {plural(unknown, 'call was', 'calls were')} in flight when the run was killed. The provider "
            "may have billed them; they are in no sum."
        )


def _about_the_curve(manifest: Manifest, compared: int, *, sweep: Sweep | None, at_run: int | None) -> Iterator[str]:
    rows, split = manifest.rows, manifest.split
    if sweep is None and (rows["ok"] or rows["truncated"]):
        yield "There is no curve over alpha: no answer has a price on both models. Add [[prices]] to the config."
    elif sweep is not None and compared < rows["published"]:
        yield (
            f"The curve is about {compared:,} of {rows['published']:,} queries: the others have no billed answer, or "
            "no price on one of the models."
        )
    if sweep is not None and at_run is None:
        how = (
            f"{split.n_tied_strong:,} of {split.n_tied:,} queries at exactly alpha went strong"
            if split.order == WIN_RATE
            else "it was cut in the order of the gain per extra dollar"
        )
        yield f"No alpha cuts the table just as this run did: {how}. The run is marked beside the curve."
