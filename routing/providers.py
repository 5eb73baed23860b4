"""The only module that imports openai: one request, one Reply. Retries are decided elsewhere (`max_retries=0`)."""

import contextlib
import dataclasses
import math
import re
import time
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from typing import Any, Self

import aiohttp
import httpx2
import openai

from routing.calls import MALFORMED, Call, EmbeddingCall, Endpoint, error_code
from routing.embeddings import read_vectors
from routing.ledger import Reply

_SECRET = re.compile(r"(sk-|key-|Bearer\s+)[\w\-.*]{6,}", re.IGNORECASE)
_MESSAGE_LENGTH = 500
_SHORTEST_KEY = 8


class _OpenAIClient:
    """One endpoint. An async context manager."""

    def __init__(self, endpoint: Endpoint, *, wall_clock: Callable[[], float] = time.time) -> None:
        """Prepare a client; nothing is sent.

        Args:
            endpoint: Model, address, key and parameters.
            wall_clock: Unix time in seconds.
        """
        self._endpoint = endpoint
        self._wall_clock = wall_clock
        limits = httpx2.Limits(
            max_connections=endpoint.max_connections, max_keepalive_connections=endpoint.max_connections
        )
        timeout = httpx2.Timeout(endpoint.timeout_s, connect=min(10.0, endpoint.timeout_s))
        # The aiohttp transport does about twice the requests per second of the default one.
        self._http = openai.DefaultAioHttpClient(limits=limits, timeout=timeout)
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
            max_retries=0,
            timeout=timeout,
            http_client=self._http,
            default_headers={**endpoint.headers, **endpoint.secret_headers},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def _post(self, path: str, body: dict[str, object], request_id: str) -> Reply:
        """Send one attempt; whatever happens on the wire comes back as a Reply."""
        started = time.monotonic()
        # A client id per attempt: providers log it, which settles disputes about calls whose reply never came.
        options: Any = {"headers": {"X-Client-Request-Id": request_id}}
        try:
            response = await self._client.post(path, cast_to=httpx2.Response, body=body, options=options)
            text = response.text
        except openai.APIStatusError as error:
            return self._refused(error, started)
        except openai.APITimeoutError as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):  # what the transport calls any failure to connect
                return self._broken("connection", str(error.__cause__), started)
            return self._broken("timeout", f"no reply within {self._endpoint.timeout_s} s", started)
        except openai.APIConnectionError as error:
            return self._broken("connection", str(error.__cause__ or error), started)
        except aiohttp.ClientError as error:  # a reply that is no HTTP: the transport does not translate it
            return self._broken("connection", str(error), started)
        return Reply(
            status=response.status_code,
            error_code=None,
            error_message=None,
            retry_after_s=None,
            request_id=response.headers.get("x-request-id"),
            latency_s=time.monotonic() - started,
            replied_at=self._wall_clock(),
            body=text,
        )

    def _refused(self, error: openai.APIStatusError, started: float) -> Reply:
        said = error.code or error.type
        return Reply(
            status=error.status_code,
            error_code=error_code(error.status_code, said if isinstance(said, str) else None),  # JSON can be anything
            error_message=self._clean(error.message)[:_MESSAGE_LENGTH],
            retry_after_s=retry_after_s(error.response.headers, now=self._wall_clock()),
            request_id=error.request_id,
            latency_s=time.monotonic() - started,
            replied_at=self._wall_clock(),
            body=self._clean(error.response.text),
        )

    def _broken(self, code: str, message: str, started: float) -> Reply:
        return Reply(
            None,
            code,
            self._clean(message)[:_MESSAGE_LENGTH],
            None,
            None,
            time.monotonic() - started,
            self._wall_clock(),
            None,
        )

    def _clean(self, text: str) -> str:
        # Half a surrogate pair, which JSON can spell, is no text that can be stored.
        secrets = (self._endpoint.api_key, *self._endpoint.secret_headers.values())
        return _redacted(text, secrets).encode("utf-8", "replace").decode()


class OpenAICompletions(_OpenAIClient):
    """Chat completions of one endpoint; call it like a `routing.calls.Complete`."""

    async def __call__(self, call: Call, request_id: str) -> Reply:
        """Send one attempt; whatever happens on the wire comes back as a Reply."""
        body: dict[str, object] = {"model": call.model, "messages": call.messages, **self._endpoint.params}
        if call.max_output_tokens is not None:
            body[self._endpoint.max_output_tokens_param] = call.max_output_tokens
        return await self._post("/chat/completions", body, request_id)


class OpenAIEmbeddings(_OpenAIClient):
    """Embeddings of one endpoint; call it like a `routing.calls.Complete` with an `EmbeddingCall`."""

    def __init__(self, endpoint: Endpoint, *, dim: int) -> None:
        """Prepare a client; nothing is sent.

        Args:
            endpoint: Model, address, key and parameters.
            dim: Width that every vector has to have.
        """
        super().__init__(endpoint)
        self._dim = dim

    async def __call__(self, call: EmbeddingCall, request_id: str) -> Reply:
        """Send one attempt; a reply without one vector for each text comes back with the error code `MALFORMED`."""
        # Base64 is a quarter of the bytes of decimals, and exact.
        body = {"model": call.model, "input": call.texts, "encoding_format": "base64", **self._endpoint.params}
        reply = await self._post("/embeddings", body, request_id)
        if reply.error_code is not None or read_vectors(reply.body or "", n=len(call.texts), dim=self._dim) is not None:
            return reply
        said = f"the reply was HTTP 200 but not {len(call.texts)} vectors of {self._dim} numbers"
        return dataclasses.replace(reply, error_code=MALFORMED, error_message=said)


def retry_after_s(headers: httpx2.Headers, *, now: float) -> float | None:
    """Read how long the other side asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date.

    Both may be given; the longer one is kept, since Retry-After is a floor.

    Args:
        headers: Response headers.
        now: Unix time in seconds, for dates.
    """
    waits: list[float] = []
    with contextlib.suppress(KeyError, ValueError):
        waits.append(float(headers["retry-after-ms"]) / 1000)
    value = headers.get("retry-after")
    if value is not None:
        try:
            waits.append(float(value))
        except ValueError:
            with contextlib.suppress(TypeError, ValueError):
                waits.append(parsedate_to_datetime(value).timestamp() - now)
    waits = [wait for wait in waits if math.isfinite(wait)]  # float() reads "nan" and "inf", too
    return max(0.0, *waits) if waits else None


def _redacted(text: str, secrets: Iterable[str]) -> str:
    """Remove what is, or looks like, a key: some providers quote it in their error messages."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_KEY:
            text = text.replace(secret, "[redacted]")
    return _SECRET.sub(r"\1[redacted]", text)
