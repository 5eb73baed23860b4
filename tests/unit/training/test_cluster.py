"""The router `cluster`."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.train
pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("onnx", reason="needs the extra `train`")

import onnxruntime as ort  # noqa: E402

from routing.errors import ConfigError, DataError  # noqa: E402
from routing.training.cluster import ClusterConfig, ClusterHead, fit_cluster  # noqa: E402
from routing.training.export import Graph  # noqa: E402
from routing.training.logistic import by_prompt  # noqa: E402
from tests.unit.training import embedding_world as world  # noqa: E402

CENTRES = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.6, 0.6]], np.float32)
HEAD = ClusterHead(CENTRES, np.array([0.9, 0.1, 0.5, 0.7], np.float32), mean=0.4, nearest=2, sharpness=9.0)


def on_circle(angles: list[float]) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_weights_are_the_softmax_less_that_of_the_first_cluster_left_out() -> None:
    distance = np.linalg.norm(CENTRES - on_circle([0.2])[0], axis=1)
    kernel = np.exp(-9.0 * distance)
    # Nearest are the clusters 0 and 3, then 1.
    expected = np.array([kernel[0] - kernel[1], 0.0, 0.0, kernel[3] - kernel[1]])
    weights = HEAD.weights(on_circle([0.2]))[0]
    assert weights == pytest.approx(expected / expected.sum(), abs=1e-6)
    assert HEAD.win_rates(on_circle([0.2])) == pytest.approx([weights @ HEAD.rates], abs=1e-6)


@given(st.lists(st.floats(0, 6.3), min_size=1, max_size=20), st.floats(0.1, 100))
def test_weights_sum_to_one_and_at_most_the_nearest_are_read(angles: list[float], length: float) -> None:
    weights = HEAD.weights(np.float32(length) * on_circle(angles))
    assert weights.sum(axis=1) == pytest.approx(1.0)
    assert ((weights > 0).sum(axis=1) <= HEAD.nearest).all()
    assert (weights >= 0).all()


def test_the_win_rate_has_no_jump_where_clusters_change_places() -> None:
    angles = list(np.linspace(0, 2 * np.pi, 20_001))
    steps = np.abs(np.diff(HEAD.win_rates(on_circle(angles))))
    assert steps.max() < 0.01
    assert np.ptp(HEAD.win_rates(on_circle(angles))) > 0.3


def test_a_query_as_near_to_all_gets_the_mean_of_all() -> None:
    centres = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)
    head = ClusterHead(centres, np.array([0.9, 0.8, 0.7, 0.6], np.float32), mean=0.3, nearest=3, sharpness=9.0)
    assert head.win_rates(np.zeros((1, 2), np.float32)) == pytest.approx([0.3])


def test_the_graph_answers_as_numpy_does() -> None:
    rows = np.concatenate([on_circle(list(np.linspace(0, 6.3, 500))), CENTRES, np.zeros((1, 2), np.float32)])
    session = ort.InferenceSession(HEAD.graph().SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(["win_rate"], {"embedding": 3 * rows})[0]
    assert found == pytest.approx(HEAD.win_rates(rows), abs=1e-5)
    assert session.run(["win_rate"], {"embedding": rows[7:8]})[0] == pytest.approx(found[7:8], abs=1e-6)


def test_it_finds_the_topics_and_their_rates(encoder_folder: Path) -> None:
    data, embed = world.dataset(), world.embeddings(encoder_folder, counts=False)
    reports = world.Reports()
    router = fit_cluster(data, embed, ClusterConfig(clusters=6, prior=1.0), reports.run())
    assert router.kind == "cluster"
    held_out = by_prompt(data.held_out_labels)
    rows = router.text.tokens([*held_out["prompt"], ""])
    found = router.win_rates(rows)
    hard = held_out["prompt"].str.starts_with("prime").to_numpy()
    assert found[:-1][hard].mean() > found[:-1][~hard].mean() + 0.1
    assert Graph(router.graph(), threads=1).win_rates(rows) == pytest.approx(found, abs=1e-5)
    assert len(reports) == 4
    again = fit_cluster(data, embed, ClusterConfig(clusters=6, prior=1.0), world.Reports().run())
    assert again.win_rates(rows).tobytes() == found.tobytes()


def test_a_cluster_holds_the_shrunk_mean_of_its_labels(encoder_folder: Path) -> None:
    """One cluster a prompt: with k-means on k points, every point is its own centre."""
    data = world.dataset(400)
    rows = by_prompt(data.labels).sort("weight", descending=True).head(5)
    labels = rows.with_columns(source=pl.lit("s"))
    embed = world.embeddings(encoder_folder, counts=False)
    one = type(data)(**{name: getattr(data, name) for name in data.__slots__} | {"labels": labels})
    router = fit_cluster(one, embed, ClusterConfig(clusters=5, nearest=1, prior=2.0), world.Reports().run())
    weight, target = rows["weight"].to_numpy(), rows["target"].to_numpy()
    weight = weight * 5 / weight.sum()  # the prior counts labels of mean weight
    mean = np.average(target, weights=weight)
    expected = (weight * target + 2.0 * mean) / (weight + 2.0)
    assert router.head.win_rates(embed(rows["prompt"])) == pytest.approx(expected, abs=1e-6)
    assert router.notes == {"prompts": 5.0, "smallest_cluster": 1.0}
    with pytest.raises(DataError, match="6 clusters of 5 distinct labelled prompts"):
        fit_cluster(one, embed, ClusterConfig(clusters=6), world.Reports().run())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clusters": 3}, "1 <= nearest < clusters .* got nearest = 3, clusters = 3"),
        ({"nearest": 0}, "got nearest = 0"),
        ({"restarts": 0}, "at least one restart"),
        ({"sharpness": 0.0}, "sharpness and prior must be above 0"),
        ({"prior": 0.0}, "sharpness and prior must be above 0"),
    ],
)
def test_hyperparameters_out_of_range_are_refused(change: dict[str, Any], message: str, encoder_folder: Path) -> None:
    embed = world.embeddings(encoder_folder, counts=False)
    with pytest.raises(ConfigError, match=message):
        fit_cluster(world.dataset(), embed, ClusterConfig(**change), world.Reports().run())


def test_counts_are_no_direction(encoder_folder: Path) -> None:
    data, rows = world.dataset(), ["prime w1", "hello w1 w2 w3"]
    routers = [
        fit_cluster(data, world.embeddings(encoder_folder, counts=counts), ClusterConfig(), world.Reports().run())
        for counts in (False, True)
    ]
    first, second = (router.win_rates(router.text.tokens(rows)).tolist() for router in routers)
    assert first == second
