"""What a call is, what can come back, and what each outcome means (DESIGN section 4)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from routing.ledger import Reply


class Verdict(Enum):
    """What happens after an attempt."""

    DONE = "done"
    """The call is decided: an answer came, or an error that no retry can mend."""
    RETRY = "retry"
    """Transient: tried again after a backoff, counted in `max_attempts`."""
    COOL_DOWN = "cool_down"
    """The endpoint asks for less: shared cool-down, own retry budget."""
    STOP_CREDENTIALS = "stop_credentials"
    """The key is refused: no other call can succeed either."""
    STOP_QUOTA = "stop_quota"
    """The account is out of money or quota."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What dispatch knows of a call, whatever it asks for."""

    call_key: str
    part: int
    row: int
    query_id: str
    """The query it is for; of a batch, the digests of its texts (`routing.embeddings`)."""
    model: str
    estimated_tokens: int
    """Input tokens plus the output that may come: what the TPM bucket reserves."""
    estimate_usd: str | None
    """Upper estimate of the cost, a decimal; null when unpriced."""
    attempts_before: int = 0
    """Attempts that earlier processes of this run made and did not see the end of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Request):
    """One query for one model."""

    messages: list[dict[str, str]]
    max_output_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCall(Request):
    """Texts to embed in one request."""

    texts: tuple[str, ...]


Complete = Callable[[Any, str], Awaitable[Reply]]
"""(request, client request id) -> Reply. Never raises for what the other side did: errors are replies too.

Each client takes its own kind of `Request`, which is why the first argument is not typed closer."""

QUOTA_CODES = frozenset({"insufficient_quota", "insufficient_balance", "billing_hard_limit_reached", "quota_exceeded"})
CONTENT_FILTER_CODES = frozenset({"content_filter", "content_policy_violation"})

MALFORMED = "malformed_response"
"""Error code of a reply with status 200 that holds no answer."""

_RETRY = frozenset({"timeout", "connection", MALFORMED})


def error_code(status: int, provider_code: str | None) -> str:
    """Name an HTTP error: the error classes of this project, one word each.

    Args:
        status: HTTP status, 400 or above.
        provider_code: `error.code` or `error.type` of an OpenAI-style error body.
    """
    if provider_code in QUOTA_CODES:
        return "insufficient_quota"
    if provider_code in CONTENT_FILTER_CODES:
        return "content_filter"
    if provider_code == "context_length_exceeded":
        return "context_length"
    named = {
        400: "bad_request", 401: "authentication", 402: "insufficient_quota", 403: "permission", 404: "not_found",
        408: "timeout", 409: "conflict", 413: "too_large", 422: "unprocessable", 429: "rate_limit",
    }  # fmt: skip
    return named.get(status, "server_error" if status >= 500 else "bad_request")


def verdict(reply: Reply) -> Verdict:
    """Decide what an attempt's outcome means for the call and for the run."""
    code = reply.error_code
    if code is None:
        return Verdict.DONE
    if code == "insufficient_quota":
        return Verdict.STOP_QUOTA
    if code in ("authentication", "permission"):
        return Verdict.STOP_CREDENTIALS
    if code == "rate_limit" or (reply.status == 503 and reply.retry_after_s is not None):
        return Verdict.COOL_DOWN
    if code in _RETRY or code in ("conflict", "server_error"):
        return Verdict.RETRY
    return Verdict.DONE


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model at one address, and how to talk to it."""

    model: str
    base_url: str
    api_key: str
    """Read from the environment at use; never written anywhere."""
    params: Mapping[str, object]
    """Request parameters sent with every call (temperature, max_completion_tokens, ...)."""
    max_output_tokens_param: str
    """Name of the request parameter for a row's `max_output_tokens`."""
    headers: Mapping[str, str]
    secret_headers: Mapping[str, str]
    """Headers whose values are redacted wherever a provider quotes them."""
    timeout_s: float
    max_connections: int
