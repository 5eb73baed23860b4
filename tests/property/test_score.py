from collections import Counter
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from routing.score import content_sha256, id_hashes, number_derived, repeated, score
from tests.fakes import FakeRouter, queries

# The marks of the digest itself, and what once separated fields, are the texts most likely to be confused.
texts = st.text(alphabet="ab:-0123\x00\x1f", max_size=6) | st.text(max_size=8)
rows = st.fixed_dictionaries(
    {
        "prompt": texts,
        "messages_json": st.none() | texts,
        "system": st.none() | texts,
        "max_output_tokens": st.none() | st.integers(1, 30),
    }
)
ROUTER = FakeRouter({})


@given(one=rows, other=rows)
def test_digests_are_equal_just_when_contents_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    left, right = queries(one, other).select(content_sha256().alias("digest"))["digest"]
    assert (left == right) == (one == other)


@given(prompts=st.lists(st.sampled_from("abc"), max_size=30), cut=st.integers(0, 30))
def test_derived_ids_are_unique_in_the_table_and_count_up(prompts: list[str], cut: int) -> None:
    parts = [score(queries(*({"prompt": text} for text in part)), ROUTER) for part in (prompts[:cut], prompts[cut:])]
    hashed = [
        table.select(pl.lit(number, pl.UInt32).alias("part"), "row", *id_hashes()) for number, table in enumerate(parts)
    ]
    again = repeated(pl.concat(hashed))
    numbered = pl.concat(
        [number_derived(table, again.filter(pl.col("part") == number)) for number, table in enumerate(parts)]
    )
    ids = numbered["query_id"].to_list()
    assert len(set(ids)) == len(ids)
    ordinals = [int(query_id.rpartition("-")[2]) for query_id in ids]
    seen: Counter[str] = Counter()
    for text, ordinal in zip(prompts, ordinals, strict=True):
        assert ordinal == seen[text]
        seen[text] += 1


@given(rows=st.lists(rows, max_size=8), seed=st.integers(0, 9))
def test_scoring_knows_no_order(rows: list[dict[str, Any]], seed: int) -> None:
    table = queries(*rows)
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=seed)
    assert score(shuffled, ROUTER).sort("row").equals(score(table, ROUTER))
