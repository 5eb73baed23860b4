import asyncio
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import openai
import polars as pl
import pytest

from routing.errors import ConfigError
from routing.sandbox.config import ModelSpec, SandboxConfig
from routing.sandbox.serving import serve, serving
from routing.sandbox.tokens import TokenCounter
from tests.unit.sandbox.support import QUESTION, QUESTION_TOKENS, FakeClock, Reply, ask, config_with, events, live

SMALL = ModelSpec(name="small", mean_output_tokens=60)


def test_the_openai_client_reads_a_completion(tokenizer_path: Path) -> None:
    async def scenario() -> None:
        spec = SMALL.model_copy(update={"cached_share": 0.5, "reasoning_tokens": 20})
        async with live(config_with(tokenizer_path, spec)) as sandbox:
            completion = await sandbox.openai.chat.completions.create(
                model="small", messages=[{"role": "user", "content": QUESTION}]
            )
        assert completion.object == "chat.completion"
        assert completion.id.startswith("chatcmpl-")
        assert completion.model == "small"
        assert abs(completion.created - time.time()) < 10
        assert completion.service_tier == "default"
        assert completion.system_fingerprint == "fp_0000000000"
        (choice,) = completion.choices
        assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
        assert (choice.message.role, choice.message.refusal) == ("assistant", None)
        assert choice.message.content
        usage = completion.usage
        assert usage is not None
        assert usage.prompt_tokens == QUESTION_TOKENS
        assert usage.completion_tokens == TokenCounter.from_file(tokenizer_path).count(choice.message.content) + 20
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        assert usage.prompt_tokens_details is not None
        assert usage.prompt_tokens_details.cached_tokens == QUESTION_TOKENS // 2
        assert usage.completion_tokens_details is not None
        assert usage.completion_tokens_details.reasoning_tokens == 20

    asyncio.run(scenario())


def test_max_tokens_cuts_the_answer(tokenizer_path: Path) -> None:
    async def scenario() -> None:
        async with live(config_with(tokenizer_path, SMALL)) as sandbox:
            whole = (await sandbox.post()).json
            cut = (await sandbox.post(ask(max_completion_tokens=4))).json
        assert cut["choices"][0]["finish_reason"] == "length"
        assert cut["usage"]["completion_tokens"] == 4
        assert cut["choices"][0]["message"]["content"] == " ".join(
            whole["choices"][0]["message"]["content"].split()[:4]
        )

    asyncio.run(scenario())


def test_answers_depend_on_the_request_and_not_on_the_order(tokenizer_path: Path) -> None:
    async def answers(order: list[int], seed: int) -> dict[int, str]:
        async with live(config_with(tokenizer_path, SMALL, seed=seed)) as sandbox:
            replies = await asyncio.gather(*(sandbox.post(ask(f"question {i}")) for i in order))
        return {i: reply.json["choices"][0]["message"]["content"] for i, reply in zip(order, replies, strict=True)}

    forwards = asyncio.run(answers(list(range(60)), seed=3))
    assert forwards == asyncio.run(answers(list(range(60))[::-1], seed=3))
    assert len(set(forwards.values())) == 60
    assert forwards != asyncio.run(answers(list(range(60)), seed=4))


def test_embeddings_in_both_encodings_agree(tokenizer_path: Path) -> None:
    async def scenario() -> None:
        async with live(config_with(tokenizer_path, SMALL)) as sandbox:
            texts = ["the old library", "a small engine"]
            packed = await sandbox.openai.embeddings.create(model="small", input=texts)
            plain = await sandbox.openai.embeddings.create(model="small", input=texts, encoding_format="float")
            short = await sandbox.openai.embeddings.create(model="small", input="one", dimensions=8)
        assert [item.index for item in packed.data] == [0, 1]
        assert np.allclose(packed.data[0].embedding, plain.data[0].embedding, atol=1e-7)
        assert [len(item.embedding) for item in (*packed.data, *short.data)] == [256, 256, 8]
        assert (packed.usage.prompt_tokens, packed.usage.total_tokens) == (6, 6)

    asyncio.run(scenario())


def test_models_are_listed_with_their_prices(tokenizer_path: Path) -> None:
    async def scenario() -> None:
        priced = ModelSpec(
            name="big", price_class="strong", input_usd_per_mtok=Decimal("2.50"), output_usd_per_mtok=Decimal(10)
        )
        async with live(config_with(tokenizer_path, SMALL, priced)) as sandbox:
            models = (await sandbox.openai.models.list()).data
        assert [model.id for model in models] == ["small", "big"]
        assert models[1].model_extra == {
            "price_class": "strong",
            "input_usd_per_mtok": "2.50",
            "output_usd_per_mtok": "10",
        }

    asyncio.run(scenario())


def test_health_counts_requests(tokenizer_path: Path) -> None:
    async def scenario() -> None:
        async with live(config_with(tokenizer_path)) as sandbox:
            await sandbox.post()
            async with sandbox.http.get(sandbox.base_url.removesuffix("/v1") + "/healthz") as response:
                assert await response.json() == {"status": "ok", "received": 1, "in_flight": 0}

    asyncio.run(scenario())


def test_an_unlisted_model_is_played_or_refused(tokenizer_path: Path) -> None:
    async def scenario() -> None:
        async with live(config_with(tokenizer_path, SMALL)) as sandbox:
            assert (await sandbox.post(ask(model="new"))).json["model"] == "new"
        async with live(config_with(tokenizer_path, SMALL, accept_any_model=False)) as sandbox:
            with pytest.raises(openai.NotFoundError) as caught:
                await sandbox.openai.chat.completions.create(model="new", messages=[{"role": "user", "content": "Hi"}])
            assert (caught.value.code, caught.value.type) == ("model_not_found", "invalid_request_error")
            assert (await sandbox.post()).status == 200

    asyncio.run(scenario())


def test_a_key_is_required_when_asked_for(tokenizer_path: Path) -> None:
    async def scenario() -> None:
        async with live(config_with(tokenizer_path, SMALL, require_key=True)) as sandbox:
            assert (await sandbox.post()).status == 401
            assert (await sandbox.post(authorization="Bearer ")).status == 401
            assert (await sandbox.post(authorization="Bearer any")).status == 200
            async with sandbox.http.get(f"{sandbox.base_url}/models") as response:
                assert response.status == 401
            assert [model.id for model in (await sandbox.openai.models.list()).data] == ["small"]

    asyncio.run(scenario())


def test_wrong_requests_get_the_apis_errors(tokenizer_path: Path) -> None:
    async def scenario() -> None:
        async with live(config_with(tokenizer_path, SMALL)) as sandbox:
            broken = await sandbox.post(b'{"model":')
            assert broken.status == 400
            assert set(broken.json["error"]) == {"message", "type", "param", "code"}
            assert (await sandbox.post(path="/completions")).status == 404
            async with sandbox.http.get(f"{sandbox.base_url}/chat/completions") as response:
                assert (response.status, (await response.json())["error"]["code"]) == (404, "unknown_url")
            with pytest.raises(openai.BadRequestError, match="does not stream"):
                await sandbox.openai.chat.completions.create(
                    model="small", messages=[{"role": "user", "content": "Hi"}], stream=True
                )

    asyncio.run(scenario())


def test_prompts_over_a_megabyte_pass_and_over_the_limit_do_not(
    tokenizer_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def status(words: int) -> tuple[int, int]:
        async with live(config_with(tokenizer_path, SMALL)) as sandbox:
            reply = await sandbox.post(ask("word " * words))
            return reply.status, reply.json["usage"]["prompt_tokens"] if reply.status == 200 else 0

    assert asyncio.run(status(300_000)) == (200, 300_007)
    monkeypatch.setattr("routing.sandbox.serving.MAX_BODY_BYTES", 1000)
    assert asyncio.run(status(300)) == (413, 0)


def test_limits_refuse_with_a_true_wait(tokenizer_path: Path) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        spec = SMALL.model_copy(update={"rpm": 2})
        async with live(config_with(tokenizer_path, spec), clock=clock) as sandbox:
            first = await sandbox.post()
            assert first.headers["x-ratelimit-limit-requests"] == "2"
            assert first.headers["x-ratelimit-remaining-requests"] == "1"
            assert first.headers["x-ratelimit-reset-requests"] == "30s"
            await sandbox.post(b"{")  # unreadable, so of no model
            await sandbox.post()
            refused = await sandbox.post()
            assert (refused.status, refused.json["error"]["code"]) == (429, "rate_limit_exceeded")
            assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("30", "30000")
            assert refused.headers["x-ratelimit-reset-requests"] == "1m0s"
            clock.now_s += 30
            assert (await sandbox.post()).status == 200
            assert (await sandbox.post(ask(model="other"))).status == 200
            with pytest.raises(openai.RateLimitError):
                await sandbox.openai.chat.completions.create(
                    model="small", messages=[{"role": "user", "content": "Hi"}]
                )

    asyncio.run(scenario())


def test_token_limits_count_the_tokens_that_are_billed(tokenizer_path: Path) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        spec = SMALL.model_copy(update={"tpm": 1000})
        async with live(config_with(tokenizer_path, spec), clock=clock) as sandbox:
            replies: list[Reply] = []
            while (reply := await sandbox.post(ask(f"question {len(replies)}"))).status == 200:
                replies.append(reply)
            spent = sum(one.json["usage"]["total_tokens"] for one in replies)
            assert replies[-1].headers["x-ratelimit-remaining-tokens"] == str(1000 - spent)
            assert reply.json["error"]["type"] == "tokens"
            clock.now_s += int(reply.headers["retry-after-ms"]) / 1000
            assert (await sandbox.post(ask(f"question {len(replies)}"))).status == 200
            too_large = await sandbox.post(ask("word " * 1001))
            assert (too_large.status, "retry-after" in too_large.headers) == (429, False)

    asyncio.run(scenario())


def test_latency_is_base_and_time_per_token(tokenizer_path: Path) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        spec = SMALL.model_copy(update={"latency_s": 1.5, "latency_s_per_output_token": 0.01})
        async with live(config_with(tokenizer_path, spec), clock=clock) as sandbox:
            reply = await sandbox.post()
            tokens = reply.json["usage"]["completion_tokens"]
            assert clock.now_s - 1000 == pytest.approx(1.5 + 0.01 * tokens)

    asyncio.run(scenario())


def test_recorded_answers_are_replayed(tokenizer_path: Path, tmp_path: Path) -> None:
    table = {"prompt": [QUESTION], "model": ["small"], "response": ["Paris, of course."]}
    pl.DataFrame(table).write_parquet(tmp_path / "answers.parquet")

    async def scenario() -> None:
        config = config_with(tokenizer_path, SMALL, replay=tmp_path / "answers.parquet")
        async with live(config) as sandbox:
            reply = (await sandbox.post()).json
            assert reply["choices"][0]["message"]["content"] == "Paris, of course."
            assert reply["usage"]["completion_tokens"] == 5
            cut = (await sandbox.post(ask(max_tokens=2))).json
            assert cut["choices"][0]["message"]["content"] == "Paris,"
            assert cut["choices"][0]["finish_reason"] == "length"
            missed = await sandbox.post(ask(model="large"))
            assert (missed.status, missed.json["error"]["code"]) == (400, "replay_miss")

    asyncio.run(scenario())


def test_hanging_requests_do_not_hold_the_stop(tokenizer_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"

    async def scenario() -> None:
        config = config_with(tokenizer_path, SMALL, journal=path, faults={"rate_timeout": 1.0, "hang_s": 60.0})
        async with asyncio.timeout(30), live(config) as sandbox:
            hanging = [asyncio.create_task(sandbox.post()) for _ in range(20)]
            while len(events(path, "received")) < 20:
                await asyncio.sleep(0.01)
        assert all(isinstance(end, Exception) for end in await asyncio.gather(*hanging, return_exceptions=True))

    asyncio.run(scenario())
    assert [(line["fault"], line["status"]) for line in events(path, "finished")] == [("stopped", None)] * 20


def test_serve_announces_itself_and_ends_when_told(tokenizer_path: Path) -> None:
    async def scenario() -> str:
        stop = asyncio.Event()
        lines: list[str] = []

        def ready(line: str) -> None:
            lines.append(line)
            stop.set()

        await asyncio.wait_for(serve(config_with(tokenizer_path), stop=stop, on_ready=ready), 5)
        (line,) = lines
        return line

    assert '"base_url": "http://127.0.0.1:' in asyncio.run(scenario())


def test_a_taken_port_and_a_foreign_host_are_config_errors(tokenizer_path: Path) -> None:
    async def scenario() -> None:
        async with serving(config_with(tokenizer_path)) as base_url:
            port = int(base_url.removesuffix("/v1").rsplit(":", 1)[1])
            with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
                async with serving(SandboxConfig(port=port, tokenizer=tokenizer_path)):
                    pass
        unchecked = config_with(tokenizer_path).model_copy(update={"host": "0.0.0.0"})
        with pytest.raises(ConfigError, match=r"127\.0\.0\.1 only"):
            async with serving(unchecked):
                pass

    asyncio.run(scenario())
