"""The router `ngram`: its n-grams by hand, its regression against a dense one, its graph against both."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.train
pytest.importorskip("torch", reason="needs the extra `train`")
onnx = pytest.importorskip("onnx", reason="needs the extra `train`")

import onnxruntime as ort  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

from routing.batching import pad  # noqa: E402
from routing.errors import ConfigError, DataError  # noqa: E402
from routing.training.encoder import load_encoder  # noqa: E402
from routing.training.export import Graph  # noqa: E402
from routing.training.logistic import by_prompt, log_loss  # noqa: E402
from routing.training.ngram import NgramConfig, fit_ngram  # noqa: E402
from routing.training.ngram_graph import NgramRouter, grams, log_counts  # noqa: E402
from routing.training.router import TrainedRouter  # noqa: E402
from routing.training.text_input import TextInput  # noqa: E402
from schemas.artifact import Truncation  # noqa: E402
from tests.unit.training import embedding_world as world  # noqa: E402

BUCKETS = 4_096
CONFIG = NgramConfig(buckets=BUCKETS, folds=3, repeats=2)
TOKENS = st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=6).map(
    lambda rows: [np.array(row, np.int64) for row in rows]
)


@pytest.fixture(scope="module")
def tokenizer(encoder_folder: Path) -> Tokenizer:
    return load_encoder(encoder_folder).tokenizer


@pytest.fixture(scope="module")
def fitted(tokenizer: Tokenizer) -> NgramRouter:
    return fit_ngram(world.dataset(), tokenizer, CONFIG, world.Reports().run())


def by_hand(row: list[int], order: int, buckets: int) -> set[int]:
    """The buckets of one row, n-gram by n-gram, in whole numbers of Python."""
    found = set()
    for length in range(1, order + 1):
        for start in range(len(row) - length + 1):
            code = row[start] + 1
            for token in row[start + 1 : start + length]:
                code = (code * 1_000_003 + token + 1) % (2**31 - 1)
            found.add(code % (2**31 - 1) % buckets)
    return found


@given(rows=TOKENS, order=st.integers(1, 4), buckets=st.sampled_from([7, 1_024]))
def test_the_buckets_are_those_of_every_n_gram_once(rows: list[np.ndarray], order: int, buckets: int) -> None:
    row, bucket = grams(rows, order=order, buckets=buckets)
    for place, tokens in enumerate(rows):
        assert bucket[row == place].tolist() == sorted(by_hand(tokens.tolist(), order, buckets))
    assert set(row.tolist()) <= set(range(len(rows)))


def test_the_count_of_a_flag_is_that_of_its_tokens() -> None:
    flags = np.array([[1, 0], [1, 1], [1, 0]], np.int8)
    rows = [np.array([1, 1, 2], np.int64), np.empty(0, np.int64)]
    assert np.expm1(log_counts(rows, flags)) == pytest.approx(np.array([[3.0, 2.0], [0.0, 0.0]]))


def made(tokenizer: Tokenizer, order: int, seed: int = 0) -> NgramRouter:
    """A router of any numbers."""
    rng = np.random.default_rng(seed)
    table = np.zeros((1_025, 2), np.float16)
    table[:-1] = np.stack([rng.uniform(-1, 1, 1_024), rng.uniform(0, 60, 1_024)], axis=1)
    flags = rng.integers(0, 2, (tokenizer.get_vocab_size(), 3)).astype(np.int8)
    text = TextInput(tokenizer, Truncation(head=20, tail=4))
    return NgramRouter(text, order, table, 5.0, flags, rng.normal(size=3).astype(np.float32), -0.3)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_graph_answers_as_training_does_at_any_width(order: int, tokenizer: Tokenizer) -> None:
    router: TrainedRouter = made(tokenizer, order)
    prompts = [
        "",
        "hello",
        "hello hello",
        "hello hello hello",
        "prime w1 w2 ( 7 )",
        *["w1 w2 " * n for n in (3, 5, 40)],
    ]
    rows = router.text.tokens(prompts)
    assert {len(row) for row in rows[:4]} == {0, 1, 2, 3}
    expected = router.win_rates(rows)
    assert np.ptp(expected) > 0.1
    model = router.graph()
    assert {node.domain for node in model.graph.node} == {""}, "standard operators only"
    assert [value.name for value in model.graph.output] == ["win_rate"]
    assert Graph(model, threads=1).win_rates(rows) == pytest.approx(expected, abs=1e-6)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for width in (24, 25, 61):
        ids, mask = pad(rows, width)
        found = session.run(["win_rate"], {"input_ids": ids, "attention_mask": mask})[0]
        assert found.dtype == np.float32
        assert found == pytest.approx(expected, abs=1e-6)
        noisy = np.where(mask == 1, ids, 3)
        assert session.run(["win_rate"], {"input_ids": noisy, "attention_mask": mask})[0].tolist() == found.tolist()
    for place in range(1, 5):  # as narrow as it gets
        ids, mask = pad([rows[place]])
        found = session.run(["win_rate"], {"input_ids": ids, "attention_mask": mask})[0]
        assert found == pytest.approx(expected[place : place + 1], abs=1e-6)
    assert router.win_rates([]).shape == (0,)


@settings(max_examples=20)
@given(rows=TOKENS.filter(len))
def test_padding_and_company_change_nothing(rows: list[np.ndarray], tokenizer: Tokenizer) -> None:
    router = made(tokenizer, 3)
    alone = [router.win_rates([row])[0] for row in rows]
    assert router.win_rates(rows) == pytest.approx(alone, abs=1e-12)


def test_what_is_repeated_is_read_once(tokenizer: Tokenizer) -> None:
    router = replace(made(tokenizer, 1), count_weights=np.zeros(3, np.float32))
    once, often, other = router.win_rates(router.text.tokens(["w1 w2", "w2 w1 w1 w2 w1", "w1 w3"]))
    assert once == often != other


def dense(prompts: list[str], fitted: np.ndarray, labels: pl.DataFrame, tokenizer: Tokenizer) -> np.ndarray:
    """Features by their definition: idf x presence at unit length, and the counts, standardised."""
    text = TextInput(tokenizer, Truncation(head=384, tail=128))
    rows = text.tokens(prompts)
    present = np.zeros((len(rows), BUCKETS))
    for place, row in enumerate(rows):
        present[place, list(by_hand(row.tolist(), 3, BUCKETS))] = 1.0
    frequency = present[fitted].sum(axis=0)
    x = present * np.where(frequency > 0, np.log((1 + fitted.sum()) / (1 + frequency)) + 1, 0.0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    lengths = np.log1p([len(row) for row in rows])
    share = labels["weight"].to_numpy()[fitted]
    mean = np.average(lengths[fitted], weights=share)
    spread = np.sqrt(np.average((lengths[fitted] - mean) ** 2, weights=share))
    return np.hstack([x, (lengths - mean)[:, None] / spread * np.sqrt(0.1 / 4)])


def test_the_fit_is_the_ridge_regression_of_its_definition(tokenizer: Tokenizer) -> None:
    data = world.dataset()
    labels = by_prompt(data.labels)
    router = fit_ngram(data, tokenizer, replace(CONFIG, decay=2.0), world.Reports().run())
    x = dense(labels["prompt"].to_list(), np.ones(labels.height, bool), labels, tokenizer)
    weight = labels["weight"].to_numpy() / labels["weight"].to_numpy().mean()
    target = labels["target"].to_numpy()
    mean = np.average(target, weights=weight)
    b = np.linalg.solve((x * weight[:, None]).T @ x + 2.0 * np.eye(x.shape[1]), x.T @ (weight * (target - mean)))
    logits = np.log(router.win_rates(rows := router.text.tokens(labels["prompt"].to_list())))
    logits -= np.log1p(-router.win_rates(rows))
    # The world has no digits, signs or word pieces, so tokens are the only count; Platt scaling is affine.
    slope, intercept = np.polyfit(x @ b, logits, 1)
    assert slope > 0
    assert logits == pytest.approx(slope * (x @ b) + intercept, abs=5e-3), "half precision apart"


def test_it_ranks_held_out_prompts_and_its_graph_agrees(fitted: NgramRouter) -> None:
    held_out = by_prompt(world.dataset().held_out_labels)
    rows = fitted.text.tokens([*held_out["prompt"], ""])
    found = fitted.win_rates(rows)
    hard = held_out["prompt"].str.starts_with("prime").to_numpy()
    assert found[:-1][hard].mean() > found[:-1][~hard].mean() + 0.1
    target, weight = held_out["target"].to_numpy(), held_out["weight"].to_numpy()
    prior = np.full(len(target), np.log(target.mean() / (1 - target.mean())))
    assert log_loss(np.log(found[:-1] / (1 - found[:-1])), target, weight) < log_loss(prior, target, weight)
    assert Graph(fitted.graph(), threads=1).win_rates(rows) == pytest.approx(found, abs=1e-6)
    assert fitted.kind == "ngram"
    assert fitted.table[-1].tolist() == [0.0, 0.0]
    assert int((fitted.table[:, 1] > 0).sum()) == fitted.notes["filled_buckets"]


def test_the_penalty_is_chosen_in_folds_and_a_fit_repeats_itself(tokenizer: Tokenizer, fitted: NgramRouter) -> None:
    reports = world.Reports()
    again = fit_ngram(world.dataset(), tokenizer, CONFIG, reports.run())
    assert again.table.tobytes() == fitted.table.tobytes()
    assert [(report.step, report.steps) for report in reports] == [(1, 2), (2, 2)]
    assert again.notes["cross_validation_log_loss"] == reports[-1].loss
    alone = {
        decay: fit_ngram(world.dataset(), tokenizer, replace(CONFIG, decay=decay), world.Reports().run()).notes
        for decay in CONFIG.decays
    }
    assert again.notes["decay"] == min(alone, key=lambda decay: alone[decay]["cross_validation_log_loss"])
    assert again.notes == alone[again.notes["decay"]]
    flat = fit_ngram(world.dataset(), tokenizer, replace(CONFIG, counts=0.0), world.Reports().run())
    assert not flat.count_weights.any()
    assert fitted.count_weights.any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"folds": 1}, ConfigError, "folds must be at least 2"),
        ({"repeats": 0}, ConfigError, "repeats at least 1"),
        ({"decay": 0.0}, ConfigError, "every decay above 0"),
        ({"decays": ()}, ConfigError, "every decay above 0"),
        ({"order": 0}, ConfigError, "order >= 1"),
        ({"buckets": 10}, ConfigError, "buckets >= 1024"),
        ({"counts": -1.0}, ConfigError, "counts >= 0"),
        ({"folds": 1_000}, DataError, r"1000 folds of \d+ labelled prompts"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    change: dict[str, Any], error: type[Exception], message: str, tokenizer: Tokenizer
) -> None:
    with pytest.raises(error, match=message):
        fit_ngram(world.dataset(), tokenizer, replace(CONFIG, **change), world.Reports().run())


def test_labels_without_any_signal_are_refused(tokenizer: Tokenizer) -> None:
    """Two folds whose means lie on either side: what the rest predicts is the wrong way round."""
    data = world.dataset()
    same = data.labels.head(2).with_columns(prompt=pl.Series(["w1 w1", "w1"]), target=pl.Series([0.0, 1.0]), weight=1.0)
    config = replace(CONFIG, decay=1e9, folds=2)
    with pytest.raises(DataError, match="nothing was learned"):
        fit_ngram(replace(data, labels=same), tokenizer, config, world.Reports().run())
