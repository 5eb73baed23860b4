"""Which files are a log, and what is said of those that cannot be read."""

import gzip
import json
from pathlib import Path

import pytest

from jobs.audit_calls import store_calls
from jobs.audit_config import LogSection
from jobs.audit_log import open_log
from jobs.audit_results import FOCUS_FILES, NAMES
from routing.errors import DataError
from tests.unit.call_logs.support import opened, read

HEADER = "request_id,startTime,spend,model,prompt_tokens,completion_tokens\n"
ROW = "a,2026-11-20,0.5,gpt-4o,10,5\n"


@pytest.mark.parametrize("name", ["_spend.csv", ".spend.csv"])
def test_a_file_that_is_named_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(HEADER + ROW)
    assert read(tmp_path / name).height == 1


def test_a_name_with_brackets_is_no_pattern_where_it_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "logs [aug]"
    folder.mkdir()
    (folder / "a[1].csv").write_text(HEADER + ROW)
    assert read(folder).height == read(folder / "a[1].csv").height == 1


def test_results_within_the_folder_of_the_log_are_not_of_it(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(HEADER + ROW)
    for name in ("daily.csv", "focus/focus.csv"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("day,calls\n2026-11-20,1\n")
    for path in (".", "**/*.csv"):
        log = open_log(LogSection(path=path), tmp_path, output=tmp_path / "x" / ".." / "out")
        assert log.files == (tmp_path / "log.csv",), path
    # A log in the folder of results, or beside them, is one.
    for output in (tmp_path, tmp_path / "out"):
        (tmp_path / "out" / "log.csv").write_text(HEADER + ROW)
        assert open_log(LogSection(path="out/l*.csv"), tmp_path, output=output).calls.collect().height == 1


@pytest.mark.parametrize("path", [".", "**/*.csv", "csv", "csv/*.csv"])
def test_results_beside_the_log_are_not_of_it(tmp_path: Path, path: str) -> None:
    mine = [tmp_path / "csv" / name for name in ("2026-11.csv", "my-daily.csv")]
    theirs = [f"csv/{name}.csv" for name in NAMES] + [f"tables/{name}.parquet" for name in NAMES]
    theirs += [f"focus/{name}" for name in FOCUS_FILES] + ["report.json", "rejected.parquet"]
    theirs += ["cache/x/scores.parquet", "staging/calls/0.csv"]
    for name in theirs:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("day,calls\n2026-11-20,1\n")
    for file in mine:
        file.write_text(HEADER + ROW)
    assert list(open_log(LogSection(path=path), tmp_path, output=tmp_path).files) == mine


@pytest.mark.parametrize("folder", ["cache", "staging"])
def test_a_log_within_a_folder_of_the_audits_name(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "a.csv").write_text(HEADER + ROW)
    for path in (folder, f"{folder}/*.csv", f"{folder}/a.csv"):
        assert open_log(LogSection(path=path), tmp_path, output=tmp_path).calls.collect().height == 1


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_utf_16_is_named(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_bytes(f"\ufeff{HEADER}{ROW}".encode(encoding))
    with pytest.raises(DataError, match=rf"{name} cannot be read as .*: it is UTF-16 text"):
        opened(tmp_path / name)


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_separators_are_named(tmp_path: Path, mark: str) -> None:
    (tmp_path / "log.csv").write_text((HEADER + ROW).replace(",", mark))
    with pytest.raises(DataError) as caught:
        opened(tmp_path / "log.csv")
    assert f"its columns are separated by {mark!r}, where commas are needed" in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
def test_a_row_with_too_many_fields_is_found(tmp_path: Path, packed: bool) -> None:
    text = HEADER + ROW + '"two\nlines",2026-11-20,0.5,gpt-4o,10,5\n' + ROW.replace("gpt-4o", "gpt,4o") + ROW
    (tmp_path / "a.csv").write_text(HEADER + ROW)
    name = "b.csv.gz" if packed else "b.csv"
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    with pytest.raises(DataError, match=rf"log file .*{name}, line 5, has more fields than its header has columns"):
        store_calls(opened(tmp_path), tmp_path / "work", part_rows=10)


@pytest.mark.parametrize("row", ["b,2026-11-20,0.5,gpt,4o,10,5,x", "b,2026-11-20,0.5,gpt,4o,10,5,x,"])
def test_a_row_with_too_many_fields_is_found_where_a_column_is_nobodys(tmp_path: Path, row: str) -> None:
    end = "," if row.endswith(",") else ""
    text = f"{HEADER.strip()},nobodys\n{ROW.strip()},x{end}\n{row}\n"
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=r"log file .*a\.csv, line 3, has more fields than its header has columns"):
        store_calls(opened(tmp_path), tmp_path / "work", part_rows=10)


@pytest.mark.parametrize("commas", [",", ",,", ',"",'])
@pytest.mark.parametrize("packed", [False, True])
def test_rows_may_end_in_commas(tmp_path: Path, packed: bool, commas: str) -> None:
    plain, ended = HEADER + ROW, HEADER + ROW.replace("\n", commas + "\n") + "b,2026-11-20,0.5,gpt-4o,20\n"
    name = "b.csv.gz" if packed else "b.csv"
    (tmp_path / "a.csv").write_text(plain)
    (tmp_path / name).write_bytes(gzip.compress(ended.encode()) if packed else ended.encode())
    (tmp_path / "c.csv").write_text(plain)
    assert read(tmp_path)["output_tokens"].to_list() == [5, 5, None, 5]
    assert opened(tmp_path).files == tuple(tmp_path / file for file in ("a.csv", name, "c.csv"))
    stored = store_calls(opened(tmp_path), tmp_path / "work", part_rows=10)
    assert (stored.read, [file.rows for file in stored.files]) == (4, [1, 2, 1])


def test_a_row_with_too_few_fields_ends_in_nulls(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + ROW + "b,2026-11-20\n")
    assert read(tmp_path)["input_tokens"].to_list() == [10, None]


def test_a_packed_document_is_one(tmp_path: Path) -> None:
    rows = [dict(zip(HEADER.strip().split(","), ROW.strip().split(","), strict=True))] * 2
    texts = {
        "list": json.dumps(rows),
        "indented": json.dumps(rows, indent=2),
        "page": json.dumps({"data": rows}),
        "lines": "\n".join(json.dumps(row) for row in rows),
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.json.gz").write_bytes(gzip.compress(text.encode()))
        assert read(tmp_path / f"{name}.json.gz").height == 2, name
