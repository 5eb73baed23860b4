"""`nightroute evaluate` from a config to its files: figures, tables, Markdown, page, cache, extras, merged reports."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from jobs.cli import invoke
from jobs.evaluate import MARKDOWN, PAGE, REPORT
from jobs.evaluate_config import BASELINES
from jobs.evaluate_markdown import markdown
from routing.metrics import average_pgr, bootstrap
from schemas.artifact import Truncation
from schemas.evaluation import EvaluationReport, LabelStudy
from tests.e2e.test_golden import golden
from tests.fakes import save_adding_router, save_embedding_router, write_card

N = 80
PRICES = {"big": (10, 30), "small": (1, 2)}


def prompts(n: int = N) -> list[str]:
    """Two numbers each; the first says how much the strong model gains, as the adding router sees it."""
    return [f"{1 + (37 * i) % 199} {500 + i}" for i in range(n)]


def grades(models: Mapping[str, float], n: int = N) -> pl.DataFrame:
    """A model of strength s answers a prompt with the number k right if k / 200 + noise is below s."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(-0.3, 0.3, n)
    return pl.DataFrame(
        [
            {"prompt": text, "task": "law" if i % 2 else "maths", "model": model, "input_tokens": 20 + i % 7,
             "output_tokens": 100 + i, "score": float(int(text.split()[0]) / 200 + noise[i] < strength)}
            for i, text in enumerate(prompts(n))
            for model, strength in models.items()
        ]
    )  # fmt: skip


@dataclass
class Bench:
    """A folder with a config, tables and routers."""

    folder: Path

    def write(self, **changed: Any) -> Path:
        prices = [
            {"model": model, "input_usd_per_mtok": sent, "output_usd_per_mtok": received}
            for model, (sent, received) in PRICES.items()
        ]
        config: dict[str, Any] = {
            "name": "a made-up exam", "output": "out", "resamples": 200, "random_routers": 200, "category_prompts": 30,
            "data": {"path": "."},
            "routers": [{"artifact": "whole"}, {"artifact": "first"}],
            "benchmarks": [
                {"name": "exam", "path": "exam.parquet", "strong": "big", "weak": "small", "protocol": "made up"}
            ],
            "prices": prices,
        }  # fmt: skip
        path = self.folder / "eval.toml"
        lines = [f"{key} = {inline(value)}\n" for key, value in (config | changed).items()]
        path.write_text("".join(lines), encoding="utf-8")
        return path

    def run(self, capsys: pytest.CaptureFixture[str], **changed: Any) -> tuple[int, dict[str, Any], str]:
        code = invoke(["evaluate", "--config", str(self.write(**changed))])
        told = capsys.readouterr()
        return code, json.loads(told.out.splitlines()[-1]), told.err

    @property
    def report(self) -> EvaluationReport:
        return EvaluationReport.model_validate_json((self.folder / "out" / REPORT).read_bytes())


def inline(value: Any) -> str:
    """A value as TOML writes it on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {inline(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    grades({"big": 0.9, "small": 0.45, "other": 0.7}).write_parquet(tmp_path / "exam.parquet")
    save_adding_router(tmp_path / "whole")
    write_card(tmp_path / "whole", name="whole", trained_pair="big over small", truncation=Truncation(head=3, tail=2))
    save_adding_router(tmp_path / "first")
    write_card(tmp_path / "first", name="first", kind="mf", truncation=Truncation(head=1, tail=0))
    return Bench(tmp_path)


def test_one_command_from_tables_to_report(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    code, summary, err = bench.run(capsys)
    assert (code, summary["job"], summary["status"], summary["exit_code"]) == (0, "evaluate", "evaluated", 0)
    assert summary["prompts"] == {"exam": N}
    out = bench.folder / "out"
    assert {path.name for path in out.iterdir()} == {
        "cache", "comparisons.parquet", "curves.parquet", "figures.parquet", "scores.parquet", MARKDOWN, PAGE, REPORT
    }  # fmt: skip
    assert summary["report"] == str(out / REPORT)
    report = bench.report
    assert [router.name for router in report.routers] == ["whole", "first", *BASELINES]
    assert report.benchmarks[0].categories == {"law": N // 2, "maths": N // 2}

    # The figure in the summary is the one that a bootstrap of the written win rates gives.
    scores = pl.read_parquet(out / "scores.parquet").filter(router="first")
    assert scores["win_rate"].to_list() == [int(text.split()[0]) / 1000 for text in prompts()]
    rates, strong, weak = (scores[name].to_numpy() for name in ("win_rate", "strong_score", "weak_score"))
    apgr = bootstrap(rates, strong, weak, average_pgr, resamples=200, seed=0)
    assert summary["apgr"]["exam"]["first"] == pytest.approx(apgr.value)
    figures = pl.read_parquet(out / "figures.parquet")
    row = figures.filter(router="first", metric="apgr", bins="ranks").filter(pl.col("category").is_null())
    assert row.select("value", "low", "high", "n").row(0) == pytest.approx((apgr.value, apgr.low, apgr.high, N))
    # The number that the router reads makes the grades, so it beats chance, and the oracle beats it.
    assert apgr.low > 0.5
    assert summary["apgr"]["exam"]["oracle"] > apgr.value > summary["apgr"]["exam"]["random"]
    assert "a made-up exam" in err


def test_tables_are_the_report_in_rows(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run(capsys)
    out, report = bench.folder / "out", bench.report
    figures = pl.read_parquet(out / "figures.parquet")
    assert figures.rows(named=True) == [figure.model_dump() for figure in report.figures]
    comparisons = pl.read_parquet(out / "comparisons.parquet")
    assert comparisons.rows(named=True) == [one.model_dump() for one in report.comparisons]
    curves = pl.read_parquet(out / "curves.parquet")
    for curve in report.curves:
        rows = curves.filter(benchmark=curve.benchmark, router=curve.router)
        assert rows["quality"].to_list() == curve.quality
        assert rows["usd"].to_list() == curve.usd
    scores = pl.read_parquet(out / "scores.parquet")
    assert scores.height == 2 * N
    assert scores.group_by("router", maintain_order=True).len().rows() == [("whole", N), ("first", N)]
    # 20 + i % 7 tokens in, 100 + i out, at 10 and 30 dollars per million.
    strong = sum((20 + i % 7) * 10 + (100 + i) * 30 for i in range(N)) / 1e6
    assert float(scores.filter(router="first")["strong_usd"].sum()) == pytest.approx(strong)
    assert report.benchmarks[0].all_strong_usd == pytest.approx(strong)


def test_win_rates_are_read_from_the_cache_until_it_is_deleted(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run(capsys)
    cached = sorted((bench.folder / "out" / "cache").rglob("*.parquet"))
    assert len(cached) == 2
    before, report = [path.stat().st_mtime_ns for path in cached], bench.report
    assert bench.run(capsys)[0] == 0
    assert [path.stat().st_mtime_ns for path in cached] == before
    for path in cached:
        path.unlink()
    assert bench.run(capsys)[0] == 0
    assert sorted((bench.folder / "out" / "cache").rglob("*.parquet")) == cached
    assert bench.report.model_copy(update={"created_at": report.created_at}) == report


def test_the_page_shows_the_report(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    code, summary, _ = bench.run(capsys)
    assert code == 0
    page = Path(summary["page"]).read_text(encoding="utf-8")
    assert "a made-up exam" in page
    assert f"{summary['apgr']['exam']['first']:.3f}"[1:] in page


# ---- what people read -----------------------------------------------------------------------------------------------


def masked(report: EvaluationReport) -> EvaluationReport:
    routers = [router.model_copy(update={"sha256": router.sha256 and "0" * 64}) for router in report.routers]
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    return report.model_copy(update={"created_at": moment, "machine": "2 cores, Python 3.11", "routers": routers})


def test_the_markdown_tables_letter_by_letter(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    labels = LabelStudy(
        kind="linear", benchmark="exam", data="in-domain", n_labels=100, draws=5,
        apgr=0.61, low=0.58, high=0.64, spread=0.011, cpt50=0.4, protocol="nested",
    )  # fmt: skip
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    study = EvaluationReport(name="study", created_at=moment, seed=0, resamples=100, machine="", label_study=[labels])
    (bench.folder / "study.json").write_text(study.model_dump_json(), encoding="utf-8")
    grades({name: 0.3 + 0.1 * place for place, name in enumerate("abcde")}, 60).write_parquet(
        bench.folder / "others.parquet"
    )
    pl.DataFrame({"prompt": prompts(), "lang": ["en", "de"] * (N // 2)}).write_csv(bench.folder / "log.csv")
    code, _, err = bench.run(
        capsys,
        merge=["study.json"],
        transfer={
            "tables": [{"name": "others", "path": "others.parquet", "seen": "exam"}], "min_prompts": 50, "max_pairs": 3
        },
        robustness={"benchmarks": ["exam"], "max_prompts": 40, "perturbations": ["upper_case", "please"]},
        drift={"path": "log.csv", "groups": {"language": "lang"}},
    )  # fmt: skip
    assert code == 0, err
    golden("evaluation.md", markdown(masked(bench.report)))
    written = (bench.folder / "out" / MARKDOWN).read_text(encoding="utf-8")
    assert written == markdown(bench.report)


def test_numbers_of_the_markdown_are_those_of_the_report(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run(capsys)
    text = (bench.folder / "out" / MARKDOWN).read_text(encoding="utf-8")
    for figure in bench.report.figures:
        if figure.metric == "apgr" and figure.bins == "ranks" and figure.router != "constant":
            assert figure.value is not None
            assert f"| {figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f}) |" in text


def test_names_cannot_break_a_table_or_open_a_tag(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run(capsys, routers=[{"artifact": "first", "name": "a|b <script>\n# c"}])
    text = (bench.folder / "out" / MARKDOWN).read_text(encoding="utf-8")
    assert "<script>" not in text
    assert r"| a\|b &lt;script> # c |" in text
    assert not re.search(r"^# c", text, re.M)


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "code", "message"),
    [
        ({"routers": [{"artifact": "sold"}]}, 78, "routers.0: 'first-number' starts at an embedding"),
        ({"routers": [{"artifact": "whole"}] * 2}, 78, "routers.1: the name 'whole' is taken"),
        ({"routers": [{"artifact": "nowhere"}]}, 78, "has no readable router.json"),
        ({"data": {"path": "nowhere"}}, 66, "(data.path of the config) is not there; set data.path"),
        ({"merge": ["study.json"]}, 66, "merge: "),
        ({"merge": ["log.json"]}, 78, "is no evaluation report of this version"),
        ({"benchmarks": [{"name": "e", "path": "x.csv", "strong": "s", "weak": "w"}]}, 66, "x.csv is missing"),
        ({"benchmarks": [{"name": "e", "path": "exam.parquet", "strong": "small", "weak": "big"}]}, 65, "swap them"),
        (
            {"transfer": {"tables": [{"name": "t", "path": "exam.parquet"}], "min_prompts": 50, "min_gap": 0.9}},
            65,
            "lower transfer.min_prompts or transfer.min_gap",
        ),
        ({"robustness": {"benchmarks": ["exam"], "strong_shares": [1.5]}}, 78, "robustness.strong_shares.0: "),
        ({"robustness": {"benchmarks": ["exam"], "confounder": {"max_queries": 1}}}, 78, "max_queries = 1 is less"),
        (
            {
                "benchmarks": [{"name": "e", "path": "same.csv", "strong": "big", "weak": "small"}],
                "robustness": {"benchmarks": ["e"]},
            },
            65,
            "at least 4 different prompts, got 1",
        ),
    ],
)
def test_everything_that_can_be_wrong_is_found_before_scoring(
    bench: Bench, capsys: pytest.CaptureFixture[str], changed: dict[str, Any], code: int, message: str
) -> None:
    save_embedding_router(bench.folder / "sold")
    (bench.folder / "log.json").write_text('{"name": "log"}', encoding="utf-8")
    same = pl.DataFrame({"prompt": ["1 1"] * 12, "strong_score": [1, 1, 0] * 4, "weak_score": [0, 1, 0] * 4})
    same.write_csv(bench.folder / "same.csv")
    ended, summary, err = bench.run(capsys, **changed)
    assert (ended, summary["exit_code"]) == (code, code)
    assert message in err
    assert not (bench.folder / "out").exists()


def test_reports_are_merged_unless_they_mean_other_things_by_one_name(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.run(capsys, output="first_run", routers=[{"artifact": "first"}])[0] == 0
    one = bench.folder / "first_run" / REPORT
    assert bench.run(capsys, routers=[{"artifact": "whole"}], merge=["first_run/report.json"])[0] == 0
    report = bench.report
    assert [router.name for router in report.routers] == ["whole", *BASELINES, "first"]
    assert [benchmark.name for benchmark in report.benchmarks] == ["exam"]
    apgr = [f.router for f in report.figures if (f.metric, f.bins, f.category) == ("apgr", "ranks", None)]
    assert sorted(apgr) == sorted(["whole", *BASELINES, "first"])
    other = json.loads(one.read_text(encoding="utf-8"))
    other["benchmarks"][0] |= {"n": 7, "sha256": "0" * 64}
    one.write_text(json.dumps(other), encoding="utf-8")
    code, _, err = bench.run(capsys, merge=["first_run/report.json"])
    assert code == 78
    assert "has other benchmarks under the names ['exam']" in err
    # Without figures on it, as in a study, the other `exam` is no part of the report, and does not matter.
    one.write_text(json.dumps(other | {"figures": [], "routers": []}), encoding="utf-8")
    assert bench.run(capsys, merge=["first_run/report.json"])[0] == 0
    assert [benchmark.n for benchmark in bench.report.benchmarks] == [N]
