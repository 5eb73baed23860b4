import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import jobs.audit_calls
from jobs.audit_calls import store_calls
from jobs.audit_config import LogSection
from jobs.audit_log import OpenedLog, open_log
from routing.errors import ConfigError, DataError
from routing.matching import resolve_models
from schemas.billing import Costs
from schemas.call_log import CallLog
from tests.audit_frames import NOON, PRICES, Row, call_log, opened, stored

COLUMNS = [*CallLog.column_names(), *Costs.column_names()]


def test_a_log_is_cut_into_parts_in_its_order(tmp_path: Path) -> None:
    calls = call_log(*({"input_tokens": n} for n in range(7)))
    found = stored(calls, tmp_path, part_rows=3)
    assert [pl.read_parquet(part).height for part in found.parts] == [3, 3, 1]
    assert (found.read, found.rejected, found.duplicated, found.kept_rows) == (7, 0, 0, 7)
    kept = list(found.kept(PRICES))
    assert [part.height for part in kept] == [3, 3, 1]
    assert kept[0].columns == COLUMNS
    assert_frame_equal(pl.concat(kept).select(CallLog.column_names()), calls)


def test_files_are_named_with_their_digest(tmp_path: Path) -> None:
    calls = call_log({}, {}, {})
    paths = tmp_path / "a [1].parquet", tmp_path / "b.csv", tmp_path / "c.jsonl", tmp_path / "d.json"
    calls.write_parquet(paths[0])
    paths[1].write_text('model,prompt\nm,"two\nlines"\nm,x\n', encoding="utf-8")
    paths[2].write_text('{"model": 1}\n\n{"model": 2}', encoding="utf-8")
    paths[3].write_text('[\n{"model": 1},\n{"model": 2}]', encoding="utf-8")
    log = OpenedLog(
        format="table",
        files=paths,
        rows=calls.lazy().with_columns(is_call=True),
        has_prompts=True,
    )
    files = store_calls(log, tmp_path / "work", part_rows=2).files
    assert [(file.path, file.rows) for file in files] == list(zip(map(str, paths), (3, 2, 2, 2), strict=True))
    assert [file.sha256 for file in files] == [sha256(path.read_bytes()).hexdigest() for path in paths]


@pytest.mark.parametrize(
    ("rule", "row"),
    [
        ("time_known", {"called_at": None}),
        ("tokens_not_negative", {"input_tokens": -1}),
        ("tokens_not_negative", {"reasoning_tokens": -1}),
        ("time_plausible", {"called_at": datetime(1970, 1, 1, tzinfo=UTC)}),
        ("time_plausible", {"called_at": datetime(2100, 1, 1, tzinfo=UTC)}),
        ("tokens_plausible", {"output_tokens": 10**10 + 1}),
        ("logged_usd_plausible", {"logged_usd": Decimal("-1000000000.01")}),
        ("attempts_plausible", {"attempts": -1}),
        ("attempts_plausible", {"attempts": 1_000_001}),
        ("billed|nullability", {"billed": None}),
        ("outcome|nullability", {"outcome": None}),
    ],
)
def test_a_row_that_breaks_a_rule_is_set_aside(tmp_path: Path, rule: str, row: dict[str, Any]) -> None:
    found = stored(call_log({}, {}, row, {}), tmp_path)
    assert [(item.rule, item.rows) for item in found.broken_rules] == [(rule, 1)]
    assert (found.read, found.rejected, found.kept_rows) == (4, 1, 3)
    assert found.rejected_path is not None
    rejected = pl.read_parquet(found.rejected_path)
    assert rejected["row"].to_list() == [2]
    assert rejected["broken_rules"].to_list() == [rule]
    assert pl.concat(found.kept(PRICES))["row"].to_list() == [0, 1, 3]


@pytest.mark.parametrize(
    "row",
    [
        {"called_at": datetime(2000, 1, 1, tzinfo=UTC)},
        {"called_at": datetime(2100, 1, 1, tzinfo=UTC) - timedelta(microseconds=1)},
        {"output_tokens": 10**10},
        {"logged_usd": Decimal(-(10**9))},
        {"attempts": 0},
        {"attempts": 10**6},
        {"input_tokens": None, "output_tokens": None},
        {"model": None, "call_id": None, "tenant": None},
    ],
)
def test_a_row_at_the_edge_of_the_rules_is_kept(tmp_path: Path, row: dict[str, Any]) -> None:
    found = stored(call_log(row), tmp_path)
    assert (found.rejected, found.broken_rules, found.rejected_path) == (0, [], None)


def test_rejected_rows_are_counted_once_and_their_rules_each(tmp_path: Path) -> None:
    both = {"input_tokens": -1, "attempts": -1}
    found = stored(call_log(both, {"attempts": -2}, {}, both, both), tmp_path)
    assert found.rejected == 4
    assert [(item.rule, item.rows) for item in found.broken_rules] == [
        ("attempts_plausible", 4),
        ("tokens_not_negative", 3),
    ]
    assert found.rejected_path is not None
    rules = pl.read_parquet(found.rejected_path)["broken_rules"]
    assert rules.to_list()[:2] == ["tokens_not_negative, attempts_plausible", "attempts_plausible"]


def test_the_first_of_equal_rows_stays(tmp_path: Path) -> None:
    row = {"call_id": "a", "logged_usd": Decimal("0.25"), "latency_s": 1.0}
    # In one part and in another; what is no content (latency) does not make it another call.
    found = stored(call_log({}, row, row | {"latency_s": 2.0}, {}, {}, row), tmp_path, part_rows=3)
    assert found.duplicated == 2
    assert found.duplicated_logged_usd == Decimal("0.50")
    assert (found.reused_ids, found.null_ids) == (0, 0)
    kept = pl.concat(found.kept(PRICES))
    assert kept["row"].to_list() == [0, 1, 3, 4]
    assert kept["latency_s"].to_list()[1] == 1.0


@pytest.mark.parametrize(
    "other",
    [
        {"called_at": NOON + timedelta(microseconds=1)},
        {"model": "big"},
        {"model": None},
        {"input_tokens": 1_001},
        {"cached_tokens": 0},
        {"cache_write_tokens": 0},
        {"output_tokens": None},
        {"reasoning_tokens": 1},
    ],
)
def test_an_id_on_another_call_is_reused_and_both_are_kept(tmp_path: Path, other: dict[str, Any]) -> None:
    row = {"call_id": "static"}
    found = stored(call_log(row, {}, row | other, row), tmp_path)
    assert found.duplicated == 1
    assert found.reused_ids == 2
    assert pl.concat(found.kept(PRICES))["row"].to_list() == [0, 1, 2]


def test_rows_without_an_id_are_never_duplicates(tmp_path: Path) -> None:
    found = stored(call_log({"call_id": None}, {"call_id": None}, {"call_id": None}, {"call_id": ""}), tmp_path)
    assert (found.duplicated, found.null_ids, found.reused_ids) == (0, 3, 0)


def test_a_rejected_row_repeats_nothing(tmp_path: Path) -> None:
    row = {"call_id": "a"}
    found = stored(call_log(row | {"attempts": -1}, row, row), tmp_path)
    assert (found.rejected, found.duplicated) == (1, 1)
    assert pl.concat(found.kept(PRICES))["row"].to_list() == [1]


def test_a_log_of_one_static_id(tmp_path: Path) -> None:
    rows: list[Row] = [{"call_id": "x", "input_tokens": n % 5} for n in range(20)]
    found = stored(call_log(*rows), tmp_path, part_rows=6)
    assert (found.duplicated, found.reused_ids) == (15, 5)


def test_calls_are_priced_and_those_of_a_gateways_cache_cost_nothing(tmp_path: Path) -> None:
    unbilled = {"billed": False}
    rows: list[Row] = [{}, {"model": "big"}, {"model": "mystery"}, unbilled, unbilled | {"model": "mystery"}]
    kept = pl.concat(stored(call_log(*rows), tmp_path).kept(PRICES))
    assert kept["cost_usd"].to_list() == [Decimal("0.002"), Decimal("0.02"), None, Decimal(0), Decimal(0)]
    assert kept["price_id"].to_list() == [
        "override:small@start#standard>0",
        "override:big@start#standard>0",
        None,
        None,
        None,
    ]
    assert kept["unpriced_reason"].to_list() == [None, None, "no price for model 'mystery'", None, None]


def test_only_the_columns_that_are_asked_for_come_back(tmp_path: Path) -> None:
    found = stored(call_log({"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"}), tmp_path)
    assert [part.columns for part in found.kept(PRICES, ["prompt", "cost_usd"])] == [["prompt", "cost_usd"]] * 2
    assert pl.concat(found.kept(PRICES, ["row"])).to_dict(as_series=False) == {"row": [0, 1, 2]}


def test_calls_can_be_chosen_before_they_are_priced(tmp_path: Path) -> None:
    found = stored(call_log({}, {}, {"model": "big"}, {}, {"model": "big"}), tmp_path)
    parts = list(found.kept(PRICES, ["row", "cost_usd"], where=pl.col("model") == "big"))
    assert [part["row"].to_list() for part in parts] == [[2], [4]]  # the first part has none and is passed over


def test_names_are_resolved_once_for_the_whole_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = stored(call_log({}, {"model": "big"}, {}, {"model": "x"}, {"model": "big"}), tmp_path)
    asked = []

    def counted(names: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
        asked.append(names["model"].to_list())
        return resolve_models(names, prices)

    monkeypatch.setattr(jobs.audit_calls, "resolve_models", counted)
    assert sum(part.height for part in found.kept(PRICES)) == 5
    assert asked == [["small", "big", "x"]]


def test_every_part_that_is_checked_is_told(tmp_path: Path) -> None:
    told: list[object] = []
    found = store_calls(opened(call_log({}, {}, {}), tmp_path), tmp_path / "work", part_rows=2, on_part=told.append)
    assert told == list(found.parts)


def test_an_empty_log(tmp_path: Path) -> None:
    found = stored(call_log(), tmp_path)
    assert (found.read, found.kept_rows, list(found.kept(PRICES))) == (0, 0, [])


def test_a_log_of_bad_rows_only(tmp_path: Path) -> None:
    found = stored(call_log({"attempts": -1}, {"attempts": -1}, {"attempts": -1}), tmp_path)
    assert (found.read, found.rejected, list(found.kept(PRICES))) == (3, 3, [])


def test_what_an_earlier_audit_left_goes(tmp_path: Path) -> None:
    stored(call_log({"attempts": -1}, {}, {}, {}), tmp_path)
    found = stored(call_log({}), tmp_path)
    assert sorted(path.name for path in (tmp_path / "work").rglob("*") if path.is_file()) == [found.parts[0].name]


def test_a_damaged_log_is_no_matter_of_the_disk(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"row": 0}\n{"row":\n', encoding="utf-8")
    lines = pl.scan_ndjson(file, schema={"row": pl.UInt64})
    log = OpenedLog(format="helicone", files=(file,), rows=lines, has_prompts=True)
    with pytest.raises(DataError, match=r"the helicone log .*log\.jsonl.* cannot be read to its end: .*parsing"):
        store_calls(log, tmp_path / "work", part_rows=2)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file", encoding="utf-8")
    with pytest.raises(ConfigError, match="parts is a file or lies below one"):
        stored(call_log({}), tmp_path)


def test_one_id_for_all_rows_leaves_nothing_behind(tmp_path: Path) -> None:
    found = stored(
        call_log(*({"call_id": "static", "output_tokens": n // 2} for n in range(40))), tmp_path, part_rows=7
    )
    assert (found.duplicated, found.reused_ids) == (20, 20)
    assert pl.concat(found.kept(PRICES))["row"].to_list() == list(range(0, 40, 2))
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["parts"]


# ---- where a rejected row is
# -----------------------------------------------------------------------------------------------------


def places(folder: Path, pattern: str, **section: Any) -> list[tuple[str | None, int | None]]:
    """File name and row of every rejected row."""
    found = store_calls(open_log(LogSection(path=pattern, **section), folder), folder / "work", part_rows=2)
    assert found.rejected_path is not None
    rejected = pl.read_parquet(found.rejected_path)
    assert rejected.columns == [*CallLog.column_names(), "file", "file_row", "broken_rules"]
    return [(file and Path(file).name, row) for file, row in rejected.select("file", "file_row").rows()]


def test_a_rejected_row_says_its_file_and_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,i\n2026-01-01,1\n2026-01-01,-1\n")
    (tmp_path / "b.csv").write_text("t,i\n")
    (tmp_path / "c.csv").write_text('t,i\n"",3\n2026-01-01,4\n2026-01-01,-5\n')
    (tmp_path / "d.jsonl").write_text('{"t": "2026-01-01", "i": 1}\n\n{"t": "never", "i": 2}\nno JSON\n')
    wanted = [("a.csv", 2), ("c.csv", 1), ("c.csv", 3), ("d.jsonl", 2), ("d.jsonl", 3)]
    assert places(tmp_path, "*.*", columns={"called_at": "t", "input_tokens": "i"}) == wanted


def span(index: int, tokens: int) -> dict[str, Any]:
    """One span of a model's call."""
    values = {"gen_ai.operation.name": {"stringValue": "chat"}, "gen_ai.usage.input_tokens": {"intValue": str(tokens)}}
    return {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": f"{index:016x}",
        "startTimeUnixNano": "1787220000000000000",
        "attributes": [{"key": key, "value": value} for key, value in values.items()],
    }


def test_of_spans_the_file_is_known_where_there_is_one(tmp_path: Path) -> None:
    def line(*spans: dict[str, Any]) -> str:
        return json.dumps({"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": spans}]}]}) + "\n"

    (tmp_path / "a.jsonl").write_text(line(span(1, 5), span(2, -5)) + line())  # as many spans as lines
    assert places(tmp_path, "a.jsonl") == [("a.jsonl", None)]
    (tmp_path / "b.jsonl").write_text(line(span(3, -7)))
    assert places(tmp_path, "*.jsonl") == [(None, None), (None, None)]
