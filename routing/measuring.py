"""Every figure of some routers on one benchmark, beside random, length, constant and oracle: what a report is made of.

All routers are read on the same resampled prompts, so that any two of them can be compared resample by resample.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from routing.agreement import histogram, same_side, spearman
from routing.comparison import difference
from routing.dollars import dollar_curve, sample_dollars
from routing.errors import DataError
from routing.metrics import (
    Floats,
    Interval,
    Samples,
    Statistic,
    average_pgr,
    cost_quality_curve,
    first_share,
    has_gap,
    interval,
    random_many,
    sample,
)
from routing.reliability import expected_calibration_error, outcomes, reliability
from routing.routellm_metrics import RouteLlmCurve, routellm_curve
from schemas.evaluation import Agreement, Bins, Comparison, Curve, Figure, Reliability, ScoreHistogram

STATISTICS: Mapping[str, Statistic] = {
    "apgr": average_pgr,
    "cpt20": first_share(0.2),
    "cpt50": first_share(0.5),
    "cpt80": first_share(0.8),
}
ON_QUALITY: Mapping[str, Statistic] = {"auc": average_pgr}
METRICS = (*STATISTICS, *ON_QUALITY)
IN_DOLLARS = "usd_"
"""Prefix of a metric whose axis is the extra cost instead of the strong share."""
COMPARED = ("apgr", "cpt50", "cpt80", "usd_apgr")
SHARES = (0.2, 0.5, 0.8)
CURVE_POINTS = 200
ROUTELLM_RANDOM_ROUTERS = 100
"""Each costs a sort of the whole benchmark."""

ROUTELLM: Mapping[str, Callable[[RouteLlmCurve], float]] = {
    "apgr": lambda curve: curve.apgr,
    "cpt20": lambda curve: curve.cpt(0.2),
    "cpt50": lambda curve: curve.cpt(0.5),
    "cpt80": lambda curve: curve.cpt(0.8),
    "auc": lambda curve: curve.auc,
}


@dataclass(frozen=True, slots=True)
class Exam:
    """A benchmark, and what the routers say about its prompts."""

    name: str
    strong: Floats
    """Grade of the strong model's answers, shape (n,); like all vectors here."""
    weak: Floats
    length: Floats
    """Length of each prompt."""
    win_rates: Mapping[str, Floats]
    """Router -> P(strong beats weak)."""
    strong_usd: Floats | None = None
    """Null where costs are not known for every prompt."""
    weak_usd: Floats | None = None
    categories: tuple[str | None, ...] = ()
    """Of each prompt; empty where there are none."""

    @property
    def usd(self) -> tuple[Floats, Floats] | None:
        """Cost of each prompt on the strong and the weak model; null where unknown, or the strong one is no dearer."""
        if self.strong_usd is None or self.weak_usd is None or not has_gap(self.strong_usd - self.weak_usd):
            return None
        return self.strong_usd, self.weak_usd

    @property
    def not_dearer(self) -> bool:
        """Whether costs are known and say nothing of a router: all strong costs no more than all weak."""
        return self.strong_usd is not None and self.weak_usd is not None and self.usd is None

    @property
    def orders(self) -> dict[str, Floats]:
        """Who is measured -> what orders the prompts: the routers, then the baselines but `random`."""
        constant = np.zeros(len(self.strong))
        return {**self.win_rates, "length": self.length, "constant": constant, "oracle": self.oracle}

    @property
    def oracle(self) -> Floats:
        """Rank of each prompt by its true gain, among equal gains by gain per dollar; no alpha binds an oracle."""
        gain = self.strong - self.weak
        extra = np.ones_like(gain) if self.usd is None else self.usd[0] - self.usd[1]
        # Where the strong model is no dearer, a gain is free and a loss is paid for with the largest ratio.
        per_dollar = gain / np.maximum(extra, np.finfo(np.float64).tiny)
        rank = np.empty(len(gain))
        rank[np.lexsort((per_dollar, gain))] = np.arange(len(gain))
        return rank

    def part(self, rows: NDArray[np.bool_]) -> "Exam":
        """Return the exam of some of the prompts."""
        return Exam(
            name=self.name,
            strong=self.strong[rows],
            weak=self.weak[rows],
            length=self.length[rows],
            win_rates={name: rates[rows] for name, rates in self.win_rates.items()},
            strong_usd=None if self.strong_usd is None else self.strong_usd[rows],
            weak_usd=None if self.weak_usd is None else self.weak_usd[rows],
        )


@dataclass(frozen=True, slots=True)
class Resampling:
    """How sure a figure is made to be."""

    resamples: int
    seed: int
    random_routers: int
    """Random routers behind the row `random`."""
    category_prompts: int
    """Smallest category that has figures of its own."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found on one benchmark."""

    figures: list[Figure] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    reliability: list[Reliability] = field(default_factory=list)
    histograms: list[ScoreHistogram] = field(default_factory=list)
    agreement: list[Agreement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Why figures are missing."""


def measure(exam: Exam, how: Resampling) -> Measured:
    """Measure all routers and baselines on one benchmark.

    Raises:
        DataError: no prompts, values that are not finite, or a strong model that is not better.
    """
    samples = {name: _samples(exam, order, how) for name, order in exam.orders.items()}
    found = Measured(
        comparisons=_comparisons(exam, samples),
        curves=[_curve(exam, "random" if name == "constant" else name, order) for name, order in exam.orders.items()],
        histograms=[_histogram(exam.name, name, rates) for name, rates in exam.win_rates.items()],
        agreement=_agreement(exam),
    )
    for name, metrics in samples.items():
        found.figures.extend(_figures(exam, name, {metric: interval(draws) for metric, draws in metrics.items()}))
        found.figures.extend(_routellm(exam, name, exam.orders[name]))
    found.figures.extend(_figures(exam, "random", _random(exam, how)))
    found.figures.extend(_routellm_random(exam, how))
    for name, rates in exam.win_rates.items():
        bins = reliability(rates, outcomes(exam.strong, exam.weak))
        ece = expected_calibration_error(bins)
        found.reliability.append(Reliability(benchmark=exam.name, router=name, ece=ece, bins=bins))
        found.figures.append(Figure(benchmark=exam.name, router=name, metric="ece", value=ece, n=len(rates)))
    if exam.not_dearer:
        found.notes.append(f"{exam.name}: no figures over dollars, because all strong costs no more than all weak")
    _by_category(exam, how, found)
    return found


def _samples(exam: Exam, order: Floats, how: Resampling) -> dict[str, Samples]:
    found = sample(
        order, exam.strong, exam.weak, STATISTICS, on_quality=ON_QUALITY, resamples=how.resamples, seed=how.seed
    )
    if exam.usd is None:
        return found
    strong_usd, weak_usd = exam.usd
    dollars = sample_dollars(
        order, exam.strong, exam.weak, strong_usd, weak_usd, STATISTICS, resamples=how.resamples, seed=how.seed
    )
    return found | {IN_DOLLARS + name: draws for name, draws in dollars.items()}


def _random(exam: Exam, how: Resampling) -> dict[str, Interval]:
    """Mean and central 95 % over single random routers."""
    found = random_many(
        exam.strong, exam.weak, STATISTICS, on_quality=ON_QUALITY, routers=how.random_routers, seed=how.seed
    )
    if exam.usd is None:
        return found
    curves = [
        dollar_curve(order, exam.strong, exam.weak, *exam.usd)
        for order in _random_orders(len(exam.strong), how.random_routers, how.seed)
    ]
    return found | {
        IN_DOLLARS + name: _spread([float(statistic(curve.usd_share, curve.pgr)) for curve in curves])
        for name, statistic in STATISTICS.items()
    }


def _routellm(exam: Exam, name: str, order: Floats) -> list[Figure]:
    """Figures at RouteLLM's ten bins, null where its bin edges coincide; they have no interval."""
    try:
        curve = routellm_curve(order, exam.strong, exam.weak)
    except DataError:
        values: dict[str, float | None] = dict.fromkeys(ROUTELLM)
    else:
        values = {metric: read(curve) for metric, read in ROUTELLM.items()}
    return [
        Figure(benchmark=exam.name, router=name, metric=metric, bins="routellm", value=value, n=len(order))
        for metric, value in values.items()
    ]


def _routellm_random(exam: Exam, how: Resampling) -> list[Figure]:
    curves = [
        routellm_curve(order, exam.strong, exam.weak)
        for order in _random_orders(len(exam.strong), ROUTELLM_RANDOM_ROUTERS, how.seed)
    ]
    found = {metric: _spread([read(curve) for curve in curves]) for metric, read in ROUTELLM.items()}
    return _figures(exam, "random", found, bins="routellm")


def _random_orders(n: int, routers: int, seed: int) -> Iterator[Floats]:
    rng = np.random.default_rng(seed)
    yield from (rng.permutation(n).astype(np.float64) for _ in range(routers))


def _spread(values: list[float]) -> Interval:
    return interval(Samples(float(np.mean(values)), np.array(values)))


def _figures(
    exam: Exam, router: str, found: Mapping[str, Interval], *, bins: Bins = "ranks", category: str | None = None
) -> list[Figure]:
    return [
        Figure(
            benchmark=exam.name, category=category, router=router, metric=metric, bins=bins,
            value=one.value, low=one.low, high=one.high, n=len(exam.strong),
        )
        for metric, one in found.items()
    ]  # fmt: skip


def _by_category(exam: Exam, how: Resampling, found: Measured) -> None:
    """Add the figures of every category that is large enough, null where its strong model is not better."""
    names = np.array(exam.categories, dtype=object)
    categories = sorted({name for name in exam.categories if name is not None})
    not_dearer = []
    for category in categories if len(categories) > 1 else []:
        rows = names == category
        if rows.sum() < how.category_prompts:
            continue
        part = exam.part(rows)
        if not has_gap(part.strong - part.weak):
            found.figures.extend(_no_gap(part, category))
            continue
        if part.not_dearer:
            not_dearer.append(category)
        for name, order in part.orders.items():
            figures = {metric: interval(draws) for metric, draws in _samples(part, order, how).items()}
            found.figures.extend(_figures(part, name, figures, category=category))
        found.figures.extend(_figures(part, "random", _random(part, how), category=category))
    if not_dearer:
        where = ", ".join(not_dearer)
        found.notes.append(f"{exam.name}: no figures over dollars where the strong model costs no more: {where}")


def _no_gap(part: Exam, category: str) -> list[Figure]:
    return [
        Figure(benchmark=part.name, category=category, router=name, metric=metric, value=None, n=len(part.strong))
        for name in (*part.orders, "random")
        for metric in METRICS
    ]


def _comparisons(exam: Exam, samples: Mapping[str, Mapping[str, Samples]]) -> list[Comparison]:
    """Every router against every other, length, and the mean random router, whose curve is that of `constant`."""
    against: list[tuple[str, str, Mapping[str, Samples], tuple[str, ...]]] = [
        (one, two, samples[two], COMPARED)
        for one, two in (*combinations(exam.win_rates, 2), *((name, "length") for name in exam.win_rates))
    ]
    areas = tuple(metric for metric in COMPARED if metric.endswith("apgr"))
    against += [(name, "random", samples["constant"], areas) for name in (*exam.win_rates, "length")]
    found = []
    for one, two, others, metrics in against:
        for metric in metrics:
            if metric not in others:  # costs are not known
                continue
            gap = difference(samples[one][metric], others[metric])
            found.append(
                Comparison(
                    benchmark=exam.name,
                    router=one,
                    other=two,
                    metric=metric,
                    difference=gap.value,
                    low=gap.low,
                    high=gap.high,
                    p=gap.p,
                )
            )
    return found


def _curve(exam: Exam, name: str, order: Floats) -> Curve:
    curve = cost_quality_curve(order, exam.strong, exam.weak)
    points = np.unique(np.searchsorted(curve.strong_share, np.linspace(0.0, 1.0, CURVE_POINTS)))
    usd = None if exam.usd is None else dollar_curve(order, exam.strong, exam.weak, *exam.usd).usd[points].tolist()
    return Curve(
        benchmark=exam.name,
        router=name,
        strong_share=curve.strong_share[points].tolist(),
        quality=curve.quality[points].tolist(),
        pgr=curve.pgr[points].tolist(),
        usd=usd,
    )


def _histogram(benchmark: str, router: str, win_rates: Floats) -> ScoreHistogram:
    edges, counts = histogram(win_rates)
    return ScoreHistogram(benchmark=benchmark, router=router, edges=edges, counts=counts)


def _agreement(exam: Exam) -> list[Agreement]:
    orders = {**exam.win_rates, "length": exam.length}
    pairs = [*combinations(exam.win_rates, 2), *((name, "length") for name in exam.win_rates)]
    return [
        Agreement(
            benchmark=exam.name,
            router=one,
            other=two,
            spearman=spearman(orders[one], orders[two]),
            same_side={str(share): same_side(orders[one], orders[two], share) for share in SHARES},
        )
        for one, two in pairs
    ]
