"""The requests: read, decided by the other modules, booked in the journal, sent."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, assert_never

from aiohttp import web

from routing.sandbox.answers import Answer, Answerer
from routing.sandbox.config import ModelSpec, SandboxConfig
from routing.sandbox.faults import FaultPlan
from routing.sandbox.journal import Finished, Journal, Received
from routing.sandbox.limits import ModelLimits
from routing.sandbox.outcomes import Delivery, Outcome, answered, faulty, over_limit, refused
from routing.sandbox.replay import Replay
from routing.sandbox.tokens import TokenCounter
from routing.sandbox.wire import (
    ApiError,
    ChatRequest,
    EmbeddingsRequest,
    ReplyStamp,
    models_body,
    read_chat,
    read_embeddings,
)

MAX_BODY_BYTES = 64 * 2**20

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]
Endpoint = Literal["chat", "embeddings"]

_ENDPOINTS: dict[str, Endpoint] = {"/v1/chat/completions": "chat", "/v1/embeddings": "embeddings"}


@dataclass(slots=True)
class _Model:
    """A model while the server runs."""

    spec: ModelSpec
    limits: ModelLimits
    not_before_s: float | None = None


class _Call(NamedTuple):
    """A request that was received."""

    ordinal: int
    client_request_id: str | None
    request: ChatRequest | EmbeddingsRequest | ApiError
    """What was asked, or the error that reading it gave."""


class Sandbox:
    """Answers OpenAI requests; one instance serves one event loop.

    Args:
        config: What to play.
        counter: Counts tokens.
        replay: Recorded answers in place of made-up ones.
        journal: Gets two events a request.
        clock: Monotonic seconds, for limits and journal.
        wall_clock: Unix seconds, for `created`.
        sleep: Passes the time of latencies and hanging requests.
    """

    def __init__(
        self,
        config: SandboxConfig,
        *,
        counter: TokenCounter,
        replay: Replay | None = None,
        journal: Journal | None = None,
        clock: Clock = time.monotonic,
        wall_clock: Clock = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._config = config
        self._counter = counter
        self._answerer = Answerer(counter, seed=config.seed, replay=replay, scripted=config.scripted)
        self._faults = FaultPlan(config.faults, config.seed)
        self._journal = journal
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep
        now_s = clock()
        self._models = {spec.name: _Model(spec, ModelLimits(spec, now_s)) for spec in config.models}
        self._fingerprint = f"fp_{config.seed % 2**40:010x}"
        self._started = int(wall_clock())
        self._received = 0
        self._in_flight = 0
        self._waiting: set[asyncio.Task[object]] = set()
        self._stopping = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one HTTP request."""
        endpoint = _ENDPOINTS.get(request.path)
        if endpoint is not None and request.method == "POST":
            return await self._exchange(request, endpoint)
        if request.method == "GET" and request.path == "/v1/models":
            if self._config.require_key and not _has_key(request):
                return _reply(refused(_no_key()))
            specs = self._config.models or (self._config.default_model,)
            return _reply(Outcome(200, models_body(specs, self._started)))
        if request.method == "GET" and request.path == "/healthz":
            health = {"status": "ok", "received": self._received, "in_flight": self._in_flight}
            return _reply(Outcome(200, json.dumps(health).encode()))
        message = f"Invalid URL ({request.method} {request.path})"
        return _reply(refused(ApiError(404, message, code="unknown_url")))

    async def stop(self) -> None:
        """Give up every request that waits, so that hanging ones do not hold the server."""
        self._stopping = True
        waiting = list(self._waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _exchange(self, request: web.BaseRequest, endpoint: Endpoint) -> web.StreamResponse:
        arrived_s = self._clock()
        call = await self._read(request, endpoint)
        self._in_flight += 1
        try:
            if self._journal is not None:
                self._journal.write(self._received_event(call, endpoint, arrived_s))
            outcome = self._decide(call)
            if outcome.wait_s > 0:
                await self._wait(call, outcome, request)
            self._finish(call, outcome, request)
        finally:
            self._in_flight -= 1
        return await _deliver(request, outcome, request_id=f"req_{call.ordinal:024d}")

    async def _read(self, request: web.BaseRequest, endpoint: Endpoint) -> _Call:
        parsed: ChatRequest | EmbeddingsRequest | ApiError
        try:
            body = await request.read()
            if self._config.require_key and not _has_key(request):
                raise _no_key()
            parsed = read_chat(body) if endpoint == "chat" else read_embeddings(body)
        except ApiError as exc:
            parsed = exc
        except ConnectionError:  # nobody reads this error, but the journal shows the request
            parsed = ApiError(400, "The connection was lost before the request was complete.")
        except web.HTTPRequestEntityTooLarge:
            parsed = ApiError(413, f"The request body exceeds {MAX_BODY_BYTES} bytes.")
        self._received += 1
        return _Call(self._received, request.headers.get("x-client-request-id"), parsed)

    def _decide(self, call: _Call) -> Outcome:
        """Decide everything about a reply at the moment its request arrives, without waiting for anything."""
        request = call.request
        if isinstance(request, ApiError):
            return refused(request)
        try:
            model = self._model(request.model)
        except ApiError as exc:
            return refused(exc)
        outcome = self._decide_for(model, call, request)
        return replace(outcome, headers=outcome.headers | model.limits.headers(self._clock()))

    def _decide_for(self, model: _Model, call: _Call, request: ChatRequest | EmbeddingsRequest) -> Outcome:
        answer: Answer
        error: ApiError | None = None
        tokens = 0
        try:
            if isinstance(request, ChatRequest):
                answer = self._answerer.chat(request, model.spec)
            else:
                answer = self._answerer.embeddings(request, model.spec)
            tokens = answer.usage.total_tokens
        except ApiError as exc:
            error = exc
        # A request that fails counts as a request all the same, so the limits come before its error.
        refusal = model.limits.admit(tokens, self._clock())
        if refusal is not None:
            return over_limit(refusal, model.spec.name)
        if error is not None:
            return refused(error)
        stamp = ReplyStamp(
            f"{self._started:x}{call.ordinal:021d}", int(self._wall_clock()), model.spec.name, self._fingerprint
        )
        fault = self._faults.next(call.client_request_id, call.ordinal)
        if fault is None:
            return answered(answer, model.spec, stamp)
        return faulty(fault, answer, model.spec, stamp, counter=self._counter, config=self._config.faults)

    def _model(self, name: str) -> _Model:
        model = self._models.get(name)
        if model is None:
            if not self._config.accept_any_model:
                message = f"The model `{name}` does not exist or you do not have access to it."
                raise ApiError(404, message, param="model", code="model_not_found")
            spec = self._config.default_model.model_copy(update={"name": name})
            model = self._models[name] = _Model(spec, ModelLimits(spec, self._clock()))
        return model

    async def _wait(self, call: _Call, outcome: Outcome, request: web.BaseRequest) -> None:
        task = asyncio.current_task()
        if self._stopping or task is None:
            return
        self._waiting.add(task)
        try:
            await self._sleep(outcome.wait_s)
        except asyncio.CancelledError:
            self._finish(call, Outcome(None), request, stopped=True)
            raise
        finally:
            self._waiting.discard(task)

    def _received_event(self, call: _Call, endpoint: Endpoint, arrived_s: float) -> Received:
        request = call.request
        name = None if isinstance(request, ApiError) else request.model
        model = None if name is None else self._models.get(name)
        not_before_s = None if model is None else model.not_before_s
        return Received(
            ordinal=call.ordinal,
            endpoint=endpoint,
            monotonic_s=arrived_s,
            model=name,
            client_request_id=call.client_request_id,
            prompt_sha256=None if isinstance(request, ApiError) else request.prompt_sha256(),
            in_flight=self._in_flight,
            not_before_s=not_before_s,
            early=not_before_s is not None and arrived_s < not_before_s,
        )

    def _finish(self, call: _Call, outcome: Outcome, request: web.BaseRequest, *, stopped: bool = False) -> None:
        """Book a reply just before it leaves: what the client may have seen is in the journal, whatever dies next."""
        now_s = self._clock()
        name = None if isinstance(call.request, ApiError) else call.request.model
        not_before_s = None if outcome.retry_after_s is None else now_s + outcome.retry_after_s
        if not_before_s is not None and name is not None:
            model = self._model(name)
            model.not_before_s = max(not_before_s, model.not_before_s or not_before_s)
        if self._journal is None:
            return
        transport = request.transport
        self._journal.write(
            Finished(
                ordinal=call.ordinal,
                monotonic_s=now_s,
                model=name,
                client_request_id=call.client_request_id,
                status=outcome.status,
                fault="stopped" if stopped else outcome.fault,
                error_code=outcome.error_code,
                finish_reason=outcome.finish_reason,
                retry_after_s=outcome.retry_after_s,
                not_before_s=not_before_s,
                prompt_tokens=outcome.usage.prompt_tokens,
                completion_tokens=outcome.usage.completion_tokens,
                cached_tokens=outcome.usage.cached_tokens,
                reasoning_tokens=outcome.usage.reasoning_tokens,
                cost_usd=None if outcome.cost_usd is None else format(outcome.cost_usd, "f"),
                bytes=len(outcome.body),
                connected=transport is not None and not transport.is_closing(),
            )
        )


async def _deliver(request: web.BaseRequest, outcome: Outcome, *, request_id: str) -> web.StreamResponse:
    response = _reply(outcome)
    response.headers["x-request-id"] = request_id
    transport = request.transport
    if transport is None:
        return response
    match outcome.delivery:
        case Delivery.REPLY:
            return response
        case Delivery.CLOSE:
            transport.close()
            return response
        case Delivery.ABORT:
            transport.abort()
            return response
        case Delivery.TRUNCATE:
            truncated = web.StreamResponse(status=response.status, headers=response.headers)
            truncated.content_length = len(outcome.body)
            with suppress(ConnectionError):  # the client may be gone by now
                await truncated.prepare(request)
                await truncated.write(outcome.body[: len(outcome.body) // 2])
            transport.close()
            return truncated
    assert_never(outcome.delivery)


def _reply(outcome: Outcome) -> web.Response:
    # A closed connection shows no status; aiohttp wants one all the same.
    status = outcome.status or 500
    return web.Response(
        body=outcome.body, status=status, headers={"content-type": "application/json", **outcome.headers}
    )


def _has_key(request: web.BaseRequest) -> bool:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and key.strip() != ""


def _no_key() -> ApiError:
    return ApiError(401, "You didn't provide an API key. Send any key as 'Authorization: Bearer KEY'.")
