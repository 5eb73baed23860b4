"""An evaluation as Markdown tables, for docs/results: every figure is one of the report, with its interval."""

from collections.abc import Iterator, Sequence

from jobs.evaluate_config import BASELINES
from schemas.evaluation import (
    Bins,
    EvaluatedBenchmark,
    EvaluationReport,
    Figure,
    LabelStudy,
    Robustness,
)

SHARES = ("0.2", "0.5", "0.8")
"""Of the agreement of two routers."""
_RANKS: tuple[tuple[str, str, Bins], ...] = (
    ("APGR", "apgr", "ranks"), ("CPT20", "cpt20", "ranks"), ("CPT50", "cpt50", "ranks"), ("CPT80", "cpt80", "ranks"),
    ("AUC", "auc", "ranks"),
)  # fmt: skip
_ROUTELLM: tuple[tuple[str, str, Bins], ...] = (
    ("APGR", "apgr", "routellm"), ("CPT20", "cpt20", "routellm"), ("CPT50", "cpt50", "routellm"),
    ("CPT80", "cpt80", "routellm"), ("AUC", "auc", "routellm"),
)  # fmt: skip
_DOLLARS: tuple[tuple[str, str, Bins], ...] = (
    ("APGR", "usd_apgr", "ranks"), ("CPT20", "usd_cpt20", "ranks"), ("CPT50", "usd_cpt50", "ranks"),
    ("CPT80", "usd_cpt80", "ranks"),
)  # fmt: skip
_READ = (
    "A figure stands before its 95 % interval. APGR: mean share of the gap between the two models that is recovered; a "
    "random router has 0.5. CPT50: share of the prompts (or of the extra dollars) that goes strong until half of the "
    "gap is recovered; lower is better. `random`: mean and central 95 % of single random routers."
)


def markdown(report: EvaluationReport) -> str:
    """Return the tables of a report."""
    return "\n".join(_lines(report)).rstrip() + "\n"


def _lines(report: EvaluationReport) -> Iterator[str]:
    yield f"# {_text(report.name)}"
    yield ""
    yield (
        f"{report.created_at:%Y-%m-%d}, {_text(report.machine)}, seed {report.seed}, {report.resamples:,} resamples. "
        + _READ
    )
    yield ""
    if trained := [router for router in report.routers if router.kind != "baseline"]:
        yield from _table(
            ("router", "kind", "trained for", "licence", "sha256"),
            [(_text(r.name), r.kind, _text(r.trained_pair), _text(r.licence), (r.sha256 or "-")[:12]) for r in trained],
        )
    for benchmark in report.benchmarks:
        yield from _benchmark(report, benchmark)
    yield from _transfer(report)
    yield from _robustness(report.robustness)
    yield from _drift(report)
    yield from _label_study(report.label_study)
    if report.notes:
        yield "## Notes"
        yield ""
        yield from (f"- {_text(note)}" for note in report.notes)


def _benchmark(report: EvaluationReport, benchmark: EvaluatedBenchmark) -> Iterator[str]:
    figures = [figure for figure in report.figures if figure.benchmark == benchmark.name]
    whole = [figure for figure in figures if figure.category is None]
    yield f"## {_text(benchmark.name)}"
    yield ""
    protocol = f" {_text(benchmark.protocol)}." if benchmark.protocol else ""
    yield (
        f"{_text(benchmark.strong)} ({benchmark.strong_quality:.3f}) over {_text(benchmark.weak)} "
        f"({benchmark.weak_quality:.3f}), {benchmark.n:,} prompts.{protocol}"
    )
    yield ""
    yield from _metrics(whole, _RANKS)
    yield "At RouteLLM's ten bins (without interval, but for `random`):"
    yield ""
    yield from _metrics(whole, _ROUTELLM)
    if any(figure.metric == "usd_apgr" for figure in whole):
        yield (
            f"Over dollars: all strong is ${benchmark.all_strong_usd:,.4f}, all weak ${benchmark.all_weak_usd:,.4f}; "
            "shares are of the difference."
        )
        yield ""
        yield from _metrics(whole, _DOLLARS)
    yield from _comparisons(report, benchmark.name)
    yield from _agreement(report, benchmark.name)
    yield from _categories([figure for figure in figures if figure.category is not None])


def _metrics(figures: Sequence[Figure], columns: Sequence[tuple[str, str, Bins]]) -> Iterator[str]:
    found = {(figure.router, figure.metric, figure.bins): figure for figure in figures}
    rows = [
        (_text(router), *(_cell(found.get((router, metric, bins))) for _, metric, bins in columns))
        for router in _routers(figures)
        if any((router, metric, bins) in found for _, metric, bins in columns)
    ]
    yield from _table(("router", *(title for title, _, _ in columns)), rows)


def _comparisons(report: EvaluationReport, benchmark: str) -> Iterator[str]:
    rows = [
        (
            _text(one.router), _text(one.other), one.metric, f"{one.difference:+.3f}",
            f"{one.low:+.3f} to {one.high:+.3f}", _p(one.p, report.resamples),
        )
        for one in report.comparisons
        if one.benchmark == benchmark
    ]  # fmt: skip
    if rows:
        yield "Paired differences, router minus other, on the same resampled prompts (of a CPT, below zero is better):"
        yield ""
        yield from _table(("router", "other", "metric", "difference", "95 %", "p"), rows)


def _agreement(report: EvaluationReport, benchmark: str) -> Iterator[str]:
    calibration = [(_text(one.router), f"{one.ece:.3f}") for one in report.reliability if one.benchmark == benchmark]
    if calibration:
        yield from _table(("router", "expected calibration error"), calibration)
    rows = [
        (
            _text(one.router), _text(one.other), "-" if one.spearman is None else f"{one.spearman:.3f}",
            *(f"{one.same_side[share]:.3f}" for share in SHARES),
        )
        for one in report.agreement
        if one.benchmark == benchmark
    ]  # fmt: skip
    if rows:
        yield "Agreement: rank correlation, and share of prompts sent to the same model at a strong share:"
        yield ""
        yield from _table(("router", "other", "Spearman", *SHARES), rows)


def _categories(figures: Sequence[Figure]) -> Iterator[str]:
    """APGR of each router in each category that has figures of its own."""
    apgr = {(one.category, one.router): one for one in figures if one.metric == "apgr"}
    if not apgr:
        return
    routers = [router for router in _routers(figures) if router != "constant"]
    sizes = {one.category: one.n for one in apgr.values()}
    yield "APGR by category:"
    yield ""
    yield from _table(
        ("category", "prompts", *map(_text, routers)),
        [
            (_text(str(category)), f"{n:,}", *(_cell(apgr.get((category, router))) for router in routers))
            for category, n in sizes.items()
        ],
    )


def _transfer(report: EvaluationReport) -> Iterator[str]:
    if not report.transfer:
        return
    yield "## Transfer"
    yield ""
    yield (
        "Retention: APGR on a pair that the router was not trained on, over its APGR on the one it was trained on. "
        "Lift kept: the same of APGR - 0.5, for a router that is random everywhere has a retention of 1."
    )
    yield ""
    yield from _table(
        ("router", "pairs", "mean retention", "lift kept", "order of routers kept"),
        [
            (
                _text(one.router), str(one.pairs), _interval(one.mean_retention, one.low, one.high),
                _number(one.lift_kept), _number(one.ranking_kept),
            )
            for one in report.transfer_summaries
        ],
    )  # fmt: skip
    yield from _table(
        ("benchmark", "strong", "weak", "prompts", "gap", "router", "APGR", "retention"),
        [
            (
                _text(one.benchmark), _text(one.strong), _text(one.weak), f"{one.n:,}", f"{one.gap:.3f}",
                _text(one.router), _interval(one.apgr, one.low, one.high), _number(one.retention),
            )
            for one in report.transfer
        ],
    )  # fmt: skip


def _robustness(found: Sequence[Robustness]) -> Iterator[str]:
    if not found:
        return
    shares = list(dict.fromkeys(share for one in found for share in one.flips))
    yield "## Robustness"
    yield ""
    yield (
        "Share of prompts that change sides when a prompt is changed but alpha is not, by strong share; and the share "
        "that moves to the strong model."
    )
    yield ""
    yield from _table(
        (
            "benchmark", "router", "change", "prompts", *(f"flips {share}" for share in shares),
            *(f"to strong {share}" for share in shares), "mean shift", "detail",
        ),
        [
            (
                _text(one.benchmark), _text(one.router), _text(one.perturbation), f"{one.n:,}",
                *(_number(one.flips.get(share)) for share in shares),
                *(_number(one.to_strong.get(share)) for share in shares),
                f"{one.mean_shift:+.4f}", _text(one.detail) or "-",
            )
            for one in found
        ],
    )  # fmt: skip


def _drift(report: EvaluationReport) -> Iterator[str]:
    if not report.drift:
        return
    yield "## Drift"
    yield ""
    yield (
        "Win rates by group, with quantiles at 0.05, 0.25, 0.5, 0.75, 0.95; strong share: of the group, at the alpha "
        "that sends half of the whole table to the strong model."
    )
    yield ""
    yield from _table(
        ("router", "group", "prompts", "mean", "quantiles", "strong share"),
        [
            (
                _text(one.router), _text(one.group), f"{one.n:,}", f"{one.mean:.3f}",
                ", ".join(f"{value:.3f}" for value in one.quantiles), f"{one.strong_share:.3f}",
            )
            for one in report.drift
        ],
    )  # fmt: skip


def _label_study(found: Sequence[LabelStudy]) -> Iterator[str]:
    if not found:
        return
    yield "## What labels are worth"
    yield ""
    yield from _table(
        ("benchmark", "kind", "data", "labels", "draws", "APGR", "spread", "CPT50", "protocol"),
        [
            (
                _text(one.benchmark), _text(one.kind), _text(one.data), f"{one.n_labels:,}", str(one.draws),
                _interval(one.apgr, one.low, one.high), _number(one.spread), _number(one.cpt50), _text(one.protocol),
            )
            for one in found
        ],
    )  # fmt: skip


def _routers(figures: Sequence[Figure]) -> list[str]:
    """Routers in the order of the report, the baselines after them."""
    names = dict.fromkeys(figure.router for figure in figures)
    return [*(name for name in names if name not in BASELINES), *(name for name in BASELINES if name in names)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _cell(figure: Figure | None) -> str:
    return "-" if figure is None else _interval(figure.value, figure.low, figure.high)


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None:
        return _number(value)
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _p(p: float, resamples: int) -> str:
    """No resample on the other side of zero says that p is below what so many resamples can show."""
    return f"< {2 / resamples:.3g}" if p == 0 else f"{p:.3f}"


def _text(text: str) -> str:
    """Names and suffixes are data: they open no cell, no line and no tag."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())
