"""Batches of texts, replies read back, and a ledger that knows texts and not batches."""

import asyncio
import base64
import json
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from tokenizers import Tokenizer

from routing.artifact import load
from routing.calls import MALFORMED, Verdict, verdict
from routing.embeddings import (
    DIGEST_LENGTH,
    MAX_CUTS,
    EmbeddingLedger,
    batches,
    cut,
    digests,
    query_id,
    read_vectors,
    usage_reader,
)
from routing.guards import Budget
from routing.ledger import Reply, Send
from routing.pricing import Unpriced
from routing.routers import EMBEDDING_ROWS, EmbeddingRouter
from routing.sandbox.config import DEFAULT_TOKENIZER
from tests.dispatching import CENT, night
from tests.fakes import NOON, FakeComplete, answered, call, save_embedding_router


def body(vectors: list[list[float]], *, packed: bool = True, **fields: Any) -> str:
    """A reply as OpenAI spells it."""
    data = [
        {
            "index": i,
            "embedding": base64.b64encode(np.array(vector, "<f4").tobytes()).decode() if packed else vector,
        }
        for i, vector in enumerate(vectors)
    ]
    return json.dumps({"data": data, "model": "e-1", "usage": {"prompt_tokens": 7}, **fields})


def reply(status: int, code: str | None, text: str | None) -> Reply:
    """How an attempt ended."""
    return Reply(status, code, code, None, None, 0.1, NOON, text)


# ---- batches --------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 60), max_size=40).map(lambda numbers: np.array(numbers, np.int64)),
    st.integers(1, 9),
    st.integers(1, 100),
)
def test_every_text_is_in_one_batch_and_no_batch_is_too_big(
    tokens: np.ndarray[Any, np.dtype[np.int64]], max_texts: int, max_tokens: int
) -> None:
    runs = list(batches(tokens, max_texts=max_texts, max_tokens=max_tokens))
    assert [place for run in runs for place in range(run.start, run.stop)] == list(range(len(tokens)))
    for run in runs:
        assert 1 <= run.stop - run.start <= max_texts
        assert run.stop - run.start == 1 or tokens[run].sum() <= max_tokens
    for one, other in pairwise(runs):  # greedy: no batch could have taken the next text as well
        full = one.stop - one.start == max_texts
        assert full or tokens[one.start : other.start + 1].sum() > max_tokens


def test_a_digest_is_of_the_text_and_names_it_alone() -> None:
    names = digests(pl.Series(["a", "b", "a", "ä"]))
    assert names.to_list()[0] == names.to_list()[2] == "ca978112ca1bbdcafac231b3"  # sha256("a")
    assert names.n_unique() == 3
    assert set(names.str.len_bytes()) == {DIGEST_LENGTH}
    assert digests(pl.Series([], dtype=pl.String)).len() == 0


def test_a_long_text_is_cut_between_tokens_and_never_to_nothing() -> None:
    tokenizer = Tokenizer.from_file(str(DEFAULT_TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    assert cut(tokenizer, "one two three four", 4) == "one two three four"
    assert cut(tokenizer, "one two three four", 2) == "one two"
    assert cut(tokenizer, "one", 1) == "one"


# ---- replies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_vectors_come_back_in_the_order_of_the_request(packed: bool) -> None:
    text = json.loads(body([[1, 2.5], [3, -4]], packed=packed))
    text["data"].reverse()
    vectors = read_vectors(json.dumps(text), n=2, dim=2)
    assert vectors is not None
    assert vectors.dtype == np.float32
    assert_array_equal(vectors, [[1, 2.5], [3, -4]])


@pytest.mark.parametrize(
    "text",
    [
        "", "<html>", "[]", "{}", json.dumps({"data": []}), json.dumps({"data": [{"index": 0}]}),
        body([[1, 2]]), body([[1, 2], [3, 4], [5, 6]]), body([[1, 2, 3], [4, 5, 6]]), body([[1, 2], [float("nan"), 4]]),
        json.dumps({"data": [{"index": 0, "embedding": "!"}, {"index": 1, "embedding": "AA=="}]}),
        json.dumps({"data": [{"index": 0, "embedding": [1, 2]}, {"index": 0, "embedding": [1, 2]}]}),
        json.dumps({"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1]}]}),
        json.dumps({"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": None}]}),
    ],
)  # fmt: skip
def test_a_reply_without_every_vector_is_none(text: str) -> None:
    assert read_vectors(text, n=2, dim=2) is None


def test_an_unreadable_reply_is_asked_for_again() -> None:
    assert verdict(reply(200, MALFORMED, "x")) is Verdict.RETRY


def test_an_unreadable_reply_is_paid_for_all_the_same(tmp_path: Path) -> None:
    complete = FakeComplete({"q1": [reply(200, MALFORMED, "x"), reply(500, "server_error", None), answered()]})
    done = night(tmp_path / "ledger", complete, [call("q1")], budget=(purse := Budget(None)))
    assert done.decided == {"q1": None}
    assert purse.booked_usd == 2 * CENT


def test_the_guards_read_tokens_and_their_price() -> None:
    usage = usage_reader(Unpriced("e-1", "no price"))
    assert (usage.tokens(body([[1]])), usage.tokens("x"), usage.tokens("[]")) == (7, None, None)
    assert usage.cost_usd(body([[1]])) == Decimal(0)


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [({"usage": {"total_tokens": 9}}, 9), ({"usage": None}, 0), ({"usage": {}}, 0), ({"usage": {}, "data": []}, None)],
)
def test_vectors_without_a_count_are_no_failure(fields: dict[str, Any], tokens: int | None) -> None:
    assert usage_reader(Unpriced("e-1", "no price")).tokens(body([[1]], **fields)) == tokens


# ---- the ledger -----------------------------------------------------------------------------------------------------


def booked(path: Path, *calls: tuple[list[str], str | None, str | None]) -> EmbeddingLedger:
    """A ledger of decided calls: names of texts, error code, body."""

    async def write(ledger: EmbeddingLedger) -> None:
        for number, (names, code, text) in enumerate(calls):
            send = Send(f"call-{number}", 0, 0, query_id([name * DIGEST_LENGTH for name in names]), "m", 1, NOON, "0.5")
            send_id = await ledger.sent(send)
            answered = reply(200 if text else 400, code, text)
            await ledger.replied(send_id, send, answered, ends=True, error_code=code)

    with EmbeddingLedger(path) as ledger:
        asyncio.run(write(ledger))
    return ledger


def names(frame: pl.DataFrame) -> list[str]:
    return [digest[0] for digest in frame["digest"]]


def test_a_text_is_found_in_whatever_batch_it_was_bought(tmp_path: Path) -> None:
    ledger = booked(
        tmp_path / "l", (["a", "b"], None, body([[1, 2], [3, 4]])), (["c", "b"], None, body([[5, 6], [7, 8]]))
    )
    places = ledger.answered()
    assert list(zip(names(places), places["send_id"], places["place"], strict=True)) == [
        ("a", 1, 0), ("b", 1, 1), ("c", 2, 0)
    ]  # fmt: skip
    vectors = ledger.vectors([1, 2], dim=2)
    assert_array_equal(vectors[1], [[1, 2], [3, 4]])
    assert_array_equal(vectors[2], [[5, 6], [7, 8]])


def test_a_refused_text_is_repeated_alone_until_it_is_given_up(tmp_path: Path) -> None:
    alone = (["b"], "bad_request", None)
    ledger = booked(tmp_path / "l", (["a", "b"], "bad_request", None), (["a"], None, body([[1]])), *[alone] * MAX_CUTS)
    assert dict(zip(names(ledger.refused()), ledger.refused()["alone"], strict=True)) == {"a": 0, "b": MAX_CUTS}
    assert names(ledger.to_repeat()) == ["b"]
    given_up = booked(tmp_path / "m", (["a"], None, body([[1]])), *[alone] * (MAX_CUTS + 1))
    assert given_up.to_repeat().is_empty()


def test_an_endpoint_that_refuses_all_gives_no_text_up(tmp_path: Path) -> None:
    ledger = booked(tmp_path / "l", *[(["b"], "bad_request", None)] * (MAX_CUTS + 1))
    assert ledger.to_repeat()["alone"].to_list() == [0]
    assert ledger.refusals(MAX_CUTS).rows() == [("bad_request", "bad_request")]
    assert not ledger.has_answers(0)
    answered = booked(tmp_path / "m", (["a"], None, body([[1]])), (["b"], "bad_request", None))
    assert (answered.has_answers(0), answered.has_answers(1)) == (True, False)


def test_other_failures_are_told_and_everything_with_status_200_is_billed(tmp_path: Path) -> None:
    ledger = booked(
        tmp_path / "l",
        (["a", "b"], "server_error", None), (["c"], MALFORMED, "<html>"), (["d"], None, body([[1]])),
        (["e"], "bad_request", None),
    )  # fmt: skip
    assert ledger.failures(0).select("error_code", "texts").rows() == [("server_error", 2), (MALFORMED, 1)]
    assert ledger.failures(1)["error_code"].to_list() == [MALFORMED]
    assert ledger.billed().select("served_model", "input_tokens").rows() == [(None, None), ("e-1", 7)]


# ---- the router -----------------------------------------------------------------------------------------------------


class Table:
    """Embeddings by text."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self._vectors = vectors

    def known(self, texts: Any) -> Any:
        return np.array([text in self._vectors for text in texts])

    def vectors(self, texts: Any) -> Any:
        return np.array([self._vectors[text] for text in texts], np.float32).reshape(len(texts), 16)


def test_win_rates_do_not_depend_on_their_neighbours(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    vectors = {f"text {i}": rng.standard_normal(16).tolist() for i in range(EMBEDDING_ROWS + 9)}
    router = EmbeddingRouter(load(save_embedding_router(tmp_path / "router")), Table(vectors))
    whole = router.win_rates(list(vectors))
    assert whole.win_rate.dtype == np.float64
    np.testing.assert_allclose(
        whole.win_rate, [1 / (1 + np.exp(-4 * np.float32(vector[0]))) for vector in vectors.values()], atol=2e-6
    )
    assert_array_equal(router.win_rates(list(vectors)[::-1]).win_rate[::-1], whole.win_rate)
    assert_array_equal([router.win_rates([text]).win_rate[0] for text in list(vectors)[:5]], whole.win_rate[:5])
    assert_array_equal(whole.tokens[:2], [2, 2])
    assert router.win_rates([]).win_rate.shape == (0,)
    assert router.known(["text 1", "other"]).tolist() == [True, False]
