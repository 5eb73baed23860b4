"""The sections of a training config have the fields and defaults of what they configure."""

import dataclasses
from typing import Any

import pytest

pytestmark = pytest.mark.train
pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("transformers", reason="needs the extra `train`")

from jobs import train_kinds  # noqa: E402
from jobs.config_file import Section  # noqa: E402
from routing.training import base_models, baselines, bert, causal_llm, cluster, linear, loop, mf, ngram, sw  # noqa: E402

SECTIONS: list[tuple[type[Section], Any]] = [
    (train_kinds.LoopSection, loop.LoopConfig),
    (train_kinds.LoraSection, base_models.LoraConfig),
    (train_kinds.BertFit, bert.BertConfig),
    (train_kinds.CausalLlmFit, causal_llm.CausalLlmConfig),
    (train_kinds.MfFit, mf.MfConfig),
    (train_kinds.SwFit, sw.SwConfig),
    (train_kinds.LinearFit, linear.LinearConfig),
    (train_kinds.NgramFit, ngram.NgramConfig),
    (train_kinds.ClusterFit, cluster.ClusterConfig),
    (train_kinds.LengthFit, baselines.LengthConfig),
    (train_kinds.ConstantFit, baselines.ConstantConfig),
]
REQUIRED = object()


@pytest.mark.parametrize(("section", "config"), SECTIONS, ids=lambda value: value.__name__)
def test_a_section_has_the_fields_and_defaults_of_what_it_configures(section: type[Section], config: Any) -> None:
    ours = {name: REQUIRED if field.is_required() else field.default for name, field in section.model_fields.items()}
    theirs = {
        field.name: REQUIRED if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(config)
    }
    if config is causal_llm.CausalLlmConfig:  # left out of a config, it is the one that nightroute ships
        assert theirs["template"] == causal_llm.TEMPLATE
        theirs["template"] = None
    assert ours == theirs


def test_every_section_of_hyperparameters_is_compared() -> None:
    here = [value for value in vars(train_kinds).values() if getattr(value, "__module__", "") == train_kinds.__name__]
    assert {section for section in here if "kind" not in section.model_fields} == {section for section, _ in SECTIONS}
