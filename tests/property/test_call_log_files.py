"""One log is one CALL_LOG, whatever file it was dumped into."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from jobs.audit_config import LogSection
from jobs.audit_log import open_log
from tests.property.test_call_logs import call, calls, cell
from tests.unit.call_logs.writers import WRITERS, Call

_KEYS = [  # those that the importer looks for, and some of nobody's
    *("service_tier", "usage_object", "additional_usage_values", "cost_breakdown", "error_information", "error_code"),
    *(
        "attempted_retries",
        "cached_tokens",
        "reasoning_tokens",
        "cache_creation_tokens",
        "speed",
        'a "quoted" {',
    ),
]
_values = (
    st.none() | st.integers(0, 99) | st.sampled_from(["flex", "fast", "gold", '{"service_tier":"flex"}', "}", "{"])
)
free = st.recursive(
    st.dictionaries(st.sampled_from(_KEYS), _values, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(_KEYS), inner | _values, max_size=3),
    max_leaves=4,
)
own = st.fixed_dictionaries(
    {},
    optional={
        "error_information": st.fixed_dictionaries({"error_code": st.sampled_from(["429", "500"])}),
        "cost_breakdown": st.fixed_dictionaries({"service_tier": st.sampled_from([None, "priority", "default"])}),
        "attempted_retries": st.integers(0, 5),
    },
)
answers = st.fixed_dictionaries(
    {"choices": st.just([{"message": {"content": 'say "service_tier": "flex" {'}}]), "metadata": free},
    optional={"service_tier": st.sampled_from(["flex", None]), "usage": st.just({"service_tier": "priority"})},
)


def read(folder: str, name: str, **section: Any) -> pl.DataFrame:
    return open_log(LogSection(path=name, **section), Path(folder)).calls.collect(engine="streaming")


def same_in_every_file(rows: Sequence[dict[str, Any]], **section: Any) -> None:
    """As JSON lines, as CSV and as Parquet with text, where objects are JSON text."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with TemporaryDirectory() as folder:
        lines = "\n".join(json.dumps(row) for row in rows)
        (Path(folder) / "log.jsonl").write_text(lines, encoding="utf-8")
        with (Path(folder) / "log.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows([cell(row.get(key)) for key in columns] for row in rows)
        pl.read_csv(Path(folder) / "log.csv", infer_schema=False).write_parquet(Path(folder) / "log.parquet")
        first = read(folder, "log.jsonl", **section)
        for name in ("log.csv", "log.parquet"):
            assert_frame_equal(read(folder, name, **section), first, check_exact=True)


rows_of_litellm = st.lists(
    st.tuples(call, free, free, own, answers, st.sampled_from(["red", None])), min_size=1, max_size=6
)


@settings(deadline=None, max_examples=15)
@given(rows_of_litellm)
def test_a_litellm_log_with_metadata_of_anybodys(found: list[tuple[Call, Any, Any, Any, Any, str | None]]) -> None:
    rows = []
    for one, users, requesters, more, answer, team in found:
        row = WRITERS["litellm"](one)
        theirs = {"spend_logs_metadata": users | {"team": team}, "requester_metadata": requesters}
        metadata = {**theirs, **row["metadata"], **more}
        rows.append(row | {"metadata": metadata, "response": answer, "request_tags": ["a", "b"]})
    same_in_every_file(rows, format="litellm", tenant=["metadata.spend_logs_metadata.team"])


@pytest.mark.parametrize("name", ["langfuse", "helicone"])
@settings(deadline=None, max_examples=4)
@given(found=calls)
def test_other_logs(name: str, found: list[Call]) -> None:
    same_in_every_file([WRITERS[name](call) for call in found], format=name)
