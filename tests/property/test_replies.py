import json
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from routing.replies import answer
from schemas.queries import STATUSES
from tests.fakes import completion, ledger_replies, routed

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
completions = st.builds(
    completion,
    st.none() | st.text(max_size=20),
    finish_reason=json_values | st.sampled_from(["stop", "length", "content_filter"]),
    refusal=json_values,
    usage=json_values,
    model=json_values,
    service_tier=json_values,
)
bodies = st.none() | st.text(max_size=30) | json_values.map(json.dumps) | completions


@given(bodies=st.lists(bodies, max_size=10))
def test_whatever_came_back_each_query_keeps_its_row_and_gets_a_status(bodies: list[str | None]) -> None:
    table = answer(
        routed(len(bodies)), ledger_replies(*({"call_key": f"q{i}", "body": body} for i, body in enumerate(bodies)))
    )
    assert table["query_id"].to_list() == [f"q{i}" for i in range(len(bodies))]
    assert set(table["status"]) <= set(STATUSES) - {"unsent"}
    ok = pl.col("status") == "ok"
    assert table.filter(ok & (pl.col("answer").is_null() | pl.col("error_code").is_not_null())).is_empty()
    assert table.filter(~ok & pl.col("error_code").is_null()).is_empty()


@given(text=st.text(min_size=1).filter(lambda text: text.strip() != ""), ascii_only=st.booleans())
def test_an_answer_is_the_text_that_was_sent(text: str, ascii_only: bool) -> None:
    body = json.dumps(json.loads(completion(text)), ensure_ascii=ascii_only)
    row: dict[str, Any] = answer(routed(1), ledger_replies({"call_key": "q0", "body": body})).row(0, named=True)
    assert row["answer"] == text
