"""Reports that are joined: nothing twice, nothing of another meaning under one name."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest

from jobs.evaluate_config import EvaluateConfig, EvaluateJob
from jobs.evaluate_merge import KEYS, merge, read_others
from routing.errors import ConfigError
from schemas.evaluation import (
    Comparison,
    EvaluatedBenchmark,
    EvaluatedRouter,
    EvaluationReport,
    Figure,
    LabelStudy,
)
from tests.evaluation_reports import large_report

MOMENT = datetime(2026, 11, 22, tzinfo=UTC)


def report(sha256: str = "1", *, router: str = "a", benchmark: str = "exam", **changed: Any) -> EvaluationReport:
    measured = EvaluatedBenchmark(
        name=benchmark, sha256=sha256, strong="s", weak="w", n=10, strong_quality=0.8, weak_quality=0.6
    )
    values: dict[str, Any] = {
        "routers": [EvaluatedRouter(name=router, kind="bert", sha256=f"of {router}")],
        "benchmarks": [measured],
        "figures": [
            Figure(benchmark=benchmark, router=name, metric="apgr", value=0.6, n=10) for name in (router, "random")
        ],
    }
    fixed = {"name": f"of {router}", "created_at": MOMENT, "seed": 0, "resamples": 100, "machine": ""}
    return EvaluationReport.model_validate(fixed | values | changed)


def read(folder: Path, *others: EvaluationReport) -> list[EvaluationReport]:
    for place, other in enumerate(others):
        (folder / f"{place}.json").write_text(other.model_dump_json(), encoding="utf-8")
    config = EvaluateConfig.model_validate(
        {
            "output": "out",
            "resamples": 100,
            "routers": [{"artifact": "x"}],
            "benchmarks": [{"name": "own", "path": "p", "strong": "s", "weak": "w"}],
            "merge": [f"{place}.json" for place in range(len(others))],
        }
    )
    return read_others(EvaluateJob(config, folder), [], [])


def test_every_list_of_a_report_is_joined_by_what_its_rows_are_about() -> None:
    lists = {name for name, field in EvaluationReport.model_fields.items() if get_origin(field.annotation) is list}
    assert set(KEYS) == lists - {"routers", "benchmarks", "notes"}
    for name, keys in KEYS.items():
        (row,) = get_args(EvaluationReport.model_fields[name].annotation)
        assert set(keys) <= set(row.model_fields)


def test_a_report_joined_with_itself_is_that_report() -> None:
    one = large_report()
    assert merge(one, one) == one


def test_of_rows_about_the_same_the_first_stays() -> None:
    chance = Figure(benchmark="exam", router="random", metric="apgr", value=0.49, n=10)
    joined = merge(report(), report(router="b", figures=[chance, *report(router="b").figures[:1]]))
    assert [(figure.router, figure.value) for figure in joined.figures] == [("a", 0.6), ("random", 0.6), ("b", 0.6)]
    assert [router.name for router in joined.routers] == ["a", "b"]


def test_studies_on_other_prompts_of_one_benchmark_stay_apart() -> None:
    rows = [
        LabelStudy(kind="length", benchmark="exam", data="none", n_labels=0, draws=1, apgr=apgr, low=0.4, high=0.7,
                   protocol=protocol)
        for apgr, protocol in ((0.55, "180 evaluated"), (0.56, "330 evaluated"), (0.55, "180 evaluated"))
    ]  # fmt: skip
    one, two = report(label_study=rows[:1]), report(label_study=rows[1:])
    assert merge(one, two).label_study == rows[:2]


def test_two_others_that_mean_different_things_by_one_name_are_refused(tmp_path: Path) -> None:
    assert len(read(tmp_path, report(), report(router="b"))) == 2
    with pytest.raises(ConfigError, match=r"1\.json has other benchmarks under the names \['exam'\]"):
        read(tmp_path, report("1"), report("2", router="b"))
    turned = report().benchmarks[0].model_copy(update={"weak": "x"})
    with pytest.raises(ConfigError, match=r"other benchmarks under the names \['exam'\]"):
        read(tmp_path, report(), report(router="b", benchmarks=[turned]))
    other = report().routers[0].model_copy(update={"sha256": "other"})
    with pytest.raises(ConfigError, match=r"1\.json has other routers under the names \['a'\]"):
        read(tmp_path, report(), report(routers=[other]))


def test_prices_of_another_day_are_told_and_not_refused(tmp_path: Path) -> None:
    priced = report().benchmarks[0].model_copy(update={"all_strong_usd": 1.0, "all_weak_usd": 0.1})
    dearer = priced.model_copy(update={"all_strong_usd": 1.5})
    one, two = read(tmp_path, report(benchmarks=[priced]), report(router="b", benchmarks=[dearer]))
    joined = merge(one, two)
    assert joined.benchmarks == [priced]
    assert joined.notes == [
        "exam: figures over dollars from the report 'of b' are at other prices, $1.5000 for all strong and $0.1000 for "
        "all weak"
    ]
    assert merge(one, report(router="b")).notes == []


def test_comparisons_on_other_resamples_are_refused(tmp_path: Path) -> None:
    """A p of 0 is shown as below 2 / resamples, and a report has one number of them."""
    row = Comparison(benchmark="exam", router="a", other="b", metric="apgr", difference=0.1, low=0.0, high=0.2, p=0.0)
    assert read(tmp_path, report(comparisons=[row]))
    assert read(tmp_path, report(resamples=500))
    with pytest.raises(ConfigError, match=r"0\.json compares routers on 500 resamples, this evaluation on 100"):
        read(tmp_path, report(comparisons=[row], resamples=500))
