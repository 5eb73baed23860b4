"""What an evaluation leaves behind as tables: figures, curves and comparisons, and the scores behind them."""

from collections.abc import Mapping, Sequence

import polars as pl

from jobs.evaluate_read import ReadBenchmark
from routing.metrics import Floats
from schemas.billing import USD
from schemas.evaluation import EvaluationReport, Part

_FIGURES = {
    "benchmark": pl.String, "category": pl.String, "router": pl.String, "metric": pl.String, "bins": pl.String,
    "value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n": pl.Int64,
}  # fmt: skip
_COMPARISONS = {
    "benchmark": pl.String, "router": pl.String, "other": pl.String, "metric": pl.String,
    "difference": pl.Float64, "low": pl.Float64, "high": pl.Float64, "p": pl.Float64,
}  # fmt: skip
_POINTS = ("strong_share", "quality", "pgr", "usd")
_SCORES = {
    "benchmark": pl.String, "row": pl.UInt32, "prompt": pl.String, "category": pl.String,
    "strong_score": pl.Float64, "weak_score": pl.Float64, "strong_usd": USD, "weak_usd": USD,
    "router": pl.String, "win_rate": pl.Float64,
}  # fmt: skip


def tables(
    report: EvaluationReport, benchmarks: Sequence[ReadBenchmark], win_rates: Mapping[str, Mapping[str, Floats]]
) -> dict[str, pl.DataFrame]:
    """Return name -> table: `figures`, `comparisons`, `curves`, and `scores` with one row per prompt and router.

    Args:
        report: What was found.
        benchmarks: What was measured on.
        win_rates: Benchmark -> router -> win rates in the order of the benchmark's rows.
    """
    return {
        "figures": _frame(report.figures, _FIGURES),
        "comparisons": _frame(report.comparisons, _COMPARISONS),
        "curves": _curves(report),
        "scores": pl.concat(
            [_scores(item, router, rates) for item in benchmarks for router, rates in win_rates[item.name].items()]
        ),
    }


def _frame(parts: Sequence[Part], schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    return pl.DataFrame([part.model_dump() for part in parts], schema=dict(schema), orient="row")


def _curves(report: EvaluationReport) -> pl.DataFrame:
    schema = {"benchmark": pl.String, "router": pl.String} | dict.fromkeys(_POINTS, pl.List(pl.Float64))
    rows = [
        curve.model_dump() | {"usd": [None] * len(curve.pgr) if curve.usd is None else curve.usd}
        for curve in report.curves
    ]
    return pl.DataFrame(rows, schema=schema, orient="row").explode(_POINTS)


def _scores(item: ReadBenchmark, router: str, win_rates: Floats) -> pl.DataFrame:
    columns = ("prompt", "category", "strong_score", "weak_score", "strong_usd", "weak_usd")
    return (
        item.rows.select(columns)
        .with_row_index("row")
        .with_columns(benchmark=pl.lit(item.name), router=pl.lit(router), win_rate=pl.Series(win_rates))
        .select(_SCORES.keys())
        .cast(_SCORES)  # type: ignore[arg-type]  # a mapping of names to types
    )
