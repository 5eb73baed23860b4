"""An embeddings endpoint that refuses some texts, whole batch and all, as providers do."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


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

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
            requests.append(texts)
            good = all(map(accepts, texts))
            data = [{"index": i, "embedding": [len(text) / 1_000] + [0.0] * (dim - 1)} for i, text in enumerate(texts)]
            usage = {"prompt_tokens": sum(map(len, texts))}
            reply = json.dumps({"data": data, "usage": usage} if good else {"error": {"message": "no"}}).encode()
            self.send_response(200 if good else status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", requests
        finally:
            server.shutdown()
            thread.join()
