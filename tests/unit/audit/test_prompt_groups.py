from decimal import Decimal
from hashlib import sha256

import polars as pl
import pytest

from routing.audit.prompt_groups import PromptGroups, template
from schemas.billing import USD

SCHEMA = {"prompt": pl.String(), "input_tokens": pl.Int64(), "output_tokens": pl.Int64(), "cost_usd": USD}


def template_of(prompt: str) -> str | None:
    text: str | None = pl.DataFrame({"prompt": [prompt]}).select(template(pl.col("prompt"))).item()
    return text


def calls(*rows: tuple[str | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(
        [(prompt, 10, 5, None if cost is None else Decimal(cost)) for prompt, cost in rows], SCHEMA, orient="row"
    )


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Translate  to\n\n French:\tHello", "translate to french: hello"),
        ("Order 12345 of 2026-11-05, 13:45: $1,234.56 is late", "order # of #-#-#, #: $# is late"),
        ("user 550e8400-e29b-41d4-a716-446655440000 asks", "user # asks"),
        ("commit 9fceb02d0ae598e95dc970b74767f19372d61af8 broke it", "commit # broke it"),
        ("the facade of the cafe", "the facade of the cafe"),
        ('Summarise "The Old Man and the Sea" for me', "summarise # for me"),
        ("Summarise “The Old Man” and `code` for me", "summarise # and # for me"),
        ("Say 'good morning' to the users' friends, don't wait", "say # to the users' friends, don't wait"),
        ('Summarise: "' + "a very long text " * 100, "summarise: #"),
        ("  42  ", "#"),
        ("Sort these requests by urgency: \n- print 3 pages\n- call", "sort these requests by urgency:"),
        ("Sort these requests by 1\r\nthe printer", "sort these requests by #"),
        ("Too short a first line\nand the rest", "too short a first line and the rest"),
        ("\n\n  Translate into French\nBonjour", "translate into french bonjour"),
        ("", ""),
        ("Ünïcode GROẞ 日本", "ünïcode groß 日本"),
    ],
)
def test_a_template_is_the_beginning_without_numbers_and_names(prompt: str, expected: str) -> None:
    assert template_of(prompt) == expected


def test_a_template_has_eighty_characters() -> None:
    assert template_of("é" * 500) == "é" * 80
    assert template_of("  four" * 100) == " ".join(["four"] * 16)  # the eightieth is a blank


def test_prompts_of_one_template_are_one_group() -> None:
    groups = PromptGroups()
    groups.add(calls(("Order 1 is late", "1"), ("Order 22 is late", "2"), ("Hello", "2.5"), (None, "9"), (" ", "9")))
    groups.add(calls(("order 333 is  late", "0.5"), ("Hello", None)))
    found = groups.dearest(10, excerpts=True)
    assert [(group.excerpt, group.calls, group.cost_usd) for group in found] == [
        ("order # is late", 3, Decimal("3.5")),
        ("hello", 2, Decimal("2.5")),
    ]
    assert (found[0].input_tokens, found[0].output_tokens) == (30, 15)
    assert found[0].template_sha256 == sha256(b"order # is late").hexdigest()


def test_the_dearest_come_first_and_ties_in_a_stable_order() -> None:
    groups = PromptGroups()
    groups.add(calls(("b", "1"), ("a", "1"), ("c", "2"), ("d", "0.5"), ("d", "0.5")))
    assert [group.excerpt for group in groups.dearest(3, excerpts=True)] == ["c", "d", "a"]


def test_excerpts_can_be_hidden() -> None:
    groups = PromptGroups()
    groups.add(calls(("secret plan", "1")))
    [group] = groups.dearest(5, excerpts=False)
    assert group.excerpt is None
    assert group.template_sha256 == sha256(b"secret plan").hexdigest()


def test_a_dear_template_outlives_any_number_of_cheap_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routing.audit.cube._MERGE_ROWS", 20)
    groups, total, dear = PromptGroups(groups=10), Decimal(0), Decimal(0)
    for part in range(200):
        cheap = [(f"cheap {chr(97 + n)} {chr(97 + part % 26)}{chr(97 + part // 26)}", "0.01") for n in range(9)]
        groups.add(calls(*cheap, ("the dear one", "0.02")))
        total, dear = total + Decimal("0.11"), dear + Decimal("0.02")
    best = groups.dearest(1, excerpts=True)[0]
    assert best.excerpt == "the dear one"
    assert dear - total / 10 <= best.cost_usd <= dear
    assert len(groups.dearest(1_000, excerpts=True)) <= 10
