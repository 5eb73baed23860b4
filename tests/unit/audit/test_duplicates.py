from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from routing.audit.duplicates import candidates, find_repeats, id_hashes, repeated_hashes
from tests.audit_frames import call_log


def found_in(*parts: pl.DataFrame) -> pl.DataFrame:
    repeated = repeated_hashes([id_hashes(part) for part in parts])
    return pl.concat(candidates(part, repeated, part=number) for number, part in enumerate(parts))


def test_only_repeated_ids_are_looked_at() -> None:
    calls = call_log({"call_id": "a"}, {"call_id": "b"}, {"call_id": None}, {"call_id": "a"}, {"call_id": None})
    assert found_in(calls)["row"].to_list() == [0, 3]


def test_hashes_that_stand_more_than_once_are_found_across_parts() -> None:
    parts = [np.array([5, 1, 9], np.uint64), np.array([9, 7, 5, 5], np.uint64)]
    assert repeated_hashes(parts).to_list() == [5, 9]
    assert repeated_hashes([]).to_list() == []


def test_repeats_are_told_with_their_part() -> None:
    row = {"call_id": "a", "logged_usd": Decimal("0.1")}
    repeats = find_repeats(found_in(call_log({}, row), call_log(row, {"call_id": "b"}, row)))
    assert repeats.duplicates.rows() == [(1, 0), (1, 2)]
    assert (repeats.reused_ids, repeats.logged_usd) == (0, Decimal("0.2"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"model": "a"}, {"model": "a 1:x"}),
        ({"model": None}, {"model": "-"}),
        ({"input_tokens": 1, "cached_tokens": 23}, {"input_tokens": 12, "cached_tokens": 3}),
        ({"input_tokens": None, "cached_tokens": 1}, {"input_tokens": 1, "cached_tokens": None}),
    ],
)
def test_no_two_calls_look_the_same(one: dict[str, object], other: dict[str, object]) -> None:
    repeats = find_repeats(found_in(call_log({"call_id": "x"} | one, {"call_id": "x"} | other)))
    assert (repeats.duplicates.height, repeats.reused_ids) == (0, 2)
