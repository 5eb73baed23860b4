"""docs/audit-exports.md names every table, every column of FOCUS and every figure, and nothing else."""

import re
from pathlib import Path

import pytest

from jobs.audit_results import CSV, FOCUS, TABLES
from routing.audit.focus import MANDATORY, OPTIONAL, OWN
from routing.audit.gates import FIGURES, check_gates
from tests.unit.audit.test_exports import TABLES as NAMES
from tests.unit.audit.test_exports import WHAT_IF

PAGE = (Path(__file__).parents[3] / "docs" / "audit-exports.md").read_text(encoding="utf-8")


def first_cells(heading: str) -> list[str]:
    """Names in the first column of the tables below a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("Tables", {*NAMES, *WHAT_IF}),
        ("FOCUS 1.2", {*MANDATORY, *OPTIONAL, *OWN}),
        ("Gates", set(FIGURES)),
    ],
)
def test_the_page_names_them_all_once(heading: str, names: set[str]) -> None:
    found = first_cells(heading)
    assert sorted(found) == sorted(names)


def test_the_folders_are_those_written() -> None:
    assert re.findall(r"^\| `(\w+)/` \|", PAGE, re.MULTILINE) == [TABLES, CSV, FOCUS]


def test_the_gates_of_the_example_are_gates() -> None:
    gates = re.findall(r"--fail-if '([^']+)'", PAGE)
    assert len(gates) == 2
    check_gates(gates)
