"""Which calls are routed, and what they would have cost elsewhere but for their answers."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from routing.audit.what_if_prices import on_model
from routing.audit.what_if_routed import PairModel, Served, Side, idle_patterns
from routing.errors import ConfigError
from routing.prices import price_snapshot
from schemas.billing import PriceOverride
from tests.unit.audit.what_if_logs import NOON, RATES, STRONG, WEAK, call_log, prices

PUBLIC = price_snapshot()
AT = datetime(2025, 9, 1, tzinfo=UTC)


def sides(models: Sequence[str | None], *, strong: str, weak: str, replaces: Sequence[str] = ()) -> list[int | None]:
    log = call_log(
        {"model": models, "prompt": "hi", "input_tokens": 1, "output_tokens": 1, "called_at": AT, "provider": "openai"},
        PUBLIC,
    )
    return Served(PairModel(strong), PairModel(weak), replaces, PUBLIC).routed(log)["side"].to_list()


def test_dated_versions_are_the_same_model() -> None:
    served = ["gpt-4.1", "gpt-4.1-2025-04-14", "gpt-4.1-nano-2025-04-14", "gpt-4.1-mini", None]
    assert sides(served, strong="gpt-4.1", weak="gpt-4.1-nano") == [Side.STRONG, Side.STRONG, Side.WEAK, None, None]


def test_two_names_of_one_price_are_told_apart_by_name_alone() -> None:
    served = ["gpt-4.1", "gpt-4.1-2025-04-14", "gpt-4.1-2030-01-01"]
    assert sides(served, strong="gpt-4.1-2025-04-14", weak="gpt-4.1") == [Side.WEAK, Side.STRONG, None]


def test_replaced_models_are_named_with_stars() -> None:
    served = ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "xgpt-4o"]
    found = sides(served, strong="gpt-4.1", weak="gpt-4.1-nano", replaces=["gpt-4o*"])
    assert found == [Side.OTHER, Side.OTHER, Side.STRONG, None]
    # Everything but the star is taken by the letter, and the pair goes before what it replaces.
    assert sides(served, strong="gpt-4.1", weak="gpt-4.1-nano", replaces=["gpt-4."]) == [None, None, Side.STRONG, None]
    everything = sides(served, strong="gpt-4.1", weak="gpt-4.1-nano", replaces=["*"])
    assert everything == [Side.OTHER, Side.OTHER, Side.STRONG, Side.OTHER]


CHATS = ["chat", "acompletion", "/v1/chat/completions", "/v1/responses", "GENERATION", "anthropic_messages",
         "generate_content", "text_completion", None]  # fmt: skip
OTHERS = ["embeddings", "aembedding", "/v1/embeddings", "image_generation", "moderation", "execute_tool", "rerank",
          "atranscription", "SPAN"]  # fmt: skip


@pytest.mark.parametrize("operation", CHATS)
def test_chats_go_by_many_names(operation: str | None) -> None:
    assert reason(operation=operation) is None


@pytest.mark.parametrize("operation", OTHERS)
def test_what_is_no_chat_is_not_routed(operation: str) -> None:
    assert reason(operation=operation) == "not a chat"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ({"outcome": "failed", "prompt": None}, "failed"),
        ({"billed": False, "prompt": None}, "answered by a cache"),
        ({"model": "another", "prompt": None}, "another model"),
        ({"input_tokens": None, "prompt": None}, "unpriced"),
        ({"prompt": None}, "no prompt text"),
        ({"prompt": "\n\t "}, "no prompt text"),
        ({}, None),
    ],
)
def test_the_first_reason_is_given(call: dict[str, Any], expected: str | None) -> None:
    assert reason(**call) == expected


def reason(**call: Any) -> str | None:
    columns = {"model": STRONG, "prompt": "hi", "input_tokens": 1, "output_tokens": 1} | call
    log = call_log({name: [value] for name, value in columns.items()}, prices())
    found = Served(PairModel(STRONG), PairModel(WEAK), [], prices()).routed(log)["reason"].item()
    assert found is None or isinstance(found, str)
    return found


def test_a_move_pays_in_full_what_a_warm_cache_would_have_held() -> None:
    log = call_log(
        {"model": WEAK, "input_tokens": [1_000, 1_000], "cached_tokens": [None, 400], "output_tokens": 7}, prices()
    )
    found = on_model(log, prices(), PairModel(STRONG))
    assert found.cold_usd.tolist() == pytest.approx([0.01, 0.01])
    assert found.warm_usd.tolist() == pytest.approx([0.01, 0.006 + 0.0004])
    assert found.usd_per_output_token.tolist() == [40e-6, 40e-6]


def test_a_batch_call_stays_in_a_batch_where_the_other_model_has_one() -> None:
    log = call_log(
        {"model": [STRONG, WEAK], "processing": ["batch", None], "input_tokens": 1_000, "output_tokens": 0}, prices()
    )
    cheap, dear = (on_model(log, prices(), PairModel(name)) for name in (WEAK, STRONG))
    assert cheap.cold_usd.tolist() == pytest.approx([0.0005, 0.001])
    assert cheap.usd_per_output_token.tolist() == pytest.approx([1e-6, 2e-6])
    assert cheap.at_standard == 0
    assert dear.cold_usd.tolist() == pytest.approx([0.01, 0.01])
    assert dear.at_standard == 1


def test_a_model_without_a_price_at_that_time_or_for_output_is_refused() -> None:
    log = call_log({"model": WEAK, "input_tokens": [1, 2], "output_tokens": 0, "called_at": [NOON, AT]}, prices())
    late = price_snapshot([PriceOverride.model_validate(RATES[0] | {"valid_from": "2026-01-01"})])
    with pytest.raises(
        ConfigError, match=r"no 'standard' price for model 'big' at the time of the call \(1 of 2 calls\)"
    ):
        on_model(log, late, PairModel(STRONG))
    no_output = prices().with_columns(output_usd_per_mtok=pl.lit(None, pl.Decimal(38, 12)))
    with pytest.raises(ConfigError, match=r"'big' has no output price; add \[\[prices\]\]"):
        on_model(log, no_output, PairModel(STRONG))


def test_a_pattern_that_names_no_model_of_the_log_is_told() -> None:
    [told] = idle_patterns(["gpt-4o*", "gpt4o*", "gpt-4.1"], ["gpt-4o-mini", "gpt-4.1"])
    assert told.startswith("what_if.replaces names 'gpt4o*', which is no model of this log")
    assert idle_patterns([], ["gpt-4o"]) == []
    assert len(idle_patterns(["a", "*"], [])) == 2
