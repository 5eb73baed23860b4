"""docs/study.md says what the models of the study config say, and the example is one. Needs no torch."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from jobs import study_config
from jobs.config_file import parse, read_toml
from jobs.study_config import KindSection, StudyConfig
from jobs.study_report import COLUMNS
from jobs.train import merged, parse_kind, read_config
from jobs.train_config import RouterConfig
from routing import errors
from schemas.evaluation import LabelStudy
from tests.config_pages import default_of, rows, sections_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "study.toml"
SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": StudyConfig,
    "`[[benchmarks]]`": study_config.BenchmarkSection,
    "`[[arms]]`": study_config.ArmSection,
    "`[[kinds]]`": KindSection,
}
SOURCE = "\n".join(
    (ROOT / path).read_text(encoding="utf-8")
    for path in ("jobs/study.py", "jobs/study_cells.py", "jobs/study_config.py", "jobs/rundir.py", "routing/trials.py")
)


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_page_names_every_key_with_its_default_and_its_values(heading: str) -> None:
    fields = SECTIONS[heading].model_fields
    found = rows(PAGE, heading)
    assert {key: default.strip("`") for key, (_, default, _) in found.items()} == {
        name: default_of(field) for name, field in fields.items()
    }
    for name, field in fields.items():
        for option in get_args(field.annotation):
            assert not isinstance(option, str) or f"`{option}`" in found[name][2]


def test_every_section_is_on_the_page() -> None:
    assert sections_of(StudyConfig) == set(SECTIONS.values())


def test_the_columns_on_the_page_are_those_of_the_tables() -> None:
    body = PAGE.split("\n## What comes back\n")[1].split("\n## ")[0]
    named = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", body, re.M)
    assert {name for cell in named for name in re.findall(r"\w+", cell)} == set(COLUMNS)
    assert list(COLUMNS) == list(LabelStudy.model_fields)


def test_the_example_is_a_study_of_training_configs() -> None:
    study = parse(StudyConfig, read_toml(EXAMPLE), source=str(EXAMPLE))
    assert (
        f"]({EXAMPLE.relative_to(ROOT / 'docs', walk_up=True)})" in PAGE if False else "../examples/study.toml" in PAGE
    )
    for kind in study.kinds:
        raw, _ = read_config(EXAMPLE.parent / kind.config)
        for arm in study.arms:
            config = parse_kind(merged(raw, kind.per_arm.get(arm.name, {})), source=kind.name)
            assert isinstance(config, RouterConfig)
            assert set(arm.sources) <= {item.name for item in config.sources}
            assert config.data.embedding_cache is not None


def test_the_entry_for_another_kind_is_one() -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.M | re.S)
    (entry,) = tomllib.loads(block)["kinds"]
    kind = parse(KindSection, entry, source="docs/study.md")
    assert (EXAMPLE.parent / kind.config).is_file()
    study = parse(StudyConfig, read_toml(EXAMPLE) | {"kinds": [entry]}, source="docs/study.md")
    assert [arm.name for arm in study.arms_of(kind, study.benchmarks[0])] == ["in-domain"]


def test_every_link_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if not link.startswith("http")]
    assert links
    assert not [link for link in links if not (ROOT / "docs" / link).exists()]


def test_every_message_on_the_page_is_one_that_the_program_writes_with_its_code() -> None:
    messages = re.findall(r"^\| (\d+) \| `([^`]+)` \|", PAGE, re.M)
    assert len(messages) >= 7
    for code, fragment in messages:
        before = [SOURCE[: place.start()] for place in re.finditer(re.escape(fragment), SOURCE)]
        raised = [name for text in before for name in re.findall(r"raise (\w+)\(", text)[-1:]]
        # pydantic turns a validator's ValueError into one of our ConfigErrors.
        kinds = [getattr(errors, name.replace("ValueError", "ConfigError")) for name in raised]
        assert int(code) in {kind.exit_code for kind in kinds}, fragment
