import re
from pathlib import Path

import pytest

from routing import errors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
SOURCE = "\n".join(
    path.read_text(encoding="utf-8") for folder in ("jobs", "routing") for path in (ROOT / folder).glob("*.py")
)
MESSAGES = re.findall(r"^\| (\d+) \| `([^`]+)` \|", PAGE, re.M)


def codes() -> set[int]:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.NightrouteError)
    ]
    return {kind.exit_code for kind in kinds}


def test_every_exit_code_is_explained() -> None:
    table = PAGE.split("## Exit codes")[1].split("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.M)} == codes() | {0, 1, 130}


@pytest.mark.parametrize(("code", "fragment"), MESSAGES, ids=[fragment for _, fragment in MESSAGES])
def test_every_message_on_the_page_is_one_that_the_program_writes(code: str, fragment: str) -> None:
    assert fragment in SOURCE
    assert int(code) in codes()
