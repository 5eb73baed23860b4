"""Which format a log is of, where it could be several, and what its config may name."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from routing.errors import ConfigError, DataError
from tests.unit.call_logs.support import DATA, opened, read

MAPPING = {"called_at": "ts", "model": "model", "input_tokens": "tin", "output_tokens": "tout"}
OWN = {"ts": "2026-11-20T10:00:00Z", "model": "gpt-4.1", "custom_id": "c", "response": "hi", "tin": 1_000, "tout": 5}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    elif path.suffix == ".csv":
        pl.DataFrame(rows).write_csv(path)
    else:
        pl.DataFrame(rows).write_parquet(path)


def spend(number: int, **more: Any) -> dict[str, Any]:
    row = {"request_id": f"r{number}", "startTime": "2026-11-20T10:00:00Z", "spend": 0.0, "prompt_tokens": 10}
    return row | {"completion_tokens": 1, "model": "gpt-4o"} | more


def observation(number: int) -> dict[str, Any]:
    usage = {"input": 10, "output": 1}
    return {"id": f"o{number}", "type": "GENERATION", "startTime": "2026-11-20T10:00:00Z", "usageDetails": usage}


@pytest.mark.parametrize("name", ["log.csv", "log.parquet", "log.jsonl"])
def test_a_mapped_table_with_a_custom_id_is_no_batch(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [OWN])
    log = opened(name, base=tmp_path, columns=MAPPING)
    row = log.calls.collect().row(0, named=True)
    assert log.format == "table"
    assert (row["processing"], row["outcome"], row["input_tokens"]) == (None, "ok", 1_000)
    with pytest.raises(DataError, match=r"is of no known format .* it has the columns \['ts', 'model', 'custom_id'"):
        opened(name, base=tmp_path)


def test_whoever_maps_the_time_has_a_table(tmp_path: Path) -> None:
    write(tmp_path / "log.jsonl", [spend(0, ts="2026-11-21T10:00:00Z", tin=7, tout=8)])
    assert opened("log.jsonl", base=tmp_path, columns=MAPPING).format == "table"
    assert opened("log.jsonl", base=tmp_path, columns=MAPPING, format="litellm").format == "litellm"


@pytest.mark.parametrize("name", ["batch.parquet", "batch.csv"])
def test_batches_are_json_lines(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [{"custom_id": "a", "response": "{}"}])
    with pytest.raises(DataError, match=rf"{name} is no openai_batch log: these are JSON lines") as caught:
        opened(name, base=tmp_path, format="openai_batch")
    assert "table" not in str(caught.value)


# ---- several formats at once
# ------------------------------------------------------------------------------------------------------------


def test_files_of_two_formats_are_no_log(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [spend(0)])
    write(tmp_path / "b.jsonl", [observation(0)])
    with pytest.raises(
        DataError, match=r"several formats: file .*a\.jsonl looks like litellm, .*b\.jsonl like langfuse"
    ):
        opened(tmp_path)
    with pytest.raises(DataError, match=r"b\.jsonl is no litellm log: .* it looks like langfuse"):
        opened(tmp_path, format="litellm")


def test_columns_of_several_files_make_no_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("request_id,team\n1,a\n")
    (tmp_path / "b.csv").write_text("startTime,spend\n2026-08-01,3\n")
    with pytest.raises(DataError, match=r"a\.csv is of no known format"):
        opened(tmp_path)
    with pytest.raises(DataError, match=r"a\.csv is no litellm log"):
        opened(tmp_path, format="litellm")


def test_every_file_of_a_table_has_its_time(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [OWN])
    (tmp_path / "b.csv").write_text("name,team\ngpt,x\n")
    (tmp_path / "c.csv").write_text("")
    with pytest.raises(ConfigError, match=r"log\.columns\.called_at names 'ts', which log file .*b\.csv lacks"):
        opened(tmp_path, columns=MAPPING)
    (tmp_path / "b.csv").unlink()
    assert read(tmp_path, columns=MAPPING).height == 1


def test_input_files_among_the_outputs_of_a_batch_are_named(tmp_path: Path) -> None:
    for file in (DATA / "batch" / "output.jsonl", DATA / "batch_input.jsonl"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(DataError, match=r"batch_input\.jsonl is of no known format"):
        opened(tmp_path)


def test_what_to_do_about_a_file_of_no_format(tmp_path: Path) -> None:
    """Once, and nothing that goes against a format that the config names."""
    write(tmp_path / "a.csv", [spend(0)])
    (tmp_path / "b.csv").write_text("name,team\ngpt,x\n")
    with pytest.raises(DataError) as caught:
        opened(tmp_path)
    assert "b.csv is of no known format" in str(caught.value)
    assert "looks like" not in str(caught.value)
    assert str(caught.value).count("set log.format = 'table' and map its columns") == 1
    with pytest.raises(DataError, match=r"b\.csv is no litellm log: .*; leave it out of log\.path, or name") as caught:
        opened(tmp_path, format="litellm")
    assert "table" not in str(caught.value)


# ---- keys that stand late in JSON lines
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["end_user", "cost_center", "props.center"])
def test_a_key_may_come_late(tmp_path: Path, key: str) -> None:
    base, _, inner = key.partition(".")
    late = {base: {inner: "x"} if inner else "x"}
    write(tmp_path / "log.jsonl", [*(spend(n) for n in range(250)), spend(250, **late)])
    assert read("log.jsonl", base=tmp_path, tenant=[key])["tenant"].drop_nulls().to_list() == ["x"]
    mapped = {"called_at": "startTime", "tenant": key}
    assert read("log.jsonl", base=tmp_path, columns=mapped)["tenant"].drop_nulls().to_list() == ["x"]


def test_a_key_that_never_comes_is_a_mistake(tmp_path: Path) -> None:
    write(tmp_path / "log.jsonl", [spend(n, note={"cost_centre": '"cost_centre": 1'}) for n in range(250)])
    with pytest.raises(ConfigError, match=r"log\.tenant names 'cost_centre', which the log lacks"):
        opened("log.jsonl", base=tmp_path, tenant=["cost_centre"])
    write(tmp_path / "log.parquet", [spend(0)])
    with pytest.raises(ConfigError, match=r"log\.tenant names 'end_user', which the log lacks"):
        opened("log.parquet", base=tmp_path, tenant=["end_user"])


def test_lists_may_be_tenants(tmp_path: Path) -> None:
    rows = [spend(0, request_tags=["a", "b"]), spend(1, request_tags=None)]
    for name in ("log.jsonl", "log.parquet"):
        write(tmp_path / name, rows)
        first, second = read(name, base=tmp_path, tenant=["request_tags"])["tenant"]
        assert (json.loads(first), second) == (["a", "b"], None), name
