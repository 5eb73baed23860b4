"""Fine-tuned encoders, from labels to the graph, on random models of three architectures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("transformers", reason="needs the extra `train`")
pytest.importorskip("peft", reason="needs the extra `train`")

from routing.errors import ConfigError, InputMissingError  # noqa: E402
from routing.training.base_models import LoraConfig, adapt, load_text_encoder, merge  # noqa: E402
from routing.training.bert import BINARY, WIN_TIE_LOSS, BertConfig, fit_bert, specials  # noqa: E402
from routing.training.export import Graph  # noqa: E402
from routing.training.router import Progress  # noqa: E402
from routing.training.token_classifier import TokenClassifier  # noqa: E402
from tests.unit.training.tiny import WORDS, a_run, bert, loop, modern_bert, prompts, roberta, save, world  # noqa: E402

BASES = {"bert": bert, "roberta": roberta, "modern_bert": modern_bert}


def config(base: Path, **changes: object) -> BertConfig:
    settings: dict[str, object] = {"head_tokens": 20, "tail_tokens": 8, "loop": loop()}
    return BertConfig(base=str(base), **(settings | changes))  # type: ignore[arg-type]  # a test changes any field


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return save(tmp_path_factory.mktemp("bert"), bert())


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4, dropout=0.0)], ids=["full", "lora"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_fit_learns_who_wins_and_its_graph_says_the_same(folder: Path, classes: int, lora: LoraConfig | None) -> None:
    reports: list[Progress] = []
    settings = config(folder, classes=classes, lora=lora, loop=loop(epochs=6 if lora is None else 12))
    router = fit_bert(world(), settings, a_run(reports.append))
    unseen = prompts(200, seed=3).filter(~prompts(200, seed=3)["target"].eq(0.5))
    rows = router.text.tokens(unseen["prompt"].to_list())
    rates = router.win_rates(rows)
    # 60 % are wins; adapters of a base with random weights find less than a full fit.
    right = ((rates > 0.5) == (unseen["target"] == 1.0).to_numpy()).mean()
    assert right > (0.95 if lora is None else 0.8)
    assert np.abs(Graph(router.graph(), threads=1).win_rates(rows) - rates).max() < 1e-5
    validations = [p for p in reports if p.validation_loss is not None]
    assert reports[-1] is validations[-1]
    assert (validations[-1].apgr or 0) > (0.75 if lora is None else 0.65)
    assert router.kind == "bert"


@pytest.mark.parametrize("name", BASES)
def test_any_architecture_is_framed_as_its_tokenizer_does_it(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = save(tmp_path, BASES[name]())
    router = fit_bert(world(40, 20), config(base, pooling="cls", loop=loop(max_steps=2)), a_run())
    assert (router.text.prefix, router.text.suffix) == ((WORDS.index("[CLS]"),), (WORDS.index("[SEP]"),))
    rows = router.text.tokens(prompts(60, seed=4)["prompt"].to_list())
    assert rows[0].tolist() == router.text.tokenizer.encode(prompts(60, seed=4)["prompt"][0]).ids
    alone = np.concatenate([router.win_rates([row]) for row in rows])
    assert router.win_rates(rows) == pytest.approx(alone, abs=1e-6)
    assert np.abs(Graph(router.graph(), threads=1).win_rates(rows) - alone).max() < 1e-5


def test_merged_adapters_compute_the_same(folder: Path) -> None:
    lora = LoraConfig(rank=4, targets=("query", "value"))
    torch.manual_seed(0)
    adapted = adapt(load_text_encoder(str(folder)).model, lora)
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 2  # A and B of two layers of two blocks
    with torch.no_grad():
        for parameter in trained.values():
            parameter.normal_(std=0.3)
    ids, mask = torch.randint(4, 90, (3, 12)), torch.ones(3, 12, dtype=torch.int64)
    adapted.eval()
    with torch.no_grad():
        before = adapted(input_ids=ids, attention_mask=mask).last_hidden_state
        plain = load_text_encoder(str(folder)).model.eval()(input_ids=ids, attention_mask=mask).last_hidden_state
        merged = merge(adapted, lora)
        after = merged(input_ids=ids, attention_mask=mask).last_hidden_state
    assert (before - after).abs().max() < 1e-5
    assert (before - plain).abs().max() > 0.1
    assert not any("lora" in name for name, _ in merged.named_parameters())


def test_the_same_seed_gives_the_same_router_and_a_killed_fit_goes_on_to_it(folder: Path, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def until_step_8(progress: Progress) -> None:
        if progress.step == 8:
            raise KilledError

    settings = config(folder, loop=loop(epochs=2, eval_every=5))
    rows = fit_bert(world(40, 20), settings, a_run()).text.tokens(prompts(50, seed=3)["prompt"].to_list())
    whole = fit_bert(world(), settings, a_run()).win_rates(rows)
    with pytest.raises(KilledError):
        fit_bert(world(), settings, a_run(until_step_8, checkpoints=tmp_path))
    assert (fit_bert(world(), settings, a_run(checkpoints=tmp_path)).win_rates(rows) == whole).all()
    assert (fit_bert(world(), settings, a_run(seed=1)).win_rates(rows) != whole).any()


def test_labels_become_classes() -> None:
    # A win, a win and a tie, a tie, a win and a loss, a loss and a tie, a loss.
    labels = pl.DataFrame({"target": [1.0, 0.75, 0.5, 0.5, 0.25, 0.0], "tie": [0.0, 0.5, 1.0, 0.0, 0.5, 0.0]})
    assert BINARY.shares(labels).tolist() == [[1, 0], [0.75, 0.25], [0.5, 0.5], [0.5, 0.5], [0.25, 0.75], [0, 1]]
    shares = WIN_TIE_LOSS.shares(labels)
    assert shares.tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]]
    assert shares @ np.array(WIN_TIE_LOSS.values) == pytest.approx(labels["target"].to_numpy())


def test_a_share_that_rounding_leaves_below_zero_is_zero() -> None:
    labels = pl.DataFrame({"target": [0.3 - 2**-54, 0.7 + 2**-53], "tie": [0.6, 0.6]})
    shares = WIN_TIE_LOSS.shares(labels)
    assert (shares >= 0).all()
    assert shares.sum(axis=1) == pytest.approx(1.0)


def test_a_tie_counts_half_and_not_as_a_loss() -> None:
    head = torch.nn.Linear(1, 3)
    module = TokenClassifier(torch.nn.Identity(), head, pooling="mean", dropout=0.0, values=WIN_TIE_LOSS.values)
    # P(win, tie, loss) = .2, .5, .3: RouteLLM's 1 - P(tie) - P(loss) would be .2.
    assert module.win_rates(torch.log(torch.tensor([[0.2, 0.5, 0.3]]))).tolist() == pytest.approx([0.45])


def test_bad_configs_say_what_to_change(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reads 64 tokens, .* 2 around the prompt are 82; lower head_tokens"):
        fit_bert(world(40, 20), config(folder, head_tokens=60, tail_tokens=20), a_run())
    with pytest.raises(ConfigError, match=r"fit no layer; linear layers here are \['dense', 'key', 'query', 'value'\]"):
        fit_bert(world(40, 20), config(folder, lora=LoraConfig(targets=("q_proj",))), a_run())
    with pytest.raises(InputMissingError, match="cannot be loaded"):
        fit_bert(world(40, 20), config(tmp_path / "nothing"), a_run())
    with pytest.raises(ConfigError, match="pooling cls or mean"):
        replace(config(folder), pooling="max")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="rank of at least 1"):
        LoraConfig(rank=0)


def test_special_tokens_come_from_the_tokenizer(folder: Path) -> None:
    around = specials(load_text_encoder(str(folder)).tokenizer)
    assert [WORDS[token] for token in (*around.prefix, *around.suffix)] == ["[CLS]", "[SEP]"]


def test_roberta_loses_the_positions_of_its_padding(tmp_path: Path) -> None:
    base = save(tmp_path, roberta())
    with pytest.raises(ConfigError, match="reads 62 tokens"):
        fit_bert(world(40, 20), config(base, head_tokens=60, tail_tokens=1), a_run())
