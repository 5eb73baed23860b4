"""How a request ends: an answer, an error, or one of the injected faults."""

import math
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum, auto

from routing.sandbox.answers import Answer, cost_usd
from routing.sandbox.config import FaultConfig, ModelSpec
from routing.sandbox.faults import Fault, FaultKind
from routing.sandbox.limits import Refusal, retry_after_headers
from routing.sandbox.tokens import TokenCounter
from routing.sandbox.wire import ApiError, ReplyStamp, Usage

NOT_BILLED = Usage(0)
NOT_JSON = b"<html><body>upstream connect error or disconnect/reset before headers</body></html>"


class Delivery(Enum):
    """What the client gets to see."""

    REPLY = auto()
    """The whole reply."""
    TRUNCATE = auto()
    """All headers and half of the body, then the connection closes."""
    CLOSE = auto()
    """Nothing: the connection is closed."""
    ABORT = auto()
    """Nothing: the connection is reset."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that is decided when a request comes in; only time passes between this and the reply."""

    status: int | None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delivery: Delivery = Delivery.REPLY
    wait_s: float = 0.0
    """Latency of the model, or how long a hanging request is held."""
    fault: FaultKind | None = None
    error_code: str | None = None
    finish_reason: str | None = None
    retry_after_s: float | None = None
    usage: Usage = NOT_BILLED
    cost_usd: Decimal | None = Decimal(0)


def answered(answer: Answer, spec: ModelSpec, stamp: ReplyStamp) -> Outcome:
    """Return the outcome of a request that went well."""
    return Outcome(
        status=200,
        body=answer.body(stamp),
        wait_s=spec.latency_s + spec.latency_s_per_output_token * answer.usage.completion_tokens,
        finish_reason=answer.finish_reason,
        usage=answer.usage,
        cost_usd=cost_usd(answer.usage, spec),
    )


def refused(error: ApiError, *, retry_after_s: float | None = None, fault: FaultKind | None = None) -> Outcome:
    """Return the outcome of a request that gets an error body; nothing is billed."""
    headers = {} if retry_after_s is None else retry_after_headers(retry_after_s)
    return Outcome(error.status, error.body(), headers, fault=fault, error_code=error.code, retry_after_s=retry_after_s)


def over_limit(refusal: Refusal, model: str) -> Outcome:
    """Return the 429 of a model's own limits, without Retry-After where no wait would help."""
    unit = "RPM" if refusal.kind == "requests" else "TPM"
    numbers = f"on {refusal.kind} per min ({unit}): Limit {refusal.limit}, Requested {refusal.requested}."
    if math.isinf(refusal.wait_s):
        message = f"Request too large for {model} {numbers} The input or output tokens must be reduced."
        retry_after_s = None
    else:
        message = f"Rate limit reached for {model} {numbers} Please try again in {refusal.wait_s:.3f}s."
        retry_after_s = refusal.wait_s
    error = ApiError(429, message, kind=refusal.kind, code="rate_limit_exceeded")
    return refused(error, retry_after_s=retry_after_s)


def faulty(
    fault: Fault, answer: Answer, spec: ModelSpec, stamp: ReplyStamp, *, counter: TokenCounter, config: FaultConfig
) -> Outcome:
    """Return the outcome of a request that an injected fault hits; a 200 is billed, whatever its body is worth."""
    kind = fault.kind
    match kind:
        case FaultKind.RATE_LIMITED | FaultKind.OVERLOADED:
            return refused(_error(kind, spec.name), retry_after_s=fault.retry_after_s, fault=kind)
        case FaultKind.SERVER_ERROR:
            return refused(_error(kind, spec.name), fault=kind)
        case FaultKind.TIMEOUT:
            return Outcome(None, delivery=Delivery.CLOSE, wait_s=config.hang_s, fault=kind)
        case FaultKind.DROP:
            return Outcome(None, delivery=Delivery.ABORT, fault=kind)
        case FaultKind.EMPTY:
            return replace(answered(answer.emptied(), spec, stamp), fault=kind)
        case FaultKind.CONTENT_FILTER:
            return replace(answered(answer.filtered(counter), spec, stamp), fault=kind)
        case FaultKind.MALFORMED:
            return replace(answered(answer, spec, stamp), fault=kind, body=NOT_JSON)
        case FaultKind.TRUNCATED_BODY:
            return replace(answered(answer, spec, stamp), fault=kind, delivery=Delivery.TRUNCATE)


def _error(kind: FaultKind, model: str) -> ApiError:
    match kind:
        case FaultKind.RATE_LIMITED:
            message = f"Rate limit reached for {model} (injected). Please try again later."
            return ApiError(429, message, kind="requests", code="rate_limit_exceeded")
        case FaultKind.OVERLOADED:
            return ApiError(503, "The engine is currently overloaded, please try again later.", kind="server_error")
        case _:
            message = "The server had an error while processing your request. Sorry about that!"
            return ApiError(500, message, kind="server_error")
