"""docs/audit-formats.md names what is read, and nothing else."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from jobs.audit_config import FormatName, LogSection
from routing.call_logs.known import FORMATS
from routing.call_logs.otel import ATTRIBUTES
from tests.unit.call_logs.support import SCHEMA

PAGE = (Path(__file__).parents[3] / "docs" / "audit-formats.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    return PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def cells(name: str) -> list[tuple[str, str]]:
    """Rows of the table of a format: ours, read from."""
    return [
        row
        for row in re.findall(r"^\| (.*?) \| (.*) \|$", section(name), re.MULTILINE)
        if row[0] not in ("ours", "---")
    ]


def names(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def test_the_overview_lists_every_format() -> None:
    overview = PAGE.partition("\n## ")[0]
    assert re.findall(r"^\| \[`(\w+)`\]\(#\1\)", overview, re.MULTILINE) == list(get_args(FormatName))


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_told_by_what_the_page_says(name: str) -> None:
    assert f"\nTold by: {FORMATS[name].described()}.\n" in section(name)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "otel"])
def test_every_field_that_is_read_is_on_the_page(name: str) -> None:
    fields = set(FORMATS[name].fields)
    sources = " ".join(source for _, source in cells(name))
    assert fields <= {word.partition(".")[0] for word in names(sources)} | set(re.findall(r'"(\w+)[."]', sources))


@pytest.mark.parametrize("name", FORMATS)
def test_left_columns_are_those_of_the_contract(name: str) -> None:
    ours = {word for left, _ in cells(name) for word in names(left)}
    assert ours <= set(SCHEMA)
    assert len([word for left, _ in cells(name) for word in names(left)]) == len(ours)


def test_attributes_of_spans() -> None:
    rows = {word: names(source) for left, source in cells("otel") for word in names(left)}
    for ours, attributes in ATTRIBUTES.items():
        assert set(attributes) <= rows[ours], ours
    known = {name for attributes in ATTRIBUTES.values() for name in attributes}
    written = {name for found in rows.values() for name in found if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", name)}
    assert written - {"log.tenant", "log.columns", "gen_ai.user.message", "gen_ai.event.content"} == known


def test_the_contract_is_listed_for_mappings() -> None:
    listed = [word for left, _ in cells("table") for word in names(left)]
    assert sorted(listed) == sorted(name for name in SCHEMA if name != "row")


def test_the_example_is_a_config() -> None:
    example = section("table").partition("```toml\n")[2].partition("```")[0]
    log = LogSection.model_validate(tomllib.loads(example)["log"])
    assert set(log.columns) <= set(SCHEMA)
