"""Evaluation reports as a job would write them; figures follow formulas, so a test needs no router and no seconds."""

from datetime import UTC, datetime
from math import sin
from typing import Any

from schemas import evaluation as e

ROUTERS = {
    "cluster-mmlu": ("cluster", 0.652),
    "linear": ("linear", 0.631),
    "static-mf": ("mf", 0.548),
    "bert-minilm": ("bert", 0.511),
}
BASELINES = {"random": 0.5, "length": 0.586, "constant": 0.5, "oracle": 1.08}
SUBJECTS = [
    "abstract_algebra", "anatomy", "astronomy", "business_ethics", "clinical_knowledge", "college_biology",
    "college_chemistry", "college_computer_science", "college_mathematics", "college_medicine", "college_physics",
    "computer_security", "conceptual_physics", "econometrics", "electrical_engineering", "elementary_mathematics",
    "formal_logic", "global_facts", "high_school_biology", "high_school_chemistry", "high_school_computer_science",
    "high_school_european_history", "high_school_geography", "high_school_government_and_politics",
    "high_school_macroeconomics", "high_school_mathematics", "high_school_microeconomics", "high_school_physics",
    "high_school_psychology", "high_school_statistics", "high_school_us_history", "high_school_world_history",
    "human_aging", "human_sexuality", "international_law", "jurisprudence", "logical_fallacies", "machine_learning",
    "management", "marketing", "medical_genetics", "miscellaneous", "moral_disputes", "moral_scenarios", "nutrition",
    "philosophy", "prehistory", "professional_accounting", "professional_law", "professional_medicine",
    "professional_psychology", "public_relations", "security_studies", "sociology", "us_foreign_policy", "virology",
    "world_religions",
]  # fmt: skip
PAIRS = [
    ("gpt-4o-2024-05-13", "llama-3-8b-instruct"),
    ("claude-3-5-sonnet-20240620", "claude-3-haiku-20240307"),
    ("qwen2.5-72b-instruct", "qwen2.5-7b-instruct"),
]
DATA = {"preferences": 0.52, "preferences + golden": 0.54, "in-domain": 0.50, "preferences + in-domain": 0.53}
SMALL_PRINT = "zero-shot: no row of it was trained on"


def large_report() -> e.EvaluationReport:
    """Four routers, three benchmarks, 57 categories on one, dollars on another, and every other part."""
    benchmarks = [
        e.EvaluatedBenchmark(
            name="MMLU",
            sha256="a" * 64,
            strong="gpt-4-1106-preview",
            weak="mixtral-8x7b-instruct-v0.1",
            n=13_937,
            strong_quality=0.8066,
            weak_quality=0.6826,
            categories={s: 80 + 31 * k for k, s in enumerate(SUBJECTS)},
            protocol="1,500 labelled rows drawn once, the rest evaluated",
        ),
        e.EvaluatedBenchmark(
            name="GSM8K",
            sha256="b" * 64,
            strong="gpt-4-1106-preview",
            weak="mixtral-8x7b-instruct-v0.1",
            n=1_319,
            strong_quality=0.8567,
            weak_quality=0.6399,
            all_strong_usd=11.48262,
            all_weak_usd=0.2917284,
            protocol="5 folds",
        ),
        e.EvaluatedBenchmark(
            name="MT-Bench",
            sha256="c" * 64,
            strong="gpt-4-1106-preview",
            weak="mixtral-8x7b-instruct-v0.1",
            n=80,
            strong_quality=0.92,
            weak_quality=0.83,
            protocol=SMALL_PRINT,
        ),
    ]
    return e.EvaluationReport(
        name="Routers of November",
        created_at=datetime(2026, 11, 22, 15, 4, 5, tzinfo=UTC),
        seed=20261122,
        resamples=1_000,
        machine="2 cores, Python 3.11",
        versions={"numpy": "2.4.1", "nightroute": "0.1.0"},
        routers=[
            *(
                e.EvaluatedRouter(
                    name=name,
                    kind=kind,
                    sha256=f"{k}" * 64,
                    licence="Apache-2.0",
                    trained_pair="gpt-4-1106-preview / mixtral-8x7b",
                )
                for k, (name, (kind, _)) in enumerate(ROUTERS.items())
            ),
            *(e.EvaluatedRouter(name=name, kind="baseline") for name in BASELINES),
        ],
        benchmarks=benchmarks,
        figures=[f for k, b in enumerate(benchmarks) for f in _figures(b, width=(0.016, 0.039, 0.13)[k], shift=k)],
        comparisons=[c for k, b in enumerate(benchmarks) for c in _comparisons(b.name, width=(0.02, 0.07, 0.2)[k])],
        curves=[_curve(b, name, apgr) for b in benchmarks for name, apgr in _all().items()],
        reliability=[_reliability(b, name, k) for b in benchmarks for k, name in enumerate(ROUTERS)],
        histograms=[_histogram(b, name, k) for b in benchmarks for k, name in enumerate(ROUTERS)],
        agreement=_agreement(benchmarks[0].name),
        transfer=_transfer(),
        transfer_summaries=[
            e.TransferSummary(
                router="cluster-mmlu", pairs=12, mean_retention=0.934, low=0.891, high=0.971, ranking_kept=0.861
            ),
            e.TransferSummary(
                router="static-mf", pairs=12, mean_retention=None, low=None, high=None, ranking_kept=None
            ),
        ],
        robustness=[r for b in benchmarks[:2] for r in _robustness(b.name)],
        drift=_drift(),
        label_study=[s for b in benchmarks[:2] for s in _study(b.name)],
        notes=[
            "MT-Bench has 80 questions: a random router spans .371 to .630 there.",
            "Dollars are known for GSM8K only.",
        ],
    )


def small_report(**changes: Any) -> e.EvaluationReport:
    """One router, one benchmark, one figure; nothing else unless it is named."""
    report = e.EvaluationReport(
        name="One router",
        created_at=datetime(2026, 11, 22, 15, 4, tzinfo=UTC),
        seed=7,
        resamples=200,
        machine="2 cores, Python 3.11",
        routers=[e.EvaluatedRouter(name="mine", kind="linear", sha256="d" * 64)],
        benchmarks=[
            e.EvaluatedBenchmark(
                name="tickets",
                sha256="e" * 64,
                strong="large",
                weak="small",
                n=400,
                strong_quality=0.9,
                weak_quality=0.7,
            )
        ],
        figures=[
            e.Figure(benchmark="tickets", router="mine", metric="apgr", value=0.61234, low=0.57, high=0.65, n=400)
        ],
    )
    return report.model_copy(update=changes)


def one(**changes: Any) -> list[e.Figure]:
    """A figure of the small report, APGR unless it is named."""
    figure = {"benchmark": "tickets", "metric": "apgr", "n": 400} | changes
    return [e.Figure.model_validate(figure)]


def _all() -> dict[str, float]:
    return {name: apgr for name, (_, apgr) in ROUTERS.items()} | BASELINES


def _figures(b: e.EvaluatedBenchmark, *, width: float, shift: int) -> list[e.Figure]:
    found = []
    for k, (name, apgr) in enumerate(_all().items()):
        value = apgr if name in BASELINES else apgr - 0.013 * shift * (k % 3)
        low, high = (None, None) if name in ("constant", "oracle") else (value - width, value + 1.08 * width)
        half = max(0.08, 0.5 - 1.2 * (value - 0.5))
        values: dict[tuple[str, e.Bins], float | None] = {
            ("apgr", "ranks"): value,
            ("apgr", "routellm"): value - 0.0042,
            ("cpt20", "ranks"): 0.4 * half,
            ("cpt50", "ranks"): half,
            ("cpt80", "ranks"): None if name == "constant" else min(1.0, 1.7 * half),
            ("auc", "ranks"): b.weak_quality + value * (b.strong_quality - b.weak_quality),
        }
        if b.all_strong_usd is not None:
            values |= {("usd_apgr", "ranks"): value - 0.021, ("usd_cpt50", "ranks"): half + 0.03}
        if name in ROUTERS:
            values["ece", "ranks"] = 0.011 + 0.017 * k
        for (metric, bins), v in values.items():
            bounds = {} if low is None or v is None else {"low": v + (low - value), "high": v + (high or value) - value}
            found.append(e.Figure(benchmark=b.name, router=name, metric=metric, bins=bins, value=v, n=b.n, **bounds))
    for c, (category, n) in enumerate(b.categories.items()):
        for k, name in enumerate([*ROUTERS, "length"]):
            value = _all()[name] + 0.12 * sin(7 * c + k) + (1.4 if c == 11 else 0)
            half_width = 1.9 / n**0.5
            known = (c, k) != (30, 1)
            found.append(
                e.Figure(
                    benchmark=b.name,
                    category=category,
                    router=name,
                    metric="apgr",
                    value=value if known else None,
                    low=value - half_width if known else None,
                    high=value + half_width if known else None,
                    n=n,
                )
            )
    return found


def _comparisons(benchmark: str, *, width: float) -> list[e.Comparison]:
    names = [*ROUTERS, "length"]
    return [
        e.Comparison(
            benchmark=benchmark,
            router=a,
            other=b,
            metric="apgr",
            difference=_all()[a] - _all()[b],
            low=_all()[a] - _all()[b] - width,
            high=_all()[a] - _all()[b] + 1.1 * width,
            p=max(0.0, 1 - abs(_all()[a] - _all()[b]) / width),
        )
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]


def _curve(b: e.EvaluatedBenchmark, name: str, apgr: float) -> e.Curve:
    points = [0.0, 1.0] if name == "constant" else [k / 120 for k in range(121)]
    if name == "oracle":
        pgr = [min(c / 0.17, 1.0) * 1.32 - max(0.0, c - 0.62) / 0.38 * 0.32 for c in points]
    else:
        pgr = [
            c + 6 * (apgr - 0.5) * c * (1 - c) * (1 + 0.3 * (1 - 2 * c)) + 0.006 * sin(40 * c) * c * (1 - c)
            for c in points
        ]
    gap = b.strong_quality - b.weak_quality
    usd = None
    if b.all_strong_usd is not None and b.all_weak_usd is not None:
        usd = [b.all_weak_usd + (b.all_strong_usd - b.all_weak_usd) * (c + 0.06 * c * (1 - c)) for c in points]
    quality = [b.weak_quality + gap * p for p in pgr]
    return e.Curve(benchmark=b.name, router=name, strong_share=points, quality=quality, pgr=pgr, usd=usd)


def _reliability(b: e.EvaluatedBenchmark, name: str, k: int) -> e.Reliability:
    half = 1.5 / (b.n / 10) ** 0.5
    middles = [0.42 + 0.024 * i + 0.02 * k for i in range(10)]
    seen = [0.5 + (0.95 - 0.2 * k) * (m - 0.53) + 0.01 * sin(9 * i) for i, m in enumerate(middles)]
    bins = [
        e.ReliabilityBin(n=max(1, b.n // 10), predicted=m, observed=o, low=max(0.0, o - half), high=min(1.0, o + half))
        for m, o in zip(middles, seen, strict=True)
    ]
    return e.Reliability(benchmark=b.name, router=name, ece=0.011 + 0.017 * k, bins=bins)


def _histogram(b: e.EvaluatedBenchmark, name: str, k: int) -> e.ScoreHistogram:
    counts = [round(b.n / 8 * max(0.0, 1 - ((i - 20 - 3 * k) / (4 + 2 * k)) ** 2)) for i in range(40)]
    return e.ScoreHistogram(benchmark=b.name, router=name, edges=[i / 40 for i in range(41)], counts=counts)


def _agreement(benchmark: str) -> list[e.Agreement]:
    names = [*ROUTERS]
    return [
        e.Agreement(
            benchmark=benchmark,
            router=a,
            other=b,
            spearman=None if j == 3 and i == 0 else 0.8 - 0.2 * (j - i),
            same_side={"0.2": 0.91 - 0.05 * j, "0.5": 0.78 - 0.06 * j, "0.8": 0.88 - 0.04 * j},
        )
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if j > i
    ]


def _transfer() -> list[e.Transfer]:
    return [
        e.Transfer(
            router=router,
            benchmark=benchmark,
            strong=strong,
            weak=weak,
            n=2_000 + 700 * k,
            gap=0.11 + 0.07 * k,
            apgr=apgr - 0.011 * k,
            low=apgr - 0.011 * k - 0.021,
            high=apgr - 0.011 * k + 0.023,
            retention=0.97 - 0.03 * k,
        )
        for router, apgr in (("cluster-mmlu", 0.63), ("static-mf", 0.54))
        for benchmark in ("HELM MMLU", "MMLU-Pro")
        for k, (strong, weak) in enumerate(PAIRS)
    ]


def _robustness(benchmark: str) -> list[e.Robustness]:
    changes = {"lower case": 0.031, "doubled spaces": 0.004, "trailing text": 0.062, "confounder suffix": 0.318}
    return [
        e.Robustness(
            benchmark=benchmark,
            router=name,
            perturbation=change,
            n=1_319,
            mean_shift=(0.1 if k else -0.1) * flips,
            flips={"0.2": 0.8 * flips, "0.5": flips * (1 + k / 3), "0.8": 0.7 * flips},
            to_strong={"0.2": 0.4 * flips, "0.5": 0.5 * flips, "0.8": 0.3 * flips},
            detail="appended: 'Prove each step rigorously.'" if change == "confounder suffix" else "",
        )
        for change, flips in changes.items()
        for k, name in enumerate(ROUTERS)
    ]


def _drift() -> list[e.Drift]:
    return [
        e.Drift(
            router=router,
            group=group,
            n=9_000 - 2_000 * k,
            mean=0.55 + 0.03 * k,
            quantiles=[q + 0.03 * k for q in (0.44, 0.5, 0.55, 0.6, 0.69)],
            strong_share=0.44 + 0.12 * k,
        )
        for router in ("cluster-mmlu", "static-mf")
        for k, group in enumerate(["English", "German", "Chinese", "Русский"])
    ]


def _study(benchmark: str) -> list[e.LabelStudy]:
    found = []
    for k, kind in enumerate(["cluster", "linear", "mf", "bert"]):
        for data, base in DATA.items():
            for n in (100, 250, 500, 1_500) if "domain" in data else (0,):
                apgr = base + 0.004 * k + 0.0033 * n**0.5
                found.append(
                    e.LabelStudy(
                        kind=kind,
                        benchmark=benchmark,
                        data=data,
                        n_labels=n,
                        draws=5 if n else 1,
                        apgr=apgr,
                        low=apgr - 0.03,
                        high=apgr + 0.03,
                        spread=0.011 if n else None,
                        cpt50=0.45 - 0.0002 * n,
                        protocol="labels drawn from the other folds",
                    )
                )
    return found
