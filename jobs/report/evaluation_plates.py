"""The charts of one benchmark."""

from collections.abc import Sequence
from typing import Final

from jobs.report import evaluation_tables as tables
from jobs.report.charts import (
    Line,
    Point,
    Row,
    Word,
    dot_chart,
    histogram,
    line_chart,
    matrix_chart,
    reliability_chart,
    shortened,
    swatch,
)
from jobs.report.evaluation_index import Index, falling
from jobs.report.marks import Axis, Pair, padded
from jobs.report.numbers import Estimate, written
from jobs.report.palette import Look, baseline_look
from jobs.report.views import LegendEntry, Panel, Plate
from schemas.evaluation import Curve, EvaluatedBenchmark

APGR_LIMITS: Final = (-0.5, 1.5)
_HIGHEST_PGR: Final = 1.5
_DRAWN: Final = ("length", "oracle")
"""Baselines whose curves are drawn; random and constant are the diagonal."""


_UNDRAWN: Final = ("random", "constant", "oracle")
"""Baselines without a dot: random is the band or .500, constant is .500, oracle far away; all are in the tables."""


def curve_plate(index: Index, benchmark: EvaluatedBenchmark) -> Plate | None:
    """Return PGR over the strong share."""
    at = _curves(index, benchmark)
    if not at:
        return None
    curves = [index.report.curves[k] for k in at]
    reached = [value for curve in curves for value in curve.pgr]
    low, high = padded(reached, include=(0.0, 1.0))
    diagonal = Line(baseline_look("random"), (0.0, 1.0), (0.0, 1.0), "random")
    drawn = [diagonal, *(Line(index.look(c.router), c.strong_share, c.pgr, c.router) for c in curves)]
    chart = line_chart(
        drawn,
        Axis("strong share: queries sent to the strong model", (0.0, 1.0)),
        Axis("PGR: share of the quality gap recovered", (min(low, -0.02), min(high, _HIGHEST_PGR)), "share"),
        words=[Word(0.68, 0.54, "random"), *_oracle_word(curves)],
    )
    return Plate(
        "Quality over the strong share",
        f"0 is {benchmark.weak} alone, 1 is {benchmark.strong} alone; a router is better the further its line runs "
        "above the diagonal. A line may pass 1, where routing beats the strong model.",
        [Panel(chart)],
        [tables.share_table(index, at)],
        legend=[*_legend(index, benchmark.name, [c.router for c in curves], "apgr"), _diagonal(index, benchmark.name)],
        legend_title="APGR with its 95 % interval",
    )


def dollar_plate(index: Index, benchmark: EvaluatedBenchmark) -> Plate | None:
    """Return quality over dollars; None where the costs are not known."""
    at = [k for k in _curves(index, benchmark) if index.report.curves[k].usd]
    weak, strong = benchmark.all_weak_usd, benchmark.all_strong_usd
    if not at or weak is None or strong is None or strong <= weak:
        return None
    curves = [index.report.curves[k] for k in at]
    ends = benchmark.weak_quality, benchmark.strong_quality
    spent = [usd for curve in curves for usd in curve.usd or []]
    x_domain = padded(spent, include=(weak, strong))
    x_domain = (max(0.0, x_domain[0]), x_domain[1])
    y_domain = padded([q for curve in curves if curve.router != "oracle" for q in curve.quality], include=ends)
    diagonal = Line(baseline_look("random"), (weak, strong), ends, "random")
    chart = line_chart(
        [diagonal, *(Line(index.look(c.router), c.usd or [], c.quality, c.router) for c in curves)],
        Axis("dollars for the whole benchmark", x_domain, "usd"),
        Axis("quality: mean score", y_domain, "ratio"),
        rules=ends,
        words=[
            Word(x_domain[0] + (x_domain[1] - x_domain[0]) * 0.01, ends[1], f"{shortened(benchmark.strong)} alone"),
            Word(
                x_domain[1] - (x_domain[1] - x_domain[0]) * 0.01, ends[0], f"{shortened(benchmark.weak)} alone", "end"
            ),
        ],
    )
    return Plate(
        "Quality over dollars",
        f"From every prompt on {benchmark.weak} ({written(weak, 'usd')}) to every prompt on {benchmark.strong} "
        f"({written(strong, 'usd')}). The straight line is a random split.",
        [Panel(chart)],
        [tables.dollar_table(index, benchmark, at)],
        legend=_legend(index, benchmark.name, [c.router for c in curves], "usd_apgr"),
        legend_title="APGR over the extra spend, with its 95 % interval",
    )


def forest_plate(index: Index, benchmark: EvaluatedBenchmark) -> Plate | None:
    """Return APGR of every router and baseline, before the range of random routers."""
    shown = [(name, index.estimate(benchmark.name, name, "apgr")) for name in index.ranked(benchmark.name)]
    rows = [_row(name, found, index.look(name)) for name, found in shown if found is not None and name not in _UNDRAWN]
    if not rows:
        return None
    random = index.find(benchmark.name, "random", "apgr")
    band = (
        (random.low, random.high) if random is not None and random.low is not None and random.high is not None else None
    )
    range_ = f" ({written(band[0], 'ratio')} to {written(band[1], 'ratio')})" if band else ""
    chart = dot_chart(rows, Axis("APGR", apgr_domain(rows, include=band or ())), reference=0.5, band=band)
    caption = "Dots are APGR, lines their 95 % bootstrap intervals over prompts; the vertical line is .500."
    if band:
        caption += f" Grey is where 19 in 20 single random routers fall{range_}: a dot inside says nothing."
    return Plate("APGR with intervals", caption, [Panel(chart)], [])


def category_plate(index: Index, benchmark: EvaluatedBenchmark) -> Plate | None:
    """Return APGR by category, one chart per router, categories in one order."""
    found = [f for f in index.report.figures if f.benchmark == benchmark.name and f.category is not None]
    routers = [
        name
        for name in index.ranked(benchmark.name)
        if name not in _UNDRAWN and any(f.router == name and f.metric == "apgr" for f in found)
    ]
    if not routers:
        return None

    def apgr(router: str, category: str) -> Estimate | None:
        return index.estimate(benchmark.name, router, "apgr", category=category)

    first = {
        category: apgr(routers[0], category) for category in dict.fromkeys(f.category for f in found if f.category)
    }
    order = sorted(first, key=lambda c: (falling(_value(first[c])), c))
    drawn = {r: [_row(c, apgr(r, c), index.look(r)) for c in order] for r in routers}
    axis = Axis("APGR", apgr_domain([row for rows in drawn.values() for row in rows]))
    chart = matrix_chart(list(drawn.items()), axis, reference=0.5)
    return Plate(
        "By category",
        f"{_told(drawn[routers[0]], routers[0])} Sorted by the APGR of {routers[0]}; lines are 95 % intervals, an "
        "arrow marks what lies outside the axis.",
        [Panel(chart)],
        tables.category_tables(index, benchmark, order),
        size="wide",
    )


def reliability_plate(index: Index, benchmark: EvaluatedBenchmark) -> Plate | None:
    """Return what happened over what was predicted, one small chart per router."""
    found = [(k, r) for k, r in enumerate(index.report.reliability) if r.benchmark == benchmark.name and r.bins]
    if not found:
        return None
    bins = [b for _, r in found for b in r.bins]
    x = Axis("mean win rate", padded([b.predicted for b in bins], limits=(0.0, 1.0)), "ratio")
    y = Axis(
        "strong won", padded([end for b in bins for end in (b.low, b.high, b.observed)], limits=(0.0, 1.0)), "ratio"
    )
    panels = []
    for _, r in found:
        points = [
            Point(
                index.look(r.router),
                b.predicted,
                b.observed,
                b.low,
                b.high,
                f"{b.n} prompts: {written(b.observed, 'ratio')}",
            )
            for b in r.bins
        ]
        panels.append(Panel(reliability_chart(points, x, y), f"{r.router}, ECE {written(r.ece, 'ratio')}"))
    return Plate(
        "Does a win rate mean what it says?",
        "Prompts in bins of equal size: how often the strong model won (a tie is one half) over the mean win rate, "
        "with 95 % intervals. On the diagonal the two are equal.",
        panels,
        [tables.reliability_table(index, k) for k, _ in found],
        size="small",
    )


def histogram_plate(index: Index, benchmark: EvaluatedBenchmark) -> Plate | None:
    """Return the distribution of win rates, one small chart per router."""
    found = [
        (k, h) for k, h in enumerate(index.report.histograms) if h.benchmark == benchmark.name and len(h.edges) > 1
    ]
    if not found:
        return None
    domain = min(h.edges[0] for _, h in found), max(h.edges[-1] for _, h in found)
    axis = Axis("win rate", domain if domain[0] < domain[1] else padded(domain), "ratio")
    return Plate(
        "Where the win rates lie",
        "Prompts by win rate. Where many prompts lie close together, a small move of alpha moves many of them.",
        [Panel(histogram(h.edges, h.counts, index.look(h.router), axis), h.router) for _, h in found],
        [tables.histogram_table(index, k) for k, _ in found],
        size="small",
    )


def apgr_domain(rows: Sequence[Row], include: Sequence[float] = ()) -> Pair:
    """Return a domain for most rows: a tiny gap gives APGR of any size, and one such row must not squeeze all."""
    ends = sorted(end for row in rows for end in (row.value, row.low, row.high) if end is not None)
    spare = len(ends) // 50
    return padded(ends[spare : len(ends) - spare], include=(0.5, *include), limits=APGR_LIMITS)


def _curves(index: Index, benchmark: EvaluatedBenchmark) -> list[int]:
    """Positions of the curves that are drawn, in the order of the tables."""
    order = index.ranked(benchmark.name)
    places = {name: k for k, name in enumerate(order)}
    found = [
        k
        for k, curve in enumerate(index.report.curves)
        if curve.benchmark == benchmark.name and curve.strong_share and _is_drawn(index, curve)
    ]
    return sorted(found, key=lambda k: places.get(index.report.curves[k].router, len(order)))


def _is_drawn(index: Index, curve: Curve) -> bool:
    return curve.router in _DRAWN or not index.is_baseline(curve.router)


def _legend(index: Index, benchmark: str, routers: Sequence[str], name: str) -> list[LegendEntry]:
    return [LegendEntry(swatch(index.look(r)), r, index.estimate(benchmark, r, name)) for r in routers]


def _diagonal(index: Index, benchmark: str) -> LegendEntry:
    return LegendEntry(swatch(baseline_look("random")), "random", index.estimate(benchmark, "random", "apgr"))


def _oracle_word(curves: Sequence[Curve]) -> list[Word]:
    """The oracle's name, beside its rise."""
    found = (x for c in curves if c.router == "oracle" for x, y in zip(c.strong_share, c.pgr, strict=True) if y >= 0.7)
    return [Word(x + 0.02, 0.7, "oracle") for x in list(found)[:1]]


def _row(label: str, estimate: Estimate | None, look: Look) -> Row:
    if estimate is None:
        return Row(label, look)
    low, high = (end.value if estimate.bounded else None for end in (estimate.low, estimate.high))
    text = (
        f"{estimate.value.text} [{estimate.low.text}, {estimate.high.text}]"
        if estimate.bounded
        else estimate.value.text
    )
    return Row(label, look, estimate.value.value, low, high, text)


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value.value


def _told(rows: Sequence[Row], router: str) -> str:
    """Say how many intervals exclude one half, and how many would by chance."""
    known = [(row.low, row.high) for row in rows if row.low is not None and row.high is not None]
    told = sum(not low <= 0.5 <= high for low, high in known)
    return (
        f"{told} of {len(known)} intervals of {router} exclude .500; where no category differed from random, "
        f"about {written(len(known) / 20, 'count')} would."
    )
