"""`nightroute report`: which page a folder gets, and what it says where there is none."""

import json
from pathlib import Path

import pytest

from jobs.cli import invoke
from jobs.report.audit import audit_page
from jobs.report.evaluation import evaluation_page
from jobs.report.run import run_page
from jobs.reporting import report
from jobs.run_report import run_report
from routing.errors import ConfigError, InputMissingError, UsageError
from tests import audit_reports, evaluation_reports
from tests.run_reports import NOW, table, write_run


def emitted(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    told = capsys.readouterr()
    found = json.loads(told.out.splitlines()[-1])
    assert isinstance(found, dict)
    assert str(found.get("page", "")) in told.err
    return found


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, table())
    assert report(run, groups=["tenant"], now=NOW) == 0
    html = (run / "report.html").read_text(encoding="utf-8")
    assert html == run_page(run_report(run, groups=["tenant"], now=NOW))
    assert emitted(capsys) == {
        "job": "report", "status": "reported", "exit_code": 0, "kind": "run", "folder": str(run),
        "page": str(run / "report.html"), "bytes": len(html.encode()),
    }  # fmt: skip
    assert {path.name for path in run.iterdir()} == {
        "config.json", "manifest.json", "plan.json", "prices.parquet", "report.html",
    }  # fmt: skip


def test_an_audit_is_drawn_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = audit_reports.large_report(tenants=3, days=2, points=5)
    (tmp_path / "report.json").write_text(found.model_dump_json(), encoding="utf-8")
    assert report(tmp_path) == 0
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == audit_page(found)
    assert emitted(capsys)["kind"] == "audit"


def test_an_evaluation_into_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluation_reports.small_report()
    (tmp_path / "report.json").write_text(found.model_dump_json(), encoding="utf-8")
    page = tmp_path / "pages" / "october.html"
    assert report(tmp_path, output=page) == 0
    assert page.read_text(encoding="utf-8") == evaluation_page(found)
    assert emitted(capsys)["page"] == str(page)
    assert [path.name for path in page.parent.iterdir()] == ["october.html"]
    assert not (tmp_path / "report.html").exists()


def test_a_run_comes_before_a_report_in_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, table(40))
    (run / "report.json").write_text("{}", encoding="utf-8")
    assert report(run, now=NOW) == 0
    assert emitted(capsys)["kind"] == "run"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, InputMissingError, r"holds neither a run \(plan.json\) nor a report"),
        ("{", ConfigError, "is no JSON"),
        ("[1]", ConfigError, "is no report of an audit or an evaluation"),
        ('{"name": "x"}', ConfigError, r"it has the keys \['name'\]"),
        ('{"reconciliation": {}}', ConfigError, r"cannot be understood \(\d+ problems, the first at name"),
        ('{"benchmarks": 3}', ConfigError, "another version of nightroute wrote it"),
    ],
)
def test_what_cannot_be_reported(tmp_path: Path, text: str | None, error: type[Exception], message: str) -> None:
    if text is not None:
        (tmp_path / "report.json").write_text(text, encoding="utf-8")
    with pytest.raises(error, match=message):
        report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="is no folder"):
        report(tmp_path / "nothing")


def test_groups_are_for_runs(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(audit_reports.small_report().model_dump_json(), encoding="utf-8")
    with pytest.raises(UsageError, match="--group is for runs"):
        report(tmp_path, groups=["tenant"])


def test_a_labelling_run_has_no_page(tmp_path: Path) -> None:
    (tmp_path / "label.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="labelling run"):
        report(tmp_path)


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0, 2, 66 and 75 of DESIGN section 9."""
    run = write_run(tmp_path, table(40))
    assert invoke(["report", str(run), "--group", "tenant"]) == 0
    assert invoke(["report", str(run), "--group", "xyz"]) == 2
    assert invoke(["report", str(tmp_path)]) == 66
    (run / "manifest.json").unlink()
    assert invoke(["report", str(run)]) == 75
    assert emitted(capsys)["exit_code"] == 75
