"""The page of an evaluation: which router, how sure, against what, and what a dollar buys."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.report import evaluation_beyond as beyond
from jobs.report import evaluation_plates as plates
from jobs.report.charts import swatch
from jobs.report.environment import render
from jobs.report.evaluation_index import METRICS, Index
from jobs.report.evaluation_summary import overview, verdicts
from jobs.report.evaluation_tables import agreement_table, comparison_table, metrics_tables, transfer_summary_table
from jobs.report.numbers import number
from jobs.report.palette import DARK, LIGHT, css
from jobs.report.phrases import moment
from jobs.report.views import Plate, Table
from schemas.evaluation import EvaluatedBenchmark, EvaluationReport, LabelStudy, Robustness


@dataclass(frozen=True, slots=True)
class BenchmarkSection:
    """One benchmark of the page."""

    anchor: str
    benchmark: EvaluatedBenchmark
    position: int
    metrics: Sequence[Table]
    quality: Sequence[Plate]
    tables: Sequence[Table]
    scores: Sequence[Plate]


def evaluation_page(report: EvaluationReport) -> str:
    """Return the self-contained HTML page of an evaluation.

    The same report gives the same page. It holds the report itself as JSON (`#report`); every number of it that is
    shown carries its JSON pointer in `data-json`. Parts that the report lacks are absent. All its text is untrusted.
    """
    index = Index(report)
    found = verdicts(index)
    return render(
        "evaluation.html.j2",
        report=report,
        report_json=report.model_dump(mode="json"),
        created=moment(report.created_at),
        colours={"light": css(LIGHT), "dark": css(DARK)},
        verdicts=found,
        best=Counter(verdict.router for verdict in found).most_common(),
        overview=overview(index),
        benchmarks=[_section(index, k, benchmark) for k, benchmark in enumerate(report.benchmarks)],
        transfer=_present([beyond.transfer_plate(index)]),
        transfer_summary=transfer_summary_table(index),
        robustness=_present([beyond.robustness_plate(index, name) for name in _benchmarks(report.robustness)]),
        drift=_present([beyond.drift_plate(index)]),
        study=_present([beyond.study_plate(index, name) for name in _benchmarks(report.label_study)]),
        metrics=[METRICS[name] for name in METRICS if any(figure.metric == name for figure in report.figures)],
        looks={router.name: swatch(index.look(router.name)) for router in report.routers},
        number=number,
    )


def _section(index: Index, k: int, benchmark: EvaluatedBenchmark) -> BenchmarkSection:
    first = (plates.curve_plate, plates.dollar_plate, plates.forest_plate)
    then = (plates.category_plate, plates.reliability_plate, plates.histogram_plate)
    tables = (comparison_table(index, benchmark.name), agreement_table(index, benchmark.name))
    return BenchmarkSection(
        anchor=f"benchmark-{k + 1}",
        benchmark=benchmark,
        position=k,
        metrics=metrics_tables(index, benchmark),
        quality=_present([plate(index, benchmark) for plate in first]),
        tables=[table for table in tables if table.rows],
        scores=_present([plate(index, benchmark) for plate in then]),
    )


def _benchmarks(found: Sequence[Robustness] | Sequence[LabelStudy]) -> list[str]:
    """Names in the order in which they first come; not all need be benchmarks of the report."""
    return list(dict.fromkeys(row.benchmark for row in found))


def _present(found: Sequence[Plate | None]) -> list[Plate]:
    return [plate for plate in found if plate is not None]
