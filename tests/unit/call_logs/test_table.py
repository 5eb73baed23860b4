from pathlib import Path
from typing import Any

import pytest

from tests.unit.call_logs.support import assert_calls, opened, read

MAPPING = {
    "called_at": "when",
    "tenant": "who",
    "model": "llm",
    "input_tokens": "in",
    "cached_tokens": "cached",
    "cache_write_tokens": "written",
    "output_tokens": "out",
    "logged_usd": "usd",
    "outcome": "worked",
    "prompt": "text",
}
CLAUDE = {
    "model": "claude-sonnet-4-20250514",
    "cached_tokens": 2_000,
    "cache_write_tokens": 1_000,
    "output_tokens": 200,
    "logged_usd": "0.00765",
}
ROWS: list[dict[str, Any]] = [
    {
        "row": 0,
        "called_at": "2026-08-20 10:00:00",  # noon in Berlin
        "model": "gpt-4o",
        "input_tokens": 1_200,
        "cached_tokens": 1_000,
        "output_tokens": 300,
        "logged_usd": "0.00475",
        "tenant": "eu/search",
        "prompt": 'What, "exactly"?',
    },
    CLAUDE
    | {
        "row": 1,
        "called_at": "2026-08-20 10:00:01",
        "input_tokens": 3_100,
        "tenant": "eu/search",
        "prompt": "From a list",
    },
    CLAUDE | {"row": 2, "called_at": "2026-08-20 12:00:02", "input_tokens": 6_100, "outcome": "failed"},
    {
        "row": 3,
        "called_at": "2026-10-25 00:30:00",  # half past two comes twice that night: the first
        "model": "gpt-4o",
        "input_tokens": 10,
        "output_tokens": 5,
        "outcome": "failed",
        "error_code": "500",
        "tenant": "us",
        "prompt": '{"a": "plain text that looks like JSON"}',
    },
    # That night there is no half past two; and a negative count stays one, to be rejected.
    {"row": 4, "model": "gpt-4o", "input_tokens": -1, "output_tokens": 5, "tenant": "us"},
]


def test_any_table() -> None:
    log = opened("table.csv", columns=MAPPING, time_zone="Europe/Berlin")
    assert (log.format, log.has_prompts) == ("table", True)
    assert_calls(log.calls.collect(), ROWS)


@pytest.mark.parametrize(
    ("cache_in_input", "tokens"),
    [
        (None, [1_200, 3_100, 6_100, 10, -1]),  # as each row's provider counts
        (True, [1_200, 3_100, 3_100, 10, -1]),  # 3,000 cached tokens do not fit into 100: those are apart all the same
        (False, [2_200, 3_100, 6_100, 10, -1]),
    ],
)
def test_cached_tokens_inside_or_beside_the_input(cache_in_input: bool | None, tokens: list[int]) -> None:
    found = read("table.csv", columns=MAPPING, format="table", cache_in_input=cache_in_input)
    assert found["input_tokens"].to_list() == tokens


def test_the_provider_of_the_config_counts(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("t,i,c\n2026-01-01,10,4\n")
    mapping = {"called_at": "t", "input_tokens": "i", "cached_tokens": "c"}
    for provider, tokens in (("anthropic", 14), ("openai", 10), (None, 10)):
        found = read("t.csv", base=tmp_path, columns=mapping, provider=provider)
        assert found.select("input_tokens", "provider").row(0) == (tokens, provider)


def test_every_column_can_be_mapped(tmp_path: Path) -> None:
    row = {
        "call_id": "1",
        "called_at": "1767323045123",
        "provider": "aws",
        "base_url": "https://b",
        "model": "m1",
        "requested_model": "m0",
        "processing": "flex",
        "operation": "chat",
        "input_tokens": "5",
        "cached_tokens": "1",
        "cache_write_tokens": "1",
        "output_tokens": "3",
        "reasoning_tokens": "2",
        "logged_usd": "0.25",
        "billed": "false",
        "outcome": "error",
        "error_code": "e",
        "attempts": "4",
        "latency_s": "1.5",
        "tenant": "ten",
        "prompt": "hi",
    }
    (tmp_path / "t.csv").write_text(",".join(f"my_{name}" for name in row) + "\n" + ",".join(row.values()) + "\n")
    found = read("t.csv", base=tmp_path, columns={name: f"my_{name}" for name in row})
    expected = {
        "row": 0,
        "call_id": "1",
        "called_at": "2026-01-02 03:04:05.123",
        "provider": "aws",
        "base_url": "https://b",
        "model": "m1",
        "requested_model": "m0",
        "processing": "flex",
        "operation": "chat",
        "input_tokens": 7,  # Bedrock leaves the cache out
        "cached_tokens": 1,
        "cache_write_tokens": 1,
        "output_tokens": 3,
        "reasoning_tokens": 2,
        "logged_usd": "0.25",
        "billed": False,
        "outcome": "failed",
        "error_code": "e",
        "attempts": 4,
        "latency_s": 1.5,
        "tenant": "ten",
        "prompt": "hi",
    }
    assert_calls(found, [expected])


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        ("1000,100,400", (1_500, 500, 400)),  # five minutes and an hour in two columns
        ("1000,,400", (1_400, 400, 400)),
        ("1000,500,400", (1_500, 500, 400)),  # the hour lies inside
        ("1000,500,", (1_500, 500, None)),
        ("1000,,", (1_000, None, None)),
        ("1000,,0", (1_000, None, 0)),
    ],
)
def test_hours_inside_or_beside_what_was_written(tmp_path: Path, line: str, tokens: tuple[int | None, ...]) -> None:
    (tmp_path / "t.csv").write_text(f"t,i,w,h\n2026-01-01,{line}\n")
    names = {"called_at": "t", "input_tokens": "i", "cache_write_tokens": "w", "cache_write_1h_tokens": "h"}
    found = read("t.csv", base=tmp_path, columns=names, provider="anthropic")
    assert found.select("input_tokens", "cache_write_tokens", "cache_write_1h_tokens").row(0) == tokens


def test_an_hour_alone_was_written(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("t,i,h\n2026-01-01,1000,400\n")
    names = {"called_at": "t", "input_tokens": "i", "cache_write_1h_tokens": "h"}
    found = read("t.csv", base=tmp_path, columns=names, cache_in_input=True)
    assert found.select("input_tokens", "cache_write_tokens").row(0) == (1_000, 400)
