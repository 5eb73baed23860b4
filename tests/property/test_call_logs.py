"""Write random calls down as each tool does, read them back: nothing is lost, doubled or counted twice."""

import csv
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.audit_config import LogSection
from jobs.audit_log import open_log
from routing.call_logs.json_text import decode
from schemas.call_log import TOKENS
from schemas.queries import PUBLISHED_COLUMNS, Costed
from tests.unit.call_logs.writers import TELLS_HOURS, WRITERS, Call

counts = st.integers(0, 10**9)
prompts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).map(lambda text: f"Q: {text}")
call = st.builds(
    Call,
    number=st.integers(0, 10**6),
    claude=st.booleans(),
    fresh=counts,
    cached=counts,
    written=counts,
    answer=counts,
    reasoning=counts,
    nanos_usd=st.integers(0, 10**12),
    failed=st.booleans(),
    prompt=prompts,
)
calls = st.lists(call, min_size=1, max_size=30)


NO_COST, NO_PROMPT = {"openai_batch"}, {"openai_batch"}


def totals(frame: pl.DataFrame) -> dict[str, Any]:
    return {
        "calls": frame.height,
        **{name: frame[name].sum() for name in TOKENS},
        "usd": frame["logged_usd"].sum(),
        "failed": (frame["outcome"] == "failed").sum(),
        "ids": sorted(frame["call_id"].to_list()),
        "times": sorted(frame["called_at"].to_list()),
        "prompts": sorted(frame["prompt"].drop_nulls().to_list()),
    }


def expected(found: list[Call], name: str) -> dict[str, Any]:
    return {
        "calls": len(found),
        "input_tokens": sum(call.input for call in found),
        "cached_tokens": sum(call.cached for call in found),
        "cache_write_tokens": sum(call.written for call in found),
        "cache_write_1h_tokens": sum(call.hour for call in found if TELLS_HOURS[name](call)),
        "output_tokens": sum(call.output for call in found),
        "reasoning_tokens": sum(call.reasoning for call in found),
        "usd": Decimal(0) if name in NO_COST else sum(call.usd for call in found),
        "failed": sum(call.failed for call in found),
        "ids": sorted(f"id-{call.number}" for call in found),
        "times": sorted(call.at for call in found),
        "prompts": [] if name in NO_PROMPT else sorted(call.prompt for call in found),
    }


def read(folder: str, name: str, **section: Any) -> pl.DataFrame:
    return open_log(LogSection(path=name, **section), Path(folder)).calls.collect(engine="streaming")


@pytest.mark.parametrize("name", WRITERS)
@settings(deadline=None, max_examples=12)
@given(found=calls)
def test_totals_make_the_round_trip_as_json_lines(name: str, found: list[Call]) -> None:
    """In whatever order they stand."""
    lines = [json.dumps(WRITERS[name](call), ensure_ascii=bool(call.number % 2)) for call in found]
    with TemporaryDirectory() as folder:
        (Path(folder) / "log.jsonl").write_text("\n".join(lines), encoding="utf-8")
        assert totals(read(folder, "log.jsonl", format=name)) == expected(found, name)


def cell(value: Any) -> str:
    """As a dump writes it: empty for null, objects as JSON text."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


@pytest.mark.parametrize("name", ["litellm", "langfuse", "helicone"])
@settings(deadline=None, max_examples=8)
@given(found=calls)
def test_totals_make_the_round_trip_as_csv_and_parquet(name: str, found: list[Call]) -> None:
    rows = [WRITERS[name](call) for call in found]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with TemporaryDirectory() as folder:
        with (Path(folder) / "log.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows([cell(row.get(key)) for key in columns] for row in rows)
        pl.read_csv(Path(folder) / "log.csv", infer_schema=False).write_parquet(Path(folder) / "log.parquet")
        for path in ("log.csv", "log.parquet"):
            assert totals(read(folder, path, format=name)) == expected(found, name), path


@settings(deadline=None, max_examples=10)
@given(found=calls, data=st.data())
def test_totals_of_published_partitions(found: list[Call], data: st.DataObject) -> None:
    """Cut into parts anywhere."""
    found = [replace(call, written=0) for call in found]
    rows = [
        {
            "query_id": f"id-{call.number}",
            "status": "failed" if call.failed else "ok",
            "requested_model": call.model,
            "input_tokens": call.input,
            "cached_tokens": call.cached,
            "output_tokens": call.output,
            "reasoning_tokens": call.reasoning,
            "answered_at": call.at,
            "cost_usd": call.usd,
        }
        for call in found
    ]
    schema = {name: Costed.create_empty().schema[name] for name in PUBLISHED_COLUMNS}
    frame = pl.DataFrame(rows, schema=schema).with_columns(text=pl.Series([call.prompt for call in found]))
    cut = data.draw(st.integers(0, len(found)))
    with TemporaryDirectory() as folder:
        frame[:cut].write_parquet(Path(folder) / "part-00000.parquet")
        frame[cut:].write_parquet(Path(folder) / "part-00001.parquet")
        result = read(folder, ".", columns={"prompt": "text"})
    assert totals(result) == expected(found, "nightroute")
    assert result["row"].to_list() == list(range(len(found)))


@settings(deadline=None, max_examples=10)
@given(found=calls, inside=st.booleans())
def test_totals_of_a_mapped_table(found: list[Call], inside: bool) -> None:
    rows = [
        {
            "key": f"id-{call.number}",
            "ts": int(call.at.timestamp()) * (1 if call.number % 2 else 1_000),
            "in": call.input if inside else call.fresh,
            "hit": call.cached,
            "put": call.written,
            "long": call.hour,
            "out": call.output,
            "think": call.reasoning,
            "usd": f"{call.usd:f}",
            "ok": "error" if call.failed else "ok",
            "q": call.prompt,
        }
        for call in found
    ]
    names = ("call_id", "called_at", *TOKENS, "logged_usd", "outcome", "prompt")
    mapping = dict(zip(names, rows[0], strict=True))
    with TemporaryDirectory() as folder:
        pl.DataFrame(rows).write_parquet(Path(folder) / "log.parquet")
        result = read(folder, "log.parquet", columns=mapping, cache_in_input=inside)
    assert totals(result) == expected(found, "table")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "n", "x", "l", "y"]), inner, max_size=3)
    ),
    max_leaves=8,
)
SHAPE = pl.Struct({"a": pl.String, "n": pl.Struct({"x": pl.String}), "l": pl.List(pl.Struct({"y": pl.String}))})


@settings(deadline=None, max_examples=80)
@given(st.lists(json_values.map(json.dumps) | st.text(max_size=8), max_size=6))
def test_any_text_is_decoded_row_by_row_or_null(texts: list[str]) -> None:
    """What a row becomes does not depend on the rows beside it, and no text is a crash."""
    frame = pl.DataFrame({"t": texts}, schema={"t": pl.String})
    together = frame.select(decode(pl.col("t"), SHAPE))["t"]
    # A row that does not fit sends all of its neighbours the slow way.
    slow = pl.DataFrame({"t": [*texts, "{"]}).select(decode(pl.col("t"), SHAPE, odd=r"^"))["t"]
    assert together.len() == len(texts)
    assert keyed(together) == keyed(slow[:-1])


def keyed(values: pl.Series) -> list[Any]:
    """Numbers as numbers: the two ways write 1e-07 and 0.0000001."""

    def number(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: number(item) for key, item in value.items()}
        if isinstance(value, list):
            return [number(item) for item in value]
        try:
            return value if value is None else float(value)
        except ValueError:
            return value

    return [number(value) for value in values.to_list()]


@pytest.mark.parametrize("name", WRITERS)
@settings(deadline=None, max_examples=10)
@given(
    junk=st.lists(
        json_values.map(json.dumps)
        | st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=10),
        max_size=5,
    )
)
def test_any_line_is_a_row_that_cannot_crash_the_job(name: str, junk: list[str]) -> None:
    good = Call(7, False, 1, 2, 3, 4, 5, 6, False, "q")
    lines = [json.dumps(WRITERS[name](good)), *junk]
    with TemporaryDirectory() as folder:
        (Path(folder) / "log.jsonl").write_text("\n".join(lines), encoding="utf-8")
        found = read(folder, "log.jsonl", format=name)
    assert found.filter(pl.col("called_at").is_not_null())["input_tokens"].to_list() == [6]
