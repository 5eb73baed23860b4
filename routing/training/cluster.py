"""The router `cluster`: a table of win rates, one a cluster of prompts, read softly.

The recipe of Avengers-Pro (as compared in arXiv 2601.07206): unit embeddings, k-means, the `nearest`
clusters of a query weighted by softmax(-sharpness * distance), and per cluster the mean of the labels, here shrunk
towards the mean of all. One thing differs: as it stands the recipe's win rate jumps where the last cluster read and the
first one left out change places, and there the last bits of a distance would decide. So the weights are those of the
softmax minus that of the first cluster left out: they fall to zero where a cluster leaves the sum.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from routing.errors import ConfigError, DataError
from routing.training.dataset import TrainingSet
from routing.training.fuse import EmbeddingRouter
from routing.training.logistic import by_prompt
from routing.training.onnx_graph import node, router_model
from routing.training.prompt_embeddings import PromptEmbeddings
from routing.training.router import Progress, Run
from routing.training.similarity_weighted import SMALLEST_NORM, unit

Floats = NDArray[np.float64]

_ROWS = 256
_LLOYD_STEPS = 300
_SMALLEST_WEIGHT = 1e-9
"""Of all clusters together; a query as near to all of them as to the first left out gets the mean of all labels."""


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Hyperparameters of the router `cluster`; the first three are Avengers-Pro's."""

    clusters: int = 25
    nearest: int = 3
    sharpness: float = 9.0
    prior: float = 10.0
    """Labels (of mean weight) at the mean of all that every cluster has beside its own."""
    restarts: int = 4
    """k-means runs; the tightest one stays."""


@dataclass(frozen=True, slots=True)
class ClusterHead:
    """Centres and their win rates."""

    centres: NDArray[np.float32]
    """Shape (clusters, dim)."""
    rates: NDArray[np.float32]
    """Shrunk win rate of each cluster, shape (clusters,)."""
    mean: float
    """Win rate of all labels."""
    nearest: int
    """Clusters that are read; at least one is left out."""
    sharpness: float

    def weights(self, embeddings: NDArray[np.float32]) -> Floats:
        """Return the weight of each cluster for embeddings of any length, (n, dim) -> (n, clusters), rows sum to 1."""
        distance = np.empty((len(embeddings), len(self.centres)))
        for start in range(0, len(embeddings), _ROWS):
            rows = unit(embeddings[start : start + _ROWS])[:, None, :]
            distance[start : start + _ROWS] = np.linalg.norm(rows - self.centres, axis=2)
        ranked = np.sort(distance, axis=1)
        first, left_out = ranked[:, :1], ranked[:, [self.nearest]]
        kernel = np.exp(-self.sharpness * (distance - first)) - np.exp(-self.sharpness * (left_out - first))
        kernel = np.maximum(kernel, 0.0)
        return np.asarray(kernel / np.maximum(kernel.sum(axis=1, keepdims=True), _SMALLEST_WEIGHT))

    def win_rates(self, embeddings: NDArray[np.float32]) -> Floats:
        """Return win rates of embeddings (n, dim), shape (n,)."""
        return np.asarray(self.mean + self.weights(embeddings) @ (self.rates.astype(np.float64) - self.mean))

    def graph(self) -> onnx.ModelProto:
        """Return `embedding` float32 [batch, dim] -> `win_rate` float32 [batch]."""
        constants: dict[str, NDArray[Any]] = {
            "centres": self.centres,
            "gains": (self.rates - np.float32(self.mean))[:, None],
            "mean": np.array([self.mean], np.float32),
            "minus_sharpness": np.array([-self.sharpness], np.float32),
            "smallest_norm": np.array([SMALLEST_NORM], np.float32),
            "smallest_weight": np.array([_SMALLEST_WEIGHT], np.float32),
            "zero": np.array([0.0], np.float32),
            "column_axis": np.array([1], np.int64),
            "dim_axis": np.array([2], np.int64),
            "read_and_one": np.array([self.nearest + 1], np.int64),
            "last": np.array([self.nearest], np.int64),
        }
        top = onnx.helper.make_node("TopK", ["distance", "read_and_one"], ["ranked", "order"], name="ranked", largest=0)
        nodes = [
            node("ReduceL2", "embedding", "column_axis", out="length"),
            node("Max", "length", "smallest_norm", out="norm"),
            node("Div", "embedding", "norm", out="query"),
            node("Unsqueeze", "query", "column_axis", out="query_row"),
            # Differences first: |x|^2 + |c|^2 - 2xc would lose the distance of a query to a centre that it is.
            node("Sub", "query_row", "centres", out="difference"),
            node("ReduceL2", "difference", "dim_axis", out="distance", keepdims=0),
            top,
            node("ReduceMin", "distance", "column_axis", out="first"),
            node("Sub", "distance", "first", out="behind"),
            node("Mul", "behind", "minus_sharpness", out="exponent"),
            node("Exp", "exponent", out="softmax_kernel"),
            node("Gather", "ranked", "last", out="left_out", axis=1),
            node("Sub", "left_out", "first", out="left_out_behind"),
            node("Mul", "left_out_behind", "minus_sharpness", out="left_out_exponent"),
            node("Exp", "left_out_exponent", out="left_out_kernel"),
            node("Sub", "softmax_kernel", "left_out_kernel", out="difference_kernel"),
            node("Max", "difference_kernel", "zero", out="kernel"),
            node("ReduceSum", "kernel", "column_axis", out="all_weight"),
            node("Max", "all_weight", "smallest_weight", out="total"),
            node("Div", "kernel", "total", out="weights"),
            node("MatMul", "weights", "gains", out="gain"),
            node("Add", "gain", "mean", out="win_rate_column"),
            node("Squeeze", "win_rate_column", "column_axis", out="win_rate"),
        ]
        return router_model(
            "cluster", nodes, constants, [("embedding", TensorProto.FLOAT, ["batch", self.centres.shape[1]])]
        )


def fit_cluster(dataset: TrainingSet, embed: PromptEmbeddings, config: ClusterConfig, run: Run) -> EmbeddingRouter:
    """Cluster the labelled prompts of the training side and fill the table.

    Args:
        dataset: Of which `labels` is read.
        embed: Embeds the prompts; counts are not read.
        config: Hyperparameters.
        run: Its seed starts the clusters.

    Raises:
        ConfigError: a hyperparameter is out of range.
        DataError: fewer distinct embeddings than clusters.
    """
    _check(config)
    labels = by_prompt(dataset.labels)
    points = unit(embed.directions(labels["prompt"]))
    distinct = len(np.unique(points, axis=0))
    if distinct < config.clusters:
        raise DataError(f"{config.clusters} clusters of {distinct} distinct labelled prompts; ask for fewer clusters")
    rng = np.random.default_rng(run.seed)
    found = []
    for restart in range(config.restarts):
        found.append(_k_means(points, config.clusters, rng))
        run.report(Progress(step=restart + 1, steps=config.restarts, loss=found[-1].inertia))
    best = min(found, key=lambda one: one.inertia)
    target, weight = labels["target"].to_numpy(), labels["weight"].to_numpy()
    weight = weight * (len(weight) / weight.sum())  # a label of mean weight counts one against the prior
    mean = float(weight @ target / weight.sum())
    own = np.bincount(best.cluster, weight, minlength=config.clusters)
    won = np.bincount(best.cluster, weight * target, minlength=config.clusters)
    rates = (won + config.prior * mean) / (own + config.prior)
    head = ClusterHead(best.centres, rates.astype(np.float32), mean, config.nearest, config.sharpness)
    notes = {"prompts": float(len(points)), "smallest_cluster": float(np.bincount(best.cluster).min())}
    return EmbeddingRouter("cluster", embed.embedder.directions(), head, notes)


@dataclass(frozen=True, slots=True)
class _Clusters:
    centres: NDArray[np.float32]
    cluster: NDArray[np.intp]
    inertia: float
    """Mean squared distance to the own centre."""


def _check(config: ClusterConfig) -> None:
    if not 1 <= config.nearest < config.clusters or config.restarts < 1:
        raise ConfigError(
            f"cluster: expected 1 <= nearest < clusters and at least one restart, got nearest = {config.nearest}, "
            f"clusters = {config.clusters}, restarts = {config.restarts}"
        )
    if not config.sharpness > 0 or not config.prior > 0:
        raise ConfigError(f"cluster: sharpness and prior must be above 0, got {config.sharpness} and {config.prior}")


def _k_means(points: NDArray[np.float32], clusters: int, rng: np.random.Generator) -> _Clusters:
    """Lloyd's algorithm from a k-means++ start (Arthur and Vassilvitskii 2007), until no point moves."""
    centres = _start(points, clusters, rng)
    cluster, distance = _assign(points, centres)
    for _ in range(_LLOYD_STEPS):
        centres = _centres(points, cluster, distance, clusters)
        moved, distance = _assign(points, centres)
        if np.array_equal(moved, cluster):
            break
        cluster = moved
    return _Clusters(centres, cluster, float(distance.mean()))


def _start(points: NDArray[np.float32], clusters: int, rng: np.random.Generator) -> NDArray[np.float32]:
    chosen = [int(rng.integers(len(points)))]
    distance = _squared(points, points[chosen])[:, 0]
    while len(chosen) < clusters:
        # By hand and not by rng.choice: a rounding error in the sum of chances must not stop a fit.
        edges = np.cumsum(distance)
        place = min(int(np.searchsorted(edges, rng.random() * edges[-1], side="right")), len(points) - 1)
        chosen.append(place)
        distance = np.minimum(distance, _squared(points, points[[place]])[:, 0])
    return points[chosen]


def _centres(
    points: NDArray[np.float32], cluster: NDArray[np.intp], distance: Floats, clusters: int
) -> NDArray[np.float32]:
    """Return the mean of each cluster; one without points starts again at the point farthest from its centre."""
    size = np.bincount(cluster, minlength=clusters)
    members = (np.arange(clusters)[:, None] == cluster).astype(np.float64)
    centres = members @ points / np.maximum(size, 1)[:, None]
    empty = np.flatnonzero(size == 0)
    centres[empty] = points[np.argsort(-distance, kind="stable")[: len(empty)]]
    return np.asarray(centres, np.float32)


def _assign(points: NDArray[np.float32], centres: NDArray[np.float32]) -> tuple[NDArray[np.intp], Floats]:
    squared = _squared(points, centres)
    cluster = squared.argmin(axis=1)
    return cluster, squared[np.arange(len(points)), cluster]


def _squared(points: NDArray[np.float32], centres: NDArray[np.float32]) -> Floats:
    """Return squared distances, shape (n, centres); the points have length 1, or 0."""
    x, c = points.astype(np.float64), centres.astype(np.float64)
    squares = (x**2).sum(axis=1)[:, None] + (c**2).sum(axis=1) - 2.0 * x @ c.T
    return np.asarray(np.maximum(squares, 0.0))
