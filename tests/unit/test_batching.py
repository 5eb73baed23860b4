import numpy as np
import pytest
from numpy.testing import assert_array_equal

from routing.batching import head_and_tail, pad, token_batches


def batches(lengths: list[int], budget: int) -> list[list[int]]:
    return [batch.rows.tolist() for batch in token_batches(np.array(lengths, np.int64), budget=budget, step=1)]


@pytest.mark.parametrize(
    ("n", "head", "tail", "kept"),
    [
        (5, 3, 2, [0, 1, 2, 3, 4]),  # fits exactly
        (6, 3, 2, [0, 1, 2, 4, 5]),  # one token goes, from the middle
        (9, 3, 2, [0, 1, 2, 7, 8]),
        (9, 3, 0, [0, 1, 2]),
        (2, 3, 2, [0, 1]),
        (0, 3, 2, []),
    ],
)
def test_a_long_prompt_keeps_its_head_and_its_tail(n: int, head: int, tail: int, kept: list[int]) -> None:
    assert_array_equal(head_and_tail(np.arange(n), head, tail), kept)


def test_rows_of_one_width_run_together_the_narrowest_first() -> None:
    assert batches([6, 2, 3, 1, 2], budget=6) == [[3], [1, 4], [2], [0]]


def test_a_width_is_the_next_multiple_of_the_step_and_never_zero() -> None:
    found = list(token_batches(np.array([0, 1, 16, 17, 40]), budget=1_000, step=16))
    assert [(batch.rows.tolist(), batch.width) for batch in found] == [([0, 1, 2], 16), ([3], 32), ([4], 48)]


def test_a_row_beyond_the_budget_is_a_batch_of_its_own() -> None:
    assert batches([100, 1, 100], budget=10) == [[1], [0], [2]]


def test_a_batch_may_fill_the_budget_exactly() -> None:
    assert batches([4, 4, 4, 4], budget=8) == [[0, 1], [2, 3]]


def test_empty_rows_cost_one_padded_token() -> None:
    assert batches([0, 0, 0], budget=2) == [[0, 1], [2]]


def test_no_rows_no_batches() -> None:
    assert batches([], budget=8) == []


def test_rows_are_padded_with_zeros_to_the_longest() -> None:
    ids, mask = pad([np.array([5, 6, 7]), np.array([8]), np.array([], np.int64)])
    assert_array_equal(ids, [[5, 6, 7], [8, 0, 0], [0, 0, 0]])
    assert_array_equal(mask, [[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    assert ids.dtype == mask.dtype == np.int64


def test_a_graph_never_gets_a_tensor_without_columns() -> None:
    ids, mask = pad([np.array([], np.int64)] * 2)
    assert_array_equal(ids, [[0], [0]])
    assert_array_equal(mask, [[0], [0]])
