"""An embeddings endpoint that refuses some texts, whole batch and all, as providers do."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.e2e.loopback import answering


@contextmanager
def choosy(accepts: Callable[[str], bool], *, dim: int, status: int = 400) -> Iterator[tuple[str, list[list[str]]]]:
    """Serve on a free port; the value is the base URL and the list that the texts of each request are added to.

    A vector is as long as its text, as a list of numbers: the endpoint does not know `encoding_format`.

    Args:
        accepts: Whether a text is embedded; a request with another one is answered with `status`.
        dim: Length of a vector.
        status: Of a refusal.
    """
    requests: list[list[str]] = []

    def answer(body: Any) -> tuple[int, str]:
        texts = body["input"]
        requests.append(texts)
        if not all(map(accepts, texts)):
            return status, json.dumps({"error": {"message": "no"}})
        data = [{"index": i, "embedding": [len(text) / 1_000] + [0.0] * (dim - 1)} for i, text in enumerate(texts)]
        return 200, json.dumps({"data": data, "usage": {"prompt_tokens": sum(map(len, texts))}})

    with answering(answer) as url:
        yield url, requests
