"""S(B, D), the similarity of a benchmark to a training set."""

import numpy as np
import pytest
from numpy.typing import NDArray

from routing.errors import DataError
from routing.training import similarity
from routing.training.similarity import benchmark_similarity, nearest_cosines

TRAINING = np.array([[2.0, 0.0], [0.0, 0.5]])
BENCHMARK = np.array([[3.0, 4.0], [0.0, 7.0], [-1.0, 0.0], [0.0, 0.0]])


def test_each_prompt_counts_its_nearest_training_prompt() -> None:
    assert nearest_cosines(BENCHMARK, TRAINING) == pytest.approx([0.8, 1.0, 0.0, 0.0], abs=1e-6)
    found = benchmark_similarity(BENCHMARK, TRAINING, seed=0)
    assert found.value == pytest.approx(0.45, abs=1e-6)
    assert found.low < found.value < found.high
    assert benchmark_similarity(BENCHMARK, TRAINING, seed=0) == found
    assert benchmark_similarity(TRAINING, TRAINING, seed=0).low == pytest.approx(1.0, abs=1e-6)


def vectors(n: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n, 4))


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = nearest_cosines(vectors(30, 0), vectors(50, 1))
    expected = [max(b @ d / np.linalg.norm(b) / np.linalg.norm(d) for d in vectors(50, 1)) for b in vectors(30, 0)]
    assert whole == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr(similarity, "_BLOCK_VALUES", 130)
    assert nearest_cosines(vectors(30, 0), vectors(50, 1)) == pytest.approx(whole, abs=1e-6)


def test_the_interval_narrows_with_the_benchmark() -> None:
    few, many = (benchmark_similarity(vectors(n, 2), vectors(50, 1), seed=3) for n in (20, 2_000))
    assert many.high - many.low < 0.3 * (few.high - few.low)


@pytest.mark.parametrize(
    ("benchmark", "training", "message"),
    [
        (BENCHMARK, np.ones((2, 3)), r"got \(4, 2\) and \(2, 3\)"),
        (BENCHMARK[:0], TRAINING, r"prompts on both sides, got 0 and 2"),
        (BENCHMARK, TRAINING[:0], r"prompts on both sides, got 4 and 0"),
    ],
)
def test_sides_that_cannot_be_compared_are_refused(
    benchmark: NDArray[np.float64], training: NDArray[np.float64], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        benchmark_similarity(benchmark, training, seed=0)
