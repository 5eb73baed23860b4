"""Label tokens of a causal language model, from labels to the graph, on a random Llama."""

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="needs the extra `train`")
transformers = pytest.importorskip("transformers", reason="needs the extra `train`")
pytest.importorskip("peft", reason="needs the extra `train`")

from routing.errors import ConfigError, InputMissingError  # noqa: E402
from routing.training.base_models import LoraConfig, load_causal_lm  # noqa: E402
from routing.training.causal_llm import (  # noqa: E402
    TEMPLATE,
    CausalLlmConfig,
    fit_causal_llm,
    instruction,
    label_rows,
)
from routing.training.export import Graph  # noqa: E402
from tests.unit.training.tiny import VOCABULARY, WORDS, a_run, llama, loop, prompts, save, world  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return save(tmp_path_factory.mktemp("llama"), llama())


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "template.txt"
    path.write_text("w1 w2 {prompt} w3\n", "utf-8")
    return path


def config(folder: Path, template: Path, **changes: object) -> CausalLlmConfig:
    settings: dict[str, object] = {"head_tokens": 20, "tail_tokens": 8, "loop": loop()}
    return CausalLlmConfig(base=str(folder), template=template, **(settings | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lora", "checkpointing"), [(None, True), (LoraConfig(rank=4, dropout=0.0), False)], ids=["full", "lora"]
)
def test_a_fit_learns_who_wins_and_its_graph_says_the_same(
    folder: Path, template: Path, lora: LoraConfig | None, *, checkpointing: bool
) -> None:
    settings = config(folder, template, lora=lora, gradient_checkpointing=checkpointing)
    router = fit_causal_llm(world(), settings, a_run())
    unseen = prompts(200, seed=3).filter(~prompts(200, seed=3)["target"].eq(0.5))
    rows = router.text.tokens(unseen["prompt"].to_list())
    rates = router.win_rates(rows)
    assert ((rates > 0.5) == (unseen["target"] == 1.0).to_numpy()).mean() > 0.95
    graph = router.graph()
    assert np.abs(Graph(graph, threads=1).win_rates(rows) - rates).max() < 1e-5
    # Of the vocabulary only the input table is in the graph: no output head.
    assert [tuple(w.dims) for w in graph.graph.initializer if VOCABULARY in w.dims] == [(VOCABULARY, 32)]


def test_win_rates_are_read_from_label_logits_behind_the_prompt(folder: Path, template: Path) -> None:
    """Against transformers' own output head, row by row without padding."""
    base = load_causal_lm(str(folder))
    settings = config(folder, template, loop=loop(max_steps=1, learning_rate=1e-12))
    router = fit_causal_llm(world(40, 20), settings, a_run())
    rows = router.text.tokens(prompts(20, seed=5)["prompt"].to_list())
    digits = [WORDS.index(digit) for digit in "12345"]
    with torch.no_grad():
        logits = torch.stack([base.model.eval()(torch.from_numpy(row)[None]).logits[0, -1, digits] for row in rows])
    chances = torch.softmax(logits.double(), dim=1)
    assert router.win_rates(rows) == pytest.approx((1 - chances[:, 3] - chances[:, 4]).numpy(), abs=1e-5)


def test_the_instruction_stands_around_the_prompt(folder: Path, template: Path) -> None:
    text = instruction(load_causal_lm(str(folder)), config(folder, template))
    (row,) = text.tokens(["hello w9"])
    assert [WORDS[token] for token in row] == ["[CLS]", "w1", "w2", "hello", "w9", "w3", "[["]


def test_a_chat_format_frames_the_instruction(folder: Path, template: Path, tmp_path: Path) -> None:
    save(tmp_path / "chat", llama())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "chat")
    tokenizer.chat_template = "w70 {{ messages[0].content }} w71{% if add_generation_prompt %} w72{% endif %}"
    tokenizer.save_pretrained(tmp_path / "chat")
    text = instruction(load_causal_lm(str(tmp_path / "chat")), config(folder, template))
    (row,) = text.tokens(["hello"])
    assert [WORDS[token] for token in row] == ["w70", "w1", "w2", "hello", "w3", "w71", "w72", "[["]
    plain = instruction(load_causal_lm(str(tmp_path / "chat")), config(folder, template, chat=False))
    (row,) = plain.tokens(["hello"])
    assert [WORDS[token] for token in row] == ["[CLS]", "w1", "w2", "hello", "w3", "[["]


def test_label_rows_begin_as_the_rows_of_the_digits(folder: Path) -> None:
    base = load_causal_lm(str(folder))
    rows = label_rows(base.model, base.tokenizer)
    assert (rows.weight == base.model.lm_head.weight[[WORDS.index(digit) for digit in "12345"]]).all()
    assert rows.bias is None
    assert rows.weight.requires_grad


def test_the_shipped_template_has_its_slot_and_its_labels() -> None:
    template = TEMPLATE.read_text("utf-8")
    assert template.count("{prompt}") == 1
    assert all(f"[[{label}]]" in template for label in range(1, 6))


def test_bad_configs_say_what_to_change(folder: Path, template: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"win_label one of 1\.\.3"):
        config(folder, template, win_label=5)
    with pytest.raises(ConfigError, match="reads 64 tokens"):
        fit_causal_llm(world(40, 20), config(folder, template, head_tokens=60), a_run())
    template.write_text("no slot", "utf-8")
    with pytest.raises(ConfigError, match=r"must hold \{prompt\} once, got it 0 times"):
        fit_causal_llm(world(40, 20), config(folder, template), a_run())
    with pytest.raises(ConfigError, match="cannot be read"):
        fit_causal_llm(world(40, 20), config(folder, tmp_path / "absent.txt"), a_run())
    with pytest.raises(InputMissingError, match="cannot be loaded"):
        load_causal_lm(str(tmp_path / "absent.gguf"))
