"""A chat completions endpoint that keeps every request body: for tests of what exactly is sent."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.e2e.loopback import answering
from tests.fakes import completion


@contextmanager
def recording(status: Callable[[Any], int] = lambda body: 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Serve on a free port; the value is the base URL and the list that request bodies are added to.

    Args:
        status: Called with the body of each request; what it is answered with.
    """
    bodies: list[dict[str, Any]] = []

    def answer(body: Any) -> tuple[int, str]:
        bodies.append(body)
        return status(body), completion()

    with answering(answer) as url:
        yield url, bodies
