from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from routing.audit import duplicates
from routing.audit.duplicates import candidates, find_repeats, id_hashes, identical, null_id_hashes, repeated_hashes
from tests.audit_frames import call_log


def found_in(*parts: pl.DataFrame) -> pl.LazyFrame:
    repeated = repeated_hashes([id_hashes(part) for part in parts])
    return pl.concat(candidates(part, repeated, part=number) for number, part in enumerate(parts)).lazy()


def test_only_repeated_ids_are_looked_at() -> None:
    calls = call_log({"call_id": "a"}, {"call_id": "b"}, {"call_id": None}, {"call_id": "a"}, {"call_id": None})
    assert found_in(calls).collect()["row"].to_list() == [0, 3]


def test_hashes_that_stand_more_than_once_are_found_across_parts() -> None:
    parts = [np.array([5, 1, 9], np.uint64), np.array([9, 7, 5, 5], np.uint64)]
    assert repeated_hashes(parts).to_list() == [5, 9]
    assert repeated_hashes([np.zeros(4, np.uint64)]).to_list() == [0]
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


def one_id(rows: int, **row: Any) -> pl.DataFrame:
    """Calls under one id, each of another length; every tenth repeats the first."""
    lengths = [0 if n % 10 == 9 else n for n in range(rows)]
    return call_log(*(row | {"call_id": "static", "output_tokens": tokens} for tokens in lengths))


def test_of_one_id_for_all_rows_a_slice_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    heights = []
    counted = duplicates._calls_of_ids

    def spied(cells: pl.DataFrame) -> pl.DataFrame:
        heights.append(cells.height)
        return counted(cells)

    monkeypatch.setattr(duplicates, "_calls_of_ids", spied)
    repeats = find_repeats(found_in(one_id(2_000)), slice_rows=200)
    assert (repeats.duplicates.height, repeats.reused_ids) == (200, 1_800)
    assert max(heights) < 300


@pytest.mark.parametrize("slice_rows", [1, 7, 50, 10_000])
def test_the_size_of_slices_changes_nothing(slice_rows: int) -> None:
    usd = Decimal("0.25")
    other = call_log(*({"call_id": f"{n % 7}", "output_tokens": n % 3} for n in range(30)))
    found = found_in(one_id(50, logged_usd=usd), other, one_id(20, logged_usd=usd))
    assert find_repeats(found.sort("call_hash"), slice_rows=slice_rows).duplicates.equals(
        find_repeats(found).duplicates
    )
    repeats = find_repeats(found, slice_rows=slice_rows)
    # 45 lengths of 50 rows, then 20 rows that are all there already; of 7 x 3 calls under 7 ids 9 are repeated.
    assert repeats.duplicates.group_by("part").len().sort("part").rows() == [(0, 5), (1, 9), (2, 20)]
    assert (repeats.reused_ids, repeats.logged_usd) == (45 + 21, 25 * usd)


@pytest.mark.parametrize(
    "other",
    [{"tenant": "x"}, {"prompt": "hello"}, {"logged_usd": Decimal("0.1")}, {"cached_tokens": 0}, {"outcome": "failed"}],
)
def test_rows_without_an_id_are_alike_in_everything(other: dict[str, Any]) -> None:
    row = {"call_id": None}
    first, second = call_log(row, row | other, {}, {}, row), call_log(row | other, row)
    hashes = [null_id_hashes(part.drop("row")) for part in (first, second)]
    assert [one.shape for one in hashes] == [(3,), (2,)]
    assert (identical(hashes[:1]), identical(hashes), identical([])) == (1, 3, 0)
