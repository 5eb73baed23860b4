import re
import tomllib
from dataclasses import fields
from pathlib import Path

from pydantic import BaseModel

from routing.sandbox.config import FaultConfig, ModelSpec, ReplayConfig, SandboxConfig, ScriptedReply
from routing.sandbox.journal import Finished, Received

PAGE = (Path(__file__).parents[3] / "docs" / "sandbox.md").read_text()
EVERY_KEY, BAD_NIGHT = (tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))


def test_the_examples_are_valid_configs() -> None:
    for example in (EVERY_KEY, BAD_NIGHT):
        SandboxConfig.model_validate(example)


def test_every_key_is_documented() -> None:
    def keys(model: type[BaseModel]) -> set[str]:
        return set(model.model_fields)

    assert set(EVERY_KEY) | {"default_model"} == keys(SandboxConfig)
    assert set(EVERY_KEY["models"][0]) == keys(ModelSpec)
    assert set(EVERY_KEY["faults"]) == keys(FaultConfig)
    assert set(EVERY_KEY["replay"]) == keys(ReplayConfig)
    assert set(EVERY_KEY["scripted"][0]) == keys(ScriptedReply)


def test_documented_defaults_are_the_defaults() -> None:
    config = SandboxConfig.model_validate(EVERY_KEY)
    assert config.faults == FaultConfig()
    assert config.replay == ReplayConfig(path=Path("answers.parquet"))
    stated = {
        "name",
        "price_class",
        "input_usd_per_mtok",
        "cached_input_usd_per_mtok",
        "output_usd_per_mtok",
        "rpm",
        "tpm",
    }
    assert config.models[0].model_dump(exclude=stated) == ModelSpec(name="strong").model_dump(exclude=stated)
    unset = {"replay", "scripted", "models", "tokenizer"}
    assert config.model_dump(exclude=unset) == SandboxConfig().model_dump(exclude=unset)


def test_every_journal_field_is_documented() -> None:
    rows = re.findall(r"^\| (`.*?) \| (received|finished|both) \|", PAGE.split("## Journal")[1], re.MULTILINE)
    documented: dict[str, set[str]] = {"received": set(), "finished": set()}
    for names, where in rows:
        for kind in documented if where == "both" else [where]:
            documented[kind] |= set(re.findall(r"`(\w+)`", names))
    written = {"event", "pid", "at"}
    assert documented["received"] == written | {field.name for field in fields(Received)}
    assert documented["finished"] == written | {field.name for field in fields(Finished)}
