import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import httpx2
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from routing.calls import Call, Endpoint, Verdict, verdict
from routing.ledger import Reply
from routing.providers import OpenAICompletions, retry_after_s
from tests.fakes import NOON, call, completion

KEY = "sk-test-0123456789abcdef"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def endpoint(base_url: str, **fields: Any) -> Endpoint:
    default: dict[str, Any] = {
        "model": "m",
        "base_url": base_url,
        "api_key": KEY,
        "params": {},
        "max_output_tokens_param": "max_completion_tokens",
        "headers": {},
        "secret_headers": {},
        "timeout_s": 20.0,
        "max_connections": 4,
    }
    return Endpoint(**{**default, **fields})


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("/v1"))


def ask(handler: Handler, query: Call | None = None, *, request_id: str = "id-1", **fields: Any) -> Reply:
    """Send one call to a server that answers with `handler`."""

    async def scenario() -> Reply:
        async with (
            serving(handler) as base_url,
            OpenAICompletions(endpoint(base_url, **fields), wall_clock=lambda: NOON) as complete,
        ):
            return await complete(query or call("q0"), request_id)

    return asyncio.run(asyncio.wait_for(scenario(), timeout=30))


def saying(status: int, body: str | bytes = "", **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        raw = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=raw, headers={"content-type": "application/json", **named})

    return handler


def error_body(message: str = "no", code: object = None, kind: object = None) -> str:
    return json.dumps({"error": {"message": message, "code": code, "type": kind}})


def watching(seen: list[web.Request], bodies: list[dict[str, Any]]) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        bodies.append(await request.json())
        return web.Response(text=completion())

    return handler


# ---- what is sent ---------------------------------------------------------------------------------------------------


def sent(query: Call, **fields: Any) -> tuple[web.Request, dict[str, Any]]:
    seen: list[web.Request] = []
    bodies: list[dict[str, Any]] = []
    ask(watching(seen, bodies), query, **fields)
    assert len(seen) == 1
    return seen[0], bodies[0]


def test_the_body_holds_model_messages_and_parameters() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Zürich 😀?"}]
    _, body = sent(call("q0", messages=messages), params={"temperature": 0.2, "seed": 7})
    assert body == {"model": "m", "messages": messages, "temperature": 0.2, "seed": 7}


@pytest.mark.parametrize("param", ["max_completion_tokens", "max_tokens"])
def test_a_rows_token_limit_comes_before_the_models(param: str) -> None:
    fields: dict[str, Any] = {"params": {param: 500}, "max_output_tokens_param": param}
    assert sent(call("q0", max_output_tokens=64), **fields)[1][param] == 64
    assert sent(call("q0"), **fields)[1][param] == 500


def test_without_any_limit_none_is_sent() -> None:
    assert set(sent(call("q0"))[1]) == {"model", "messages"}


def test_every_attempt_carries_the_key_its_own_id_and_the_extra_headers() -> None:
    request, _ = sent(call("q0"), request_id="abc-3", headers={"X-Team": "night", "api-version": "2026-01-01"})
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["X-Client-Request-Id"] == "abc-3"
    assert (request.headers["X-Team"], request.headers["api-version"]) == ("night", "2026-01-01")


# ---- what comes back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [completion("Zürich 😀"), "", "<html>", "[]", '{"error": {"message": "in a 200"}}'])
def test_http_200_is_kept_as_it_came(body: str) -> None:
    reply = ask(saying(200, body, x_request_id="req-1"))
    assert (reply.status, reply.error_code, reply.body, reply.request_id) == (200, None, body, "req-1")
    assert (reply.error_message, reply.retry_after_s, reply.replied_at) == (None, None, NOON)
    assert 0 < reply.latency_s < 30


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, error_body(), "bad_request"),
        (400, error_body(code="content_filter"), "content_filter"),
        (400, error_body(kind="content_policy_violation"), "content_filter"),
        (400, error_body(code="context_length_exceeded"), "context_length"),
        (401, error_body(), "authentication"),
        (402, error_body(), "insufficient_quota"),
        (403, error_body(), "permission"),
        (404, error_body(), "not_found"),
        (408, error_body(), "timeout"),
        (409, error_body(), "conflict"),
        (413, "<html>too large</html>", "too_large"),
        (422, error_body(), "unprocessable"),
        (429, error_body(), "rate_limit"),
        (429, error_body(code="insufficient_quota", kind="insufficient_quota"), "insufficient_quota"),
        (500, error_body(), "server_error"),
        (502, "<html>bad gateway</html>", "server_error"),
        (503, "", "server_error"),
        (529, error_body(kind="overloaded_error"), "server_error"),
        (500, error_body(code=17), "server_error"),
        (500, error_body(code=["a", "list"]), "server_error"),
        (500, error_body(kind={"an": "object"}), "server_error"),
        (400, '["no", "object"]', "bad_request"),
        (400, '{"error": "a text"}', "bad_request"),
        (400, '{"error": null}', "bad_request"),
    ],
)
def test_every_refusal_has_a_name_and_keeps_its_body(status: int, body: str, code: str) -> None:
    reply = ask(saying(status, body, x_request_id="req-7"))
    assert (reply.status, reply.error_code, reply.body, reply.request_id) == (status, code, body, "req-7")
    assert reply.error_message


def test_the_message_of_the_provider_is_told_and_kept_short() -> None:
    assert "prompt is naughty" in (ask(saying(400, error_body("prompt is naughty"))).error_message or "")
    assert len(ask(saying(400, error_body("x" * 5000))).error_message or "") == 500


@pytest.mark.parametrize("status", [429, 500])
def test_a_request_is_sent_once_whatever_the_client_would_retry(status: int) -> None:
    requests: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        requests.append(request)
        return web.Response(status=status, headers={"retry-after": "0"})

    ask(handler)
    assert len(requests) == 1


def test_text_that_is_half_a_pair_can_be_stored() -> None:
    reply = ask(saying(400, '{"error": {"message": "half: \\ud83d"}}'))
    for text in (reply.error_message, reply.body):
        assert text is not None
        assert "half" in text
        text.encode()


# ---- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, "plain-secret-without-a-prefix"])
@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: {key}.",
        "header was 'Bearer {key}'",
        "{key}{key}",
        "keys like sk-abc123***xyz and key-0123456789 are gone",
    ],
)
def test_no_key_is_in_any_reply(key: str, text: str) -> None:
    message = text.format(key=key)
    for body in (error_body(message), message):
        reply = ask(saying(401, body), api_key=key)
        assert key not in repr(reply)
        assert "sk-abc123" not in repr(reply)
        assert "0123456789" not in repr(reply)
        assert "[redacted]" in (reply.body or "")
        assert verdict(reply) is Verdict.STOP_CREDENTIALS


def test_no_secret_header_is_in_any_reply() -> None:
    reply = ask(
        saying(403, error_body("tenant t0p-s3cret-value is unknown")), secret_headers={"X-Tenant": "t0p-s3cret-value"}
    )
    assert "s3cret" not in repr(reply)
    assert "[redacted]" in (reply.error_message or "")


def test_a_placeholder_key_does_not_eat_the_text() -> None:
    reply = ask(saying(400, error_body("none of these messages is none")), api_key="none")
    assert "none of these messages is none" in (reply.error_message or "")


# ---- the wire -------------------------------------------------------------------------------------------------------


def test_no_reply_in_time_is_a_timeout() -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    reply = ask(handler, timeout_s=0.1)
    assert (reply.status, reply.error_code, reply.body) == (None, "timeout", None)
    assert reply.error_message == "no reply within 0.1 s"
    assert verdict(reply) is Verdict.RETRY


def _transport(request: web.Request) -> asyncio.Transport:
    assert isinstance(request.transport, asyncio.Transport)
    return request.transport


async def _dropped(request: web.Request) -> web.Response:
    _transport(request).abort()
    return web.Response()


async def _cut_short(request: web.Request) -> web.Response:
    _transport(request).write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + completion().encode()[:50])
    _transport(request).close()
    return web.Response()


async def _cut_chunk(request: web.Request) -> web.Response:
    _transport(request).write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nabc")
    _transport(request).close()
    return web.Response()


async def _no_http(request: web.Request) -> web.Response:
    _transport(request).write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
    _transport(request).close()
    return web.Response()


async def _no_gzip(request: web.Request) -> web.Response:
    _transport(request).write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\nnotgzipped")
    _transport(request).close()
    return web.Response()


@pytest.mark.parametrize("handler", [_dropped, _cut_short, _cut_chunk, _no_http, _no_gzip])
def test_a_line_that_breaks_is_a_connection_error(handler: Handler) -> None:
    reply = ask(handler)
    assert (reply.status, reply.error_code, reply.body) == (None, "connection", None)
    assert reply.error_message
    assert verdict(reply) is Verdict.RETRY


def test_nobody_listening_is_a_connection_error() -> None:
    async def scenario() -> Reply:
        async with serving(saying(200)) as base_url:
            pass  # its port is free again
        async with OpenAICompletions(endpoint(base_url)) as complete:
            return await complete(call("q0"), "id-1")

    reply = asyncio.run(scenario())
    assert (reply.status, reply.error_code) == (None, "connection")


def test_calls_share_connections_up_to_the_limit() -> None:
    most, now = 0, 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        return web.Response(text=completion())

    async def scenario() -> list[Reply]:
        async with serving(handler) as base_url, OpenAICompletions(endpoint(base_url, max_connections=3)) as complete:
            return await asyncio.gather(*(complete(call(f"q{i}"), str(i)) for i in range(12)))

    assert {reply.status for reply in asyncio.run(scenario())} == {200}
    assert most == 3


# ---- Retry-After ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "2", "retry-after-ms": "250"}, 2.0),  # a floor: the longer one counts
        ({"retry-after": "1", "retry-after-ms": "2500"}, 2.5),
        ({"retry-after": formatdate(NOON + 90, usegmt=True)}, 90.0),
        ({"retry-after": formatdate(NOON - 90, usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "soon", "retry-after": "4"}, 4.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_retry_after_in_seconds_milliseconds_or_as_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(httpx2.Headers(headers), now=NOON) == seconds


def test_a_refusal_carries_its_retry_after() -> None:
    reply = ask(saying(429, error_body(), retry_after=formatdate(NOON + 30, usegmt=True)))
    assert (reply.retry_after_s, verdict(reply)) == (30.0, Verdict.COOL_DOWN)
    assert ask(saying(503, "", retry_after="2")).retry_after_s == 2.0


def test_the_client_closes_its_connections() -> None:
    async def scenario() -> None:
        async with serving(saying(200, completion())) as base_url:
            async with OpenAICompletions(endpoint(base_url)) as complete:
                await complete(call("q0"), "id-1")
            with pytest.raises(Exception, match="closed"):
                await complete(call("q0"), "id-2")

    asyncio.run(scenario())


def test_these_tests_reach_nothing_beyond_this_machine() -> None:
    async def scenario() -> Reply:
        async with OpenAICompletions(endpoint("http://192.0.2.1:9/v1")) as complete:  # an address of documentation
            return await complete(call("q0"), "id-1")

    with pytest.raises(AssertionError, match="only loopback is allowed"):
        asyncio.run(scenario())
