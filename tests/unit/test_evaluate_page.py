"""docs/evaluate.md says what the models of the evaluation config say, and its example is a config."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from jobs import evaluate_config as config
from jobs import evaluate_robustness as robustness
from jobs import evaluate_transfer as transfer
from jobs.config_file import parse
from jobs.evaluate_tables import _COMPARISONS, _FIGURES, _POINTS
from routing.benchmarks import COLUMNS, OPTIONAL
from routing.measuring import CURVE_POINTS, IN_DOLLARS, METRICS, STATISTICS
from routing.perturbations import PERTURBATIONS
from tests.config_pages import check_links, check_messages, documented, expected, sections_of, table

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs"
PAGE = (FOLDER / "evaluate.md").read_text(encoding="utf-8")
SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": config.EvaluateConfig,
    "`[data]`": config.DataSection,
    "`[[routers]]`": config.EvaluatedRouterSection,
    "`[[benchmarks]]`": config.BenchmarkSection,
    "`[transfer]`": transfer.TransferSection,
    "`[[transfer.tables]]`": transfer.TransferTableSection,
    "`[robustness]`": robustness.RobustnessSection,
    "`[robustness.confounder]`": robustness.ConfounderSection,
    "`[drift]`": robustness.DriftSection,
}
SOURCE = "\n".join(
    path.read_text(encoding="utf-8") for folder in ("jobs", "routing") for path in (ROOT / folder).glob("*.py")
)
MESSAGES = re.findall(r"^\| (\d+) \| `((?:[^`\\]|\\`)+)` \|", PAGE, re.M)


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_page_names_every_key_with_its_default(heading: str) -> None:
    wanted = expected(SECTIONS[heading])
    if heading == "`[robustness]`":  # too long to write: all there are
        wanted["perturbations"] = ", ".join(f"`{name}`" for name in PERTURBATIONS).strip("`")
    assert documented(PAGE, heading) == wanted


def test_every_section_is_on_the_page() -> None:
    from schemas.billing import PriceOverride

    assert sections_of(config.EvaluateConfig) == {*SECTIONS.values(), PriceOverride}


def test_the_page_names_every_layout_and_column() -> None:
    found = table(PAGE, "Benchmarks that are read")
    assert [key.strip("`") for key in found] == list(get_args(config.Layout))
    for layout, needed in COLUMNS.items():
        assert re.findall(r"`(\w+)`", found[f"`{layout}`"][0])[: len(needed)] == list(needed)
        named = set(re.findall(r"`(\w+)`", found[f"`{layout}`"][0]))
        assert named <= {*needed, *OPTIONAL[layout]}


def test_the_page_defines_every_metric() -> None:
    named = {name for key in table(PAGE, "The metrics") for name in re.findall(r"`(\w+)`", key)}
    assert named == {*METRICS, *(IN_DOLLARS + name for name in STATISTICS), "ece"}
    for name in config.BASELINES:
        assert f"`{name}`: " in PAGE


def test_the_page_names_the_columns_of_the_tables() -> None:
    found = table(PAGE, "What comes out")
    assert found["`figures.parquet`"] == [", ".join(_FIGURES)]
    assert found["`comparisons.parquet`"] == [", ".join(_COMPARISONS)]
    assert found["`curves.parquet`"][0].startswith(", ".join(("benchmark", "router", *_POINTS)))
    assert f"at most {CURVE_POINTS} points" in found["`curves.parquet`"][0]


def test_the_examples_are_configs() -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.M | re.S)
    example = parse(config.EvaluateConfig, tomllib.loads(block), source="docs/evaluate.md")
    assert len(example.routers) == 2


def test_every_link_leads_somewhere() -> None:
    check_links(FOLDER / "evaluate.md")


def test_every_message_on_the_page_is_one_that_the_program_writes_with_its_code() -> None:
    assert len(MESSAGES) > 20
    check_messages(MESSAGES, SOURCE)
