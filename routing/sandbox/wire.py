"""The OpenAI wire format: requests read with the API's own errors, replies in the API's own shape."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from routing.sandbox.config import ModelSpec

OWNER = "nightroute-sandbox"

_ENCODER = json.JSONEncoder(separators=(",", ":"))


class ApiError(Exception):
    """A request that is answered with an error body.

    It never leaves the server; `routing.errors` is for the person who runs a job, this is for an HTTP client.

    Args:
        status: HTTP status.
        message: What is wrong and what to send instead.
        kind: `type` of the error body.
        param: The field that is wrong.
        code: The machine-readable `code`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self._body = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    def body(self) -> bytes:
        """Return the error body."""
        return _encode(self._body)


class ChatRequest(NamedTuple):
    """What the sandbox reads of a chat completion request; all other parameters are accepted and ignored."""

    model: str
    contents: list[str]
    """Text of every message, in order."""
    query: str
    """Text of the last user message; of the last message when there is none from a user."""
    max_tokens: int | None
    fingerprint: bytes
    """SHA-256 over roles and texts."""

    def prompt_sha256(self) -> str:
        """Return the digest that the journal names the prompt by."""
        return hashlib.sha256(self.query.encode()).hexdigest()


class EmbeddingsRequest(NamedTuple):
    """What the sandbox reads of an embeddings request."""

    model: str
    inputs: list[str | list[int]]
    """Texts, or token ids."""
    dimensions: int | None
    as_base64: bool

    def prompt_sha256(self) -> str:
        """Return the digest that the journal names the inputs by."""
        return hashlib.sha256("\n".join(map(str, self.inputs)).encode()).hexdigest()


class Usage(NamedTuple):
    """Tokens of one answer; cached is part of prompt, reasoning is part of completion."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Tokens that count against the limit."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class ReplyStamp:
    """The parts of a reply that are no part of the answer."""

    reply_id: str
    created: int
    """Unix time in whole seconds."""
    model: str
    system_fingerprint: str


def read_chat(body: bytes) -> ChatRequest:
    """Read a chat completion request.

    Raises:
        ApiError: 400 with the API's wording and `param`.
    """
    fields = _read_object(body)
    model = _model(fields)
    if fields.get("stream"):
        raise ApiError(
            400, "The sandbox does not stream; send 'stream': false.", param="stream", code="unsupported_value"
        )
    if fields.get("n") not in (None, 1):
        raise ApiError(400, "The sandbox gives one choice; send 'n': 1.", param="n", code="unsupported_value")
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "'messages' must be a list of at least one message.", param="messages")
    contents: list[str] = []
    query: str | None = None
    fingerprint = hashlib.sha256()
    for index, message in enumerate(messages):
        role, content = _message(message, f"messages.[{index}]")
        contents.append(content)
        if role == "user":
            query = content
        fingerprint.update(f"{len(content)}\0{role}\0{content}".encode())
    max_tokens = _positive(fields, "max_completion_tokens") or _positive(fields, "max_tokens")
    return ChatRequest(model, contents, contents[-1] if query is None else query, max_tokens, fingerprint.digest())


def read_embeddings(body: bytes) -> EmbeddingsRequest:
    """Read an embeddings request: one text, texts, one list of token ids, or lists of token ids.

    Raises:
        ApiError: 400 with the API's wording and `param`.
    """
    fields = _read_object(body)
    model = _model(fields)
    given = fields.get("input")
    many: list[Any] = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    for item in many:
        is_ids = isinstance(item, list) and item and all(type(token) is int and token >= 0 for token in item)
        if not is_ids and not (isinstance(item, str) and item):
            raise ApiError(400, "'input' must be a non-empty string, token ids, or a list of these.", param="input")
        if isinstance(item, str):
            _require_unicode(item, "input")
    encoding = fields.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise ApiError(400, "'encoding_format' must be 'float' or 'base64'.", param="encoding_format")
    return EmbeddingsRequest(model, many, _positive(fields, "dimensions"), encoding == "base64")


def chat_body(content: str, finish_reason: str, usage: Usage, stamp: ReplyStamp) -> bytes:
    """Return the body of a chat completion."""
    return _encode(
        {
            "id": f"chatcmpl-{stamp.reply_id}",
            "object": "chat.completion",
            "created": stamp.created,
            "model": stamp.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content, "refusal": None, "annotations": []},
                    "logprobs": None,
                    "finish_reason": finish_reason,
                }
            ],
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.total_tokens,
                "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": usage.reasoning_tokens,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            },
            "service_tier": "default",
            "system_fingerprint": stamp.system_fingerprint,
        }
    )


def embeddings_body(vectors: list[str] | list[list[float]], usage: Usage, stamp: ReplyStamp) -> bytes:
    """Return the body of an embeddings reply; a vector is a list of floats or base64 of little-endian Float32."""
    return _encode(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)],
            "model": stamp.model,
            "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens},
        }
    )


def models_body(specs: tuple[ModelSpec, ...], created: int) -> bytes:
    """Return the list of models, with the sandbox's own price fields beside the API's."""
    prices = {"price_class", "input_usd_per_mtok", "output_usd_per_mtok", "cached_input_usd_per_mtok"}
    data = [
        {"id": spec.name, "object": "model", "created": created, "owned_by": OWNER}
        | spec.model_dump(mode="json", include=prices, exclude_none=True)
        for spec in specs
    ]
    return _encode({"object": "list", "data": data})


def _encode(value: dict[str, Any]) -> bytes:
    return _ENCODER.encode(value).encode()


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError as exc:  # covers a body that is not UTF-8
        raise ApiError(400, f"We could not parse the JSON body of your request: {exc}.") from exc
    except RecursionError as exc:
        raise ApiError(400, "We could not parse the JSON body of your request: it is nested too deep.") from exc
    if not isinstance(fields, dict):
        raise ApiError(400, f"The request body must be a JSON object, got {type(fields).__name__}.")
    return fields


def _model(fields: dict[str, Any]) -> str:
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise ApiError(400, "you must provide a model parameter")
    _require_unicode(model, "model")
    return model


def _message(message: object, where: str) -> tuple[str, str]:
    """Return role and text of one message."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise ApiError(400, f"'{where}' must be an object with a 'role' and a 'content'.", param=where)
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_text_part(part, f"{where}.content") for part in content)
    elif content is None and message["role"] == "assistant":
        content = ""  # an assistant's tool call carries no text
    if not isinstance(content, str):
        raise ApiError(400, f"'{where}.content' must be a string or a list of text parts.", param=f"{where}.content")
    _require_unicode(content, f"{where}.content")
    _require_unicode(message["role"], f"{where}.role")
    return message["role"], content


def _text_part(part: object, where: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise ApiError(400, f"'{where}' may hold text parts only in the sandbox.", param=where, code="unsupported_value")


def _require_unicode(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ApiError(400, f"'{where}' holds half a surrogate pair; send valid Unicode.", param=where) from exc


def _positive(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if type(value) is not int or value < 1:
        raise ApiError(400, f"'{name}' must be an integer of at least 1, got {value!r}.", param=name)
    return value
