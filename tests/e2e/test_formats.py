"""Every way a table may be written: file, glob, folder, hive; types of prompts, ids, messages, dates, other columns."""

import datetime as dt
import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from polars.testing import assert_frame_equal

from tests.e2e.desk import Desk, assert_told, questions
from tests.e2e.harness import Server
from tests.e2e.recorder import recording

DAY = "2026-11-20"

# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["data/a.parquet", "data/*.parquet", "./data/../data/", "data/[ab].*"])
def test_a_file_a_glob_and_a_folder(night: Desk, path: str) -> None:
    night.put(questions(3), "a.parquet")
    night.write_config(input__path=path)
    assert night.run().exit_code == 0
    assert night.published()["query_id"].to_list() == ["q0", "q1", "q2"]


def test_a_folder_of_files_is_read_in_the_order_of_their_names(night: Desk) -> None:
    table = questions(10)
    night.put(table[4:7], "2.parquet")
    night.put(table[:4], "1.pq")
    night.put(table[:0], "1b.parquet", row_group_size=1)
    night.put(table[7:], "deep/er/3.parquet", row_group_size=1)
    night.put(table, "_temporary/0/part.parquet")
    night.put(table, ".hidden.parquet")
    (night.data / "_SUCCESS").touch()
    (night.data / "notes.txt").write_text("not data", encoding="utf-8")
    night.write_config(input__part_rows=2)
    assert night.run().exit_code == 0
    assert night.published()["query_id"].to_list() == table["id"].to_list()
    assert len(night.manifest()["files"]) == 6


@pytest.mark.parametrize(("part_rows", "row_group_size"), [(1, 3), (3, 1), (4, 3), (7, 1000)])
def test_parts_and_row_groups_of_any_size_publish_the_same_rows(
    desk: Desk, row_group_size: int, part_rows: int
) -> None:
    table = questions(8, n=range(8))
    desk.put(table, row_group_size=row_group_size)
    desk.write_config(input__part_rows=part_rows)
    assert desk.run(command="plan").exit_code == 0
    scored = pl.read_parquet(sorted((desk.run_dir / "scores").glob("part-*.parquet")))
    assert scored["query_id"].to_list() == table["id"].to_list()
    assert len(list((desk.run_dir / "scores").glob("part-*.parquet"))) == -(-8 // part_rows)


def test_a_table_of_one_row(night: Desk) -> None:
    night.put(questions(1))
    ended = night.run()
    assert ended.exit_code == 0
    assert [ended.summary["rows"][name] for name in ("read", "published", "ok")] == [1, 1, 1]


# ---- hive folders and dates -----------------------------------------------------------------------------------------


def test_hive_keys_of_the_input_travel_along(night: Desk) -> None:
    table = questions(6)
    night.put(table[:2], "day=2026-11-20/tenant=acme/x.parquet")
    night.put(table[2:4], "day=2026-11-20/tenant=b%2Fc d/x.parquet")
    night.put(table[4:], "day=2026-11-21/tenant=__HIVE_DEFAULT_PARTITION__/x.parquet")
    assert night.run().exit_code == 0
    assert night.published().select("query_id", "day", "tenant").rows() == [
        ("q0", "2026-11-20", "acme"), ("q1", "2026-11-20", "acme"), ("q2", "2026-11-20", "b/c d"),
        ("q3", "2026-11-20", "b/c d"), ("q4", "2026-11-21", None), ("q5", "2026-11-21", None),
    ]  # fmt: skip


def test_date_selects_hive_folders_and_every_night_adds_one_to_the_output(night: Desk) -> None:
    table = questions(6, tenant=["a", "b"] * 3)
    night.put(table[:4], "day=2026-11-20/x.parquet")
    night.put(table[4:], "day=2026-11-21/x.parquet")
    night.write_config(run_dir="runs/{date}", input__date_column="day")
    for day, ids in (("2026-11-20", ["q0", "q1", "q2", "q3"]), ("2026-11-21", ["q4", "q5"])):
        assert night.run("--date", day).exit_code == 0
        assert pl.read_parquet(night.output / f"day={day}" / "*.parquet")["query_id"].to_list() == ids
        assert_told(night.run("--date", day), 99, "is finished and published at")
    assert_told(night.run("--date", "2026-11-22"), 99, f"no partition of {night.data} has day=2026-11-22")
    wanted = [(f"q{i}", dt.date(2026, 11, 20 if i < 4 else 21)) for i in range(6)]
    by_polars = pl.read_parquet(night.output / "**/*.parquet", hive_partitioning=True)
    assert by_polars.select("query_id", "day").rows() == wanted
    by_arrow = ds.dataset(night.output, format="parquet", partitioning="hive", exclude_invalid_files=True).to_table()
    assert [
        (row["query_id"], dt.date.fromisoformat(row["day"])) for row in by_arrow.select(["query_id", "day"]).to_pylist()
    ] == wanted


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([dt.date(2026, 11, 20), dt.date(2026, 11, 21), dt.date(2026, 11, 20), None]),
        pl.Series(["2026-11-20", "2026-11-21", "2026-11-20", None]),
        pl.Series(["2026-11-20", "2026-11-21", "2026-11-20", None], dtype=pl.Categorical),
    ],
    ids=["date", "string", "categorical"],
)
def test_date_selects_rows_of_a_column(night: Desk, values: pl.Series) -> None:
    night.put(questions(4, day=values))
    night.write_config(run_dir="runs/{date}", input__date_column="day")
    ended = night.run("--date", DAY)
    assert ended.exit_code == 0, ended.stderr
    table = pl.read_parquet(night.output / "**/*.parquet", hive_partitioning=True)
    assert table.select("query_id", "day").rows() == [("q0", dt.date(2026, 11, 20)), ("q2", dt.date(2026, 11, 20))]
    assert_told(night.run("--date", "2026-11-25"), 99, "none matched the date")


@pytest.mark.parametrize(
    "kind", [pl.Datetime("us"), pl.Datetime("ns", "Europe/Berlin"), pl.String], ids=["naive", "zoned", "text"]
)
def test_a_date_column_with_times_keeps_them(night: Desk, kind: Any) -> None:
    times = pl.Series(["2026-11-20 23:59:59", "2026-11-21 00:00:00", "2026-11-20 00:00:00"]).str.to_datetime()
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        times = times.dt.replace_time_zone(kind.time_zone)
    table = questions(3, at=times.cast(kind))
    night.put(table)
    night.write_config(input__date_column="at")
    assert_told(night.run("--date", DAY), 78, "at holds more than a date", "put {date} into output.path")
    night.write_config(input__date_column="at", output__path="answers/day={date}", run_dir="run-2")
    assert night.run("--date", DAY).exit_code == 0
    published = pl.read_parquet(night.output / "day=2026-11-20" / "*.parquet", hive_partitioning=False)
    assert_frame_equal(published.select("at"), table[[0, 2]].select("at"))


def test_date_in_the_input_path(night: Desk) -> None:
    night.put(questions(2), "2026-11-20.parquet")
    night.put(questions(5), "2026-11-21.parquet")
    night.write_config(input__path="data/{date}.parquet", output__path="answers/{date}", run_dir="runs/{date}")
    assert night.run("--date", DAY).summary["rows"]["published"] == 2
    assert_told(night.run(), 2, "holds {date}, but no --date was given; add --date YYYY-MM-DD")
    assert_told(night.run("--date", "2026-11-23"), 66, "2026-11-23.parquet matches no Parquet file")


# ---- column types ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)
def test_every_kind_of_string_column_is_a_prompt(night: Desk, kind: pa.DataType) -> None:
    text = pa.array(["Why is the sky blue?", "Pourquoi ? 漢字 🙂", "a\x00b"])
    night.put(pa.table({"id": [1, 2, 3], "text": text.cast(kind)}))
    assert night.run().exit_code == 0
    assert night.published()["prompt"].cast(pl.String).to_list() == text.to_pylist()


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint64(), pa.int64(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
def test_ids_of_any_kind_come_back_as_text(night: Desk, kind: pa.DataType) -> None:
    night.put(pa.table({"id": pa.array(["7", "-1" if kind == pa.int8() else "0"]).cast(kind), "text": ["one", "two"]}))
    assert night.run().exit_code == 0
    assert night.published()["query_id"].to_list() == ["7", "-1" if kind == pa.int8() else "0"]


def test_derived_ids_are_unique_and_the_same_in_every_order(night: Desk) -> None:
    table = pl.DataFrame({"text": ["same", "other", "same", "same"]})
    night.put(table)
    night.write_config(input__columns={"prompt": "text"}, input__part_rows=2)
    assert night.run().exit_code == 0
    first = night.published()["query_id"].to_list()
    assert len(set(first)) == 4
    assert [query_id[-2:] for query_id in first] == ["-0", "-0", "-1", "-2"]
    night.put(table[::-1])
    night.write_config(input__columns={"prompt": "text"}, run_dir="again", output__path="again-out")
    assert night.run().exit_code == 0
    again = pl.read_parquet(night.folder / "again-out" / "*.parquet")
    assert sorted(again["query_id"]) == sorted(first)


def test_whole_conversations_are_sent_in_order(desk: Desk) -> None:
    chats = [
        [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", 'Say "né" \\ \n again 🙂')],
        [("user", "Alone")],
        [],
        [("system", "Nobody asks")],
    ]
    turns = [[{"role": role, "content": text, "name": None} for role, text in chat] for chat in chats]
    table = pl.DataFrame(
        {
            "id": range(5),
            "chat": [*turns, None],
            "first": ["House rules.", None, None, None, None],
            "limit": [7, None, 1, 1, 1],
        }
    )
    desk.put(table)
    columns = {"query_id": "id", "messages": "chat", "system": "first", "max_output_tokens": "limit"}
    params = {"temperature": 0.25, "stop": ["END"]}
    with recording() as (url, bodies):
        desk.write_config(
            input__columns=columns,
            models__strong__base_url=url,
            models__weak__base_url=url,
            models__strong__params=params,
            models__weak__params=params,
        )
        assert desk.run().exit_code == 1
    sent = {len(body["messages"]): body for body in bodies}
    long, short = sent[5], sent[1]
    assert long["messages"] == [
        {"role": "system", "content": "House rules."},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": 'Say "né" \\ \n again 🙂'},
    ]
    assert (long["max_completion_tokens"], long["temperature"], long["stop"]) == (7, 0.25, ["END"])
    assert short["messages"] == [{"role": "user", "content": "Alone"}]
    assert "max_completion_tokens" not in short
    assert desk.rejected().select("query_id", "broken_rules").rows() == [
        (2, "prompt_not_blank"), (3, "prompt_not_blank"), (4, "prompt_not_null"),
    ]  # fmt: skip
    assert_frame_equal(desk.published().select(chat="messages"), table[:2].select("chat"), check_dtypes=True)


def test_a_prompt_reaches_the_model_unchanged(night: Desk, sandbox: Server) -> None:
    text = '  {"role": "system"}\r\n\ttabs, "quotes", \\n and \u2028 and \U0001f642  '
    night.put(pl.DataFrame({"id": ["a"], "text": [text]}))
    since = sandbox.mark()
    assert night.run().exit_code == 0
    with sandbox.journal.open("rb") as file:
        file.seek(since)
        digest = json.loads(file.readline())["prompt_sha256"]
    assert digest == hashlib.sha256(text.encode()).hexdigest()


def test_further_columns_come_back_as_they_went_in(night: Desk) -> None:
    utc = pl.Series(["2026-03-29 01:00:00Z", None, "2026-10-25 01:00:00Z"]).str.to_datetime(time_zone="UTC")
    odd = {
        "tags": pl.Series([["a", None], [], None], dtype=pl.List(pl.String)),
        "nested": pl.Series([{"a": [{"b": 1}], "c": None}, None, {"a": [], "c": "x"}]),
        "exact": pl.Series([Decimal("1234567890123.000000000000000001"), None, Decimal(0)], dtype=pl.Decimal(35, 18)),
        "at": utc.dt.convert_time_zone("Europe/Berlin"),
        "took": pl.Series([dt.timedelta(microseconds=1), None, dt.timedelta(days=9)]),
        "clock": pl.Series([dt.time(23, 59, 59, 999999), None, dt.time(0)]),
        "kind": pl.Series(["x", None, "y"], dtype=pl.Categorical),
        "raw": pl.Series([b"\xff\x00", None, b""]),
        "nothing": pl.Series([None, None, None], dtype=pl.Null),
        "small": pl.Series([1, None, 255], dtype=pl.UInt8),
        "half": pl.Series([1.5, None, float("nan")], dtype=pl.Float32),
        "vector": pl.Series([[1.0, 2.0], None, [3.0, 4.0]], dtype=pl.Array(pl.Float32, 2)),
        "flag": [True, None, False],
        "row": ["x", "y", "z"],
        "part": [7, 8, 9],
        "broken_rules": ["none", None, "some"],
        "prompt_tokens": [1, 2, 3],
        "Ünïcode name.with dots": ["a", "b", "c"],
    }  # fmt: skip
    table = questions(3, **odd)
    path = night.put(table)
    written = pl.read_parquet(path)
    assert night.run().exit_code == 0
    names = list(odd)
    assert_frame_equal(night.published().select(names), written.select(names))
    # The same, where rows are set aside.
    night.put(table.with_columns(text=pl.lit("")))
    night.write_config(run_dir="again")
    assert night.run(command="plan").exit_code == 99
    rejected = pl.read_parquet(night.folder / "again" / "rejected.parquet")
    ours = {name: f"{name}_input" for name in ("part", "row", "broken_rules")}
    assert_frame_equal(
        rejected.select(pl.col(ours.get(name, name)).alias(name) for name in names), written.select(names)
    )


def test_a_carried_column_may_have_the_name_of_a_column_that_is_not_mapped(night: Desk) -> None:
    night.put(questions(2, max_output_tokens=[1, 1]))
    assert_told(night.run(), 65, "max_output_tokens: nightroute writes a column of this name")
    night.write_config(input__drop=["max_output_tokens"])
    assert night.run().exit_code == 0
    assert night.published()["max_output_tokens"].to_list() == [None, None]


# ---- the published folder -------------------------------------------------------------------------------------------


def test_partitioned_output_stays_inside_its_folder_and_reads_back_equal(night: Desk) -> None:
    tenants = ["../x", "a/b", "..", None, "Zoë 漢字", "a=b&c%20", "", "acme", "acme"]
    table = questions(9, tenant=tenants, level=[1, 2, 3, 4, 5, 6, 7, 8, 8])
    night.put(table)
    night.write_config(output__partition_by=["tenant", "level"], input__part_rows=4)
    before = set(night.folder.rglob("*"))
    assert night.run().exit_code == 0
    new = {path for path in night.folder.rglob("*") if night.run_dir not in path.parents} - before
    assert all(path in (night.run_dir, night.output) or night.output in path.parents for path in new)
    wanted = table.select(pl.col("id").alias("query_id"), pl.col("tenant"), "level").sort("query_id")
    by_polars = pl.read_parquet(night.output / "**/*.parquet", hive_partitioning=True, try_parse_hive_dates=False)
    assert_frame_equal(by_polars.select("query_id", "tenant", "level").sort("query_id"), wanted, check_dtypes=False)
    by_arrow = ds.dataset(night.output, format="parquet", partitioning="hive", exclude_invalid_files=True).to_table()
    arrow_frame = pl.from_arrow(by_arrow.select(["query_id", "tenant", "level"]))
    assert isinstance(arrow_frame, pl.DataFrame)
    assert_frame_equal(arrow_frame.sort("query_id"), wanted, check_dtypes=False)


def test_the_published_folder_is_read_by_every_reader(night: Desk) -> None:
    night.put(questions(5))
    night.write_config(input__part_rows=2)
    assert night.run().exit_code == 0
    ids = [f"q{i}" for i in range(5)]
    assert pl.read_parquet(night.output / "*.parquet")["query_id"].to_list() == ids
    assert pl.scan_parquet(f"{night.output}/**/*.parquet").select("query_id").collect()["query_id"].to_list() == ids
    assert ds.dataset(night.output, format="parquet").to_table()["query_id"].to_pylist() == ids
    assert sorted(path.name for path in night.output.iterdir()) == [
        "_manifest.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet",
    ]  # fmt: skip


def test_duckdb_reads_the_published_folder(night: Desk) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    night.put(questions(3))
    assert night.run().exit_code == 0
    rows = duckdb.sql(f"SELECT query_id FROM read_parquet('{night.output}/*.parquet') ORDER BY 1").fetchall()
    assert rows == [("q0",), ("q1",), ("q2",)]


def test_a_folder_below_the_input_is_refused_as_output(desk: Desk) -> None:
    path = desk.put(questions(2))
    for change in ({"output__path": "data/answers"}, {"run_dir": "data/run"}):
        desk.write_config(**change)
        assert_told(desk.run(), 78, "lies inside the input folder", str(path.parent), "choose a folder outside")


def test_paths_start_at_the_config_and_may_hold_spaces(
    night: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    night.put(questions(2), "week 47/my table.parquet")
    night.write_config(input__path="data/week 47", run_dir="a run", output__path="the answers/of 'today'")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert night.run().exit_code == 0
    assert pl.read_parquet(night.folder / "the answers/of 'today'/*.parquet").height == 2
    assert not list(elsewhere.iterdir())
