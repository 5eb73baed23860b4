"""docs/report.md says what the program says."""

import re
from pathlib import Path

import pytest

from jobs.cli import app
from jobs.report.views import MOST_ROWS
from jobs.run_report import MOST_GROUPS
from routing import errors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^\| (\d+) \| `([^`]+)` \|", PAGE, re.M)
SOURCE = re.sub(
    r'"\n\s*f?"',
    "",
    "\n".join(
        (ROOT / "jobs" / f"{name}.py").read_text(encoding="utf-8") for name in ("reporting", "run_report", "night")
    ),
)
"""Literals over several lines joined."""


@pytest.mark.parametrize(("code", "fragment"), MESSAGES, ids=[fragment for _, fragment in MESSAGES])
def test_every_message_on_the_page_is_one_that_the_program_writes(code: str, fragment: str) -> None:
    assert fragment in SOURCE
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert int(code) in {kind.exit_code for kind in kinds if issubclass(kind, errors.NightrouteError)}


def test_the_command_and_its_options_are_there() -> None:
    (command,) = [c for c in app.registered_commands if c.callback is not None and c.callback.__name__ == "report"]
    assert command.callback is not None
    assert set(command.callback.__annotations__) - {"return"} == {"path", "output", "groups"}
    assert {"--group", "--output"} == set(re.findall(r"--(?:group|output)\b", PAGE))


def test_limits_on_the_page() -> None:
    assert f"Tables end at {MOST_ROWS} rows" in PAGE
    assert MOST_GROUPS == 1_000
