"""Figures of a study on scores that can be checked by hand. Needs no torch."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from jobs.study_cells import Cell, Table
from jobs.study_config import ArmSection, BenchmarkSection, KindSection, StudyConfig
from jobs.study_report import Scored, baselines, figures, label_study, markdown, report, write
from routing.metrics import average_pgr, bootstrap, cost_quality_curve
from routing.trials import Trial
from schemas.evaluation import EvaluationReport

STRONG = np.array([1, 1, 1, 0, 1, 1, 0, 1], np.float64)
WEAK = np.array([0, 1, 0, 0, 1, 0, 1, 1], np.float64)
SECTION = BenchmarkSection(name="exam", path="exam.parquet", strong="a", weak="b", sizes=(2,), note="made up")
ROWS = pl.DataFrame({"prompt": list("abcdefgh"), "strong_score": STRONG, "weak_score": WEAK})
TABLE = Table(SECTION, ROWS, "sha")
FOLDED = Table(SECTION.model_copy(update={"sizes": (), "folds": 2}), ROWS, "sha")
HOW: Any = {"resamples": 100, "seed": 5}


def trial(labelled: list[int], evaluated: list[int]) -> Trial:
    return Trial(np.array(labelled, np.intp), np.array(evaluated, np.intp))


def scored(one: Trial, rates: list[float], *, labels: int = 0, siblings: int = 0) -> Scored:
    return Scored(one, Cell(labels=labels, siblings=siblings, contaminated=0, win_rates=rates), np.array(rates))


def test_a_draw_is_measured_on_its_own_prompts_and_the_row_is_their_mean() -> None:
    # Gains of rows 2..7: 1, 0, 0, 1, -1, 0, so PGR runs 0, 1, 2, 2, 2, 1, 1.
    first = np.array([0.9, 0.5, 0.4, 0.8, 0.3, 0.2])
    # The second draw's win rates are all alike: a straight line.
    found = figures(TABLE, [(np.arange(2, 8), first), (np.arange(6), np.ones(6))], **HOW)
    apgr = (0.5 + 1.5 + 2 + 2 + 1.5 + 1) / 6
    assert found.apgr == pytest.approx((apgr + 0.5) / 2)
    assert found.spread == pytest.approx(abs(apgr - 0.5) / np.sqrt(2))
    assert found.cpt50 == pytest.approx((1 / 6 + 1) / 2)
    one = bootstrap(first, STRONG[2:], WEAK[2:], average_pgr, **HOW)
    assert (found.low, found.high) == pytest.approx(((one.low + 0.5) / 2, (one.high + 0.5) / 2))


def test_a_row_says_what_it_is_of() -> None:
    one, other = trial([0, 1], [2, 3, 4, 5, 6, 7]), trial([6, 7], [0, 1, 2, 3, 4, 5])
    draws = [
        [scored(one, [0.9, 0.5, 0.4, 0.8, 0.3, 0.2], labels=1, siblings=1)],
        [scored(other, [0.5] * 6, labels=2, siblings=0)],
    ]
    found = label_study(TABLE, "kind | one", "in-domain", draws, **HOW)
    assert (found.kind, found.benchmark, found.data) == ("kind | one", "exam", "in-domain")
    assert (found.n_labels, found.draws) == (2, 2)
    assert found.protocol == (
        "2 labelled prompts drawn by seed, 0 of them siblings of an evaluated prompt, 2 used; 6 evaluated; made up"
    )
    alone = label_study(
        TABLE,
        "kind | one",
        "in-domain",
        [[scored(trial([], [2, 3, 4, 5, 6, 7]), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])]] * 2,
        **HOW,
    )
    assert alone.protocol == "no label of this benchmark; 6 evaluated; made up"
    assert (alone.n_labels, alone.spread) == (0, None), "what differs is the evaluated prompts, not the router"


def test_folds_are_ranked_within_themselves() -> None:
    left, right = trial([4, 5, 6, 7], [0, 1, 2, 3]), trial([0, 1, 2, 3], [4, 5, 6, 7])

    def of(shift: float, scale: float) -> float:
        rates = [[0.4, 0.1, 0.3, 0.1], [shift + scale * 0.1, shift + scale * 0.4, shift, shift + scale * 0.1]]
        draw = [scored(left, rates[0], labels=4), scored(right, rates[1], labels=4)]
        return label_study(FOLDED, "kind | one", "in-domain", [draw], **HOW).apgr

    assert of(0.0, 1.0) == of(0.5, 1.0) == of(0.2, 0.01)
    strong_first = label_study(
        FOLDED, "kind | one", "in-domain", [[scored(left, [0.9] * 4), scored(right, [0.1] * 4)]], **HOW
    )
    assert strong_first.apgr == pytest.approx(0.5), "a fold whose router says more of everything is no better"


def test_baselines_are_those_of_the_same_prompts() -> None:
    lengths = np.array([8, 1, 7, 2, 3, 6, 1, 2], np.float64)
    rows = {one.kind: one for one in baselines(TABLE, [np.arange(8), np.arange(2, 8)], lengths, **HOW)}
    assert set(rows) == {"length", "oracle", "random"}
    apgr = [cost_quality_curve(lengths[first:], STRONG[first:], WEAK[first:]).apgr for first in (0, 2)]
    expected = np.mean(apgr)
    assert rows["length"].apgr == pytest.approx(expected)
    assert rows["oracle"].apgr > rows["length"].apgr
    assert rows["random"].apgr == pytest.approx(0.5, abs=0.2)
    assert rows["random"].low < 0.5 < rows["random"].high
    for one in rows.values():
        assert (one.data, one.n_labels, one.draws, one.spread) == ("none", 0, 2, None)
        assert one.protocol == "no label; 7 evaluated"


def found_report() -> EvaluationReport:
    study = StudyConfig(
        name="A study",
        output="out",
        seed=5,
        resamples=100,
        benchmarks=(SECTION,),
        arms=(ArmSection(name="in-domain", in_domain=True),),
        kinds=(KindSection(name="kind", config="k.toml"),),
    )
    rows = [
        *baselines(TABLE, [np.arange(2, 8)], np.arange(8.0), **HOW),
        label_study(
            TABLE,
            "kind | one",
            "in-domain",
            [[scored(trial([0, 1], [2, 3, 4, 5, 6, 7]), [0.9, 0.5, 0.4, 0.8, 0.3, 0.2])]],
            **HOW,
        ),
    ]
    now = datetime(2026, 11, 22, tzinfo=UTC)
    return report(study, [TABLE], rows, failures={"exam, kind, arm": "too few"}, now=now)


def test_the_report_names_its_benchmarks_and_what_failed() -> None:
    found = found_report()
    (table,) = found.benchmarks
    assert (table.name, table.sha256, table.n, table.strong, table.weak) == ("exam", "sha", 8, "a", "b")
    assert (table.strong_quality, table.weak_quality) == (0.75, 0.5)
    assert table.protocol == "labels drawn: 2; draws: 1"
    assert found.notes[-1] == "not fitted: exam, kind, arm: too few"
    assert (found.seed, found.resamples) == (5, 100)


def test_markdown_has_a_column_for_every_number_of_labels() -> None:
    found = found_report()
    lines = markdown(found).splitlines()
    assert lines[0] == "# A study"
    head = lines.index("| router | data | 0 labels | 2 labels |")
    table = lines[head + 2 : head + 6]
    row = found.label_study[-1]
    assert table[-1] == f"| kind \\| one | in-domain |  | {row.apgr:.3f} ({row.low:.3f}-{row.high:.3f}) |"
    assert [line.split(" | ")[0] for line in table[:3]] == ["| length", "| oracle", "| random"]
    assert f"- in-domain, 2 labels: {row.protocol}" in lines


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    found = found_report()
    paths = write(tmp_path, found, tmp_path / "staging")
    assert [path.name for path in paths] == ["study.json", "study.parquet", "study.md"]
    assert EvaluationReport.model_validate_json(paths[0].read_bytes()) == found
    assert pl.read_parquet(paths[1]).to_dicts() == [row.model_dump() for row in found.label_study]
    assert paths[2].read_text(encoding="utf-8") == markdown(found)
