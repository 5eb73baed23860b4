"""Figures of one benchmark: each is that of the metric's own module, beside baselines that are what they say."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from jobs.evaluate_config import BenchmarkSection
from jobs.evaluate_read import read_rows
from routing.comparison import difference
from routing.dollars import dollar_curve, sample_dollars
from routing.errors import DataError
from routing.measuring import COMPARED, CURVE_POINTS, Exam, Measured, Resampling, measure
from routing.metrics import (
    Floats,
    average_pgr,
    bootstrap,
    cost_quality_curve,
    first_share,
    random_router,
    sample,
)
from routing.metrics import interval as interval_of
from routing.routellm_metrics import routellm_curve
from schemas.evaluation import Comparison, Figure

HOW = Resampling(resamples=200, seed=3, random_routers=200, category_prompts=30)
N = 120


def exam(*, seed: int = 0, priced: bool = True) -> Exam:
    """Two routers of different worth on 120 prompts; category `b` has no gap and `c` is small."""
    rng = np.random.default_rng(seed)
    strong, weak = rng.integers(0, 2, (2, N)).astype(np.float64)
    categories = tuple("a" if i < 60 else "b" if i < 110 else "c" for i in range(N))
    strong[:60], strong[60:110] = np.maximum(strong[:60], weak[:60]), weak[60:110]
    gain = strong - weak
    rates = {"good": gain * 0.2 + rng.uniform(0.3, 0.6, N), "poor": rng.uniform(0.0, 1.0, N)}
    usd = rng.uniform(1.0, 3.0, (2, N)) * np.array([[1e-3], [1e-4]])
    return Exam(
        name="exam",
        strong=strong,
        weak=weak,
        length=rng.integers(10, 40, N).astype(np.float64),
        win_rates=rates,
        strong_usd=usd[0] if priced else None,
        weak_usd=usd[1] if priced else None,
        categories=categories,
    )


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure(exam(), HOW)


def figure(found: Measured, router: str, metric: str, *, bins: str = "ranks", category: str | None = None) -> Figure:
    (one,) = [f for f in found.figures if (f.router, f.metric, f.bins, f.category) == (router, metric, bins, category)]
    return one


def interval(one: Figure) -> tuple[float | None, float | None, float | None]:
    return one.value, one.low, one.high


def numbers(one: Figure) -> tuple[float, float, float]:
    assert one.value is not None
    assert one.low is not None
    assert one.high is not None
    return one.value, one.low, one.high


def test_every_router_and_baseline_has_every_figure(measured: Measured) -> None:
    ranks = {"apgr", "cpt20", "cpt50", "cpt80", "auc", "usd_apgr", "usd_cpt20", "usd_cpt50", "usd_cpt80"}
    who = ("good", "poor", "length", "constant", "oracle", "random")
    found = {(f.router, f.metric) for f in measured.figures if f.bins == "ranks" and f.category is None}
    assert found == {*product(who, ranks), ("good", "ece"), ("poor", "ece")}
    at_bins = {(f.router, f.metric) for f in measured.figures if f.bins == "routellm"}
    assert at_bins == {*product(who, ("apgr", "cpt20", "cpt50", "cpt80", "auc"))}
    assert {f.n for f in measured.figures if f.category is None} == {N}


def test_figures_are_those_of_the_metric_with_its_bootstrap(measured: Measured) -> None:
    one = exam()
    assert one.usd is not None
    again: dict[str, Any] = {"resamples": HOW.resamples, "seed": HOW.seed}
    for name, metric in (("apgr", average_pgr), ("cpt50", first_share(0.5)), ("cpt80", first_share(0.8))):
        alone = bootstrap(one.win_rates["good"], one.strong, one.weak, metric, **again)
        assert interval(figure(measured, "good", name)) == pytest.approx((alone.value, alone.low, alone.high))
        dollars = sample_dollars(one.win_rates["good"], one.strong, one.weak, *one.usd, {"": metric}, **again)
        usd = interval_of(dollars[""])
        assert interval(figure(measured, "good", f"usd_{name}")) == pytest.approx((usd.value, usd.low, usd.high))
    curve = cost_quality_curve(one.win_rates["good"], one.strong, one.weak)
    area = np.trapezoid(curve.quality, curve.strong_share)
    assert figure(measured, "good", "auc").value == pytest.approx(area)
    theirs = routellm_curve(one.win_rates["good"], one.strong, one.weak)
    assert interval(figure(measured, "good", "apgr", bins="routellm")) == (theirs.apgr, None, None)
    assert figure(measured, "good", "cpt80", bins="routellm").value == theirs.cpt(0.8)


def test_baselines_are_what_they_say(measured: Measured) -> None:
    whole = exam()
    chance = random_router(whole.strong, whole.weak, average_pgr, routers=HOW.random_routers, seed=HOW.seed)
    assert interval(figure(measured, "random", "apgr")) == (chance.value, chance.low, chance.high)
    for one in (figure(measured, "random", "usd_apgr"), figure(measured, "random", "apgr", bins="routellm")):
        value, low, high = numbers(one)
        assert value == pytest.approx(0.5, abs=0.03)
        assert low < 0.45 < 0.55 < high
    constant = figure(measured, "constant", "apgr")
    assert interval(constant) == (0.5, 0.5, 0.5)
    assert figure(measured, "constant", "cpt20").value == 1.0
    assert figure(measured, "constant", "apgr", bins="routellm").value is None  # their code stops at equal bin edges
    for router, metric in product(("good", "poor", "length", "constant"), ("apgr", "usd_apgr")):
        assert numbers(figure(measured, router, metric))[0] < numbers(figure(measured, "oracle", metric))[0]


def test_an_oracle_goes_by_gain_and_then_by_gain_per_dollar() -> None:
    vectors: dict[str, Floats] = {
        "strong": np.array([1.0, 1.0, 1.0, 0.0, 0.0]), "weak": np.array([0.0, 0.0, 1.0, 1.0, 1.0]),
        "strong_usd": np.array([9.0, 3.0, 5.0, 2.0, 8.0]), "weak_usd": np.array([1.0] * 5), "length": np.zeros(5),
    }  # fmt: skip
    oracle = Exam(name="x", win_rates={}, **vectors).oracle  # type: ignore[arg-type]
    # Gain for 2 $ before gain for 8 $; a loss that costs 7 $ before one that costs 1 $.
    assert np.argsort(-oracle).tolist() == [1, 0, 2, 4, 3]
    without = Exam(name="x", win_rates={}, **{**vectors, "strong_usd": None}).oracle  # type: ignore[arg-type]
    assert without.tolist() == [3, 4, 2, 0, 1]
    assert cost_quality_curve(oracle[:4], vectors["strong"][:4], vectors["weak"][:4]).cpt(1.0) == 0.25


# ROUTERS.md 1.5: n, APGR and CPT of the oracle and of prompt length (more characters -> strong), on RouteLLM's files.
@pytest.mark.parametrize(
    ("name", "oracle", "length"),
    [
        ("mmlu", (1.285, 0.063, 0.100), 0.583),
        ("gsm8k", (1.121, 0.110, 0.177), 0.598),
        ("mt_bench", (0.964, 0.083, 0.181), 0.556),
    ],
)
def test_oracle_and_length_come_out_as_computed_elsewhere(
    nightroute_data: Path, name: str, oracle: tuple[float, float, float], length: float
) -> None:
    section = BenchmarkSection(
        name=name, path=f"routellm_layout/{name}", strong="gpt-4-1106-preview",
        weak="mistralai/Mixtral-8x7B-Instruct-v0.1",
    )  # fmt: skip
    rows = read_rows(section, nightroute_data).rows
    one = Exam(
        name=name,
        strong=rows["strong_score"].to_numpy(),
        weak=rows["weak_score"].to_numpy(),
        length=rows["prompt"].str.len_chars().cast(pl.Float64).to_numpy(),
        win_rates={},
    )
    curve = cost_quality_curve(one.oracle, one.strong, one.weak)
    assert (curve.apgr, curve.cpt(0.5), curve.cpt(0.8)) == pytest.approx(oracle, abs=6e-4)
    assert routellm_curve(one.length, one.strong, one.weak).apgr == pytest.approx(length, abs=1.5e-3)


def compared(found: Measured) -> dict[tuple[str, str, str], Comparison]:
    return {(one.router, one.other, one.metric): one for one in found.comparisons}


def test_routers_are_compared_in_pairs_and_with_length_and_chance(measured: Measured) -> None:
    found = compared(measured)
    assert {key[:2] for key in found} == {
        ("good", "poor"), ("good", "length"), ("poor", "length"),
        ("good", "random"), ("poor", "random"), ("length", "random"),
    }  # fmt: skip
    assert {metric for one, two, metric in found if (one, two) == ("good", "poor")} == set(COMPARED)
    # The curve of the mean random router is a straight line, whose CPT no alpha reaches.
    assert {metric for _, two, metric in found if two == "random"} == {"apgr", "usd_apgr"}
    one = exam()
    alone = difference(
        *(
            sample(
                one.win_rates[name], one.strong, one.weak, {"": average_pgr}, resamples=HOW.resamples, seed=HOW.seed
            )[""]
            for name in ("good", "poor")
        )
    )
    paired = found["good", "poor", "apgr"]
    assert (paired.difference, paired.low, paired.high, paired.p) == pytest.approx(
        (alone.value, alone.low, alone.high, alone.p)
    )
    against = found["good", "random", "apgr"]
    value, low, _ = numbers(figure(measured, "good", "apgr"))
    assert (against.difference, against.low) == pytest.approx((value - 0.5, low - 0.5))
    assert against.p == 0.0


def test_curves_keep_both_ends_and_at_most_so_many_points(measured: Measured) -> None:
    curves = {curve.router: curve for curve in measured.curves}
    assert list(curves) == ["good", "poor", "length", "random", "oracle"]
    one = exam()
    assert one.usd is not None
    for name, curve in curves.items():
        assert (curve.strong_share[0], curve.strong_share[-1]) == (0.0, 1.0)
        assert (curve.pgr[0], curve.pgr[-1]) == pytest.approx((0.0, 1.0))
        assert curve.usd is not None
        ends = (curve.usd[0], curve.usd[-1])
        assert ends == pytest.approx((one.usd[1].sum(), one.usd[0].sum())), name
        assert len(curve.strong_share) == len(curve.quality) == len(curve.pgr) == len(curve.usd) <= CURVE_POINTS
    assert curves["random"].strong_share == [0.0, 1.0]
    many = Exam(
        name="many", strong=np.ones(5_000), weak=np.tile([0.0, 1.0], 2_500), length=np.arange(5_000.0),
        win_rates={"r": np.random.default_rng(0).uniform(size=5_000)},
    )  # fmt: skip
    thin = next(curve for curve in measure(many, HOW).curves if curve.router == "r")
    assert len(thin.strong_share) == CURVE_POINTS
    assert (thin.strong_share[0], thin.strong_share[-1], thin.pgr[-1], thin.usd) == (0.0, 1.0, 1.0, None)
    assert max(np.diff(thin.strong_share)) < 1.1 / (CURVE_POINTS - 1)


def test_points_of_a_curve_are_on_the_whole_one(measured: Measured) -> None:
    one = exam()
    assert one.usd is not None
    whole = dollar_curve(one.win_rates["good"], one.strong, one.weak, *one.usd)
    points = set(zip(whole.strong_share.tolist(), whole.quality.tolist(), whole.usd.tolist(), strict=True))
    drawn = next(curve for curve in measured.curves if curve.router == "good")
    assert drawn.usd is not None
    assert {*zip(drawn.strong_share, drawn.quality, drawn.usd, strict=True)} == points  # 121 points need no thinning


def test_categories_with_prompts_and_a_gap_have_figures(measured: Measured) -> None:
    rows = np.array(exam().categories) == "a"
    part = exam().part(rows)
    alone = bootstrap(
        part.win_rates["good"], part.strong, part.weak, average_pgr, resamples=HOW.resamples, seed=HOW.seed
    )
    own = figure(measured, "good", "apgr", category="a")
    assert (own.n, *interval(own)) == pytest.approx((60, alone.value, alone.low, alone.high))
    assert figure(measured, "random", "usd_cpt50", category="a").value is not None
    # In `b` both models score alike: there is nothing to recover.
    assert interval(figure(measured, "good", "apgr", category="b")) == (None, None, None)
    assert not [one for one in measured.figures if one.category == "c"]


TENTHS = np.random.default_rng(0).permutation(np.array([[0.1, 0.0], [0.2, 0.0], [0.0, 0.3]] * 20)).T
"""Two columns of equal sums, but for rounding, which puts the first one ahead."""


def test_a_category_whose_gap_is_rounding_has_no_figures() -> None:
    one = exam()
    one.strong[:60], one.weak[:60] = TENTHS
    one.strong[60:110] = 1.0
    assert (one.strong - one.weak)[:60].sum() > 0
    assert one.strong[:60].mean() > one.weak[:60].mean()
    found = measure(one, HOW)
    assert interval(figure(found, "good", "apgr", category="a")) == (None, None, None)
    assert figure(found, "good", "apgr", category="b").value is not None


def test_a_category_whose_extra_cost_is_rounding_has_no_dollars() -> None:
    one = exam()
    assert one.strong_usd is not None
    assert one.weak_usd is not None
    one.strong_usd[:60], one.weak_usd[:60] = TENTHS
    assert one.strong_usd[:60].sum() > one.weak_usd[:60].sum()
    one.strong[60:110] = 1.0
    one.strong_usd[60:] += 1.0
    found = measure(one, HOW)
    assert {f.metric for f in found.figures if f.category == "a"} == {"apgr", "cpt20", "cpt50", "cpt80", "auc"}
    assert figure(found, "good", "usd_apgr", category="b").value is not None
    assert found.notes == ["exam: no figures over dollars where the strong model costs no more: a"]


def test_one_category_is_the_whole_and_has_no_figures_of_its_own() -> None:
    one = exam()
    alike = Exam(one.name, one.strong, one.weak, one.length, one.win_rates, categories=("a",) * N)
    assert not [f for f in measure(alike, HOW).figures if f.category is not None]


def test_calibration_agreement_and_histograms(measured: Measured) -> None:
    assert {(one.router, one.benchmark) for one in measured.reliability} == {("good", "exam"), ("poor", "exam")}
    for one in measured.reliability:
        assert sum(row.n for row in one.bins) == N
        assert figure(measured, one.router, "ece").value == one.ece
    assert [(one.router, one.other) for one in measured.agreement] == [
        ("good", "poor"), ("good", "length"), ("poor", "length")
    ]  # fmt: skip
    assert all(set(one.same_side) == {"0.2", "0.5", "0.8"} for one in measured.agreement)
    assert [sum(one.counts) for one in measured.histograms] == [N, N]


def test_without_costs_nothing_is_said_of_dollars() -> None:
    found = measure(exam(priced=False), HOW)
    assert not [one for one in found.figures if one.metric.startswith("usd")]
    assert {one.metric for one in found.comparisons} == {"apgr", "cpt50", "cpt80"}
    assert all(curve.usd is None for curve in found.curves)
    one = exam()
    cheap = Exam(one.name, one.strong, one.weak, one.length, one.win_rates, one.weak_usd, one.strong_usd)
    assert cheap.usd is None  # a strong model that is cheaper needs no router over dollars
    assert found.notes == []
    without = measure(cheap, HOW)
    assert not [one for one in without.figures if one.metric.startswith("usd")]
    assert without.notes == ["exam: no figures over dollars, because all strong costs no more than all weak"]


def test_a_strong_model_that_is_not_better_is_refused() -> None:
    one = exam()
    with pytest.raises(DataError, match="PGR needs a strong model that is better"):
        measure(Exam(one.name, one.weak, one.strong, one.length, one.win_rates), HOW)
