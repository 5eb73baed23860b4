from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from routing.errors import ConfigError
from routing.sandbox.config import DEFAULT_TOKENIZER, ModelSpec, ReplayConfig, SandboxConfig


def test_an_empty_config_answers_any_model_on_loopback() -> None:
    config = SandboxConfig()
    assert (config.host, config.accept_any_model, config.journal, config.replay) == ("127.0.0.1", True, None, None)
    assert config.tokenizer == DEFAULT_TOKENIZER
    assert DEFAULT_TOKENIZER.parts[-4:] == ("routing", "artifacts", "static-mf", "tokenizer.json")


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost", "::1", "example.org", ""])
def test_another_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1 only, got host"):
        SandboxConfig(host=host)


def test_short_forms() -> None:
    config = SandboxConfig.model_validate({"replay": "answers.parquet", "journal": "none"})
    assert config.replay == ReplayConfig(path=Path("answers.parquet"))
    assert config.journal is None


def test_prices_from_toml_floats_are_exact() -> None:
    spec = ModelSpec.model_validate({"name": "m", "input_usd_per_mtok": 0.15, "output_usd_per_mtok": "0.6"})
    assert (spec.input_usd_per_mtok, spec.output_usd_per_mtok) == (Decimal("0.15"), Decimal("0.6"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prot": 1}, "Extra inputs"),
        ({"scripted": [{"pattern": "(", "reply": "x"}]}, "is no regular expression"),
        ({"faults": {"rate_500": 0.7, "rate_drop": 0.4}}, "add up to 1.1"),
        ({"faults": {"rate_500": 1.2}}, "less than or equal to 1"),
        ({"faults": {"retry_after_s": [3, 1]}}, "swap them"),
        ({"models": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}, "named twice: a;"),
        ({"models": [{"name": "a", "input_usd_per_mtok": 1}]}, "one price"),
        ({"models": [{"name": "a", "cached_input_usd_per_mtok": 1}]}, "cached price only"),
        ({"models": [{"name": "a", "rpm": 0}]}, "greater than or equal to 1"),
        ({"accept_any_model": False}, "list a model"),
    ],
)
def test_impossible_configs_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SandboxConfig.model_validate(fields)


def test_rates_that_add_up_to_one_are_possible() -> None:
    SandboxConfig.model_validate({"faults": {f"rate_{kind}": 0.1 for kind in ("429", "500", "503", "drop", "empty")}})
    SandboxConfig.model_validate({"faults": {"rate_500": 0.7, "rate_drop": 0.2, "rate_empty": 0.1}})
