import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config import Job, JobConfig
from jobs.source import ROW, Source, discover, read_part
from routing.errors import DataError, InputMissingError, NothingToDoError, UsageError


def job(folder: Path, *, date: str | None = None, path: str = "in", **settings: Any) -> Job:
    """A job that reads `in/` with `id` and `text`, and whatever else is said of [input]."""
    section = {"path": path, "columns": {"query_id": "id", "prompt": "text"}, **settings}
    model = {"base_url": "http://s/v1"}
    data = {
        "run_dir": "run",
        "input": section,
        "split": {"alpha": 0.5},
        "models": {"strong": {"name": "a", **model}, "weak": {"name": "b", **model}},
        "output": {"path": "out"},
    }
    return Job(JobConfig.model_validate(data), folder, date)


def put(folder: Path, table: pa.Table | dict[str, Any], name: str = "in/a.parquet", **options: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path, **options)
    return path


def rows(n: int) -> dict[str, Any]:
    return {"id": [f"q{i}" for i in range(n)], "text": [f"text {i}" for i in range(n)]}


def read_all(source: Source) -> pl.DataFrame:
    """QUERIES of all parts, one below the other."""
    return pl.concat(read_part(source, part).queries for part in source.parts)


# ---- finding and cutting --------------------------------------------------------------------------------------------


def test_parts_are_slices_of_files_in_order(tmp_path: Path) -> None:
    put(tmp_path, rows(5), "in/b.parquet")
    put(tmp_path, rows(2), "in/a.parquet")
    source = discover(job(tmp_path, part_rows=2))
    assert [(part.number, part.file, part.start, part.rows) for part in source.parts] == [
        (0, 0, 0, 2), (1, 1, 0, 2), (2, 1, 2, 2), (3, 1, 4, 1),
    ]  # fmt: skip
    assert [Path(file.path).name for file in source.files] == ["a.parquet", "b.parquet"]
    assert source.rows == 7


@pytest.mark.parametrize("row_group_size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("part_rows", [1, 2, 3, 4, 7, 100])
def test_parts_of_any_size_put_together_are_the_file(tmp_path: Path, row_group_size: int, part_rows: int) -> None:
    put(tmp_path, rows(7), row_group_size=row_group_size)
    source = discover(job(tmp_path, part_rows=part_rows))
    assert read_all(source)["prompt"].to_list() == rows(7)["text"]
    first = read_part(source, source.parts[-1]).queries["row"]
    assert first.to_list() == list(range(source.parts[-1].rows))


def test_hive_keys_of_folder_and_glob(tmp_path: Path) -> None:
    put(tmp_path, rows(1), "in/day=2026-11-20/tenant=a%2Fb/x.parquet")
    put(tmp_path, rows(1), "in/day=2026-11-20/tenant=__HIVE_DEFAULT_PARTITION__/x.parquet")
    wanted = [{"day": "2026-11-20", "tenant": None}, {"day": "2026-11-20", "tenant": "a/b"}]
    for path in ("in", "in/*/*/x.parquet", "in/**/*.parquet"):
        assert [file.partition for file in discover(job(tmp_path, path=path)).files] == wanted
    assert [file.partition for file in discover(job(tmp_path, path="in/day=2026-11-20")).files] == [
        {"tenant": None}, {"tenant": "a/b"},
    ]  # fmt: skip


def test_a_column_of_the_file_wins_over_a_hive_key(tmp_path: Path) -> None:
    put(tmp_path, {**rows(1), "day": ["from the file"]}, "in/day=2026-11-20/x.parquet")
    source = discover(job(tmp_path))
    assert read_part(source, source.parts[0]).carried["day"].to_list() == ["from the file"]
    assert source.columns() == ["query_id", "prompt", "day"]


@pytest.mark.parametrize("name", ["in/_tmp/a.parquet", "in/.a.parquet", "in/a.csv"])
def test_hidden_and_other_files_are_not_input(tmp_path: Path, name: str) -> None:
    put(tmp_path, rows(1), name)
    with pytest.raises(InputMissingError, match="matches no Parquet file"):
        discover(job(tmp_path))


def test_no_rows_and_no_folder_of_the_date_are_nothing_to_do(tmp_path: Path) -> None:
    put(tmp_path, rows(0), "in/day=2026-11-20/x.parquet")
    with pytest.raises(NothingToDoError, match="holds no rows"):
        discover(job(tmp_path, date_column="day", date="2026-11-20"))
    with pytest.raises(NothingToDoError, match="has day=2026-11-21"):
        discover(job(tmp_path, date_column="day", date="2026-11-21"))


def test_a_date_without_a_place_is_misuse(tmp_path: Path) -> None:
    put(tmp_path, rows(1))
    with pytest.raises(UsageError, match="neither"):
        discover(job(tmp_path, date="2026-11-20"))


def test_columns_that_are_named_twice_by_us_and_by_them(tmp_path: Path) -> None:
    put(tmp_path, {**rows(1), "prompt": ["x"], "answer": ["y"], "system": ["z"], ROW: [1]})
    with pytest.raises(DataError) as caught:
        discover(job(tmp_path))
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == ["prompt", "answer", ROW]
    source = discover(job(tmp_path, drop=["prompt", "answer", ROW]))
    assert source.columns() == ["query_id", "prompt", "system"]


# ---- reading --------------------------------------------------------------------------------------------------------


def test_a_part_is_queries_and_carried_columns(tmp_path: Path) -> None:
    put(tmp_path, {"id": [7, None], "text": ["a", None], "limit": [5, None], "note": ["x", "y"], "secret": ["s", "t"]})
    columns = {"query_id": "id", "prompt": "text", "max_output_tokens": "limit"}
    source = discover(job(tmp_path, columns=columns, drop=["secret"]))
    queries, carried = read_part(source, source.parts[0])
    wanted = {
        "row": [0, 1], "given_id": ["7", None], "prompt": ["a", None], "system": [None, None],
        "max_output_tokens": [5, None], "valid_utf8": [True, True], "has_id": [True, False],
        "messages_json": [None, None], "other_text": [None, None], "n_messages": [1, 1],
    }  # fmt: skip
    assert queries.to_dict(as_series=False) == wanted
    assert carried.to_dict(as_series=False) == {
        ROW: [0, 1], "query_id": [7, None], "prompt": ["a", None], "max_output_tokens": [5, None], "note": ["x", "y"],
    }  # fmt: skip


def test_messages_are_read_for_the_router_and_kept_for_the_call(tmp_path: Path) -> None:
    chat = [("system", "S"), ("user", "U1"), ("assistant", "A"), ("user", "U2")]
    turns = [{"role": role, "content": text} for role, text in chat]
    put(tmp_path, {"id": ["a", "b", "c"], "chat": [turns, [], None], "first": ["Rule", None, None]})
    source = discover(job(tmp_path, columns={"query_id": "id", "messages": "chat", "system": "first"}))
    queries = read_part(source, source.parts[0]).queries
    assert queries["prompt"].to_list() == ["U1\n\nU2", "", None]
    assert queries["other_text"].to_list() == ["Rule\n\nS\n\nA", None, None]
    assert queries["n_messages"].to_list() == [5, 0, 0]
    assert json.loads(queries["messages_json"][0])["messages"] == turns
    assert queries["messages_json"][2] is None


def test_text_that_is_no_utf8_is_marked_in_its_row_only(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"b\xffd", None], pa.binary())
    put(tmp_path, {"id": ["a", "b", "c"], "text": pa.Array.from_buffers(pa.string(), 3, raw.buffers())})
    source = discover(job(tmp_path))
    queries, carried = read_part(source, source.parts[0])
    assert queries["valid_utf8"].to_list() == [True, False, True]
    assert carried["prompt"].to_list() == ["good", "b\ufffdd", None]


def test_rows_of_the_date_keep_their_position(tmp_path: Path) -> None:
    put(tmp_path, {**rows(3), "day": ["2026-11-21", "2026-11-20", None]})
    source = discover(job(tmp_path, date_column="day", date="2026-11-20"))
    queries, carried = read_part(source, source.parts[0])
    assert queries.select("row", "given_id").rows() == [(1, "q1")]
    assert carried.select(ROW, "query_id").rows() == [(1, "q1")]


def test_a_part_read_twice_is_the_same(tmp_path: Path) -> None:
    put(tmp_path, rows(9), row_group_size=4)
    source = discover(job(tmp_path, part_rows=5))
    for part in reversed(source.parts):
        first, second = read_part(source, part), read_part(source, part)
        assert first.queries.equals(second.queries)
        assert first.carried.equals(second.carried)
