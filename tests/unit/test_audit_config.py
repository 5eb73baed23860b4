"""docs/audit.md says what the config's models say; the config refuses what cannot be answered."""

import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from jobs import audit_config as config
from jobs.calibrate_config import LabelsSection
from jobs.config import EmbeddingSection, RouterSection
from jobs.config_file import parse
from routing.errors import ConfigError, UsageError
from schemas.billing import PriceOverride
from tests.config_pages import documented, expected, sections_of

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": config.AuditConfig,
    "`[log]`": config.LogSection,
    "`[control]`": config.ControlSection,
    "`[what_if]`": config.WhatIfSection,
    "`[what_if.strong]`, `[what_if.weak]`": config.WhatIfModel,
    "`[page]`": config.PageSection,
    "`[exports]`": config.ExportSection,
}
OF_OTHER_PAGES = {PriceOverride, RouterSection, EmbeddingSection, LabelsSection}
PAIR: dict[str, Any] = {"strong": {"name": "a"}, "weak": {"name": "b"}}
MINIMAL: dict[str, Any] = {"output": "out", "log": {"path": "log"}}


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_page_names_every_key_with_its_default(heading: str) -> None:
    assert documented(PAGE, heading) == expected(SECTIONS[heading])


def test_every_section_is_on_a_page() -> None:
    assert sections_of(config.AuditConfig) == set(SECTIONS.values()) | OF_OTHER_PAGES


def test_the_formats_are_named() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `format`"))
    assert not [name for name in get_args(config.FormatName) if f"`{name}`" not in row]


def test_the_example_on_the_page_is_a_config() -> None:
    example = PAGE.split("```toml\n")[1].split("```")[0]
    found = parse(config.AuditConfig, tomllib.loads(example), source="docs/audit.md")
    assert found.what_if is not None
    assert found.what_if.quality_floor == 0.95


def test_a_date_fills_paths(tmp_path: Path) -> None:
    path = tmp_path / "audit.toml"
    path.write_text('output = "out/{date}"\nlog.path = "log"\n', encoding="utf-8")
    job = config.load_audit(path, date="2026-11-20")
    assert job.path(job.config.output) == tmp_path / "out" / "2026-11-20"
    with pytest.raises(UsageError, match="no --date was given"):
        config.load_audit(path).path("out/{date}")


@pytest.mark.parametrize(
    ("data", "needle"),
    [
        ({"what_if": PAIR | {"quality_floor": 0.9}}, "add [what_if.labels]"),
        ({"what_if": PAIR | {"weak": {"name": "a", "provider": "x"}}}, "strong and weak are both called 'a'"),
        ({"what_if": PAIR | {"router": {"embedding": {"base_url": "http://s/v1"}}}}, "an audit buys nothing"),
        ({"log": {"path": "log", "formt": "otel"}}, "did you mean 'format'?"),
        ({"log": {"path": "log", "format": "csv"}}, "log.format"),
    ],
)
def test_a_config_that_cannot_be_answered_is_refused(data: dict[str, Any], needle: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(config.AuditConfig, MINIMAL | data, source="audit.toml")
    assert needle in str(error.value)
