import hashlib

import polars as pl
import pytest

from routing.score import (
    TOKENS_PER_MESSAGE,
    TOKENS_PER_REPLY,
    content_sha256,
    id_hashes,
    number_derived,
    repeated,
    score,
    stable_hash,
)
from schemas.queries import Scored
from tests.fakes import FakeRouter, queries

ROUTER = FakeRouter({"easy": 0.1, "hard one": 0.9})


def digest(**row: object) -> str:
    value: str = queries(row).select(content_sha256().alias("digest"))["digest"].item()
    return value


def test_each_query_gets_its_win_rate_in_order() -> None:
    table = score(queries({"prompt": "hard one"}, {"prompt": "easy"}, {"prompt": "hard one"}), ROUTER)
    assert table["win_rate"].to_list() == [0.9, 0.1, 0.9]
    assert table["row"].to_list() == [0, 1, 2]
    assert table.columns == Scored.column_names()


def test_no_queries_no_scores() -> None:
    assert score(queries(), ROUTER).schema == Scored.create_empty().schema


def test_a_given_id_is_kept_and_a_missing_one_is_derived_from_content() -> None:
    table = score(queries({"prompt": "easy", "given_id": "ticket-7"}, {"prompt": "easy"}), ROUTER)
    assert table["query_id"].to_list() == ["ticket-7", digest(prompt="easy")[:24]]
    assert table["tie_key"].to_list() == table.select(stable_hash("query_id")).to_series().to_list()


def test_tokens_are_the_prompt_all_other_text_and_the_chat_frame() -> None:
    table = score(
        queries(
            {"prompt": "two words"},
            {"prompt": "one", "other_text": "you are a helpful assistant", "n_messages": 2},
            {"prompt": "three more words", "other_text": "", "n_messages": 3},
        ),
        ROUTER,
    )
    frames = [TOKENS_PER_REPLY + TOKENS_PER_MESSAGE * n for n in (1, 2, 3)]
    assert frames == [7, 11, 15]
    assert table["prompt_tokens"].to_list() == [2 + 7, 1 + 5 + 11, 3 + 0 + 15]


def test_other_text_belongs_to_its_row_whatever_the_numbering() -> None:
    table = score(
        queries({"prompt": "a", "row": 9}, {"prompt": "a", "row": 4, "other_text": "b c d"}, {"prompt": "a", "row": 7}),
        ROUTER,
    )
    assert table["prompt_tokens"].to_list() == [8, 11, 8]


def test_the_row_limit_travels_along() -> None:
    table = score(queries({"prompt": "easy", "max_output_tokens": 50}, {"prompt": "easy"}), ROUTER)
    assert table["max_output_tokens"].to_list() == [50, None]


# ---- digests and hashes: what is stored under them must be found again by every later version -----------------------


def test_hashes_of_ids_never_change() -> None:
    ids = pl.DataFrame({"query_id": ["", "a", "query-1", "Zürich 🏔"]})
    wyhash = [17969918002310452037, 3592636987452369503, 8582576453442777676, 11442413773896690008]
    assert ids.select(stable_hash("query_id"))["query_id"].to_list() == wyhash
    hashes = ids.select(*id_hashes())
    assert hashes["id_hash"].to_list() == wyhash
    # The first is the published XXH3 digest of nothing, 0x2d06800538d394c2.
    xxh3 = [0x2D06800538D394C2, 16629034431890738719, 5062629924817285887, 10694743814321792493]
    assert hashes["id_check"].to_list() == xxh3


def test_digests_of_contents_never_change() -> None:
    # printf '14:What is 2 + 2?---' | sha256sum
    plain = "e92e9c19d210cadedb559f3c2be1c677f1684b4414ad0c8e24085c13072d23cd"
    assert digest(prompt="What is 2 + 2?") == plain
    full = digest(prompt="hi", messages_json='{"messages":[]}', system="be brief", max_output_tokens=64)
    assert full == "b2ed78ffe674ff6f9d9c8f7c031b01c58fb16789c8d9777c71e762a8619222a5"


def test_a_digest_can_be_recomputed_in_any_language() -> None:
    fields = ["Zürich", '{"messages":[]}', "be\x1fbrief", "64"]
    text = "".join(f"{len(field.encode())}:{field}" for field in fields)
    got = digest(prompt=fields[0], messages_json=fields[1], system=fields[2], max_output_tokens=64)
    assert got == hashlib.sha256(text.encode()).hexdigest()


def test_equal_contents_have_equal_digests_whatever_is_not_sent() -> None:
    assert digest(prompt="easy", given_id="1", row=1) == digest(prompt="easy", given_id="2", row=2)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"prompt": "a"}, {"prompt": "b"}),
        ({"prompt": "a"}, {"prompt": "a", "system": ""}),
        ({"prompt": "a"}, {"prompt": "a", "system": "\x00"}),
        ({"prompt": "a"}, {"prompt": "a", "max_output_tokens": 1}),
        ({"prompt": "a", "system": "b"}, {"prompt": "a", "messages_json": "b"}),
        ({"prompt": "ab", "system": "c"}, {"prompt": "a", "system": "bc"}),
        ({"prompt": "a\x1f\x00\x1fb", "system": "c"}, {"prompt": "a", "system": "b\x1f\x00\x1fc"}),
        ({"prompt": "a", "system": "1"}, {"prompt": "a", "system": "1\x1f"}),
        ({"prompt": "é"}, {"prompt": "e\u0301"}),
    ],
)
def test_different_contents_have_different_digests(one: dict[str, object], other: dict[str, object]) -> None:
    assert digest(**one) != digest(**other)


# ---- derived ids ----------------------------------------------------------------------------------------------------


def test_repeated_ids_are_counted_over_the_whole_table() -> None:
    ids = pl.DataFrame(
        {
            "part": [0, 0, 0, 1, 1],
            "row": [0, 1, 2, 0, 1],
            "query_id": ["a", "b", "a", "a", "c"],
        },
        schema={"part": pl.UInt32, "row": pl.UInt32, "query_id": pl.String},
    )
    again = repeated(ids.select("part", "row", *id_hashes()))
    assert again.rows() == [(0, 2, 1), (1, 0, 2)]


def test_half_a_hash_is_not_enough_to_be_the_same_id() -> None:
    ids = pl.DataFrame(
        {"part": [0, 0], "row": [0, 1], "id_hash": [7, 7], "id_check": [1, 2]},
        schema={"part": pl.UInt32, "row": pl.UInt32, "id_hash": pl.UInt64, "id_check": pl.UInt64},
    )
    assert repeated(ids).is_empty()


def test_derived_ids_get_their_ordinal_and_a_tie_key_of_their_own() -> None:
    table = score(queries({"prompt": "easy"}, {"prompt": "hard one"}, {"prompt": "easy"}), ROUTER)
    ordinals = pl.DataFrame({"row": [2], "ordinal": [5]}, schema={"row": pl.UInt32, "ordinal": pl.UInt32})
    numbered = number_derived(table, ordinals)
    easy, hard = digest(prompt="easy")[:24], digest(prompt="hard one")[:24]
    assert numbered["query_id"].to_list() == [f"{easy}-0", f"{hard}-0", f"{easy}-5"]
    assert numbered["tie_key"].n_unique() == 3
    assert numbered["tie_key"].to_list() == numbered.select(stable_hash("query_id")).to_series().to_list()
    assert numbered["win_rate"].to_list() == [0.1, 0.9, 0.1]
