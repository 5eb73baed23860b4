"""Injected faults: which request fails how is decided by the seed and the request's name, never by time or order."""

import hashlib
from bisect import bisect_right
from collections import defaultdict
from enum import StrEnum
from itertools import accumulate
from typing import NamedTuple

from routing.sandbox.config import FaultConfig


class FaultKind(StrEnum):
    """A way to go wrong; the value is the name of its rate without `rate_`."""

    RATE_LIMITED = "429"
    SERVER_ERROR = "500"
    OVERLOADED = "503"
    TIMEOUT = "timeout"
    DROP = "drop"
    EMPTY = "empty"
    MALFORMED = "malformed"
    CONTENT_FILTER = "content_filter"
    TRUNCATED_BODY = "truncated_body"


class Fault(NamedTuple):
    """What goes wrong with one request."""

    kind: FaultKind
    retry_after_s: float
    """The wait that a 429 or 503 asks for; drawn for every fault, so that changing a rate changes no other draw."""


class FaultPlan:
    """Draws faults.

    The draw of a request is a function of the seed, its `x-client-request-id` and how often that id was drawn before,
    so a client that repeats an id for its next attempt gets another draw. A request without an id is drawn by its
    ordinal. Requests that the limits refuse are not drawn: only these depend on time.
    """

    def __init__(self, config: FaultConfig, seed: int) -> None:
        self._kinds = list(FaultKind)
        self._bounds = list(accumulate(getattr(config, f"rate_{kind}") for kind in self._kinds))
        self._retry_after_s = config.retry_after_s
        self._seed = seed
        self._seen: defaultdict[str, int] = defaultdict(int)

    def next(self, client_request_id: str | None, ordinal: int) -> Fault | None:
        """Return the fault of the next attempt under this id, or None for a request that goes well."""
        if self._bounds[-1] == 0:
            return None
        if client_request_id is None:
            return self.draw(f"ordinal {ordinal}", 0)
        attempt = self._seen[client_request_id]
        self._seen[client_request_id] = attempt + 1
        return self.draw(f"id {client_request_id}", attempt)

    def draw(self, name: str, attempt: int) -> Fault | None:
        """Return the fault of attempt `attempt` (from 0) of the request called `name`."""
        digest = hashlib.blake2b(f"{self._seed}\0{name}\0{attempt}".encode(), digest_size=16).digest()
        # 53 bits: a float in [0, 1) that can never round up to 1.
        which, how_long = ((int.from_bytes(half, "big") >> 11) / 2**53 for half in (digest[:8], digest[8:]))
        index = bisect_right(self._bounds, which)
        if index == len(self._kinds):
            return None
        low, high = self._retry_after_s
        return Fault(self._kinds[index], low + (high - low) * how_long)
