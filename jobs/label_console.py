"""What people see of a labelling run."""

from decimal import Decimal
from typing import Any

import polars as pl
from rich.table import Table

from jobs import console
from jobs.label_forecast import RoleForecast, total
from jobs.label_run import LabelRun
from jobs.plan import interval_record
from routing.estimate import Interval
from schemas.labels import LabelManifest


def show_plan(run: LabelRun, sample: pl.DataFrame, roles: dict[str, RoleForecast]) -> None:
    """Print what a run will ask, and what that is expected to cost, before it is spent."""
    table = Table(title=f"sample: {sample.height:,} queries, seed {run.identity.sample_seed}", title_justify="left")
    for name in ("role", "model", "calls", "input tokens", "expected output tokens", "expected cost"):
        table.add_column(name, justify="left" if name in ("role", "model") else "right")
    for role, found in roles.items():
        usd = "unpriced" if found.usd is None else console.usd(found.usd.expected)
        table.add_row(
            role,
            run.models[role].name,
            f"{found.calls:,}",
            f"{found.input_tokens:,}",
            f"{found.output_tokens:,}",
            usd,
        )
    console.STDERR.print(table)
    if sample.height < run.identity.sample_size:
        console.say(f"the table has no more than {sample.height:,} queries to draw {run.identity.sample_size:,} from")
    if run.identity.golden_column is not None and run.job.config.models.judge is not None:
        console.say(f"answers are compared with column {run.identity.golden_column!r}: the judge is not asked")
    console.say(f"expected cost of the whole sample: {console.span(total(roles))}")


def plan_record(
    run: LabelRun, sample: pl.DataFrame, roles: dict[str, RoleForecast], cost: Interval | None
) -> dict[str, Any]:
    """The one-line JSON summary of a dry run."""
    return {
        "job": "label",
        "status": "planned",
        "exit_code": 0,
        "run_dir": str(run.run.root),
        "rows": {"sampled": sample.height},
        "calls": {role: found.calls for role, found in roles.items()},
        "input_tokens": {role: found.input_tokens for role, found in roles.items()},
        "expected_output_tokens": {role: found.output_tokens for role, found in roles.items()},
        "cost_usd": interval_record(cost),
    }


def show_labels(manifest: LabelManifest) -> None:
    """Print the summary of a published battle table."""
    rows, totals = manifest.rows, manifest.totals
    table = Table(title=f"run {manifest.run_id}, revision {manifest.revision}", title_justify="left")
    for name in ("", "queries", "cost"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    names = {"model_a": "strong wins", "model_b": "weak wins", "tie": "tie"}
    for winner, name in names.items():
        table.add_row(name, f"{manifest.winners[winner]:,}", "")
    table.add_section()
    for role, usd in (
        ("strong", totals.strong_cost_usd),
        ("weak", totals.weak_cost_usd),
        ("judge", totals.judge_cost_usd),
    ):
        if role != "judge" or manifest.orders is not None:
            table.add_row(f"{role} answers" if role != "judge" else "judgements", "", console.usd(usd))
    table.add_row("total", f"{rows['sampled']:,}", console.usd(totals.cost_usd))
    console.STDERR.print(table)
    console.say(
        f"rows: {rows['sampled']:,} drawn, {rows['ok']:,} labelled, {rows['failed']:,} failed, {rows['unsent']:,} "
        f"unsent; {totals.attempts:,} calls"
    )
    for code, count in manifest.errors.items():
        console.say(f"  {code}: {count:,}")
    if manifest.orders is not None:
        orders = manifest.orders
        console.say(
            f"judge: both orders agree on {orders.agreed:,} of {orders.judged:,}; the answer shown first won both "
            f"times on {orders.chose_first:,}, the one shown second on {orders.chose_second:,}"
        )
    _warn(totals.unpriced_rows, totals.unknown_calls)
    if totals.spent_usd != totals.cost_usd:
        console.say(f"spent by this run so far, repeated calls included: {console.usd(Decimal(totals.spent_usd))}")
    console.say(f"train on it: [[sources]] path = {manifest.output!r}, layout = 'battles'")


def _warn(unpriced_rows: int, unknown_calls: int) -> None:
    if unpriced_rows:
        console.say(
            f"UNPRICED: {unpriced_rows:,} rows have a call without a price; add [[prices]] to the config "
            "for the next run"
        )
    if unknown_calls:
        console.say(
            f"UNKNOWN: {unknown_calls} calls were in flight when a run was killed; the provider may have billed them"
        )
