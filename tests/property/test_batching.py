from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from routing.batching import head_and_tail, pad, token_batches

lengths = npst.arrays(np.int64, st.integers(0, 60), elements=st.integers(0, 100))
rows = st.lists(st.lists(st.integers(1, 9), max_size=12), min_size=1, max_size=12)


@given(lengths=lengths, budget=st.integers(1, 300))
def test_every_row_is_in_one_batch_and_every_batch_within_budget(lengths: NDArray[np.int64], budget: int) -> None:
    batches = list(token_batches(lengths, budget=budget))
    assert sorted(row for rows, _ in batches for row in rows.tolist()) == list(range(len(lengths)))
    for rows, width in batches:
        assert lengths[rows].max() <= width
        assert len(rows) == 1 or len(rows) * width <= budget


@given(lengths=lengths, budget=st.integers(1, 300))
def test_no_batch_could_take_the_next_row_of_its_width(lengths: NDArray[np.int64], budget: int) -> None:
    for batch, following in pairwise(token_batches(lengths, budget=budget)):
        assert following.width > batch.width or (len(batch.rows) + 1) * batch.width > budget


@given(lengths=lengths, budget=st.integers(1, 300), step=st.integers(1, 20))
def test_the_width_of_a_row_depends_on_its_own_length_alone(lengths: NDArray[np.int64], budget: int, step: int) -> None:
    together = {row: width for rows, width in token_batches(lengths, budget=budget, step=step) for row in rows}
    for row, length in enumerate(lengths):
        (alone,) = token_batches(np.array([length]), budget=budget, step=step)
        assert together[row] == alone.width


@given(lengths=lengths, budget=st.integers(1, 300))
def test_results_written_by_index_come_back_in_the_order_of_the_table(lengths: NDArray[np.int64], budget: int) -> None:
    result = np.full(len(lengths), -1, np.int64)
    for rows, _ in token_batches(lengths, budget=budget):
        result[rows] = lengths[rows]
    assert_array_equal(result, lengths)


@given(rows=rows)
def test_padding_loses_and_adds_no_token(rows: list[list[int]]) -> None:
    ids, mask = pad([np.array(row, np.int64) for row in rows])
    assert [ids[i, mask[i] == 1].tolist() for i in range(len(rows))] == rows
    assert (ids[mask == 0] == 0).all()


@given(n=st.integers(0, 50), head=st.integers(1, 20), tail=st.integers(0, 20))
def test_a_cut_keeps_the_ends_in_order(n: int, head: int, tail: int) -> None:
    kept = head_and_tail(np.arange(n), head, tail).tolist()
    assert len(kept) == min(n, head + tail)
    assert kept[:head] == list(range(min(n, head)))
    assert kept == sorted(set(kept))
    assert not kept or tail == 0 or kept[-1] == n - 1
