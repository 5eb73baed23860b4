from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from routing.training.siblings import Siblings, near_duplicates, siblings

PASSAGE = "the committee met in the old town hall on monday and"
PROMPTS = pl.Series(
    [
        f"{PASSAGE} who was there?",
        f"Read this. {PASSAGE.title()} why did it meet?",
        "a question",
        "the question again, in other words",
        "something that only the screen takes for the question",
        "something else",
    ]
)
SCREEN = {2: (1.0, 0.0), 3: (1.0, 0.1), 4: (1.0, 0.3), 0: (0.0, 1.0), 1: (-1.0, 0.0), 5: (0.0, -1.0)}
ENCODED = {2: (1.0, 0.0), 3: (1.0, 0.2), 4: (0.0, 1.0)}


def vectors(texts: Sequence[str], known: dict[int, tuple[float, float]]) -> NDArray[np.float32]:
    places = {text: place for place, text in enumerate(PROMPTS)}
    rows = np.array([known[places[text]] for text in texts], np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def found() -> Siblings:
    # A text that the screen lets pass alone, and that the encoder is given all the same, is a KeyError here.
    near = near_duplicates(PROMPTS, lambda texts: vectors(texts, SCREEN), lambda texts: vectors(texts, ENCODED))
    return siblings(PROMPTS, near)


def among(rows: list[int], others: list[int]) -> list[int]:
    return [int(row) for row in found().among(np.array(rows, np.intp), np.array(others, np.intp))]


def test_a_shared_phrase_and_a_near_embedding_make_siblings_in_both_directions() -> None:
    assert among([0, 2], [1, 3, 4, 5]) == [0, 2]
    assert among([1, 3, 4, 5], [0, 2]) == [1, 3]
    assert among([0, 1], [2, 3, 4, 5]) == []
    assert among([4, 5], [0, 1, 2, 3]) == []


def test_nobody_is_a_sibling_of_itself_or_of_those_on_its_own_side() -> None:
    assert among([0, 1, 2, 3], [4, 5]) == []
    assert among([0, 1, 2, 3, 4], [5]) == []
    assert among([], [0, 1, 2]) == []


def test_without_near_ones_the_encoder_is_not_asked() -> None:
    def never(texts: Sequence[str]) -> NDArray[np.float32]:
        raise AssertionError(texts)

    apart = np.eye(3, dtype=np.float32)
    few = pl.Series(["a", "b", "c"])
    none = siblings(few, near_duplicates(few, lambda _: apart, never))
    assert none.among(np.array([0]), np.array([1, 2])).tolist() == []
