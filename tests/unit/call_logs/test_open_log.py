"""Finding files, telling formats, and saying what is wrong with them."""

import gzip
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from routing.call_logs.known import FORMATS
from routing.errors import ConfigError, DataError, InputMissingError, NothingToDoError, UsageError
from schemas.call_log import CallLog
from tests.unit.call_logs.support import DATA, SCHEMA, opened, read
from tests.unit.call_logs.test_nightroute import publish

FIXTURES = {
    "litellm": "litellm.csv",
    "langfuse": "langfuse.jsonl",
    "helicone": "helicone.jsonl",
    "otel": "otel.json",
    "openai_batch": "batch",
}
TABLE = {"called_at": "when", "model": "llm"}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    publish(tmp_path / "published", pl.Series("prompt", ["a", "b", "c", "d"]))
    return tmp_path / "published"


def test_every_format_has_a_fixture() -> None:
    assert {*FIXTURES, "nightroute"} == set(FORMATS)


@pytest.mark.parametrize("name", FIXTURES)
def test_formats_are_told_from_their_columns(name: str) -> None:
    log = opened(FIXTURES[name])
    assert log.format == name
    assert log.calls.collect_schema() == SCHEMA
    assert opened(FIXTURES[name], format=name).calls.collect().equals(log.calls.collect())


def test_rules_of_the_contract_reject_what_is_damaged() -> None:
    """Importers drop nothing: a torn line and a row without a time are rejected by CALL_LOG, and counted there."""
    good, bad = CallLog.filter(read("litellm.jsonl"))
    assert (good.height, bad.counts()) == (9, {"time_known": 2})


@pytest.mark.parametrize(("wrong", "seen"), list(itertools.permutations(FIXTURES, 2)))
def test_a_wrong_format_is_told_which_one_it_looks_like(wrong: str, seen: str) -> None:
    with pytest.raises(DataError) as caught:
        opened(FIXTURES[seen], format=wrong)
    message = str(caught.value)
    assert f"is no {wrong} log: it has the columns [" in message
    assert f"where {wrong} has {FORMATS[wrong].described()}; " in message
    assert message.endswith(f"it looks like {seen}: set log.format = '{seen}'")


@pytest.mark.parametrize("wrong", FIXTURES)
def test_a_published_table_under_a_wrong_format(published: Path, wrong: str) -> None:
    with pytest.raises(DataError, match=r"it looks like nightroute: set log\.format = 'nightroute'$"):
        opened(published, format=wrong)
    with pytest.raises(DataError, match=f"is no nightroute log: .* it looks like {wrong}: "):
        opened(FIXTURES[wrong], format="nightroute")


@pytest.mark.parametrize("wrong", [*FORMATS, None])
def test_an_unknown_format_is_told_how_to_map_it(wrong: str | None) -> None:
    with pytest.raises(DataError) as caught:
        opened("table.csv", format=wrong)
    message = str(caught.value)
    assert "['when', 'who', 'llm', 'in', 'cached', 'written', 'out', 'usd', 'worked', 'text']" in message
    advice = "set log.format = 'table' and map its columns, e.g. [log.columns] called_at = 'timestamp'"
    assert (advice in message) == (wrong is None)
    assert ("leave it out of log.path, or name the format" in message) == (wrong is not None)


def test_a_named_format_with_renamed_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("request_id,began,spend,prompt_tokens\na,2026-01-01,0.5,7\n")
    found = read(
        "t.csv", base=tmp_path, format="litellm", columns={"called_at": "began", "output_tokens": "prompt_tokens"}
    )
    row = found.row(0, named=True)
    assert (row["call_id"], str(row["called_at"]), row["input_tokens"], row["output_tokens"]) == (
        "a",
        "2026-01-01 00:00:00+00:00",
        7,
        7,
    )


# ---- keys of the config
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ({"columns": TABLE | {"modell": "llm"}}, r"log\.columns maps 'modell', .*; did you mean 'model'\?"),
        (
            {"columns": TABLE | {"row": "in"}},
            r"log\.columns maps 'row', which is no column of a call log; there are call_id, ",
        ),
        (
            {"columns": TABLE | {"model": "lln"}},
            r"log\.columns\.model names 'lln', which the log lacks; did you mean 'llm'\?",
        ),
        (
            {"columns": TABLE, "tenant": ["whom"]},
            r"log\.tenant names 'whom', which the log lacks; did you mean 'who'\?",
        ),
        (
            {"columns": TABLE, "tenant": ["zzz"]},
            r"log\.tenant names 'zzz', which the log lacks; there are cached, in, ",
        ),
        (
            {"columns": TABLE, "time_zone": "Mars/Base"},
            r"log\.time_zone 'Mars/Base' is no time zone; give an IANA name",
        ),
        (
            {"format": "table", "columns": {"model": "llm"}},
            r"log\.format = 'table' needs \[log\.columns\] with at least called_at",
        ),
        (
            {"format": "otel", "cache_in_input": True},
            r"log\.cache_in_input is for the format table, not otel: leave it out",
        ),
    ],
)
def test_wrong_keys(section: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        opened("table.csv", **section)


def test_cache_in_input_is_refused_for_a_format_that_is_told() -> None:
    with pytest.raises(
        ConfigError, match=r"log\.cache_in_input is for the format table, but the log looks like litellm"
    ):
        opened("litellm.csv", cache_in_input=True)


def test_tenants_and_keys_of_json_columns() -> None:
    found = read("langfuse.csv", tenant=["metadata.region", "user_id"])
    assert found["tenant"].to_list()[:3] == ["eu / u-1", "eu / u-1", "eu / -"]
    assert read("langfuse.jsonl", tenant=["metadata.region"])["tenant"].to_list() == ["eu"] * 8 + [None]


def test_keys_of_json_are_the_same_in_every_kind_of_file(tmp_path: Path) -> None:
    metadata = {
        "user_api_key_alias": "bot",
        "spend_logs_metadata": {"team": "red"},
        "usage_object": {"prompt_tokens_details": {"cached_tokens": 3}},
    }
    row = {"request_id": "a", "startTime": "2026-08-20", "spend": 1, "prompt_tokens": 5, "metadata": metadata}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (tmp_path / "b.jsonl").write_text(json.dumps(row | {"metadata": json.dumps(metadata)}))
    pl.DataFrame([row | {"metadata": json.dumps(metadata)}]).write_csv(tmp_path / "c.csv")
    pl.DataFrame([row]).write_parquet(tmp_path / "d.parquet")
    for name in ("a.jsonl", "b.jsonl", "c.csv", "d.parquet"):
        found = read(tmp_path / name, tenant=["metadata.user_api_key_alias", "metadata.spend_logs_metadata.team"])
        assert found.select("tenant", "cached_tokens").row(0) == ("bot / red", 3), name


def test_the_provider_of_the_config_is_for_rows_without_one() -> None:
    assert read("langfuse.jsonl", provider="azure")["provider"].unique().to_list() == ["azure"]
    assert read("otel.json", provider="azure")["provider"].to_list()[:2] == ["openai", "anthropic"]


@pytest.mark.parametrize(("zone", "hour"), [("UTC", 10), ("Europe/Berlin", 8), ("America/New_York", 14)])
def test_times_without_a_zone_take_that_of_the_config(zone: str, hour: int) -> None:
    found = read("litellm.csv", time_zone=zone)["called_at"].dt.hour().to_list()
    assert found[0] == hour
    assert found[7] == 10  # this one was written with its offset


# ---- files
# ------------------------------------------------------------------------------------------------------------


def lines(number: int) -> str:
    return "\n".join((DATA / "helicone.jsonl").read_text().splitlines()[:number]) + "\n"


def test_files_of_a_folder_are_read_in_order_of_their_paths(tmp_path: Path) -> None:
    for name, number in (
        ("b.jsonl", 1),
        ("a/z.jsonl", 2),
        ("c.ndjson", 3),
        ("_skipped.jsonl", 1),
        (".hidden.jsonl", 1),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(lines(number))
    (tmp_path / "notes.txt").write_text("not a log")
    log = opened(tmp_path)
    assert [file.name for file in log.files] == ["z.jsonl", "b.jsonl", "c.ndjson"]
    found = log.calls.collect()
    assert found["row"].to_list() == list(range(6))
    assert found["call_id"].to_list() == ["req-0", "req-1", "req-0", "req-0", "req-1", "req-2"]
    assert opened(str(tmp_path / "*.jsonl")).files == (tmp_path / "b.jsonl",)


def test_rows_are_numbered_over_files_of_several_kinds_and_shapes(tmp_path: Path) -> None:
    shutil.copy(DATA / "litellm.csv", tmp_path / "1.csv")
    shutil.copy(DATA / "litellm.jsonl", tmp_path / "2.jsonl")
    few = pl.read_csv(DATA / "litellm.csv", infer_schema=False).select("request_id", "startTime", "spend")
    few.write_parquet(tmp_path / "3.parquet")
    few.select("startTime", "spend", "request_id").write_csv(tmp_path / "4.csv")
    found = read(tmp_path)
    assert found["row"].to_list() == list(range(10 + 11 + 10 + 10))
    ids = found["call_id"].to_list()
    assert ids[:10] == ids[10:20] == ids[21:31] == ids[31:]
    assert found["model"].null_count() == 1 + 20


def test_the_date_is_filled_in(tmp_path: Path) -> None:
    (tmp_path / "day=2026-08-20").mkdir()
    (tmp_path / "day=2026-08-20" / "log.jsonl").write_text(lines(2))
    log = opened("day={date}/*.jsonl", base=tmp_path, date="2026-08-20")
    assert log.calls.collect().height == 2
    with pytest.raises(UsageError, match="no --date was given"):
        opened("day={date}/*.jsonl", base=tmp_path)
    with pytest.raises(
        InputMissingError, match=r"log\.path .*day=2026-08-21.* matches no file; it must name a file, a glob"
    ):
        opened("day={date}/*.jsonl", base=tmp_path, date="2026-08-21")


def test_packed_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(2).encode()))
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(lines(1).encode()))
    assert read(tmp_path)["call_id"].to_list() == ["req-0", "req-1", "req-0"]
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress((DATA / "helicone.csv").read_bytes()))
    assert read(tmp_path / "c.csv.gz")["call_id"].to_list() == ["resp-0", "resp-1", "resp-4"]


@pytest.mark.parametrize("name", ["log", "log.txt", "log.2026-08-20"])
def test_a_single_file_may_be_called_anything(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("\n\n" + lines(1))
    assert read(tmp_path / name)["call_id"].to_list() == ["req-0"]
    shutil.copy(DATA / "litellm.csv", tmp_path / name)
    assert read(tmp_path / name).height == 10
    pl.read_csv(DATA / "litellm.csv", infer_schema=False).write_parquet(tmp_path / name)
    assert read(tmp_path / name).height == 10


def test_empty_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "b.csv").write_text("")
    (tmp_path / "c.json").write_text(" \n")
    for name in ("a.jsonl", "b.csv", "c.json"):
        found = read(tmp_path / name, format="helicone")
        assert (found.height, found.schema) == (0, SCHEMA)
        with pytest.raises(NothingToDoError, match=r"is empty; nothing was written"):
            opened(tmp_path / name)
    with pytest.raises(NothingToDoError, match=r"is empty; nothing was written"):
        opened(tmp_path, columns=TABLE)
    (tmp_path / "junk.jsonl").write_text("{\n")
    with pytest.raises(DataError, match=r"holds no columns to tell its format from; set log\.format to one of"):
        opened(tmp_path / "junk.jsonl")
    (tmp_path / "junk.jsonl").unlink()
    (tmp_path / "d.jsonl").write_text(lines(2))
    assert read(tmp_path).height == 2
    pl.read_csv(DATA / "litellm.csv", infer_schema=False).head(0).write_parquet(tmp_path / "none.parquet")
    assert read(tmp_path / "none.parquet").height == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [("log.parquet", b"PAR1 and then nothing"), ("log.json", b'{"resourceSpans": ['), ("log.json", b"\xff\xfe")],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        DataError, match=rf"log file .*{name} cannot be read as .*; write it again, leave it out of log\.path"
    ):
        opened(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(lines(1))
    (tmp_path / "log.jsonl").chmod(0)
    with pytest.raises(InputMissingError, match="cannot be opened: Permission denied; mend its rights"):
        opened(tmp_path / "log.jsonl")


def test_broken_lines_are_rows_that_will_be_rejected(tmp_path: Path) -> None:
    good = json.loads(lines(1))
    odd = [
        "{",
        "[1, 2]",
        "null",
        '"text"',
        "17",
        "",
        "   ",
        '{"a": 1} {"a": 2}',
        "ünïcode",
        json.dumps(good | {"prompt_tokens": {"nested": 1}, "cost": [1], "request_body": 7}),
        json.dumps(good | {"prompt_tokens": "200", "completion_tokens": 1.0, "extra": {"deep": [{}]}}),
        json.dumps(good | {"request_created_at": None, "response_created_at": True}),
    ]
    (tmp_path / "log.jsonl").write_bytes("\n".join([lines(1).strip(), *odd]).encode() + b"\n\xff\xfe broken bytes\r\n")
    found = read(tmp_path / "log.jsonl")
    assert found.height == 1 + len(odd) - 2 + 1  # blank lines are none
    timed = found.filter(pl.col("called_at").is_not_null())
    assert timed["row"].to_list() == [0, 8, 9]
    assert timed["output_tokens"].to_list() == [300, 300, 121]
    assert timed["logged_usd"].is_null().to_list() == [False, True, False]


@pytest.mark.parametrize("name", FIXTURES)
def test_no_step_gathers_the_whole_log(name: str) -> None:
    """polars' streaming engine runs some expressions (`replace`) on all rows at once: a log larger than memory."""
    plan = opened(FIXTURES[name]).calls.show_graph(plan_stage="physical", engine="streaming", raw_output=True)
    assert "columnar-function" not in str(plan)
