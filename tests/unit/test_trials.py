import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.errors import DataError
from routing.trials import folds, samples


@given(st.integers(2, 60), st.integers(0, 3), st.integers(0, 3), st.data())
def test_samples_lie_inside_each_other_and_apart_from_what_is_evaluated(
    n: int, seed: int, draw: int, data: st.DataObject
) -> None:
    sizes = sorted(data.draw(st.sets(st.integers(1, n - 1), min_size=1)))
    found = samples(n, sizes, seed=seed, draw=draw)
    assert list(found) == sizes
    labelled: set[int] = set()
    for size, trial in found.items():
        assert len(set(trial.labelled)) == size
        assert labelled <= set(trial.labelled)
        labelled = set(trial.labelled)
        assert (np.diff(trial.labelled) > 0).all()
        assert (np.diff(trial.evaluated) > 0).all()
        assert trial.evaluated.tolist() == found[sizes[-1]].evaluated.tolist()
    assert sorted([*labelled, *found[sizes[-1]].evaluated]) == list(range(n))


@given(st.integers(2, 60), st.integers(0, 3), st.integers(0, 3), st.data())
def test_folds_part_the_prompts(n: int, seed: int, draw: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(2, n))
    found = folds(n, k, seed=seed, draw=draw)
    assert len(found) == k
    assert sorted(np.concatenate([trial.evaluated for trial in found])) == list(range(n))
    for trial in found:
        assert sorted([*trial.labelled, *trial.evaluated]) == list(range(n))
        assert len(trial.evaluated) in (n // k, -(-n // k))


def test_a_draw_is_the_same_again_and_another_one_differs() -> None:
    def drawn(seed: int, draw: int) -> tuple[list[int], list[list[int]]]:
        sample = samples(100, [10], seed=seed, draw=draw)[10].labelled.tolist()
        return sample, [trial.evaluated.tolist() for trial in folds(100, 4, seed=seed, draw=draw)]

    assert drawn(0, 1) == drawn(0, 1)
    for sample, parts in (drawn(0, 0), drawn(1, 1)):
        assert sample != drawn(0, 1)[0]
        assert parts != drawn(0, 1)[1]


def test_too_few_prompts_are_told() -> None:
    with pytest.raises(DataError, match="30 labelled prompts of 30 leave none to evaluate on; use smaller sizes"):
        samples(30, [10, 30], seed=0, draw=0)
    with pytest.raises(DataError, match="4 folds of 3 prompts; expected at least 2 and at most as many as prompts"):
        folds(3, 4, seed=0, draw=0)
