"""What an evaluation says in a few sentences: per benchmark the best router against random, length and the bill."""

from dataclasses import dataclass
from typing import Literal

from jobs.report.evaluation_index import Index, estimate_of, nothing
from jobs.report.numbers import Estimate, Number, number, rounded_usd
from jobs.report.views import Cell, Column, Table
from schemas.evaluation import EvaluatedBenchmark

AgainstRandom = Literal["above", "includes-half", "inside", "below", "unknown"]
"""`above`: outside the range of random routers, interval above .5; `includes-half`: outside it, but the interval holds
.5; `inside`: a random router does as well; `below`: outside, and lower; `unknown`: no interval to tell."""
AgainstLength = Literal["better", "worse", "untold", "unpaired", "unknown"]
"""By the paired interval; `unpaired` where only the two figures are known."""


@dataclass(frozen=True, slots=True)
class Dollars:
    """What half of the quality gap costs."""

    half_gap: Number
    """Dollars above all weak."""
    extra: Number
    """Dollars from all weak to all strong."""
    times: Estimate
    """What a dollar buys, as a multiple of what it buys under a random split, up to half of the gap."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The best router of a benchmark, judged."""

    benchmark: EvaluatedBenchmark
    anchor: str
    router: str
    contenders: int
    apgr: Estimate
    random: Estimate | None
    against_random: AgainstRandom
    length: Estimate | None
    against_length: AgainstLength
    difference: Estimate | None
    p: Number | None
    cpt50: Estimate | None
    dollars: Dollars | None


def verdicts(index: Index) -> list[Verdict]:
    """Return one verdict per benchmark on which a trained router has an APGR."""
    found = []
    for k, benchmark in enumerate(index.report.benchmarks):
        measured = [r for r in index.ranked(benchmark.name) if not index.is_baseline(r)]
        if measured and index.value(benchmark.name, measured[0], "apgr") is not None:
            found.append(_verdict(index, benchmark, f"benchmark-{k + 1}", measured[0], len(measured)))
    return found


def overview(index: Index) -> Table:
    """Return APGR of every router on every benchmark."""
    names = [benchmark.name for benchmark in index.report.benchmarks]
    routers = list(dict.fromkeys([*index.trained, *(r for name in names for r in index.ranked(name))]))
    rows: list[list[Cell]] = [
        [router, *(index.estimate(name, router, "apgr") or nothing() for name in names)] for router in routers
    ]
    columns = [Column("router", numeric=False), *(Column(name) for name in names)]
    return Table("APGR with 95 % intervals; for random, the range of 19 in 20 single random routers.", columns, rows)


def _verdict(index: Index, benchmark: EvaluatedBenchmark, anchor: str, router: str, contenders: int) -> Verdict:
    name = benchmark.name
    apgr, random, length = (index.estimate(name, r, "apgr") for r in (router, "random", "length"))
    assert apgr is not None
    difference, p = _against(index, name, router, "length")
    return Verdict(
        benchmark=benchmark,
        anchor=anchor,
        router=router,
        contenders=contenders,
        apgr=apgr,
        random=random,
        against_random=_against_random(apgr, random),
        length=length,
        against_length=_against_length(difference, length),
        difference=difference,
        p=p,
        cpt50=index.estimate(name, router, "cpt50"),
        dollars=_dollars(index, benchmark, router),
    )


def _against(index: Index, benchmark: str, router: str, other: str) -> tuple[Estimate | None, Number | None]:
    for k, c in enumerate(index.report.comparisons):
        if (c.benchmark, c.router, c.other, c.metric) == (benchmark, router, other, "apgr"):
            shown = estimate_of("difference", c.difference, c.low, c.high, "comparisons", k, "difference")
            return shown, number(c.p, "p", "comparisons", k, "p")
    return None, None


def _against_random(apgr: Estimate, random: Estimate | None) -> AgainstRandom:
    value, low, high = apgr.value.value, apgr.low.value, apgr.high.value
    if value is None or low is None or high is None:
        return "unknown"
    if random is not None and _holds(random, value):
        return "inside"
    if high < 0.5:
        return "below"
    return "above" if low > 0.5 else "includes-half"


def _holds(interval: Estimate, value: float) -> bool:
    low, high = interval.low.value, interval.high.value
    return low is not None and high is not None and low <= value <= high


def _against_length(difference: Estimate | None, length: Estimate | None) -> AgainstLength:
    if difference is None:
        return "unknown" if length is None else "unpaired"
    low, high = difference.low.value, difference.high.value
    assert low is not None
    assert high is not None
    return "better" if low > 0 else "worse" if high < 0 else "untold"


def _dollars(index: Index, benchmark: EvaluatedBenchmark, router: str) -> Dollars | None:
    half = index.find(benchmark.name, router, "usd_cpt50")
    strong, weak = benchmark.all_strong_usd, benchmark.all_weak_usd
    if half is None or strong is None or weak is None or strong <= weak or not half.value:
        return None
    times = [None if not share else 0.5 / share for share in (half.value, half.high, half.low)]
    value, low, high = (number(t, "times") for t in times)
    spent = half.value * (strong - weak)
    return Dollars(
        half_gap=Number(rounded_usd(spent), spent),
        extra=Number(rounded_usd(strong - weak), strong - weak),
        times=Estimate(value, low, high),
    )
