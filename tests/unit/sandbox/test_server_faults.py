import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from routing.sandbox.config import ModelSpec
from routing.sandbox.tokens import TokenCounter
from tests.unit.sandbox.support import FakeClock, Reply, ask, config_with, events, live

PRICED = ModelSpec.model_validate({"name": "small", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2", "rpm": 100})


def one(tokenizer: Path, journal: Path, faults: Mapping[str, Any]) -> tuple[Reply | Exception, dict[str, Any]]:
    """Send one request to a server with these faults; return what came back and what was booked."""

    async def scenario() -> Reply | Exception:
        async with live(
            config_with(tokenizer, PRICED, journal=journal, faults=dict(faults)), clock=FakeClock()
        ) as sandbox:
            try:
                return await sandbox.post()
            except aiohttp.ClientError as exc:
                return exc

    reply = asyncio.run(scenario())
    (booked,) = events(journal, "finished")
    return reply, booked


@pytest.mark.parametrize(("kind", "status"), [("429", 429), ("503", 503)])
def test_overload_comes_with_a_wait(tokenizer_path: Path, tmp_path: Path, kind: str, status: int) -> None:
    faults = {f"rate_{kind}": 1.0, "retry_after_s": (1.2, 1.8)}
    reply, booked = one(tokenizer_path, tmp_path / "j", faults)
    assert isinstance(reply, Reply)
    assert reply.status == status
    assert reply.headers["retry-after"] == "2"
    assert 1200 <= int(reply.headers["retry-after-ms"]) <= 1800
    assert reply.headers["x-ratelimit-remaining-requests"] == "99"
    assert 1.2 <= booked["retry_after_s"] <= 1.8
    assert booked["not_before_s"] == pytest.approx(1000 + booked["retry_after_s"])
    assert (booked["fault"], booked["cost_usd"]) == (kind, "0")


def test_a_server_error_is_a_500_without_a_wait(tokenizer_path: Path, tmp_path: Path) -> None:
    reply, booked = one(tokenizer_path, tmp_path / "j", {"rate_500": 1.0})
    assert isinstance(reply, Reply)
    assert (reply.status, reply.json["error"]["type"], "retry-after" in reply.headers) == (500, "server_error", False)
    assert (booked["status"], booked["not_before_s"], booked["cost_usd"]) == (500, None, "0")


@pytest.mark.parametrize(("kind", "held_s"), [("timeout", 7.0), ("drop", 0.0)])
def test_no_reply_at_all(tokenizer_path: Path, tmp_path: Path, kind: str, held_s: float) -> None:
    reply, booked = one(tokenizer_path, tmp_path / "j", {f"rate_{kind}": 1.0, "hang_s": 7.0})
    assert isinstance(reply, aiohttp.ClientConnectionError)
    assert (booked["status"], booked["fault"], booked["cost_usd"]) == (None, kind, "0")
    assert booked["monotonic_s"] == 1000 + held_s


def test_an_empty_answer_is_billed(tokenizer_path: Path, tmp_path: Path) -> None:
    reply, booked = one(tokenizer_path, tmp_path / "j", {"rate_empty": 1.0})
    assert isinstance(reply, Reply)
    assert reply.json["choices"][0]["message"]["content"] == ""
    assert reply.json["usage"]["completion_tokens"] == 0
    assert (booked["status"], booked["fault"], booked["cost_usd"]) == (200, "empty", "0.000014")


def test_a_body_that_is_not_json_is_billed(tokenizer_path: Path, tmp_path: Path) -> None:
    reply, booked = one(tokenizer_path, tmp_path / "j", {"rate_malformed": 1.0})
    assert isinstance(reply, Reply)
    assert reply.status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = reply.json
    assert booked["completion_tokens"] > 0


def test_a_content_filter_cuts_the_answer(tokenizer_path: Path, tmp_path: Path) -> None:
    reply, booked = one(tokenizer_path, tmp_path / "j", {"rate_content_filter": 1.0})
    assert isinstance(reply, Reply)
    (choice,) = reply.json["choices"]
    assert choice["finish_reason"] == booked["finish_reason"] == "content_filter"
    tokens = TokenCounter.from_file(tokenizer_path).count(choice["message"]["content"])
    assert tokens == reply.json["usage"]["completion_tokens"] == booked["completion_tokens"]


def test_a_truncated_body_is_billed_whole(tokenizer_path: Path, tmp_path: Path) -> None:
    reply, booked = one(tokenizer_path, tmp_path / "j", {"rate_truncated_body": 1.0})
    assert isinstance(reply, aiohttp.ClientPayloadError)
    assert (booked["status"], booked["fault"]) == (200, "truncated_body")
    assert booked["completion_tokens"] > 0
    assert booked["bytes"] > 300


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("429", openai.RateLimitError),
        ("500", openai.InternalServerError),
        ("503", openai.InternalServerError),
        ("drop", openai.APIConnectionError),
        ("timeout", openai.APIConnectionError),
        ("truncated_body", openai.APIConnectionError),
        ("malformed", json.JSONDecodeError),
    ],
)
def test_the_openai_client_sees_each_fault_as_its_own_error(
    tokenizer_path: Path, kind: str, error: type[Exception]
) -> None:
    async def scenario() -> None:
        config = config_with(tokenizer_path, PRICED, faults={f"rate_{kind}": 1.0, "hang_s": 0.05})
        async with live(config) as sandbox:
            with pytest.raises(error):
                await sandbox.openai.chat.completions.create(
                    model="small", messages=[{"role": "user", "content": "Hi"}]
                )

    asyncio.run(scenario())


def test_a_client_that_waits_less_than_the_hang_times_out(tokenizer_path: Path) -> None:
    async def scenario() -> None:
        async with live(config_with(tokenizer_path, PRICED, faults={"rate_timeout": 1.0})) as sandbox:
            impatient = sandbox.openai.with_options(timeout=0.1)
            with pytest.raises(openai.APITimeoutError):
                await impatient.chat.completions.create(model="small", messages=[{"role": "user", "content": "Hi"}])

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["empty", "content_filter"])
def test_faulty_embeddings_have_no_vectors(tokenizer_path: Path, kind: str) -> None:
    async def scenario() -> None:
        async with live(config_with(tokenizer_path, PRICED, faults={f"rate_{kind}": 1.0})) as sandbox:
            reply = await sandbox.post({"model": "small", "input": "two words"}, path="/embeddings")
        assert reply.json["data"] == []
        assert reply.json["usage"]["prompt_tokens"] == 2

    asyncio.run(scenario())


def test_the_same_requests_fail_in_the_same_way_in_any_order(tokenizer_path: Path, tmp_path: Path) -> None:
    faults = {"rate_429": 0.2, "rate_500": 0.1, "rate_drop": 0.1, "rate_empty": 0.1, "rate_truncated_body": 0.1}

    async def scenario(order: list[int], journal: Path) -> None:
        spec = PRICED.model_copy(update={"rpm": None})
        async with live(config_with(tokenizer_path, spec, seed=5, journal=journal, faults=faults)) as sandbox:
            posts = (sandbox.post(ask(f"question {i}"), x_client_request_id=f"q-{i}") for i in order)
            await asyncio.gather(*posts, return_exceptions=True)

    booked = []
    for name, order in (("a", list(range(80))), ("b", list(range(80))[::-1])):
        asyncio.run(scenario(order, tmp_path / name))
        booked.append({line["client_request_id"]: line["fault"] for line in events(tmp_path / name, "finished")})
    assert booked[0] == booked[1]
    assert Counter(booked[0].values()).keys() == {None, "429", "500", "drop", "empty", "truncated_body"}


def test_a_retry_under_the_same_id_gets_through(tokenizer_path: Path) -> None:
    async def attempts(sandbox_faults: Mapping[str, float]) -> list[int]:
        async with live(config_with(tokenizer_path, PRICED, faults=dict(sandbox_faults))) as sandbox:
            counts = []
            for i in range(10):
                counts.append(1)
                while (await sandbox.post(x_client_request_id=f"q-{i}")).status != 200:
                    counts[-1] += 1
            return counts

    counts = asyncio.run(attempts({"rate_500": 0.5}))
    assert max(counts) > 1
    assert min(counts) == 1
