"""Requests and tokens a minute: token buckets that refill evenly, and the headers that tell a client about them."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from routing.sandbox.config import ModelSpec

LimitKind = Literal["requests", "tokens"]
_MINUTE_S = 60.0
_SLACK = 1e-9


class Refusal(NamedTuple):
    """Why a request is not admitted."""

    kind: LimitKind
    limit: int
    requested: int
    wait_s: float
    """Time after which the same request passes if no other comes first; infinite when it never can."""


@dataclass(slots=True)
class TokenBucket:
    """`capacity` units a minute: starts full and refills evenly, so the first burst may take a whole minute's worth."""

    capacity: int
    level: float
    updated_s: float

    @classmethod
    def full(cls, capacity: int, now_s: float) -> "TokenBucket":
        """Return a bucket that nothing was taken from."""
        return cls(capacity, float(capacity), now_s)

    def refill(self, now_s: float) -> None:
        """Add what has accrued since the last call."""
        self.level = min(float(self.capacity), self.level + (now_s - self.updated_s) * self.capacity / _MINUTE_S)
        self.updated_s = now_s

    def take(self, amount: int) -> bool:
        """Take `amount` units if they are there."""
        # Without the slack a client that waits exactly as long as it was told could miss by a rounding error.
        if self.level + _SLACK < amount:
            return False
        self.level = max(0.0, self.level - amount)
        return True

    def wait_s(self, amount: int) -> float:
        """Return the time until `amount` units are there; infinite when they never are."""
        if amount > self.capacity:
            return math.inf
        return max(0.0, amount - self.level) * _MINUTE_S / self.capacity

    def headers(self, kind: LimitKind) -> dict[str, str]:
        """Return the x-ratelimit headers for the present level."""
        return {
            f"x-ratelimit-limit-{kind}": str(self.capacity),
            f"x-ratelimit-remaining-{kind}": str(int(self.level + _SLACK)),
            f"x-ratelimit-reset-{kind}": format_duration(self.wait_s(self.capacity)),
        }


class ModelLimits:
    """The two buckets of one model.

    Every request takes one from the request bucket, whatever becomes of it: a refused one drains what is left, as
    failed requests count at OpenAI. Tokens are taken by admitted requests only, at their true number.
    """

    def __init__(self, spec: ModelSpec, now_s: float) -> None:
        self._requests = TokenBucket.full(spec.rpm, now_s) if spec.rpm else None
        self._tokens = TokenBucket.full(spec.tpm, now_s) if spec.tpm else None

    def admit(self, tokens: int, now_s: float) -> Refusal | None:
        """Charge one request of `tokens` tokens, or say why not."""
        if self._requests is not None:
            self._requests.refill(now_s)
            if not self._requests.take(1):
                self._requests.level = 0.0
                return Refusal("requests", self._requests.capacity, 1, self._requests.wait_s(1))
        if self._tokens is not None:
            self._tokens.refill(now_s)
            if not self._tokens.take(tokens):
                wait_s = self._tokens.wait_s(tokens)
                if self._requests is not None:
                    wait_s = max(wait_s, self._requests.wait_s(1))
                return Refusal("tokens", self._tokens.capacity, tokens, wait_s)
        return None

    def headers(self, now_s: float) -> dict[str, str]:
        """Return the x-ratelimit headers of the limits that the model has."""
        headers: dict[str, str] = {}
        if self._requests is not None:
            self._requests.refill(now_s)
            headers |= self._requests.headers("requests")
        if self._tokens is not None:
            self._tokens.refill(now_s)
            headers |= self._tokens.headers("tokens")
        return headers


def retry_after_headers(wait_s: float) -> dict[str, str]:
    """Return Retry-After in whole seconds and in milliseconds, neither below the true wait."""
    return {
        "retry-after": str(max(1, math.ceil(wait_s - _SLACK))),
        "retry-after-ms": str(max(1, math.ceil((wait_s - _SLACK) * 1000))),
    }


def format_duration(seconds: float) -> str:
    """Return a time the way the x-ratelimit-reset headers write it: `0s`, `120ms`, `8.64s`, `6m0s`, `1h0m30s`."""
    milliseconds = math.ceil(seconds * 1000 - _SLACK)
    if milliseconds <= 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    parts = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{parts}{rest / 1000:g}s"
