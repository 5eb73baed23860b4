"""Which code a study's cells hang on: all that a fit imports. Needs no torch."""

import ast
from pathlib import Path

import pytest

import routing
from jobs import study_cells
from jobs.study_cells import CODE

ROOT = Path(__file__).parents[2]
HASHED = {path for pattern in CODE for path in ROOT.glob(pattern)}
FITS = ("jobs/fitting.py", "jobs/study_cells.py", "jobs/train_data.py", "routing/trials.py")
"""Where a fit begins; what they import of `jobs` besides is named below."""
DECIDES_NOTHING = {
    "jobs/console.py": "says what is done",
    "jobs/rundir.py": "writes files",
    "jobs/study_config.py": "what decides a fit of it is in the digest as a value, like that of the next three",
    "jobs/train.py": "reads the training config",
    "jobs/train_config.py": "",
    "jobs/train_kinds.py": "",
    "routing/errors.py": "messages",
}


def imported(path: Path) -> set[Path]:
    """Modules of `jobs` and `routing` that a file imports, wherever in it; schemas are what both sides agree on."""
    names = {
        name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        if name.startswith(("jobs.", "routing."))
    }
    return {file for name in names if (file := ROOT / f"{name.replace('.', '/')}.py").is_file()}


def test_cells_hang_on_all_code_that_a_fit_imports() -> None:
    assert all(any(ROOT.glob(pattern)) for pattern in CODE)
    aside = {ROOT / name for name in DECIDES_NOTHING}
    needed, left = set[Path](), {ROOT / name for name in FITS} | set((ROOT / "routing" / "training").glob("*.py"))
    while left:
        path = left.pop()
        needed.add(path)
        left |= imported(path) - needed - aside
    assert {path.relative_to(ROOT).as_posix() for path in needed - HASHED} == set()
    assert {path.relative_to(ROOT).as_posix() for path in HASHED - needed} == set(), "is hashed, but decides nothing"


def test_another_code_is_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("routing/__init__.py", "routing/metrics.py", "jobs/train_data.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1", encoding="utf-8")
    monkeypatch.setattr(routing, "__file__", str(tmp_path / "routing" / "__init__.py"))
    code = study_cells._code.__wrapped__
    found = {code()}
    for name in ("routing/metrics.py", "jobs/train_data.py"):
        (tmp_path / name).write_text("2", encoding="utf-8")
        found.add(code())
    assert len(found) == 3
