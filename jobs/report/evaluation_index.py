"""Finding the parts of an evaluation by what they are about, with their places in the JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Final

from jobs.report.numbers import Estimate, Number, Unit, number
from jobs.report.palette import Look, baseline_look, router_look
from schemas.evaluation import Bins, EvaluationReport, Figure

BASELINE: Final = "baseline"
_BASELINES: Final = ("random", "length", "constant", "oracle")


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is headed and written."""

    label: str
    about: str
    unit: Unit = "ratio"


METRICS: Final = {
    "apgr": Metric(
        "APGR", "Mean share of the quality gap that is recovered, over all strong shares; .500 is a random router"
    ),
    "cpt20": Metric("CPT20", "Smallest strong share that recovers 20 % of the gap", "share"),
    "cpt50": Metric("CPT50", "Smallest strong share that recovers half of the gap", "share"),
    "cpt80": Metric("CPT80", "Smallest strong share that recovers 80 % of the gap", "share"),
    "auc": Metric("AUC", "Mean quality over all strong shares"),
    "usd_apgr": Metric("APGR ($)", "As APGR, over the extra spend instead of the strong share"),
    "usd_cpt20": Metric("CPT20 ($)", "Smallest share of the extra spend that recovers 20 % of the gap", "share"),
    "usd_cpt50": Metric("CPT50 ($)", "Smallest share of the extra spend that recovers half of the gap", "share"),
    "usd_cpt80": Metric("CPT80 ($)", "Smallest share of the extra spend that recovers 80 % of the gap", "share"),
    "ece": Metric("ECE", "Expected calibration error: how far win rates lie from what happened, on average"),
}
"""In the order of their columns; a metric that is not here follows under its own name, written as a ratio."""

BINS: Final[dict[Bins, str]] = {"ranks": "over all ranks", "routellm": "at RouteLLM's ten bins"}
_Key = tuple[str, str | None, str, str, str]


def metric(name: str) -> Metric:
    """Return how a metric is shown."""
    return METRICS.get(name, Metric(name, ""))


def share_keys(found: Sequence[dict[str, float]]) -> list[str]:
    """Return the keys of some dictionaries by strong share, rising as numbers; keys that are none come last."""

    def order(key: str) -> tuple[bool, float, str]:
        try:
            return (False, float(key), key)
        except ValueError:
            return (True, 0.0, key)

    return sorted({key for shares in found for key in shares}, key=order)


class Index:
    """A report with ways in."""

    def __init__(self, report: EvaluationReport) -> None:
        self.report = report
        known = {router.name for router in report.routers}
        trained = [router.name for router in report.routers if router.kind != BASELINE]
        self._looks = {name: router_look(k) for k, name in enumerate(trained)}
        self._looks |= {name: baseline_look(name) for name in (*_BASELINES, *known) if name not in self._looks}
        self.trained: list[str] = trained

    @cached_property
    def _figures(self) -> dict[_Key, int]:
        return {(f.benchmark, f.category, f.router, f.metric, f.bins): k for k, f in enumerate(self.report.figures)}

    def look(self, router: str) -> Look:
        """Return how a router is drawn; one that the report does not list is drawn as a baseline."""
        return self._looks.get(router) or baseline_look(router)

    def is_baseline(self, router: str) -> bool:
        """Whether it is no trained router."""
        return router not in self.trained

    def find(
        self, benchmark: str, router: str, name: str, *, category: str | None = None, bins: Bins = "ranks"
    ) -> Figure | None:
        """Return a figure, None where it was not measured."""
        at = self._figures.get((benchmark, category, router, name, bins))
        return None if at is None else self.report.figures[at]

    def value(self, benchmark: str, router: str, name: str) -> float | None:
        """Return the value of a figure of a whole benchmark, None where it was not measured or has none."""
        figure = self.find(benchmark, router, name)
        return None if figure is None else figure.value

    def estimate(
        self, benchmark: str, router: str, name: str, *, category: str | None = None, bins: Bins = "ranks"
    ) -> Estimate | None:
        """Return a figure as it is shown, None where it was not measured."""
        at = self._figures.get((benchmark, category, router, name, bins))
        return None if at is None else self._shown(at, metric(name).unit)

    def ranked(self, benchmark: str) -> list[str]:
        """Return the routers measured on a benchmark: trained ones by falling APGR, then the baselines."""
        measured = {f.router for f in self.report.figures if f.benchmark == benchmark and f.category is None}
        apgr = {name: self.value(benchmark, name, "apgr") for name in self.trained}
        trained = sorted(self.trained, key=lambda name: falling(apgr[name]))
        return [name for name in dict.fromkeys([*trained, *_BASELINES, *sorted(measured)]) if name in measured]

    def metrics(self, benchmark: str, *, categories: bool) -> list[tuple[Bins, str]]:
        """Return the (bins, metric) that a benchmark, or its categories, were measured in, in the order of columns."""
        found = {
            (f.bins, f.metric)
            for f in self.report.figures
            if f.benchmark == benchmark and (f.category is not None) == categories
        }
        places = list(METRICS)
        return sorted(
            found, key=lambda f: (f[0] != "ranks", places.index(f[1]) if f[1] in METRICS else len(places), f[1])
        )

    def _shown(self, at: int, unit: Unit) -> Estimate:
        figure = self.report.figures[at]
        return Estimate(
            value=number(figure.value, unit, "figures", at, "value"),
            low=number(figure.low, unit, "figures", at, "low"),
            high=number(figure.high, unit, "figures", at, "high"),
        )


def estimate_of(unit: Unit, value: float | None, low: float | None, high: float | None, *path: str | int) -> Estimate:
    """Return an estimate whose three numbers stand under `value`'s name, `low` and `high` of one object.

    Args:
        unit: How all three are written.
        value: The figure itself.
        low: Lower end of its interval.
        high: Upper end.
        *path: Way to the figure itself; its last step is its name.
    """
    *parent, _ = path
    return Estimate(number(value, unit, *path), number(low, unit, *parent, "low"), number(high, unit, *parent, "high"))


def nothing() -> Number:
    """Return the dash that stands where nothing was measured."""
    return number(None, "ratio")


def falling(value: float | None) -> float:
    """Return a key that sorts large values first and absent ones last."""
    return inf if value is None else -value
