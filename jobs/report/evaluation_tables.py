"""The tables of an evaluation: every measured number stands in one of them, with its place in the JSON."""

from collections.abc import Mapping, Sequence
from typing import Final

from jobs.report.evaluation_index import BINS, Index, estimate_of, metric, nothing, share_keys
from jobs.report.numbers import number
from jobs.report.views import Cell, Column, Table
from schemas.evaluation import Bins, Curve, EvaluatedBenchmark

_MOST_METRICS: Final = 10
"""Columns of metrics that a page is wide enough for."""


def metrics_tables(index: Index, benchmark: EvaluatedBenchmark) -> list[Table]:
    """Return all metrics of all routers on a whole benchmark: one table, or one per way of reading the curve."""
    measured = index.metrics(benchmark.name, categories=False)
    if len(measured) <= _MOST_METRICS:
        return [_metrics_table(index, benchmark, measured)] if measured else []
    parts = [[(bins, name) for bins, name in measured if bins == wanted] for wanted in BINS]
    return [_metrics_table(index, benchmark, part) for part in parts if part]


def _metrics_table(index: Index, benchmark: EvaluatedBenchmark, measured: Sequence[tuple[Bins, str]]) -> Table:
    read = list(dict.fromkeys(BINS[bins] for bins, _ in measured))
    columns = [Column("router", numeric=False)]
    columns += [
        Column(metric(name).label, BINS[bins] if len(read) > 1 else "", metric(name).about) for bins, name in measured
    ]
    rows = [
        [router, *(index.estimate(benchmark.name, router, name, bins=bins) or nothing() for bins, name in measured)]
        for router in index.ranked(benchmark.name)
    ]
    how = f", curves read {' and '.join(read)}"
    return Table(f"Metrics on {benchmark.name}{how}; brackets are 95 % bootstrap intervals.", columns, rows)


def comparison_table(index: Index, benchmark: str) -> Table:
    """Return the paired differences between routers."""
    found = [(k, c) for k, c in enumerate(index.report.comparisons) if c.benchmark == benchmark]
    metrics = sorted({metric(c.metric).label for _, c in found})
    columns = [Column("router", numeric=False), Column("minus", numeric=False), Column("difference")]
    columns += [Column("p", about="Two-sided, from the same paired resamples")]
    if len(metrics) > 1:
        columns.append(Column("metric", numeric=False))
    rows: list[list[Cell]] = []
    for k, c in found:
        difference = estimate_of("difference", c.difference, c.low, c.high, "comparisons", k, "difference")
        shown: list[Cell] = [c.router, c.other, difference, number(c.p, "p", "comparisons", k, "p")]
        rows.append([*shown, metric(c.metric).label] if len(metrics) > 1 else shown)
    caption = f"Differences of {', '.join(metrics)} on the same resampled prompts, with 95 % intervals."
    if any(label.startswith("CPT") for label in metrics):
        caption += " Of CPT, less is better."
    return Table(caption, columns, rows, "Compared in pairs")


def category_tables(index: Index, benchmark: EvaluatedBenchmark, categories: Sequence[str]) -> list[Table]:
    """Return one table per metric: categories down, routers across."""
    return [
        _category_table(index, benchmark, categories, bins, name)
        for bins, name in index.metrics(benchmark.name, categories=True)
    ]


def _category_table(
    index: Index, benchmark: EvaluatedBenchmark, categories: Sequence[str], bins: Bins, name: str
) -> Table:
    at = index.report.benchmarks.index(benchmark)
    measured = {f.router for f in index.report.figures if f.benchmark == benchmark.name and f.category is not None}
    routers = [router for router in index.ranked(benchmark.name) if router in measured]
    rows: list[list[Cell]] = [
        [
            category,
            number(benchmark.categories[category], "count", "benchmarks", at, "categories", category)
            if category in benchmark.categories else nothing(),
            *(index.estimate(benchmark.name, r, name, category=category, bins=bins) or nothing() for r in routers),
        ]
        for category in categories
    ]  # fmt: skip
    columns = [Column("category", numeric=False), Column("prompts"), *(Column(router) for router in routers)]
    return Table(f"{metric(name).label} by category, {BINS[bins]}.", columns, rows)


def share_table(index: Index, curves: Sequence[int]) -> Table:
    """Return PGR reached with at most a tenth, two tenths, ... of strong calls."""
    found = [(k, index.report.curves[k]) for k in curves]
    rows: list[list[Cell]] = [
        [f".{tenth}0", *(_pgr_at(k, curve, tenth / 10) for k, curve in found)] for tenth in range(1, 10)
    ]
    columns = [Column("strong share, at most", numeric=False), *(Column(curve.router) for _, curve in found)]
    return Table(
        "PGR at the largest strong share that the router reaches without passing the one given.", columns, rows
    )


def _pgr_at(k: int, curve: Curve, share: float) -> Cell:
    at = max((i for i, x in enumerate(curve.strong_share) if x <= share + 1e-9), default=None)
    return nothing() if at is None else number(curve.pgr[at], "ratio", "curves", k, "pgr", at)


def dollar_table(index: Index, benchmark: EvaluatedBenchmark, curves: Sequence[int]) -> Table:
    """Return quality reached with at most a tenth, two tenths, ... of the extra spend."""
    found = [(k, index.report.curves[k]) for k in curves]
    weak, strong = benchmark.all_weak_usd or 0.0, benchmark.all_strong_usd or 0.0
    rows: list[list[Cell]] = []
    for tenth in range(1, 10):
        budget = weak + (strong - weak) * tenth / 10
        rows.append([f".{tenth}0", *(_quality_at(k, curve, budget) for k, curve in found)])
    columns = [
        Column("share of the extra spend, at most", numeric=False),
        *(Column(curve.router) for _, curve in found),
    ]
    return Table("Quality at the last point of the curve that this spend pays for.", columns, rows)


def _quality_at(k: int, curve: Curve, budget: float) -> Cell:
    usd = curve.usd or []
    at = max((i for i, spent in enumerate(usd) if spent <= budget * (1 + 1e-9)), default=None)
    return nothing() if at is None else number(curve.quality[at], "ratio", "curves", k, "quality", at)


def reliability_table(index: Index, k: int) -> Table:
    """Return the bins of one reliability curve."""
    curve = index.report.reliability[k]
    columns = [Column("bin", numeric=False), Column("prompts"), Column("mean win rate"), Column("strong won")]
    rows: list[list[Cell]] = [
        [
            str(i + 1),
            number(found.n, "count", "reliability", k, "bins", i, "n"),
            number(found.predicted, "ratio", "reliability", k, "bins", i, "predicted"),
            estimate_of("ratio", found.observed, found.low, found.high, "reliability", k, "bins", i, "observed"),
        ]
        for i, found in enumerate(curve.bins)
    ]  # fmt: skip
    return Table(f"{curve.router}: win rates and what happened.", columns, rows)


def histogram_table(index: Index, k: int) -> Table:
    """Return the bins of one distribution of win rates that hold any prompt."""
    found = index.report.histograms[k]
    columns = [Column("from", numeric=False), Column("to"), Column("prompts")]
    rows: list[list[Cell]] = [
        [
            number(found.edges[i], "ratio", "histograms", k, "edges", i),
            number(found.edges[i + 1], "ratio", "histograms", k, "edges", i + 1),
            number(count, "count", "histograms", k, "counts", i),
        ]
        for i, count in enumerate(found.counts)
        if count
    ]  # fmt: skip
    return Table(f"{found.router}: prompts by win rate; bins without prompts are left out.", columns, rows)


def agreement_table(index: Index, benchmark: str) -> Table:
    """Return how alike the routers order the prompts of a benchmark."""
    found = [(k, a) for k, a in enumerate(index.report.agreement) if a.benchmark == benchmark]
    shares = share_keys([a.same_side for _, a in found])
    columns = [Column("router", numeric=False), Column("and", numeric=False), Column("Spearman")]
    columns += [Column(share.removeprefix("0"), "same model at a strong share of") for share in shares]
    rows: list[list[Cell]] = [
        [
            a.router, a.other, number(a.spearman, "ratio", "agreement", k, "spearman"),
            *_by_share(shares, a.same_side, "agreement", k, "same_side"),
        ]
        for k, a in found
    ]  # fmt: skip
    return Table(
        "Rank correlation of win rates, and share of prompts that both send to the same model.",
        columns,
        rows,
        "Do they agree?",
    )


def transfer_summary_table(index: Index) -> Table:
    """Return every router over all unseen pairs."""
    columns = [
        Column("router", numeric=False), Column("unseen pairs"),
        Column("mean retention", about="APGR on the unseen pair over APGR on the seen one; 95 % over resampled pairs"),
        Column("order kept", about="Share of (pair, other router) in which the better router stays the better one"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for k, found in enumerate(index.report.transfer_summaries):
        path = ("transfer_summaries", k)
        retention = estimate_of("ratio", found.mean_retention, found.low, found.high, *path, "mean_retention")
        kept = number(found.ranking_kept, "ratio", *path, "ranking_kept")
        rows.append([found.router, number(found.pairs, "count", *path, "pairs"), retention, kept])
    return Table("Transfer to pairs of models that a router was not trained on.", columns, rows)


def transfer_table(index: Index, router: str) -> Table:
    """Return one router pair by pair."""
    columns = [
        Column("benchmark", numeric=False), Column("strong", numeric=False), Column("weak", numeric=False),
        Column("prompts"), Column("gap", about="Mean score of the strong model minus that of the weak one"),
        Column("APGR"), Column("retention"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            t.benchmark, t.strong, t.weak,
            number(t.n, "count", "transfer", k, "n"), number(t.gap, "ratio", "transfer", k, "gap"),
            estimate_of("ratio", t.apgr, t.low, t.high, "transfer", k, "apgr"),
            number(t.retention, "ratio", "transfer", k, "retention"),
        ]
        for k, t in enumerate(index.report.transfer)
        if t.router == router
    ]  # fmt: skip
    return Table(f"{router} on unseen pairs.", columns, rows)


def robustness_table(index: Index, benchmark: str) -> Table:
    """Return what changes of the prompts do to the routes."""
    found = [(k, r) for k, r in enumerate(index.report.robustness) if r.benchmark == benchmark]
    flips, moved = share_keys([r.flips for _, r in found]), share_keys([r.to_strong for _, r in found])
    columns = [Column("change", numeric=False), Column("router", numeric=False), Column("prompts")]
    columns += [Column(s.removeprefix("0"), "changes sides, at a strong share of") for s in flips]
    columns += [Column(s.removeprefix("0"), "moves to strong, at a strong share of") for s in moved]
    columns += [Column("mean shift", about="Mean of win rate after minus before"), Column("detail", numeric=False)]
    rows: list[list[Cell]] = []
    for k, r in found:
        shown: list[Cell] = [r.perturbation, r.router, number(r.n, "count", "robustness", k, "n")]
        for kind, shares, values in (("flips", flips, r.flips), ("to_strong", moved, r.to_strong)):
            shown += _by_share(shares, values, "robustness", k, kind)
        rows.append([*shown, number(r.mean_shift, "difference", "robustness", k, "mean_shift"), r.detail])
    return Table(f"Changed prompts of {benchmark}, alpha fixed on the unchanged ones.", columns, rows)


def drift_table(index: Index, router: str) -> Table:
    """Return the win rates of groups of prompts."""
    heads = ("5 %", "25 %", "50 %", "75 %", "95 %")
    columns = [Column("group", numeric=False), Column("prompts"), Column("mean")]
    columns += [Column(head, "quantiles of the win rate") for head in heads]
    columns += [Column("strong share", about="Above the alpha that sends half of the whole table to the strong model")]
    rows: list[list[Cell]] = []
    for k, d in enumerate(index.report.drift):
        if d.router == router:
            shown: list[Cell] = [
                d.group,
                number(d.n, "count", "drift", k, "n"),
                number(d.mean, "ratio", "drift", k, "mean"),
            ]
            shown += [number(q, "ratio", "drift", k, "quantiles", i) for i, q in enumerate(d.quantiles[: len(heads)])]
            shown += [nothing()] * (len(heads) - len(d.quantiles))
            rows.append([*shown, number(d.strong_share, "ratio", "drift", k, "strong_share")])
    return Table(f"{router}: win rates by group.", columns, rows)


def study_table(index: Index, benchmark: str) -> Table:
    """Return what labels are worth."""
    columns = [
        Column("kind", numeric=False), Column("trained on", numeric=False), Column("in-domain labels"), Column("draws"),
        Column("APGR"), Column("sd over draws"), Column("CPT50"), Column("protocol", numeric=False),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for k, s in enumerate(index.report.label_study):
        if s.benchmark == benchmark:
            path = ("label_study", k)
            rows.append([
                s.kind, s.data,
                number(s.n_labels, "count", *path, "n_labels"), number(s.draws, "count", *path, "draws"),
                estimate_of("ratio", s.apgr, s.low, s.high, *path, "apgr"), number(s.spread, "ratio", *path, "spread"),
                number(s.cpt50, "share", *path, "cpt50"), s.protocol,
            ])  # fmt: skip
    return Table(f"What labels are worth on {benchmark}.", columns, rows)


def _by_share(shares: Sequence[str], values: Mapping[str, float], *path: str | int) -> list[Cell]:
    return [number(values[s], "ratio", *path, s) if s in values else nothing() for s in shares]
