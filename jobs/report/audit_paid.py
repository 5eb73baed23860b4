"""What an audit says was paid: over time, and by tenant, model, provider, tier, prompt and error."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, time
from typing import Final

from jobs.report.audit_books import NO_NAME
from jobs.report.charts import shortened
from jobs.report.day_bins import Bin, binned
from jobs.report.numbers import Number, observed, written
from jobs.report.phrases import share, unless_unpriced
from jobs.report.time_charts import Event, Stack, fill_swatch, share_bar, spark, time_chart
from jobs.report.views import BAR, Cell, Column, LegendEntry, Panel, Plate, Table, most
from schemas.audit import AuditReport, DaySpend, Paid, Spend

NO_TENANT = "(no tenant)"
LAYERS: Final = ("var(--t0)", "var(--t1)", "var(--t2)", "var(--t3)")
OTHERS: Final = "var(--rest)"
_SPARK_DAYS: Final = 3
"""From here on a line says something."""
_SPEND_COLUMNS: Final = (
    Column("cost"), Column("of all"), BAR, Column("calls"), Column("failed"), Column("unpriced"), Column("input"),
    Column("cached", about="Share of the input tokens"), Column("output"),
    Column("reasoning", about="Share of the output tokens"), Column("logged", about="What the log says, where it does"),
)  # fmt: skip


def days_plate(report: AuditReport) -> Plate | None:
    """Return cost by day, stacked by the dearest tenants; None where there are no two days to compare.

    A log of more than 200 days goes by weeks, months or years.
    """
    paid = report.paid
    if len(paid.days) < 2:
        return None
    unit, days = binned(paid.days)
    stacks = _stacks(paid, days)
    starts = [_start(day) for day in days]
    tooltips = [
        f"{day.day:{unit.told}}: {written(day.spend.cost_usd, 'money')} for {written(day.spend.calls, 'count')} calls"
        for day in days
    ]
    events = _events(report)
    chart = time_chart(
        starts, unit.width, stacks, tooltips, title=f"dollars a {unit.name}", events=events,
        gaps=[(gap.start, gap.end) for gap in report.reconciliation.gaps],
    )  # fmt: skip
    told = "Days are those of UTC." + (" A week begins on Monday." if unit.name == "week" else "")
    told += " M marks a change of model, P one of price." if events else ""
    told += " A grey stripe is a gap in the log." if report.reconciliation.gaps else ""
    return Plate(
        f"Cost by {unit.name}",
        told,
        [Panel(chart)],
        [_days_table(paid, unit, days)],
        legend=[LegendEntry(fill_swatch(stack.fill), stack.name) for stack in stacks] if len(stacks) > 1 else (),
        legend_title="Tenants, dearest at the bottom" if len(stacks) > 1 else "",
        size="wide",
    )


def spend_tables(paid: Paid) -> list[Table]:
    """Return what was paid by each dimension that tells calls apart, and by model."""
    total, days = paid.total, paid.days if len(paid.days) >= _SPARK_DAYS else ()
    by = binned(days) if days else None
    tables = (
        _spend_table("tenant", "tenants", paid.tenants, total, none=NO_TENANT, by=by),
        _spend_table("model", "models", paid.models, total),
        _spend_table("provider", "providers", paid.providers, total),
        _spend_table("tier", "tiers", paid.tiers, total),
    )
    return [table for table in tables if len(table.rows) > (1 if table.title == "By model" else 2)]


def alone(paid: Paid) -> list[tuple[str, str]]:
    """Return the dimensions along which all calls are alike, with what they are."""
    found = (("tenant", paid.tenants, NO_TENANT), ("provider", paid.providers, NO_NAME), ("tier", paid.tiers, NO_NAME))
    return [(label, one[0].key or none) for label, one, none in found if len(one) == 1]


def paid_cell(spend: Spend, *path: str | int) -> Number:
    """Return what a group of calls cost."""
    cost = observed(spend.cost_usd, "money", *path, "cost_usd")
    return unless_unpriced(cost, spend.calls, spend.unpriced_calls)


def prompts_table(paid: Paid) -> Table:
    """Return the dearest groups of prompts."""
    rows: list[list[Cell]] = []
    for k, group in enumerate(paid.prompt_groups):
        path = ("paid", "prompt_groups", k)
        rows.append([
            group.excerpt if group.excerpt is not None else f"template {group.template_sha256[:16]}",
            observed(group.cost_usd, "money", *path, "cost_usd"), share(group.cost_usd, paid.total.cost_usd),
            share_bar(float(group.cost_usd / (paid.total.cost_usd or 1))),
            observed(group.calls, "count", *path, "calls"),
            observed(group.input_tokens, "tokens", *path, "input_tokens"),
            observed(group.output_tokens, "tokens", *path, "output_tokens"),
        ])  # fmt: skip
    columns = [
        Column("prompts that begin with", numeric=False), Column("cost"), Column("of all"), BAR,
        Column("calls"), Column("input"), Column("output"),
    ]  # fmt: skip
    caption = "Dearest groups of prompts with the same beginning, numbers and names taken out."
    return most(Table(caption, columns, rows, "Prompts that cost most", "observed"))


def errors_table(paid: Paid) -> Table:
    """Return failed calls by their code."""
    failed = paid.waste.failed_calls
    rows: list[list[Cell]] = []
    for k, error in enumerate(paid.waste.errors):
        path = ("paid", "waste", "errors", k)
        rows.append([
            NO_NAME if error.error_code is None else error.error_code, observed(error.calls, "count", *path, "calls"),
            share(error.calls, failed), share_bar(error.calls / (failed or 1)),
            observed(error.cost_usd, "money", *path, "cost_usd"),
        ])  # fmt: skip
    columns = [
        Column("error", numeric=False), Column("calls"), Column("of failed"), BAR,
        Column("cost", about="Of those whose tokens are in the log"),
    ]  # fmt: skip
    return most(Table("Failed calls by their code.", columns, rows, "Errors", "observed"))


def _stacks(paid: Paid, days: Sequence[DaySpend]) -> list[Stack]:
    shown = min(len(paid.tenants), len(LAYERS))
    if len(paid.tenants) < 2:
        return [Stack("all calls", LAYERS[0], [float(day.spend.cost_usd) for day in days])]
    names = _names(paid.tenants[:shown])
    stacks = [Stack(name, LAYERS[k], [float(day.groups[k]) for day in days]) for k, name in enumerate(names)]
    if len(paid.tenants) > shown:
        rest = [float(sum(day.groups[shown:])) for day in days]
        stacks.append(Stack("all others", OTHERS, rest))
    return stacks


def _names(tenants: Sequence[Spend]) -> list[str]:
    """As they stand in a legend and above a column; by tenant, they are whole."""
    return [NO_TENANT if tenant.key is None else shortened(tenant.key, 32) for tenant in tenants]


def _events(report: AuditReport) -> list[Event]:
    found = report.reconciliation
    models = [Event(c.changed_at, "M", f"{c.before} gives way to {c.after}") for c in found.model_changes]
    return [*models, *(Event(c.changed_at, "P", f"new price of {c.model}") for c in found.price_changes)]


def _start(day: DaySpend) -> datetime:
    return datetime.combine(day.day, time(), tzinfo=UTC)


def _days_table(paid: Paid, unit: Bin, days: Sequence[DaySpend]) -> Table:
    shown = min(len(paid.tenants), len(LAYERS)) if len(paid.tenants) > 1 else 0
    rows: list[list[Cell]] = []
    for k, day in enumerate(days):
        path = ("paid", "days", k) if days is paid.days else None  # a sum of days stands nowhere in the report
        rows.append([
            f"{day.day:{unit.pattern}}", *_spend_cells(day.spend, paid.total, path and (*path, "spend")),
            *(observed(day.groups[i], "money", *_under(path, "groups", i)) for i in range(shown)),
        ])  # fmt: skip
    names = _names(paid.tenants[:shown])
    columns = [
        Column(unit.name, numeric=False, whole=True),
        *_SPEND_COLUMNS,
        *(Column(name, "cost of the dearest tenants") for name in names),
    ]
    return most(Table(f"What was paid by {unit.name}.", columns, rows, basis="observed"))


def _spend_table(
    label: str,
    plural: str,
    found: Sequence[Spend],
    total: Spend,
    *,
    none: str = NO_NAME,
    by: tuple[Bin, Sequence[DaySpend]] | None = None,
) -> Table:
    unit, days = by or (None, ())
    rows: list[list[Cell]] = [
        [
            none if spend.key is None else spend.key, *_spend_cells(spend, total, ("paid", plural, k)),
            *([spark([float(day.groups[k]) for day in days])] if days else []),
        ]
        for k, spend in enumerate(found)
    ]  # fmt: skip
    columns = [Column(label, numeric=False), *_SPEND_COLUMNS]
    if unit is not None:
        columns.append(Column(f"by {unit.name}", about="Each on its own scale", numeric=False, whole=True))
    caption = f"What was paid by {label}, dearest first ({len(found):,}); input and output are tokens."
    table = most(Table(caption, columns, rows, f"By {label}", "observed"))
    everything = ["all", *_spend_cells(total, total, ("paid", "total")), *([""] if days else [])]
    return replace(table, rows=[everything, *table.rows], total=True)


def _under(path: Sequence[str | int] | None, *steps: str | int) -> Sequence[str | int]:
    return () if path is None else (*path, *steps)


def _spend_cells(spend: Spend, total: Spend, path: Sequence[str | int] | None) -> list[Cell]:
    cost = observed(spend.cost_usd, "money", *_under(path, "cost_usd"))
    counts = {
        name: observed(getattr(spend, name), "tokens" if name.endswith("tokens") else "count", *_under(path, name))
        for name in ("calls", "failed_calls", "unpriced_calls", "input_tokens", "output_tokens")
    }
    return [
        unless_unpriced(cost, spend.calls, spend.unpriced_calls), share(spend.cost_usd, total.cost_usd),
        share_bar(float(spend.cost_usd / (total.cost_usd or 1))),
        counts["calls"], counts["failed_calls"], counts["unpriced_calls"],
        counts["input_tokens"], share(spend.cached_tokens, spend.input_tokens),
        counts["output_tokens"], share(spend.reasoning_tokens, spend.output_tokens),
        observed(spend.logged_usd, "money", *_under(path, "logged_usd")),
    ]  # fmt: skip
