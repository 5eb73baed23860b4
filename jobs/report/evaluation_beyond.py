"""The charts of what goes beyond one benchmark: transfer, robustness, other groups, what labels are worth."""

from collections.abc import Sequence

from jobs.report import evaluation_tables as tables
from jobs.report.charts import Line, Point, Row, Word, bar_chart, dot_chart, line_chart, swatch
from jobs.report.evaluation_index import Index, share_keys
from jobs.report.evaluation_plates import APGR_LIMITS, apgr_domain
from jobs.report.marks import Axis, padded
from jobs.report.numbers import written
from jobs.report.palette import router_look
from jobs.report.views import LegendEntry, Panel, Plate
from schemas.evaluation import LabelStudy


def robustness_plate(index: Index, benchmark: str) -> Plate | None:
    """Return the share of prompts that change sides, by change and router."""
    found = [r for r in index.report.robustness if r.benchmark == benchmark]
    shares = share_keys([r.flips for r in found])
    if not shares:
        return None
    share = "0.5" if "0.5" in shares else shares[len(shares) // 2]
    rows: list[Row] = []
    for change in dict.fromkeys(r.perturbation for r in found):
        rows.append(Row(change))
        rows += [
            Row(r.router, index.look(r.router), r.flips[share], text=written(r.flips[share], "ratio"))
            for r in found
            if r.perturbation == change and share in r.flips
        ]
    highest = max((row.value for row in rows if row.value is not None), default=0.0)
    chart = bar_chart(rows, Axis("share of prompts that change sides", (0.0, max(highest * 1.05, 0.01)), "ratio"))
    return Plate(
        benchmark,
        f"Prompts that change sides at a strong share of {share.removeprefix('0')}, alpha fixed on the unchanged ones.",
        [Panel(chart)],
        [tables.robustness_table(index, benchmark)],
    )


def transfer_plate(index: Index) -> Plate | None:
    """Return APGR on unseen pairs, one chart per router."""
    found = index.report.transfer
    routers = list(dict.fromkeys(t.router for t in found))
    drawn: dict[str, list[Row]] = {}
    for router in routers:
        rows: list[Row] = []
        for benchmark in dict.fromkeys(t.benchmark for t in found if t.router == router):
            there = sorted((t for t in found if (t.router, t.benchmark) == (router, benchmark)), key=lambda t: -t.apgr)
            texts = [
                f"{written(t.apgr, 'ratio')} [{written(t.low, 'ratio')}, {written(t.high, 'ratio')}]" for t in there
            ]
            labels = [f"{t.strong} / {t.weak}" for t in there]
            rows.append(Row(benchmark))
            rows += [
                Row(label, index.look(router), t.apgr, t.low, t.high, text)
                for label, t, text in zip(labels, there, texts, strict=True)
            ]
        drawn[router] = rows
    if not drawn:
        return None
    domain = apgr_domain([row for rows in drawn.values() for row in rows])
    return Plate(
        "APGR on unseen pairs",
        "Strong / weak model of each pair, sorted by APGR; lines are 95 % bootstrap intervals over prompts, the "
        "vertical line is .500.",
        [Panel(dot_chart(rows, Axis("APGR", domain), reference=0.5), router) for router, rows in drawn.items()],
        [tables.transfer_table(index, router) for router in routers],
    )


def drift_plate(index: Index) -> Plate | None:
    """Return win rates by group of prompts, one chart per router."""
    routers = list(dict.fromkeys(d.router for d in index.report.drift))
    panels = []
    for router in routers:
        rows = [
            Row(d.group, index.look(router), d.mean, *_ends(d.quantiles), text=written(d.strong_share, "ratio"))
            for d in index.report.drift
            if d.router == router
        ]
        every = [v for row in rows for v in (row.low, row.value, row.high) if v is not None]
        panels.append(Panel(dot_chart(rows, Axis("win rate", padded(every, limits=(0.0, 1.0)), "ratio")), router))
    if not panels:
        return None
    return Plate(
        "Win rates by group",
        "Dots are means, lines go from the 5 % to the 95 % quantile of the group's win rates. On the right: the "
        "group's strong share under the alpha that sends half of the whole table to the strong model.",
        panels,
        [tables.drift_table(index, router) for router in routers],
    )


def study_plate(index: Index, benchmark: str) -> Plate | None:
    """Return APGR over the number of labels, one chart per kind of router."""
    found = [s for s in index.report.label_study if s.benchmark == benchmark]
    if not found:
        return None
    data = list(dict.fromkeys(s.data for s in found))
    length = index.value(benchmark, "length", "apgr")
    most = max(s.n_labels for s in found) or 1
    y_domain = padded(
        [v for s in found for v in (s.low, s.high)], include=[0.5, *([length] if length is not None else [])]
    )
    y_domain = max(y_domain[0], APGR_LIMITS[0]), min(y_domain[1], APGR_LIMITS[1])
    x, y = Axis("in-domain labels", (-0.05 * most, 1.05 * most), "count"), Axis("APGR", y_domain, "ratio")
    panels = []
    for kind in dict.fromkeys(s.kind for s in found):
        series = [sorted((s for s in found if (s.kind, s.data) == (kind, d)), key=lambda s: s.n_labels) for d in data]
        # Points of one number of labels stand side by side.
        moved = [0.012 * most * (i - (len(data) - 1) / 2) for i in range(len(data))]
        drawn = [
            Line(router_look(i), [s.n_labels + moved[i] for s in of], [s.apgr for s in of], data[i])
            for i, of in enumerate(series)
            if len(of) > 1
        ]
        points = [_study_point(s, i, moved[i]) for i, of in enumerate(series) for s in of]
        words = [Word(1.04 * most, 0.5, "random", "end")]
        words += [Word(1.04 * most, length, "prompt length", "end")] if length is not None else []
        rules = [0.5, *([length] if length is not None else [])]
        panels.append(Panel(line_chart(drawn, x, y, points=points, rules=rules, words=words), kind))
    return Plate(
        benchmark,
        "APGR over the number of labels from the benchmark itself; vertical lines are 95 % bootstrap intervals over "
        "prompts.",
        panels,
        [tables.study_table(index, benchmark)],
        legend=[LegendEntry(swatch(router_look(i)), name) for i, name in enumerate(data)],
        legend_title="trained on",
    )


def _study_point(s: LabelStudy, i: int, moved: float) -> Point:
    tooltip = f"{s.data}, {s.n_labels} labels: {written(s.apgr, 'ratio')}"
    return Point(router_look(i), s.n_labels + moved, s.apgr, s.low, s.high, tooltip)


def _ends(quantiles: Sequence[float]) -> tuple[float | None, float | None]:
    return (quantiles[0], quantiles[-1]) if quantiles else (None, None)
