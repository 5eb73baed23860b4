"""`nightroute study` from tables to figures: what each arm learns from, what is evaluated, what a kill costs."""

import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

pytestmark = pytest.mark.train
pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("transformers", reason="needs the extra `train`")

from jobs import fitting, study_cells  # noqa: E402
from jobs.config_file import parse, read_toml  # noqa: E402
from jobs.study import StudySummary, plan, study  # noqa: E402
from jobs.study_cells import Table, open_tables  # noqa: E402
from jobs.study_config import StudyConfig  # noqa: E402
from jobs.train_config import RouterConfig  # noqa: E402
from routing.errors import DataError  # noqa: E402
from routing.metrics import cost_quality_curve  # noqa: E402
from routing.training.dataset import TrainingSet  # noqa: E402
from schemas.evaluation import EvaluationReport, LabelStudy  # noqa: E402
from tests.unit.training import study_world, tiny  # noqa: E402

NOW = datetime(2026, 11, 22, tzinfo=UTC)
PAIR_ALONE = study_world.two_tiers("in-domain", "no siblings", "golden + in-domain")
ALL = {"linear": "", "sw": PAIR_ALONE, "bert": 'arms = ["in-domain"]\n'}
N = 330
"""Prompts of the exam."""


class Fit(NamedTuple):
    """What `fit_router` was given and gave."""

    config: RouterConfig
    dataset: TrainingSet
    fitted: fitting.Fitted

    @property
    def prompts(self) -> set[str]:
        return set(pl.concat([self.dataset.battles["prompt"], self.dataset.held_out_battles["prompt"]]))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("study")
    study_world.write(folder, encoder_folder)
    tiny.save(folder / "base", tiny.bert())
    return folder


class KilledError(Exception):
    pass


class Fits(list[Fit]):
    """The fits of a test, in their order."""

    dies_at: int | None = None
    """The fit that does not come about any more."""


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    found = Fits()

    def remembered(config: Any, dataset: TrainingSet, **rest: Any) -> fitting.Fitted:
        if len(found) == found.dies_at:
            raise KilledError
        found.append(Fit(config, dataset, fitting.fit_router(config, dataset, **rest)))
        return found[-1].fitted

    monkeypatch.setattr(study_cells, "fit_router", remembered)
    return found


def run(config: Path, output: Path) -> StudySummary:
    return study(config, output=output, environment={}, now=NOW)


def table_of(config: Path, name: str) -> Table:
    opened = open_tables(parse(StudyConfig, read_toml(config), source="test"), config.parent / "data")
    return next(table for table in opened if table.section.name == name)


def row(summary: StudySummary, **wanted: object) -> LabelStudy:
    (found,) = [one for one in summary.report.label_study if wanted.items() <= one.model_dump().items()]
    return found


def test_every_kind_has_a_row_for_every_arm_and_number_of_labels(world: Path, tmp_path: Path) -> None:
    summary = run(study_world.config(world, ALL), tmp_path / "out")
    rows = summary.report.label_study
    assert summary.failures == {}
    assert summary.exit_code == 0

    baselines = {(name, "none", 0) for name in ("length", "oracle", "random")}
    unlabelled = {(kind, arm, 0) for kind in ("linear", "sw") for arm in ("preferences", "preferences + golden")}
    labelled = {(kind, arm) for kind in ("linear", "sw") for arm in ("in-domain", "no siblings", "golden + in-domain")}
    labelled |= {("bert", "in-domain")}
    expected = {
        "samples": baselines | unlabelled | {(*key, size) for key in labelled for size in (60, 150)},
        "folds": baselines | unlabelled | {(*key, 220) for key in labelled},
        "unlabelled": baselines | unlabelled,
    }
    found = {name: {(one.kind, one.data, one.n_labels) for one in rows if one.benchmark == name} for name in expected}
    assert found == expected
    assert len(rows) == sum(map(len, expected.values()))
    # The same prompts under another name need no second router without labels.
    assert summary.record() == {
        "job": "study", "study": "made", "folder": str(tmp_path / "out"), "rows": len(rows),
        "fitted": 2 * (2 + 3 * 4) + 4 + 2 * 3 * 3 + 3 + 2 * 2, "kept": 0, "failed": 0,
    }  # fmt: skip

    for one in rows:
        assert one.low <= one.apgr <= one.high
        assert one.draws == (2 if one.benchmark == "samples" else 1)
        assert (one.spread is not None) == (one.benchmark == "samples" and one.n_labels > 0)
        assert one.protocol.endswith("; made up") == (one.benchmark == "folds" and one.data != "none")
    assert row(summary, benchmark="samples", kind="linear", data="golden + in-domain", n_labels=150).low > 0.55
    assert row(summary, benchmark="unlabelled", kind="linear", data="preferences + golden").low > 0.55
    assert "180 evaluated" in row(summary, benchmark="samples", kind="linear", data="preferences").protocol
    assert "330 evaluated" in row(summary, benchmark="folds", kind="sw", data="in-domain").protocol
    assert "200 evaluated" in row(summary, benchmark="unlabelled", kind="oracle").protocol
    assert [(one.name, one.n) for one in summary.report.benchmarks] == [
        ("samples", N), ("folds", N), ("unlabelled", 200),
    ]  # fmt: skip


def test_the_files_say_the_same(world: Path, tmp_path: Path) -> None:
    config = study_world.config(world, {"linear": ""}, benchmarks=("samples",), arms=("preferences", "in-domain"))
    summary = run(config, tmp_path)
    read = EvaluationReport.model_validate_json((tmp_path / "study.json").read_bytes())
    assert read == summary.report
    table = pl.read_parquet(tmp_path / "study.parquet")
    assert table.to_dicts() == [one.model_dump() for one in read.label_study]
    page = (tmp_path / "study.md").read_text(encoding="utf-8")
    for one in read.label_study:
        assert f" {one.apgr:.3f}" in page
        assert f"({one.low:.3f}-{one.high:.3f})" in page
        assert one.protocol in page
    assert "| linear | in-domain |  |" in page
    assert set(read.notes) <= {line.removeprefix("- ") for line in page.splitlines()}


def test_arms_learn_from_their_sources_and_never_from_an_evaluated_prompt(
    world: Path, tmp_path: Path, fits: Fits
) -> None:
    config = study_world.config(world, {"linear": ""}, benchmarks=("samples",))
    summary = run(config, tmp_path)
    table = table_of(config, "samples")
    exam = set(table.rows["prompt"])
    battles = set(pl.read_parquet(world / "data" / "battles.parquet")["prompt"])
    golden = set(pl.read_csv(world / "data" / "golden.csv")["prompt"])
    trials = [draw[0] for size in plan(table, in_domain=True, seed=0) for draw in size]
    evaluated = [set(table.prompts(trial.evaluated)) for trial in trials]
    labelled = [set(table.prompts(trial.labelled)) for trial in trials]
    assert [len(one) for one in labelled] == [60, 60, 150, 150]
    assert labelled[0] != labelled[1]

    preferences, both, *rest = fits
    assert preferences.prompts <= battles - exam
    assert re.search(r"; [1-9] prompts of the sources dropped, being the", row(summary, data="preferences").protocol)
    assert len(preferences.prompts) > 100
    assert both.prompts <= (battles | golden) - exam
    assert both.prompts & golden - battles
    alone, without, mixed = rest[:4], rest[4:8], rest[8:]
    assert len(mixed) == 4
    for place, own in enumerate(labelled):
        assert alone[place].prompts == own
        assert not own & evaluated[place]
        siblings = own - without[place].prompts
        assert without[place].prompts <= own
        copies = {one for one in own if {f"{one} w7", one.removesuffix(" w7")} & evaluated[place]}
        assert copies <= siblings < own
        assert copies or len(own) < 150
        assert mixed[place].prompts & exam == own
        assert mixed[place].prompts - own <= golden
    # The pair's own names, and a weight against the other source.
    frame = pl.concat([mixed[3].dataset.battles, mixed[3].dataset.held_out_battles])
    assert set(frame["model_a"]) == {"s1"}
    assert set(frame["model_b"]) == {"w1"}
    weight = frame.group_by(own=pl.col("prompt").is_in(list(labelled[3]))).agg(pl.col("weight").sum())
    weights = dict(weight.iter_rows())
    assert weights[True] == pytest.approx(4 * np.sqrt(150))
    kept, dropped = (
        row(summary, kind="linear", data=arm, n_labels=150).protocol for arm in ("in-domain", "no siblings")
    )
    near = np.mean([150 - len(one.prompts) for one in without[2:]])
    assert f"150 labelled prompts drawn by seed, {near:.0f} of them siblings of an evaluated prompt, 150 used" in kept
    assert f"{near:.0f} of them siblings of an evaluated prompt, {150 - near:.0f} used; 180 evaluated" in dropped


def test_folds_learn_from_the_other_folds_and_are_ranked_apart(world: Path, tmp_path: Path, fits: Fits) -> None:
    config = study_world.config(world, {"linear": ""}, benchmarks=("folds",), arms=("in-domain",))
    found = row(run(config, tmp_path), kind="linear")
    table = table_of(config, "folds")
    ((trials,),) = plan(table, in_domain=True, seed=0)
    assert [one.prompts for one in fits] == [set(table.prompts(trial.labelled)) for trial in trials]
    strong, weak = (table.rows[f"{side}_score"].to_numpy() for side in ("strong", "weak"))
    ranks = np.empty(N)
    for one, trial in zip(fits, trials, strict=True):
        router = one.fitted.router
        rates = router.win_rates(router.text.tokens(table.prompts(trial.evaluated).to_list()))
        n = len(rates)
        ranks[trial.evaluated] = [((rates < rate).sum() + (rates <= rate).sum()) / (2 * n) for rate in rates]
    curve = cost_quality_curve(ranks, strong, weak)
    assert found.apgr == pytest.approx(curve.apgr, abs=1e-12)
    assert found.cpt50 == pytest.approx(curve.cpt(0.5), abs=1e-12)
    assert (found.n_labels, found.draws, found.spread) == (220, 1, None)


def test_a_row_is_the_mean_over_draws_of_the_router_as_it_scores_texts(world: Path, tmp_path: Path, fits: Fits) -> None:
    config = study_world.config(world, {"linear": ""}, benchmarks=("samples",), arms=("preferences", "in-domain"))
    summary = run(config, tmp_path)
    table = table_of(config, "samples")
    assert len(fits) == 5, "without labels there is one router for all draws"

    def apgr(one: Fit, places: Any) -> float:
        router = one.fitted.router
        rates = router.win_rates(router.text.tokens(table.prompts(places).to_list()))
        return cost_quality_curve(
            rates, *(table.rows[f"{side}_score"].to_numpy()[places] for side in ("strong", "weak"))
        ).apgr

    small, large = ([draw[0].evaluated for draw in size] for size in plan(table, in_domain=True, seed=0))
    alone = [apgr(fits[0], places) for places in small]
    assert row(summary, kind="linear", n_labels=0).apgr == pytest.approx(np.mean(alone), abs=1e-12)
    for n, places, own in ((60, small, fits[1:3]), (150, large, fits[3:5])):
        values = [apgr(one, place) for one, place in zip(own, places, strict=True)]
        found = row(summary, kind="linear", n_labels=n)
        assert found.apgr == pytest.approx(np.mean(values), abs=1e-12)
        assert found.spread == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2), abs=1e-12)


@pytest.mark.parametrize("kind", ["linear", "cluster", "sw", "mf", "bert", "length"])
def test_win_rates_from_known_embeddings_are_those_of_the_router(
    kind: str, world: Path, tmp_path: Path, fits: Fits
) -> None:
    more = study_world.two_tiers("in-domain") if kind == "sw" else ""
    config = study_world.config(world, {kind: more}, benchmarks=("folds",), arms=("in-domain",), name=f"{kind}-rates")
    run(config, tmp_path)
    fitted = fits[0].fitted
    texts = table_of(config, "folds").rows["prompt"]
    expected = fitted.router.win_rates(fitted.router.text.tokens(texts.to_list()))
    assert fitted.win_rates(texts) == pytest.approx(expected, abs=1e-6)
    assert len(set(expected)) > 1


def test_each_prompt_is_embedded_once(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from routing.training.embedders import StaticEmbedder

    counted: list[int] = []
    real = StaticEmbedder.embed

    def counting(self: StaticEmbedder, rows: Any) -> Any:
        counted.append(len(rows))
        return real(self, rows)

    fitting._shared_embeddings.cache_clear()
    monkeypatch.setattr(StaticEmbedder, "embed", counting)
    run(study_world.config(world, {"linear": ""}, benchmarks=("samples",), arms=("in-domain",)), tmp_path)
    screened, *asked = counted
    assert screened == N, "by the search for siblings"
    assert 180 < sum(asked) <= N


def test_a_killed_study_goes_on_and_ends_like_a_quiet_one(world: Path, tmp_path: Path, fits: Fits) -> None:
    config = study_world.config(world, {"linear": "", "sw": PAIR_ALONE}, benchmarks=("samples", "folds"))
    quiet = run(config, tmp_path / "quiet")
    whole = len(fits)
    assert (quiet.fitted, quiet.kept) == (whole, 0)

    fits.dies_at = whole + 9
    with pytest.raises(KilledError):
        run(config, tmp_path / "killed")
    fits.dies_at = None
    assert not (tmp_path / "killed" / "study.json").exists()
    resumed = run(config, tmp_path / "killed")
    assert (resumed.fitted, resumed.kept) == (whole - 9, 9)
    assert len(fits) == 2 * whole
    for name in ("study.json", "study.parquet", "study.md"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "quiet" / name).read_bytes()

    again = run(config, tmp_path / "killed")
    assert (again.fitted, again.kept, again.report) == (0, whole, quiet.report)
    # A file that was cut short is no cell.
    cell = sorted((tmp_path / "killed" / "cells").glob("*.json"))[0]
    cell.write_bytes(cell.read_bytes()[:50])
    mended = run(config, tmp_path / "killed")
    assert (mended.fitted, mended.kept, mended.report) == (1, whole - 1, quiet.report)


def _copy(world: Path, folder: Path) -> Path:
    shutil.copytree(world / "data", folder / "data")
    (folder / "common.toml").write_text((world / "common.toml").read_text())
    return folder


def _spoil(path: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    change(pl.read_parquet(path)).write_parquet(path)


def test_only_what_a_change_touches_is_fitted_again(world: Path, tmp_path: Path) -> None:
    folder = _copy(world, tmp_path)
    arms = ("preferences", "preferences + golden", "in-domain")

    def fitted(**more: Any) -> tuple[int, int]:
        found = run(
            study_world.config(folder, {"linear": ""}, benchmarks=("samples",), arms=arms, **more), folder / "out"
        )
        assert found.failures == {}
        return found.fitted, found.kept

    assert fitted() == (6, 0)
    path = study_world.config(folder, {"linear": ""}, benchmarks=("samples",), arms=arms)
    study_world.replace(path, 'name = "linear"', 'name = "another name"')
    study_world.replace(path, 'name = "in-domain"', 'name = "labels alone"')
    renamed = run(path, folder / "out")
    assert (renamed.fitted, renamed.kept) == (0, 6)
    assert row(renamed, kind="another name", data="labels alone", n_labels=60).draws == 2
    assert fitted(extra="seed = 1\n") == (4, 2)
    study_world.replace(folder / "common.toml", "held_out_share = 0.3", "held_out_share = 0.25")
    assert fitted() == (6, 0)
    (folder / "data" / "golden.csv").write_text(
        (folder / "data" / "golden.csv").read_text().replace("\nprime", "\nPrime")
    )
    fitting._shared_embeddings.cache_clear()
    study_cells._content.cache_clear()
    assert fitted() == (1, 5)
    _spoil(
        folder / "data" / "exam.parquet",
        lambda table: table.with_columns(
            score=1 - pl.col("score"),
            model=pl.col("model").replace({"the-strong": "the-weak", "the-weak": "the-strong"}),
        ),
    )
    assert fitted() == (6, 0)


def test_what_cannot_be_fitted_is_told_and_the_rest_is_measured(world: Path, tmp_path: Path) -> None:
    kinds = {"linear": "", "sw": ""}  # three tiers of two models
    config = study_world.config(world, kinds, benchmarks=("samples",), arms=("preferences", "in-domain"))
    summary = run(config, tmp_path)
    assert summary.exit_code == 1
    assert len(summary.failures) == 4
    assert summary.record()["failed"] == 4
    title = "samples, sw, in-domain, 60 labels, draw 2"
    assert "tiers" in summary.failures[title]
    assert f"not fitted: {title}: {summary.failures[title]}" in summary.report.notes
    assert {(one.kind, one.data) for one in summary.report.label_study if one.data == "in-domain"} == {
        ("linear", "in-domain")
    }
    assert row(summary, kind="sw", data="preferences").draws == 2

    config = study_world.config(world, {"sw": ""}, benchmarks=("samples",), arms=("in-domain",))
    with pytest.raises(DataError, match="no router could be fitted: "):
        run(config, tmp_path / "none")
