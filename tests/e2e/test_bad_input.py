"""Bad input, as a newcomer makes it: an exit code, one message that says got, expected and remedy, no traceback."""

import json
import shutil
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from routing.artifact import BUILTIN
from tests.e2e.desk import Desk, assert_told, nightroute, questions
from tests.e2e.harness import STRONG, Server

# ---- the table ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["nowhere.parquet", "nowhere/", "data/*.parquet", "data"])
def test_a_missing_input_is_66(desk: Desk, path: str) -> None:
    desk.data.mkdir()
    desk.write_config(input__path=path)
    assert_told(
        desk.run(), 66, "matches no Parquet file", "input.path in the config must name a file, a glob or a folder"
    )
    assert not desk.run_dir.joinpath("plan.json").exists()


def test_every_wrong_column_is_named_at_once(desk: Desk) -> None:
    desk.put(pl.DataFrame({"id": [1.5], "question": [["a"]], "limit": ["10"], "status": ["open"]}))
    desk.write_config(
        input__columns={"query_id": "id", "prompt": "text", "system": "question", "max_output_tokens": "limit"}
    )
    assert_told(
        desk.run(),
        65,
        "text (mapped to prompt): missing; columns are ['id', 'question', 'limit', 'status']; map it in",
        "id (mapped to query_id): double, expected a string or an integer",
        "question (mapped to system): large_list<element: large_string>, expected a string",
        "limit (mapped to max_output_tokens): large_string, expected an integer",
        "status: nightroute writes a column of this name; rename yours, map it, or list it in input.drop",
    )


def test_a_column_that_would_be_covered_is_named(desk: Desk) -> None:
    desk.put(questions(2, prompt=["short", "shorter"]))
    assert_told(desk.run(), 65, "prompt: nightroute writes a column of this name; rename yours, map it, or list it in")


def test_messages_of_the_wrong_shape_are_65(desk: Desk) -> None:
    desk.put(pl.DataFrame({"id": ["a"], "chat": [[{"role": "user", "text": "hi"}]]}))
    desk.write_config(input__columns={"query_id": "id", "messages": "chat"})
    assert_told(
        desk.run(), 65, "chat (mapped to messages):", "expected a list of structs with the strings role and content"
    )


@pytest.mark.parametrize("content", [b"", b"PAR1", b"id,text\n1,hello\n", b"PAR1" + bytes(64) + b"PAR1"])
def test_a_file_that_is_no_parquet_is_65(desk: Desk, content: bytes) -> None:
    desk.put(questions(2))
    (desk.data / "more.parquet").write_bytes(content)
    assert_told(desk.run(), 65, f"{desk.data}/more.parquet cannot be read as Parquet", "write it again or remove it")


def test_a_damaged_page_is_65_and_the_run_goes_on_when_the_file_is_restored(night: Desk, sandbox: Server) -> None:
    path = night.put(questions(400), use_dictionary=False, compression="zstd")
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + bytes(800) + whole[1000:])
    since = sandbox.mark()
    assert_told(
        night.run(), 65, f"input file {path}, rows 0 to 400, cannot be decoded", "the file is damaged: write it again"
    )
    assert sandbox.received(since) == 0
    path.write_bytes(whole)
    assert_told(night.run(), 78, f"input file {path} changed", "or give the new run a run_dir of its own")
    assert night.run("--set", "run_dir=again").exit_code == 0


def test_an_empty_table_is_99(desk: Desk) -> None:
    desk.put(questions(0))
    assert_told(desk.run(), 99, f"input {desk.data} holds no rows; nothing was published")
    assert not desk.output.exists()


def test_files_with_different_columns_are_65(desk: Desk) -> None:
    desk.put(questions(2), "a.parquet")
    desk.put(questions(2, tenant=["x", "y"]), "b.parquet")
    assert_told(desk.run(), 65, "input files differ in their columns", "['tenant']", "write them with one schema")


# ---- its rows -------------------------------------------------------------------------------------------------------


def test_bad_rows_are_set_aside_and_the_others_answered(night: Desk, sandbox: Server) -> None:
    table = pl.DataFrame(
        {
            "id": ["ok-1", "null", "blank", "long", "ok-2", None, "zero", "ok-1", "ok-2", "ok-3"],
            "text": [
                "Why?",
                None,
                " \n\t\u3000",
                "word " * 200_000,
                "How?",
                "No id",
                "No room",
                "Again",
                "Again",
                "Who?",
            ],
            "limit": [5, 5, 5, 5, None, 5, 0, 5, 5, 5],
            "tenant": list("abcdefghij"),
        }
    )
    night.put(table)
    night.write_config(input__columns={"query_id": "id", "prompt": "text", "max_output_tokens": "limit"})
    since = sandbox.mark()
    ended = night.run()
    assert ended.exit_code == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "10 read" in ended.stderr
    assert "7 rejected" in ended.stderr
    assert night.published()["query_id"].to_list() == ["ok-1", "ok-2", "ok-3"]
    assert night.published()["status"].to_list() == ["truncated", "ok", "truncated"]
    assert dict(night.rejected().select("tenant", "broken_rules").iter_rows()) == {
        "b": "prompt_not_null",
        "c": "prompt_not_blank",
        "d": "prompt_within_max_prompt_tokens",
        "f": "query_id_not_null",
        "g": "max_output_tokens_positive",
        "h": "query_id_unique",
        "i": "query_id_unique",
    }
    assert sorted(night.rejected().select("part", "row").iter_rows()) == [(0, row) for row in (1, 2, 3, 5, 6, 7, 8)]
    assert sandbox.received(since) == 3
    assert ended.summary["rows"]["rejected"] == 7


def test_rejected_rows_within_max_failed_share_are_exit_0(night: Desk) -> None:
    night.put(pl.DataFrame({"id": ["a", "b"], "text": ["Why?", ""]}))
    night.write_config(output__max_failed_share=0.5)
    assert night.run().exit_code == 0


def test_a_table_of_bad_rows_only_is_99_and_says_where_they_are(desk: Desk) -> None:
    desk.put(pl.DataFrame({"id": ["a", "b"], "text": ["", None]}))
    assert_told(desk.run(), 99, "every row was rejected", str(desk.run_dir / "rejected.parquet"))
    assert desk.rejected()["broken_rules"].to_list() == ["prompt_not_blank", "prompt_not_null"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_text_that_is_no_utf8_is_set_aside(night: Desk, kind: pa.DataType) -> None:
    raw = [b"Why?", b"caf\xe9", "naïve 漢字".encode(), None, b"\xff" * 40]
    text = _unchecked(raw, kind)
    night.put(pa.table({"id": pa.array(range(5)), "text": text, "note": pa.array(["a", "b", "c", "d", "e"])}))
    assert night.run().exit_code == 1
    assert night.published().select("query_id", "prompt", "note").rows() == [
        ("0", "Why?", "a"),
        ("2", "naïve 漢字", "c"),
    ]
    assert dict(night.rejected().select("note", "broken_rules").iter_rows()) == {
        "b": "prompt_valid_utf8",
        "d": "prompt_not_null",
        "e": "prompt_valid_utf8",
    }


def _unchecked(raw: list[bytes | None], kind: pa.DataType) -> pa.Array:
    """Bytes called text, as a careless writer does."""
    if kind == pa.string_view():
        binary = pa.array(raw, pa.binary_view())
    else:
        binary = pa.array(raw, pa.large_binary() if kind == pa.large_string() else pa.binary())
    return pa.Array.from_buffers(kind, len(raw), binary.buffers())


# ---- the config -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "needles"),
    [
        ({"split__alhpa": 0.5}, ["split.alhpa: unknown key; did you mean 'alpha'?"]),
        ({"modles__weak__name": "x"}, ["modles: unknown key; did you mean 'models'?"]),
        (
            {"split__strong_share": None, "split__alpha": 1.2},
            ["split.alpha: Input should be less than or equal to 1, got 1.2"],
        ),
        ({"split__strong_share": None, "split__alpha": -0.1}, ["split.alpha", "greater than or equal to 0, got -0.1"]),
        ({"split__strong_share": 30}, ["split.strong_share", "less than or equal to 1, got 30"]),
        ({"split__alpha": 0.5}, ["give exactly one of alpha, strong_share and max_usd, got ['alpha', 'strong_share']"]),
        ({"split__strong_share": None}, ["split: missing; add it"]),
        ({"models__weak__name": None}, ["models.weak.name: missing; add it"]),
        (
            {"models__weak__base_url": "localhost:8000"},
            ["base_url must start with http:// or https://, got 'localhost:8000'"],
        ),
        ({"models__weak__params": {"stream": True}}, ["params must not hold messages, model", "or stream"]),
        ({"input__columns": {"query_id": "id"}}, ["columns must map exactly one of prompt (a string) and messages"]),
        ({"input__columns": {"prompt": "text", "quer": "id"}}, ["columns maps ['quer'], which nightroute"]),
        ({"input__columns": {"prompt": "text", "query_id": "text"}}, ["columns maps ['text'] twice"]),
        ({"output__partition_by": ["id", "id"]}, ["partition_by names a column twice"]),
        ({"input__part_rows": 0}, ["input.part_rows", "greater than or equal to 1, got 0"]),
        ({"output__path": "answers.parquet"}, ["names a file; the published table is a folder", "drop the suffix"]),
        (
            {"output__partition_by": ["tenant"]},
            ["output.partition_by names ['tenant']", "its columns are ['query_id', 'prompt'"],
        ),
        ({"models__weak__name": STRONG}, ["are the same model", "name two models"]),
        (
            {"models__weak__api_key_env": "NIGHTROUTE_NO_KEY"},
            ["needs the environment variable NIGHTROUTE_NO_KEY", "export it"],
        ),
        (
            {"router__artifact": "builtin:nope"},
            ["is not shipped with nightroute", "builtin:static-mf", "or give a path"],
        ),
        (
            {"router__artifact": "data"},
            ["has no readable router.json", "expected a folder with model.onnx, tokenizer.json"],
        ),
        (
            {"models__weak__name": "nobody-1", "split__strong_share": None, "split__max_usd": 1},
            ["needs prices for both models"],
        ),
        (
            {"split__strong_share": None, "split__max_usd": 1e-9},
            ["expected for sending every query to the weak", "raise it"],
        ),
    ],
)
def test_a_config_that_cannot_work_is_78_before_a_call_is_made(
    desk: Desk, change: dict[str, Any], needles: list[str]
) -> None:
    desk.put(questions(3))
    desk.write_config(**change)
    assert_told(desk.run(), 78, *needles)
    assert not desk.run_dir.joinpath("ledger", "ledger.sqlite").exists()


def test_every_complaint_about_a_config_is_in_one_message(desk: Desk) -> None:
    desk.write_config(split__strong_share="a lot", models__weak__rpm=0, input__glob="*.parquet", colour="red")
    assert_told(
        desk.run(), 78, "split.strong_share", "models.weak.rpm", "input.glob", "colour: unknown key; known keys are"
    )


@pytest.mark.parametrize(
    ("content", "needle"),
    [("alpha = = 1", "is no valid TOML"), (None, "cannot be read: No such file"), ("", "run_dir: missing; add it")],
)
def test_a_config_file_that_is_none_is_78(desk: Desk, content: str | None, needle: str) -> None:
    if content is not None:
        desk.job_file.write_text(content, encoding="utf-8")
    assert_told(nightroute("run", "--config", str(desk.job_file)), 78, f"config {desk.job_file}", needle)


def test_a_folder_given_as_config_is_78(desk: Desk) -> None:
    assert_told(nightroute("run", "--config", str(desk.folder)), 78, "Is a directory; give the path of a TOML file")


def test_an_artifact_with_a_wrong_digest_is_78(desk: Desk) -> None:
    artifact = desk.folder / "router"
    shutil.copytree(BUILTIN / "static-mf", artifact)
    tokenizer = artifact / "tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes() + b" ")
    desk.put(questions(2))
    desk.write_config(router__artifact="router")
    card = json.loads((artifact / "router.json").read_text(encoding="utf-8"))
    assert_told(
        desk.run(), 78, f"{tokenizer} has sha256", f"its card says {card['files']['tokenizer.json'][:12]}", "restore"
    )


def test_an_unpriced_model_is_answered_and_told_of(night: Desk) -> None:
    night.put(questions(4))
    night.write_config(models__weak__name="nobody-1")
    ended = night.run()
    assert ended.exit_code == 0
    assert "warning: models.weak" in ended.stderr
    assert "UNPRICED: 2 answered rows have no price and are in no sum; add [[prices]] to the config" in ended.stderr
    assert ended.summary["unpriced_rows"] == 2
    weak = night.published().filter(pl.col("model") == "nobody-1")
    assert weak["status"].to_list() == ["ok", "ok"]
    assert weak["cost_usd"].to_list() == [None, None]
    assert weak["unpriced_reason"].null_count() == 0
