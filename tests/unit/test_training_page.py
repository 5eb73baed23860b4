"""docs/training.md says what the models of the training config say, and its examples are configs. Needs no torch."""

import re
import shutil
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from jobs import train_config as common
from jobs import train_kinds as kinds
from jobs.config import RouterSection
from jobs.config_file import parse
from jobs.train import MAX_EXTENDS, read_config
from routing.training.importers import LAYOUTS
from schemas.artifact import Truncation
from tests.config_pages import check_links, check_messages, default_of, documented, expected, rows, sections_of

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs"
PAGE = (FOLDER / "training.md").read_text(encoding="utf-8")
PRESETS = ROOT / "examples" / "train" / "presets"

SECTIONS: dict[str, type[BaseModel]] = {
    "`[data]`": common.Data,
    "`[[sources]]`": common.SourceSection,
    "`[sources.exclude]`": common.Exclude,
    "`[encoder]`": common.Encoder,
    "`[pair]`": common.Pair,
    "`[split]`": common.Split,
    "`[[evaluation]]`": common.Evaluation,
    "`[export]`": common.Export,
    "`[card]`": common.Card,
    "`[embedder]`": kinds.EmbedderSection,
    "`[fit]` of `cluster`": kinds.ClusterFit,
    "`[fit]` of `linear`": kinds.LinearFit,
    "`[fit]` of `ngram`": kinds.NgramFit,
    "`[fit]` of `sw`": kinds.SwFit,
    "`[fit]` of `mf`": kinds.MfFit,
    "`[fit]` of `bert`": kinds.BertFit,
    "`[fit]` of `causal_llm`": kinds.CausalLlmFit,
    "`[fit]` of `length`": kinds.LengthFit,
    "`[fit]` of `constant`": kinds.ConstantFit,
    "`[fit.loop]`": kinds.LoopSection,
    "`[fit.lora]`": kinds.LoraSection,
    "Top level of `static_mf`": common.StaticMfTrainConfig,
    "`[data]` of `static_mf`": common.StaticData,
    "`[table]`": common.TokenTable,
    "`[truncation]`": Truncation,
    "`[pair]` of `static_mf`": common.Models,
    "`[[golden_pairs]]`": common.GoldenPair,
    "`[fit]` of `static_mf`": common.StaticFit,
}
BLOCKS = re.findall(r"^```toml\n(.*?)^```", PAGE, re.M | re.S)
CONFIGS = {kind: model for kind, model in kinds.KINDS.items() if issubclass(model, common.RouterConfig)}
SOURCE = "\n".join(
    path.read_text(encoding="utf-8")
    for folder in ("jobs", "routing", "routing/training")
    for path in (ROOT / folder).glob("*.py")
)
MESSAGES = re.findall(r"^\| (\d+) \| `([^`]+)` \|", PAGE, re.M)


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_page_names_every_key_with_its_default(heading: str) -> None:
    assert documented(PAGE, heading) == expected(SECTIONS[heading])


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_page_names_every_value_that_a_key_may_have(heading: str) -> None:
    found = rows(PAGE, heading)
    choices = {
        name: [option for part in (field.annotation, *get_args(field.annotation)) for option in get_args(part)]
        for name, field in SECTIONS[heading].model_fields.items()
    }
    missing = {
        (name, option)
        for name, options in choices.items()
        for option in options
        if isinstance(option, str | int) and str(option) not in re.findall(r"[\w.]+", " ".join(found[name]))
    }
    assert not missing


def test_the_top_level_is_that_of_all_kinds() -> None:
    own = {"kind": "needed", "extends": "none", "embedder": "by kind", "fit": "by kind"}
    shared = expected(common.RouterConfig)
    assert documented(PAGE, "Top level") == own | shared
    for kind, model in CONFIGS.items():
        assert model.model_fields.keys() - shared.keys() <= own.keys(), kind
    assert MAX_EXTENDS == 8
    assert "up to eight deep" in rows(PAGE, "Top level")["extends"][2]


def test_the_table_of_kinds_says_what_each_has() -> None:
    table = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| ([^|]+) \| [^|]+ \| [^|]+ \|$", PAGE, re.M)
    found = {kind: (embedder.strip("` "), fit.strip("` ")) for kind, embedder, fit in table}
    expected = {
        kind: tuple(
            default_of(model.model_fields[name]) if name in model.model_fields else "-" for name in ("embedder", "fit")
        )
        for kind, model in CONFIGS.items()
    }
    assert found == expected


def test_every_section_is_on_the_page() -> None:
    found = {section for model in kinds.KINDS.values() for section in sections_of(model)}
    assert found - set(kinds.KINDS.values()) == set(SECTIONS.values()) - {common.StaticMfTrainConfig}


def test_the_layouts_on_the_pages_are_those_that_are_read() -> None:
    layouts = {*LAYOUTS, "gpt4_judge"}
    assert set(get_args(get_args(common.SourceSection.model_fields["layout"].annotation)[0])) == layouts
    page = (FOLDER / "training-data.md").read_text(encoding="utf-8")
    table = page.split("\n## The layouts\n")[1].split("\n### ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == set(LAYOUTS)


def test_the_examples_are_configs(tmp_path: Path) -> None:
    shutil.copytree(PRESETS, tmp_path / "examples" / "train" / "presets")
    (tmp_path / "docs").mkdir()
    whole, part = tmp_path / "docs" / "train.toml", tmp_path / "docs" / "part.toml"
    whole.write_text(next(block for block in BLOCKS if block.startswith("kind = ")), encoding="utf-8")
    extending = 0
    for block in BLOCKS:
        if block.startswith("[router]"):
            parse(RouterSection, tomllib.loads(block)["router"], source="docs/training.md")
            continue
        extending += block.startswith("extends = ")
        alone = block.startswith(("kind = ", "extends = "))
        part.write_text(block if alone else f'extends = "{whole.name}"\n{block}', encoding="utf-8")
        data, _ = read_config(part)
        parse(kinds.KINDS[data["kind"]], data, source="docs/training.md")
    assert extending


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_preset_is_a_config_and_on_the_page(path: Path) -> None:
    data, _ = read_config(path)
    if "kind" not in data:  # the common part
        assert path.name == "arena-55k.toml"
        return
    config = parse(kinds.KINDS[data["kind"]], data, source=str(path))
    assert isinstance(config, common.RouterConfig)
    assert config.pair.tiers == 10
    assert (config.pair.strong_tiers, config.pair.weak_tiers) == ((0, 1), (2,))
    assert f"](../examples/train/presets/{path.name})" in PAGE


@pytest.mark.parametrize("page", ["training.md", "training-data.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    check_links(FOLDER / page)


def test_every_message_on_the_page_is_one_that_the_program_writes_with_its_code() -> None:
    assert len(MESSAGES) > 20
    check_messages(MESSAGES, SOURCE)
