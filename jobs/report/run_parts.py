"""The tables and charts of a run: where its queries went, what they cost, what the groups cost."""

from datetime import timedelta
from decimal import Decimal
from typing import Final

from jobs.report.charts import shortened
from jobs.report.flow_chart import Node, Ribbon, flow_chart
from jobs.report.numbers import Number, number, observed, written
from jobs.report.phrases import moment, share, unless_unpriced
from jobs.report.time_charts import Stack, fill_swatch, share_bar, time_chart
from jobs.report.views import BAR, Cell, Column, LegendEntry, Panel, Plate, Table, Words, most
from schemas.run_report import RunReport

FILLS: Final = {"strong": "var(--t0)", "weak": "var(--t2)"}
_OUTCOMES: Final = {"ok": "var(--base)", "truncated": "var(--s4)", "failed": "var(--s1)", "unsent": "var(--s1)"}
NO_VALUE: Final = "(no value)"


def models(report: RunReport) -> dict[str, str]:
    """Route -> name of its model."""
    identity = report.manifest.identity
    return {"strong": identity.strong["name"], "weak": identity.weak["name"]}


def flow_plate(report: RunReport) -> Plate:
    """Return the way of the rows: read, routed, answered."""
    rows, names = report.manifest.rows, models(report)
    nodes = [
        Node("read", "rows read", 0, "var(--base)"),
        *(Node(route, f"{route}: {shortened(name, 26)}", 1, FILLS[route]) for route, name in names.items()),
        Node("rejected", "rejected", 1, "var(--s1)"),
        *(Node(status, status, 2, fill) for status, fill in _OUTCOMES.items()),
    ]
    ribbons = [
        *(Ribbon("read", name, rows[name]) for name in ("strong", "weak", "rejected")),
        *(Ribbon(flow.route, flow.status, flow.queries) for flow in report.flows),
    ]
    return Plate(
        "From rows to answers",
        "Every row that was read is in one ribbon. Ribbons are as wide as the queries are many.",
        [Panel(flow_chart(nodes, ribbons))],
        [_flows_table(report)],
        size="wide",
    )


def _flows_table(report: RunReport) -> Table:
    published = report.manifest.rows["published"]
    rows: list[list[Cell]] = [
        [f"{flow.route}, {flow.status}", observed(flow.queries, "count", "flows", k, "queries"),
         share(flow.queries, published), share_bar(flow.queries / (published or 1))]
        for k, flow in enumerate(report.flows)
    ]  # fmt: skip
    columns = [Column("route and outcome", numeric=False), Column("queries"), Column("of all"), BAR]
    return Table("Queries by route and outcome.", columns, rows, basis="observed")


def errors_table(report: RunReport) -> Table:
    """Return the errors by class and route."""
    published = report.manifest.rows["published"]
    rows: list[list[Cell]] = []
    for k, error in enumerate(report.errors):
        path = ("errors", k)
        rows.append([
            error.error_code, error.route, observed(error.queries, "count", *path, "queries"),
            share(error.queries, published), share_bar(error.queries / (published or 1)),
            observed(error.attempts, "count", *path, "attempts"),
        ])  # fmt: skip
    columns = [
        Column("error", numeric=False), Column("route", numeric=False), Column("queries"), Column("of all"), BAR,
        Column("calls made"),
    ]  # fmt: skip
    caption = "Errors by class; `length` means that an answer reached its token limit."
    return most(Table(caption, columns, rows, "Errors", "observed"))


def routes_table(report: RunReport) -> Table:
    """Return what each model did and cost."""
    total = report.manifest.totals.cost_usd
    rows: list[list[Cell]] = []
    for k, route in enumerate(report.routes):
        path = ("routes", k)
        served = shortened(", ".join(name for name in route.served_models if name != route.model), 60)
        rows.append([
            f"{route.model}, served as {served}" if served else route.model, route.route,
            _cost(route.cost_usd, route.queries, route.unpriced, *path), share(route.cost_usd, total),
            observed(route.queries, "count", *path, "queries"),
            observed(route.answered, "count", *path, "answered"), observed(route.attempts, "count", *path, "attempts"),
            observed(route.unpriced, "count", *path, "unpriced"),
            observed(route.input_tokens, "tokens", *path, "input_tokens"),
            observed(route.cached_tokens, "tokens", *path, "cached_tokens"),
            observed(route.output_tokens, "tokens", *path, "output_tokens"),
            observed(route.reasoning_tokens, "tokens", *path, "reasoning_tokens"),
            _tenth(route.mean_output_tokens, *path, "mean_output_tokens"),
            number(route.latency_p50_s, "times", *path, "latency_p50_s"),
            number(route.latency_p95_s, "times", *path, "latency_p95_s"),
        ])  # fmt: skip
    columns = [
        Column("model", numeric=False), Column("route", numeric=False, whole=True), Column("cost"), Column("of all"),
        Column("queries"), Column("answered"), Column("calls"), Column("unpriced"), Column("input", "tokens"),
        Column("cached", "tokens", "Part of the input"), Column("output", "tokens"),
        Column("reasoning", "tokens", "Part of the output"),
        Column("an answer", "tokens", "Mean output tokens of an answer"), Column("p50", "latency, s"),
        Column("p95", "latency, s"),
    ]  # fmt: skip
    return Table("What each model did and cost.", columns, rows, "By model", "observed")


def groups_table(report: RunReport) -> Table:
    """Return what each group cost."""
    total = report.manifest.totals.cost_usd
    rows: list[list[Cell]] = []
    for k, group in enumerate(report.groups):
        path = ("groups", k)
        rows.append([
            NO_VALUE if group.group is None else group.group,
            _cost(group.cost_usd, group.queries, group.unpriced, *path), share(group.cost_usd, total),
            share_bar(float(group.cost_usd / (total or 1))), observed(group.queries, "count", *path, "queries"),
            observed(group.strong, "count", *path, "strong"),
            number(group.strong / group.queries if group.queries else None, "share"),
            observed(group.failed, "count", *path, "failed"), observed(group.unpriced, "count", *path, "unpriced"),
            observed(group.output_tokens, "tokens", *path, "output_tokens"),
        ])  # fmt: skip
    label = " / ".join(report.group_columns)
    columns = [
        Column(label, numeric=False), Column("cost"), Column("of all"), BAR, Column("queries"), Column("strong"),
        Column("strong share"), Column("failed"), Column("unpriced"), Column("output tokens"),
    ]  # fmt: skip
    caption = f"What was paid by {label}, dearest first ({len(rows):,})."
    return most(Table(caption, columns, rows, f"By {label}", "observed"))


def time_plate(report: RunReport) -> Plate | None:
    """Return cost over the time of the answers, by route; None where nothing was answered."""
    if not report.slices or report.slice_s is None:
        return None
    width, names = timedelta(seconds=report.slice_s), models(report)
    layers = {
        "strong": [float(s.strong_usd) for s in report.slices],
        "weak": [float(s.weak_usd) for s in report.slices],
    }
    stacks = [Stack(f"{route}: {names[route]}", FILLS[route], values) for route, values in layers.items()]
    tooltips = [
        f"{s.start:%Y-%m-%d %H:%M:%S}: {written(s.strong_usd + s.weak_usd, 'money')}, {s.queries:,} queries"
        for s in report.slices
    ]
    rows: list[list[Cell]] = [
        [
            f"{s.start:%Y-%m-%d %H:%M:%S}", observed(s.queries, "count", "slices", k, "queries"),
            observed(s.strong_usd, "money", "slices", k, "strong_usd"),
            observed(s.weak_usd, "money", "slices", k, "weak_usd"),
        ]
        for k, s in enumerate(report.slices)
    ]  # fmt: skip
    columns = [Column("from", numeric=False, whole=True), Column("queries"), Column("strong"), Column("weak")]
    said = _length(report.slice_s)
    return Plate(
        "Cost over time",
        f"Cost of the answers by when they came, {said} a bar, in UTC.",
        [Panel(time_chart([s.start for s in report.slices], width, stacks, tooltips, title=f"dollars in {said}"))],
        [most(Table(f"Cost of the answers, {said} a row.", columns, rows, basis="observed"))],
        legend=[LegendEntry(fill_swatch(stack.fill), stack.name) for stack in stacks],
        size="wide",
    )


def bill(report: RunReport) -> list[tuple[str, Words]]:
    """Return the lines that stand beside the bill of the answers: embeddings, unpriced, unknown, everything spent."""
    totals, path = report.manifest.totals, ("manifest", "totals")
    lines: list[tuple[str, Words]] = []
    embedding = report.manifest.embedding
    if embedding is not None:
        place = ("manifest", "embedding")
        lines.append(("embeddings", [
            observed(embedding.cost_usd, "money", *place, "cost_usd"), " for ",
            observed(embedding.prompts, "count", *place, "prompts"), " prompts, ",
            observed(embedding.input_tokens, "tokens", *place, "input_tokens"), " tokens in ",
            observed(embedding.requests, "count", *place, "requests"), f" requests to {embedding.model}; ",
            observed(embedding.unpriced_requests, "count", *place, "unpriced_requests"), " of them unpriced, ",
            observed(embedding.unknown_calls, "count", *place, "unknown_calls"),
            " more in flight at a kill. On top of the cost of the answers.",
        ]))  # fmt: skip
    if totals.unpriced_rows:
        lines.append(("unpriced", [
            observed(totals.unpriced_rows, "count", *path, "unpriced_rows"),
            " answered queries have no price. That is not $0: what they cost is unknown and in no sum.",
        ]))  # fmt: skip
    if totals.unknown_calls:
        lines.append(("unknown calls", [
            observed(totals.unknown_calls, "count", *path, "unknown_calls"),
            " calls were in flight when the run was killed; the provider may have billed them.",
        ]))  # fmt: skip
    if totals.spent_usd != totals.cost_usd:
        lines.append(("spent in all", [
            observed(totals.spent_usd, "money", *path, "spent_usd"),
            ", embeddings, earlier revisions and repeated calls included.",
        ]))  # fmt: skip
    return lines


def unpriced_table(report: RunReport) -> Table:
    """Return why queries have no price."""
    rows: list[list[Cell]] = [
        [reason, observed(n, "count", "unpriced", reason)] for reason, n in report.unpriced.items()
    ]
    columns = [Column("reason", numeric=False), Column("queries")]
    return most(Table("Why queries have no price.", columns, rows, "Unpriced", "observed"))


def provenance_tables(report: RunReport) -> list[Table]:
    """Return the files that were read and written."""
    manifest = report.manifest
    columns = [Column("file", numeric=False), Column("rows"), Column("sha256", numeric=False)]
    read: list[list[Cell]] = [
        [file.path, observed(file.rows, "count", "manifest", "input_files", k, "rows"), file.sha256]
        for k, file in enumerate(manifest.input_files)
    ]
    wrote: list[list[Cell]] = [
        [file.path, observed(file.rows, "count", "manifest", "files", k, "rows"), file.sha256]
        for k, file in enumerate(manifest.files)
    ]
    tables = (
        Table("Files read.", columns, read, basis="observed"),
        Table("Files published.", columns, wrote, basis="observed"),
    )
    return [most(table) for table in tables if table.rows]


def cut(report: RunReport) -> Words:
    """Return where the table was cut, in words."""
    split = report.manifest.split
    place = ("manifest", "split")
    where = (
        number(split.alpha, "alpha", *place, "alpha")
        if split.alpha is not None
        else number(split.min_gain_per_usd, "ratio", *place, "min_gain_per_usd")
    )
    what = "alpha " if split.alpha is not None else "at least this gain a dollar: "
    return [what, where, f", from {split.rule} = {split.wanted}"]


def no_curve(report: RunReport) -> str:
    """Return why nothing can be said of another alpha, for a run of which nothing can."""
    rows = report.manifest.rows
    return "no answer has a price on both models" if rows["ok"] or rows["truncated"] else "nothing was answered"


def times(report: RunReport) -> str:
    """Return when the run was made."""
    manifest = report.manifest
    return f"started {moment(manifest.started_at)}, published {moment(manifest.published_at)}"


def _cost(cost: Decimal, queries: int, unpriced: int, *path: str | int) -> Number:
    return unless_unpriced(observed(cost, "money", *path, "cost_usd"), queries, unpriced)


def _tenth(value: float | None, *path: str | int) -> Number:
    shown = observed(value, "times", *path)
    return shown if value is None else Number(f"{value:,.1f}", value, shown.path, "observed")


def _length(seconds: float) -> str:
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{seconds:g} second{'s' if seconds > 1 else ''}"
