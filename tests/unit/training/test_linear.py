"""The router `linear`, and the regressions under it."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.train
pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("onnx", reason="needs the extra `train`")

from routing.errors import ConfigError, DataError  # noqa: E402
from routing.training.export import Graph  # noqa: E402
from routing.training.fuse import LinearHead  # noqa: E402
from routing.training.linear import LinearConfig, fit_linear  # noqa: E402
from routing.training.logistic import by_prompt, log_loss, logistic, sigmoid  # noqa: E402
from tests.unit.training import embedding_world as world  # noqa: E402

LABELS = pl.DataFrame(
    {
        "prompt": ["a", "b", "a", "c", "a", "b"],
        "target": [1.0, 0.5, 0.0, 1.0, 0.5, 0.0],
        "weight": [1.0, 2.0, 3.0, 0.0, 4.0, 2.0],
        "source": "s",
    }
)


def test_labels_of_a_prompt_become_one_row() -> None:
    rows = by_prompt(LABELS)
    assert rows.rows() == [("a", pytest.approx(3.0 / 8.0), 8.0), ("b", 0.25, 4.0)]
    with pytest.raises(DataError, match="no label has a weight"):
        by_prompt(LABELS.with_columns(weight=0.0))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1), st.floats(0.01, 9)), min_size=2, max_size=20))
def test_the_loss_of_labels_changes_by_a_constant_when_they_are_brought_together(
    labels: list[tuple[str, float, float]],
) -> None:
    frame = pl.DataFrame(labels, schema=["prompt", "target", "weight"], orient="row").with_columns(source=pl.lit("s"))
    rows = by_prompt(frame)

    def loss(table: pl.DataFrame, at: dict[str, float]) -> float:
        logits = table["prompt"].replace_strict(at, return_dtype=pl.Float64).to_numpy()
        return log_loss(logits, table["target"].to_numpy(), table["weight"].to_numpy())

    first, second = {"a": 0.3, "b": -1.0, "c": 2.0}, {"a": -0.7, "b": 0.2, "c": 0.0}
    assert loss(rows, first) - loss(rows, second) == pytest.approx(loss(frame, first) - loss(frame, second), abs=1e-9)


def test_logistic_finds_where_the_penalised_loss_is_flat() -> None:
    rng = np.random.default_rng(0)
    x, target, weight = rng.normal(size=(200, 3)), rng.uniform(size=200), rng.uniform(0.1, 3, 200)
    found = logistic(x, target, weight, decay=0.02)

    def loss(at: np.ndarray) -> float:
        return log_loss(at[0] + x @ at[1:], target, weight) + 0.01 * float(at[1:] @ at[1:])

    for place in range(4):
        nudge = 1e-4 * np.eye(4)[place]
        assert loss(found + nudge) > loss(found)
        assert loss(found - nudge) > loss(found)
        assert (loss(found + nudge) - loss(found - nudge)) / 2e-4 == pytest.approx(0.0, abs=1e-7)


def test_logistic_recovers_a_known_odds_ratio_and_survives_separable_labels() -> None:
    # Won 3 of 4 at x = 0 and 1 of 4 at x = 1: log odds ln 3 and -ln 3.
    found = logistic(np.array([[0.0], [1.0]]), np.array([0.75, 0.25]), np.array([4.0, 4.0]), decay=0.0)
    assert found == pytest.approx([np.log(3), -2 * np.log(3)], abs=1e-6)
    apart = logistic(np.array([[-1.0], [1.0]]), np.array([0.0, 1.0]), np.ones(2), decay=1e-6)
    assert np.isfinite(apart).all()
    assert sigmoid(apart[0] + apart[1] * np.array([-1.0, 1.0])) == pytest.approx([0.0, 1.0], abs=1e-3)


LOSSES: tuple[Literal["logistic", "ridge"], ...] = ("logistic", "ridge")


@pytest.mark.parametrize("loss", LOSSES)
def test_it_ranks_held_out_prompts_and_its_graph_agrees(
    loss: Literal["logistic", "ridge"], encoder_folder: Path
) -> None:
    data, embed = world.dataset(), world.embeddings(encoder_folder, counts=True)
    reports = world.Reports()
    router = fit_linear(data, embed, LinearConfig(loss=loss), reports.run())
    assert router.kind == "linear"
    held_out = by_prompt(data.held_out_labels)
    rows = router.text.tokens([*held_out["prompt"], ""])
    found = router.win_rates(rows)
    hard = held_out["prompt"].str.starts_with("prime").to_numpy()
    assert found[:-1][hard].mean() > found[:-1][~hard].mean() + 0.1
    target, weight = held_out["target"].to_numpy(), held_out["weight"].to_numpy()
    chances = np.log(found[:-1] / (1 - found[:-1]))
    prior = np.full(len(target), np.log(target.mean() / (1 - target.mean())))
    assert log_loss(chances, target, weight) < log_loss(prior, target, weight), "better than one rate for all"
    assert np.average(found[:-1], weights=weight) == pytest.approx(np.average(target, weights=weight), abs=0.1)
    assert Graph(router.graph(), threads=1).win_rates(rows) == pytest.approx(found, abs=1e-5)
    assert [report.step for report in reports] == list(range(1, 8))
    assert router.notes["cross_validation_log_loss"] == min(report.loss for report in reports)
    again = fit_linear(data, embed, LinearConfig(loss=loss), world.Reports().run())
    assert again.win_rates(rows).tobytes() == found.tobytes()


def test_a_given_penalty_is_taken_and_a_large_one_flattens(encoder_folder: Path) -> None:
    data, embed = world.dataset(), world.embeddings(encoder_folder, counts=True)
    heads = []
    for decay in (0.01, 1e6):
        router = fit_linear(data, embed, LinearConfig(decay=decay), world.Reports().run())
        assert router.notes["decay"] == decay
        assert isinstance(router.head, LinearHead)
        heads.append(router.head)
    assert np.abs(heads[0].weight).max() > 1e-2 > 1e-4 > np.abs(heads[1].weight).max()
    rows = by_prompt(data.labels)
    mean = float(np.average(rows["target"], weights=rows["weight"]))
    assert heads[1].win_rates(embed(rows["prompt"])) == pytest.approx(mean, abs=1e-3)


def test_it_meets_the_mean_of_its_labels_and_is_validated_on_others(encoder_folder: Path) -> None:
    data, embed = world.dataset(), world.embeddings(encoder_folder, counts=True)
    router = fit_linear(data, embed, LinearConfig(decay=1e-3), world.Reports().run())
    rows = by_prompt(data.labels)
    target, weight = rows["target"].to_numpy(), rows["weight"].to_numpy()
    rates = router.head.win_rates(embed(rows["prompt"]))
    # Where the free intercept is at its optimum, the mean win rate is the mean target.
    assert np.average(rates, weights=weight) == pytest.approx(np.average(target, weights=weight), abs=1e-5)
    seen = log_loss(np.log(rates / (1 - rates)), target, weight)
    assert router.notes["cross_validation_log_loss"] > seen + 0.005, "prompts left out are harder than prompts seen"


def test_a_constant_feature_gets_no_weight(encoder_folder: Path) -> None:
    data = world.dataset()
    # No prompt of the world holds a digit or a sign.
    router = fit_linear(data, world.embeddings(encoder_folder, counts=True), LinearConfig(), world.Reports().run())
    assert isinstance(router.head, LinearHead)
    assert router.head.weight[-3:-1].tolist() == [0.0, 0.0]
    assert router.head.weight[-4] != 0.0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"folds": 1}, ConfigError, "folds must be at least 2"),
        ({"decay": 0.0}, ConfigError, "every decay above 0"),
        ({"decays": ()}, ConfigError, "every decay above 0"),
        ({"folds": 1_000}, DataError, r"1000 folds of \d+ labelled prompts"),
    ],
)
def test_what_cannot_be_validated_is_refused(
    change: dict[str, Any], error: type[Exception], message: str, encoder_folder: Path
) -> None:
    embed = world.embeddings(encoder_folder, counts=True)
    with pytest.raises(error, match=message):
        fit_linear(world.dataset(), embed, LinearConfig(**change), world.Reports().run())


def test_a_ridge_without_any_signal_is_refused(encoder_folder: Path) -> None:
    """Two folds whose means lie on either side: what the rest predicts is the wrong way round."""
    data = world.dataset()
    same = data.labels.head(2).with_columns(prompt=pl.Series(["w1 w1", "w1"]), target=pl.Series([0.0, 1.0]), weight=1.0)
    config = LinearConfig(loss="ridge", decay=1e9, folds=2)
    with pytest.raises(DataError, match="nothing was learned"):
        fit_linear(
            replace(data, labels=same), world.embeddings(encoder_folder, counts=False), config, world.Reports().run()
        )
