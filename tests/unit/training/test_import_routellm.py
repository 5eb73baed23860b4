"""Checkpoints in RouteLLM's layouts become routers; what cannot be trusted or is something else is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="needs the extra `train`")

from jobs.cli import invoke
from jobs.import_routellm import ImportOptions, import_routellm
from routing.artifact import load
from routing.errors import ArtifactError, ConfigError, DataError, InputMissingError, NightrouteError, UsageError
from routing.routers import OnnxRouter
from routing.training.import_causal_llm import import_causal_llm
from routing.training.import_routellm import detect_kind, import_bert, import_mf, model_names
from tests.routellm_checkpoints import CLASSIFIER, LABELS, save_bert, save_causal_llm, save_mf

PROMPTS = [f"What is the sum of {i} and {i * i}?" for i in range(1_000)]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.parquet"
    pl.DataFrame({"prompt": PROMPTS}).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal_llm(tmp_path_factory.mktemp("causal") / "causal")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert") / "bert")


# ---- mf -------------------------------------------------------------------------------------------------------------


def test_mf_is_the_sigmoid_of_a_difference_of_bilinear_scores(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    found = import_mf(save_mf(tmp_path / "mf", dim=4, text_dim=6), strong="gpt-4-0613", weak="vicuna-7b")
    weights = load_file(tmp_path / "mf" / "model.safetensors")
    table, projection, classifier = (
        weights[name].astype(np.float64) for name in ("P.weight", "text_proj.0.weight", "classifier.0.weight")
    )
    embedding = np.array([[0.1, -0.5, 0.2, 0.7, 0.0, 0.3]], np.float32)
    logits = []
    for row in (23, 58):  # their places in RouteLLM's list
        unit = table[row] / np.sqrt((table[row] ** 2).sum())
        logits.append(float((classifier[0] * unit * (projection @ embedding[0])).sum()))
    expected = 1 / (1 + np.exp(logits[1] - logits[0]))
    np.testing.assert_allclose(found.win_rates(embedding), [expected], rtol=1e-12)
    np.testing.assert_allclose(1 / (1 + np.exp(-(embedding @ found.pair.pair_vector().weight))), [expected], rtol=1e-6)


def test_without_a_projection_the_embedding_is_as_wide_as_the_model(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = save_mf(tmp_path / "mf", dim=6, text_dim=6)
    weights = load_file(folder / "model.safetensors")
    del weights["text_proj.0.weight"]
    save_file(weights, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text()) | {"use_proj": False}
    (folder / "config.json").write_text(json.dumps(config))
    found = import_mf(folder)
    rows = weights["P.weight"][[24, 36]].astype(np.float64)
    gap = rows[0] / np.linalg.norm(rows[0]) - rows[1] / np.linalg.norm(rows[1])
    np.testing.assert_allclose(found.pair.pair_vector().weight, gap * weights["classifier.0.weight"][0], rtol=1e-6)


def test_the_rows_are_routellms_models() -> None:
    names = model_names()
    assert len(names) == len(set(names)) == 64
    assert (names[0], names[24], names[36], names[63]) == (
        "RWKV-4-Raven-14B", "gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1", "zephyr-7b-beta"
    )  # fmt: skip


def test_the_command_writes_a_router_that_says_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_mf(tmp_path / "mf")
    assert invoke(["import-routellm", str(tmp_path / "mf"), "--output", str(tmp_path / "out"), "--licence", "MIT"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (record["status"], record["kind"], record["parity_prompts"]) == ("imported", "mf", 1_000)
    card = load(tmp_path / "out").card
    assert card.embedding is not None
    assert (card.embedding.model, card.embedding.dim) == ("text-embedding-3-small", 1_536)
    assert (card.licence, card.metrics, card.score_quantiles) == ("MIT", [], [])
    assert card.parity_max_error < 1e-5
    assert invoke(["inspect", str(tmp_path / "out")]) == 0
    assert "for a strong share of: not known" in capsys.readouterr().err


# ---- bert and causal_llm --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["Bert", "XLMRoberta"])
def test_bert_is_the_first_of_three_classes(family: str, table: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    bert = save_bert(tmp_path / "bert", family=family, seed=8)
    record = import_routellm(bert, ImportOptions(output=tmp_path / "out", prompts=table, name="mine"))
    assert (record["kind"], record["router"]) == ("bert", "mine")
    router = load(tmp_path / "out")
    assert router.card.prefix_tokens == [2]
    assert router.card.suffix_tokens == [3]
    assert (router.card.truncation.head, router.card.truncation.tail) == (62, 0)
    assert len(router.card.score_quantiles) == 101
    texts = ["What is the sum of 7 and 2?", "write a function " * 40, "x"]
    model: Any = AutoModelForSequenceClassification.from_pretrained(bert)
    tokenizer = AutoTokenizer.from_pretrained(bert)
    with torch.no_grad():
        rows = [model(**tokenizer(text, return_tensors="pt", truncation=True)).logits[0] for text in texts]
    expected = [float(row.softmax(0)[0]) for row in rows]
    np.testing.assert_allclose(OnnxRouter(router).win_rates(texts).win_rate, expected, atol=1e-5)
    assert np.ptp(expected) > 0.02


def test_int8_says_what_it_changes(bert: Path, table: Path, tmp_path: Path) -> None:
    import_routellm(bert, ImportOptions(output=tmp_path / "out", prompts=table, int8=True))
    changed = load(tmp_path / "out").card.quantization
    assert changed is not None
    assert set(changed.flips) == {"0.2", "0.5", "0.8"}


def test_causal_llm_reads_the_labels_behind_what_the_model_writes_first(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = save_causal_llm(tmp_path / "causal", lead_in=True)
    found = import_causal_llm(folder, PROMPTS[:20])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert found.lead_in == (tokenizer.convert_tokens_to_ids("<|start_header_id|>"),)
    assert found.same_tokens == 1.0
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    labels = tokenizer.convert_tokens_to_ids(LABELS)
    (row,) = found.router.text.tokens(PROMPTS[:1])
    with torch.no_grad():
        logits = model(torch.from_numpy(row)[None]).logits[0, -1, labels]
    expected = 1 - float(logits.softmax(0)[3:].sum())
    np.testing.assert_allclose(found.router.win_rates([row]), [expected], atol=1e-6)
    assert str(tokenizer.decode(row)).endswith("[End]<|eot_id|><|start_header_id|>")


def test_a_message_that_merges_with_the_prompt_is_refused(causal: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(causal, tmp_path / "causal")
    (folder / "classifier_ft_v5.txt").write_text("{question}")  # RouteLLM strips the prompt then
    with pytest.raises(ConfigError, match=r"only 0\.0% of the prompts have RouteLLM's tokens"):
        import_causal_llm(folder, [f" {prompt} " for prompt in PROMPTS[:10]])


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_the_kind_is_told_from_the_files(bert: Path, causal: Path, tmp_path: Path) -> None:
    assert (detect_kind(bert), detect_kind(causal)) == ("bert", "causal_llm")
    assert detect_kind(save_mf(tmp_path / "mf")) == "mf"
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="none of RouteLLM's"):
        detect_kind(tmp_path)
    with pytest.raises(InputMissingError, match=r"config\.json cannot be read"):
        detect_kind(tmp_path / "nothing")


@pytest.mark.parametrize("kind", ["mf", "bert"])
def test_pickles_are_refused(kind: str, bert: Path, tmp_path: Path) -> None:
    folder = save_mf(tmp_path / "c") if kind == "mf" else shutil.copytree(bert, tmp_path / "c")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match=r"only pickled weights \(pytorch_model\.bin\), which run code"):
        import_mf(folder) if kind == "mf" else import_bert(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(InputMissingError, match=r"holds no model\.safetensors"):
        import_mf(folder) if kind == "mf" else import_bert(folder)


def test_other_checkpoints_are_refused(bert: Path, causal: Path, tmp_path: Path) -> None:
    folder = save_mf(tmp_path / "mf", dim=4, text_dim=6)
    with pytest.raises(ConfigError, match="no model \\['gpt-9'\\]; it has RWKV"):
        import_mf(folder, strong="gpt-9")
    config = json.loads((folder / "config.json").read_text()) | {"num_models": 10}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match=r"expected .*a row for each of 64 models"):
        import_mf(folder)
    with pytest.raises(ArtifactError, match="has 2 labels, RouteLLM's bert has 3"):
        import_bert(save_bert(tmp_path / "two", labels=2))
    without = shutil.copytree(causal, tmp_path / "causal")
    (without / "system_ft_v5.txt").unlink()
    with pytest.raises(InputMissingError, match=r"0 files system_ft_\*\.txt"):
        import_causal_llm(without, PROMPTS[:3])
    (without / "system_ft_v5.txt").write_text("Grade.")
    (without / "classifier_ft_v5.txt").write_text(CLASSIFIER)
    (without / "config.json").write_text("{")
    with pytest.raises(InputMissingError, match=r"config\.json cannot be read"):
        import_causal_llm(without, PROMPTS[:3])


def options(folder: Path) -> list[tuple[ImportOptions, type[NightrouteError], str]]:
    small, other = folder / "small.parquet", folder / "other.parquet"
    pl.DataFrame({"prompt": PROMPTS[:999]}).write_parquet(small)
    pl.DataFrame({"text": PROMPTS}).write_parquet(other)
    return [
        (ImportOptions(kind="sw"), UsageError, "--kind wants one of mf, bert, causal_llm, got 'sw'"),
        (ImportOptions(strong="gpt-4-0613"), UsageError, "--strong and --weak choose rows of an mf checkpoint"),
        (ImportOptions(prompts=small), DataError, "999 distinct prompts, the graph is compared on at least 1000"),
        (ImportOptions(prompts=other), DataError, "no column prompt; it has \\['text'\\]"),
        (ImportOptions(prompts=folder / "none.parquet"), InputMissingError, "none.parquet is missing"),
    ]


@pytest.mark.parametrize("case", range(5))
def test_options_that_do_not_fit_are_told(case: int, bert: Path, tmp_path: Path) -> None:
    given, error, message = options(tmp_path)[case]
    with pytest.raises(error, match=message):
        import_routellm(bert, given)
    assert not Path("routellm-bert").exists()


def test_int8_of_one_vector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--int8 is for bert and causal_llm"):
        import_routellm(save_mf(tmp_path / "mf"), ImportOptions(int8=True))
