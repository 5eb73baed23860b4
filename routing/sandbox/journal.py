"""The journal: one line when a request came in, one just before its reply leaves, each safe from any kill."""

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from routing.errors import StorageError


@dataclass(frozen=True, slots=True)
class Received:
    """A request has arrived. Times in `_s` are the server's monotonic clock, on Linux the same for every process."""

    ordinal: int
    """1, 2, 3, ... in order of arrival since the server started."""
    endpoint: str
    """`chat` or `embeddings`."""
    monotonic_s: float
    """When its headers were read."""
    model: str | None
    """The model asked for; null when the request could not be read."""
    client_request_id: str | None
    """Header x-client-request-id."""
    prompt_sha256: str | None
    """SHA-256 of the last user message, or of an embedding's inputs joined by newlines."""
    in_flight: int
    """Requests being worked on, this one included."""
    not_before_s: float | None
    """The latest moment that a Retry-After sent before this arrival promised for its model."""
    early: bool
    """The request came before that moment. It may have left its client before the promise got there."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A request is about to be answered, or its connection to be closed."""

    ordinal: int
    monotonic_s: float
    model: str | None
    client_request_id: str | None
    status: int | None
    """HTTP status; null when no reply was sent."""
    fault: str | None
    """The injected fault, without `rate_`; `stopped` when the server was stopped before it could reply."""
    error_code: str | None
    """`code` of an error reply."""
    finish_reason: str | None
    retry_after_s: float | None
    """The wait that the reply asks for."""
    not_before_s: float | None
    """`monotonic_s` + `retry_after_s`: before this moment no request for the model is welcome."""
    prompt_tokens: int
    completion_tokens: int
    """Reasoning included. Zero, like the other counts, when the request is not billed."""
    cached_tokens: int
    reasoning_tokens: int
    cost_usd: str | None
    """Exact decimal; null for a model without prices. "0" when the request is not billed."""
    bytes: int
    """Size of the body, before a truncation."""
    connected: bool
    """The client had not hung up."""


class Journal:
    """Appends events to a JSONL file, one unbuffered write a line.

    A line that was written survives a SIGKILL of any process; only a crash of the machine can take it.

    Raises:
        StorageError: The file cannot be opened for appending.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise StorageError(f"cannot write the journal {path}: {exc.strerror}; name another file or `none`") from exc
        self._pid = os.getpid()

    def write(self, event: Received | Finished) -> None:
        """Append one event."""
        line = {
            "event": type(event).__name__.lower(),
            "pid": self._pid,
            "at": datetime.now(UTC).isoformat(timespec="microseconds"),
            **asdict(event),
        }
        os.write(self._fd, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
