from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.training.decontamination import contaminated, near_pairs, shared_phrases


def unit(*rows: tuple[float, float]) -> NDArray[np.float32]:
    vectors = np.array(rows, np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_only_pairs_past_the_screen_are_embedded_and_only_near_ones_dropped() -> None:
    train, evaluation = ["same", "near", "far"], ["question", "other"]
    near = near_pairs(unit((1, 0.1), (1, 0.3), (0, 1)), unit((1, 0), (-1, 0)), limit=0.85)
    assert (near.train.tolist(), near.evaluation.tolist()) == ([0, 1], [0, 0])
    seen: list[str] = []

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        seen.extend(texts)
        return unit(*({"same": (1, 0.2), "near": (1, 0.5), "question": (1, 0)}[text] for text in texts))

    assert contaminated(train, evaluation, near, embed).tolist() == [0]  # cosines 0.98 and 0.89
    assert sorted(seen) == ["near", "question", "same"]


def test_nothing_near_needs_no_encoder() -> None:
    near = near_pairs(unit((0, 1)), unit((1, 0)), limit=0.85)

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        raise AssertionError(texts)

    assert contaminated(["a"], ["b"], near, embed).tolist() == []


def test_a_question_inside_a_template_is_found_by_its_words() -> None:
    question = "Claire makes a 3 egg omelet every morning for breakfast. How many eggs in 4 weeks?"
    train = pl.Series(
        [
            "After careful thought: CLAIRE makes a 3-egg omelet, every morning for breakfast!",
            "Claire makes a 3 egg omelet every morning; her brother never eats eggs.",
            "Claire makes a",
            "",
        ]
    )
    assert shared_phrases(train, pl.Series([question, "short"])).tolist() == [0]
    assert shared_phrases(train, pl.Series([question]), words=7).tolist() == [0, 1]
    assert shared_phrases(train, pl.Series([], dtype=pl.String)).tolist() == []


def test_words_do_not_run_across_prompts() -> None:
    train = pl.Series(["one two three", "four five six"])
    assert shared_phrases(train, pl.Series(["two three four five"]), words=3).tolist() == []
