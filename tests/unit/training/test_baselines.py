"""The baselines `length`, `random` and `constant`, each against its graph."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

pytestmark = pytest.mark.train
pytest.importorskip("torch", reason="needs the extra `train`")

import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402

from routing.batching import Tokens, pad  # noqa: E402
from routing.errors import ConfigError  # noqa: E402
from routing.training.baselines import (  # noqa: E402
    PRIME,
    ConstantConfig,
    ConstantRouter,
    LengthConfig,
    LengthRouter,
    RandomRouter,
    fit_constant,
    fit_length,
    fit_random,
)
from routing.training.dataset import TrainingSet  # noqa: E402
from routing.training.export import Graph  # noqa: E402
from routing.training.router import TrainedRouter  # noqa: E402
from routing.training.text_input import TextInput  # noqa: E402
from schemas.artifact import Truncation  # noqa: E402
from tests.unit.training import embedding_world as world  # noqa: E402


def text_input() -> TextInput:
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(300)} | {"?": 300}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return TextInput(tokenizer, Truncation(head=20, tail=4))


TEXT = text_input()
PROMPTS = ["", "w1", "w1 w2", "w2 w1", "w1 " * 15, "w1 " * 16, "w7 " * 24, "w7 " * 90]
ROUTERS: list[TrainedRouter] = [
    LengthRouter(TEXT, slope=0.7, intercept=-1.2),
    RandomRouter(TEXT, seed=1_234_567_890),
    ConstantRouter(TEXT, win_rate=0.375),
]
ROWS = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=40), min_size=1, max_size=8).map(
    lambda rows: [np.array(row, np.int64) for row in rows]
)


@pytest.mark.parametrize("router", ROUTERS, ids=lambda router: str(router.kind))
def test_the_graph_answers_as_training_does_at_any_width(router: TrainedRouter) -> None:
    rows = router.text.tokens(PROMPTS)
    expected = router.win_rates(rows)
    model = router.graph()
    assert model.graph.name == router.kind
    assert {node.domain for node in model.graph.node} == {""}
    assert Graph(model, threads=1).win_rates(rows) == pytest.approx(expected, abs=1e-6)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for width in (24, 25, 77):
        ids, mask = pad(rows, width)
        found = session.run(["win_rate"], {"input_ids": ids, "attention_mask": mask})[0]
        assert found.dtype == np.float32
        assert found == pytest.approx(expected, abs=1e-6)
        # What stands where nothing is read says nothing.
        noisy = np.where(mask == 1, ids, 17)
        assert session.run(["win_rate"], {"input_ids": noisy, "attention_mask": mask})[0].tolist() == found.tolist()
    assert np.isfinite(expected).all()
    assert ((expected >= 0) & (expected <= 1)).all()
    assert router.win_rates([]).shape == (0,)
    assert isinstance(model, onnx.ModelProto)


def dataset(prompts: list[str], targets: list[float]) -> TrainingSet:
    labels = pl.DataFrame({"prompt": prompts, "target": targets, "weight": 1.0, "source": "s"})
    return TrainingSet(labels, labels, labels, labels, "strong", "weak")


def test_length_fits_the_labels_where_they_say_that_longer_is_harder() -> None:
    # Three tokens won 1 of 4, fifteen won 3 of 4: log odds -+ln 3 at log lengths ln 4 and ln 16.
    data = dataset(["w1 w2 w3"] * 4 + ["w1 " * 15] * 4, [1, 0, 0, 0, 1, 1, 1, 0])
    router = fit_length(data, TEXT, LengthConfig(), world.Reports().run())
    assert router.win_rates(TEXT.tokens(["w1 w2 w3", "w4 " * 15])) == pytest.approx([0.25, 0.75], abs=1e-4)
    assert router.slope == pytest.approx(2 * np.log(3) / np.log(4), abs=1e-4)


def test_length_keeps_its_sign_and_the_mean_where_labels_say_the_opposite() -> None:
    data = dataset(["w1 w2 w3"] * 4 + ["w1 " * 15] * 4, [1, 1, 1, 1, 1, 1, 0, 0])
    router = fit_length(data, TEXT, LengthConfig(smallest_slope=0.1), world.Reports().run())
    short, long = router.win_rates(TEXT.tokens(["w1 w2 w3", "w4 " * 15]))
    assert short < long
    assert (short + long) / 2 == pytest.approx(0.75, abs=1e-6)
    assert router.slope == 0.1
    with pytest.raises(ConfigError, match="smallest_slope must be above 0"):
        fit_length(data, TEXT, LengthConfig(smallest_slope=0.0), world.Reports().run())


@pytest.mark.parametrize("targets", [[1.0, 0.0], [0.0, 1.0]])
def test_length_is_monotone_and_finite_even_on_separable_labels(targets: list[float]) -> None:
    data = dataset(["w1", "w1 " * 20], targets)
    router = fit_length(data, TEXT, LengthConfig(), world.Reports().run())
    rates = router.win_rates(TEXT.tokens(["w1 " * n for n in range(25)]))
    assert np.isfinite(rates).all()
    assert all(earlier < later for earlier, later in pairwise(rates.round(9)))


@cache
def random_session() -> tuple[RandomRouter, ort.InferenceSession]:
    router = RandomRouter(TEXT, seed=PRIME - 1)
    return router, ort.InferenceSession(router.graph().SerializeToString(), providers=["CPUExecutionProvider"])


@settings(max_examples=50, deadline=None)
@given(ROWS, st.integers(0, 30), st.randoms(use_true_random=False))
def test_random_is_a_function_of_the_tokens_alone(rows: Tokens, extra: int, shuffle: Random) -> None:
    router, session = random_session()
    expected = router.win_rates(rows)
    ids, mask = pad(rows, max(len(row) for row in rows) + extra + 1)
    found = session.run(["win_rate"], {"input_ids": ids, "attention_mask": mask})[0]
    assert found.astype(np.float64).tolist() == expected.tolist(), "whole numbers: equal to the last bit"
    assert ((expected >= 0) & (expected < 1)).all()
    order = list(range(len(rows)))
    shuffle.shuffle(order)
    assert router.win_rates([rows[place] for place in order]).tolist() == expected[order].tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_is_uniform_on_the_plainest_prompts(seed: int) -> None:
    """All prompts of one and two tokens out of 120: 14,520 values, near a straight line (Kolmogorov-Smirnov)."""
    router = fit_random(TEXT, world.Reports().run(seed))
    singles = [[i] for i in range(120)]
    rows = [np.array(row, np.int64) for row in singles + [[i, j] for i in range(120) for j in range(120)]]
    rates = np.sort(router.win_rates(rows))
    n = len(rates)
    assert np.abs(rates - (np.arange(n) + 0.5) / n).max() < 1.95 / np.sqrt(n), "99.9 % of uniform samples"
    assert len(np.unique(rates)) > 0.998 * n
    # Neighbours in the vocabulary are no neighbours in win rate.
    pairs = router.win_rates(rows[120:]).reshape(120, 120)
    for axis in (0, 1):
        left, right = np.delete(pairs, 0, axis), np.delete(pairs, -1, axis)
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 0.05


def test_random_hangs_on_seed_order_and_repetition() -> None:
    first, second = (fit_random(TEXT, world.Reports().run(seed)) for seed in (1, 2))
    rows = TEXT.tokens(["w1 w2", "w2 w1", "w1", "w1 w1", "w0", "w0 w0"])
    assert len(set(first.win_rates(rows))) == len(rows)
    assert set(first.win_rates(rows)).isdisjoint(second.win_rates(rows))
    assert fit_random(TEXT, world.Reports().run(1)) == first


def test_constant_is_the_mean_of_the_labels_unless_it_is_given() -> None:
    data = dataset(["a", "b", "c"], [1.0, 0.5, 0.0])
    data = replace(data, labels=data.labels.with_columns(weight=pl.Series([1.0, 1.0, 2.0])))
    run = world.Reports().run()
    assert fit_constant(data, TEXT, ConstantConfig(), run).win_rate == pytest.approx(1.5 / 4)
    assert fit_constant(data, TEXT, ConstantConfig(win_rate=1.0), run).win_rate == 1.0
    with pytest.raises(ConfigError, match=r"win_rate must lie in \[0, 1\], got 1.5"):
        fit_constant(data, TEXT, ConstantConfig(win_rate=1.5), run)
