"""What the sandbox answers: chat texts and embeddings, with the tokens and the money they cost."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from routing.sandbox.config import ModelSpec, ScriptedReply
from routing.sandbox.pseudotext import PseudoWriter
from routing.sandbox.replay import Replay
from routing.sandbox.tokens import TokenCounter
from routing.sandbox.wire import (
    ApiError,
    ChatRequest,
    EmbeddingsRequest,
    ReplyStamp,
    Usage,
    chat_body,
    embeddings_body,
)

_COORDINATES_PER_TOKEN = 8
_GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)


class Answer(Protocol):
    """Something that is billed and can be sent."""

    @property
    def usage(self) -> Usage:
        """Tokens billed."""

    @property
    def finish_reason(self) -> str | None:
        """Why the text ends where it ends; None for an embedding."""

    def body(self, stamp: ReplyStamp) -> bytes:
        """Return the reply."""

    def emptied(self) -> Self:
        """Return this answer with nothing in it."""

    def filtered(self, counter: TokenCounter) -> Self:
        """Return this answer as a content filter lets it through."""


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """The answer to a chat request."""

    content: str
    finish_reason: str
    usage: Usage

    def body(self, stamp: ReplyStamp) -> bytes:
        """Return the reply."""
        return chat_body(self.content, self.finish_reason, self.usage, stamp)

    def emptied(self) -> "ChatAnswer":
        """Return the answer without its text; reasoning stays billed."""
        return replace(self, content="", usage=self.usage._replace(completion_tokens=self.usage.reasoning_tokens))

    def filtered(self, counter: TokenCounter) -> "ChatAnswer":
        """Return the first half of the text, as a filter that steps in while the model writes."""
        visible = self.usage.completion_tokens - self.usage.reasoning_tokens
        half = counter.cut(self.content, visible // 2)
        usage = self.usage._replace(completion_tokens=half.tokens + self.usage.reasoning_tokens)
        return ChatAnswer(half.text, "content_filter", usage)


@dataclass(frozen=True, slots=True)
class EmbeddingAnswer:
    """The answer to an embeddings request."""

    vectors: NDArray[np.float32]
    """Shape (inputs, dimensions), unit length."""
    as_base64: bool
    usage: Usage
    finish_reason: None = None

    def body(self, stamp: ReplyStamp) -> bytes:
        """Return the reply."""
        if self.as_base64:
            packed = self.vectors.astype("<f4")
            return embeddings_body([base64.b64encode(row.tobytes()).decode() for row in packed], self.usage, stamp)
        return embeddings_body(self.vectors.tolist(), self.usage, stamp)

    def emptied(self) -> "EmbeddingAnswer":
        """Return the reply without vectors."""
        return replace(self, vectors=self.vectors[:0])

    def filtered(self, counter: TokenCounter) -> "EmbeddingAnswer":
        """Return the reply without vectors: there is no half of an embedding."""
        return self.emptied()


class Answerer:
    """Answers requests; equal (seed, model, messages, max_tokens) give equal answers, in whatever order they come."""

    def __init__(
        self,
        counter: TokenCounter,
        *,
        seed: int,
        replay: Replay | None = None,
        scripted: Sequence[ScriptedReply] = (),
    ) -> None:
        self._counter = counter
        self._scripted = scripted
        self._writer = PseudoWriter(counter)
        self._seed = seed
        self._replay = replay

    def chat(self, request: ChatRequest, spec: ModelSpec) -> ChatAnswer:
        """Return the scripted answer, else the recorded one, else a made-up one where nothing is replayed.

        Raises:
            ApiError: 400 `replay_miss` for a pair that was not recorded.
        """
        reasoning = spec.reasoning_tokens
        max_visible: int | None = None
        if request.max_tokens is not None:
            # The limit holds for hidden and visible tokens together: long reasoning can leave no room for a text.
            reasoning = min(reasoning, request.max_tokens)
            max_visible = request.max_tokens - reasoning
        scripted = next((one.reply for one in self._scripted if one.holds(request.model, request.query)), None)
        if scripted is not None:
            content, visible, is_cut = self._cut(scripted, max_visible)
        elif self._replay is not None:
            content, visible, is_cut = self._cut(self._recorded(self._replay, request), max_visible)
        else:
            digest = hashlib.sha256(f"{self._seed}\0{request.model}\0".encode() + request.fingerprint).digest()
            content, visible, is_cut = self._writer.write(
                digest, mean_tokens=spec.mean_output_tokens, max_tokens=max_visible
            )
        prompt_tokens = self._counter.count_messages(request.contents)
        cached = int(prompt_tokens * Decimal(str(spec.cached_share)))
        usage = Usage(prompt_tokens, visible + reasoning, cached, reasoning)
        return ChatAnswer(content, "length" if is_cut else "stop", usage)

    def embeddings(self, request: EmbeddingsRequest, spec: ModelSpec) -> EmbeddingAnswer:
        """Return one vector an input: hashed token counts, so that texts with common tokens lie close together."""
        ids = [self._counter.ids(item) if isinstance(item, str) else item for item in request.inputs]
        dimensions = request.dimensions or spec.embedding_dimensions
        vectors = np.stack([hashed_embedding(one, dimensions, seed=self._seed) for one in ids])
        return EmbeddingAnswer(vectors, request.as_base64, Usage(sum(map(len, ids))))

    def _recorded(self, replay: Replay, request: ChatRequest) -> str:
        response = replay.response(request.model, request.query)
        if response is None:
            message = f"No answer of model '{request.model}' to this prompt is recorded; add it to the replay table."
            raise ApiError(400, message, param="messages", code="replay_miss")
        return response

    def _cut(self, response: str, max_visible: int | None) -> tuple[str, int, bool]:
        tokens = self._counter.count(response)
        if max_visible is None or tokens <= max_visible:
            return response, tokens, False
        return *self._counter.cut(response, max_visible), True


def hashed_embedding(ids: list[int], dimensions: int, *, seed: int) -> NDArray[np.float32]:
    """Return a unit vector, shape (dimensions,): every token adds +1 or -1 to eight hashed coordinates.

    Source: Weinberger et al. 2009, feature hashing; inner products approximate those of the token counts.
    """
    tokens = np.asarray(ids, dtype=np.uint64)[:, np.newaxis]
    features = tokens * np.uint64(_COORDINATES_PER_TOKEN) + np.arange(_COORDINATES_PER_TOKEN, dtype=np.uint64)
    mixed = np.multiply(features.ravel() + np.uint64(seed % 2**32 << 32), _GOLDEN_RATIO, dtype=np.uint64)
    # Multiplicative hashing mixes upwards only; the fold brings the good bits down before the second round.
    hashed = np.multiply(mixed ^ (mixed >> np.uint64(29)), _GOLDEN_RATIO, dtype=np.uint64)
    signs = np.where(hashed >> np.uint64(63), 1.0, -1.0)
    coordinates = ((hashed >> np.uint64(24)) % np.uint64(dimensions)).astype(np.int64)
    vector = np.bincount(coordinates, weights=signs, minlength=dimensions)
    norm = float(np.linalg.norm(vector))
    if norm == 0:  # a text without tokens, or one whose tokens cancel out
        vector[0] = norm = 1.0
    return (vector / norm).astype(np.float32)


def cost_usd(usage: Usage, spec: ModelSpec) -> Decimal | None:
    """Return the exact cost of an answer, or None for a model without prices."""
    if spec.input_usd_per_mtok is None or spec.output_usd_per_mtok is None:
        return None
    cached_usd_per_mtok = spec.cached_input_usd_per_mtok
    if cached_usd_per_mtok is None:
        cached_usd_per_mtok = spec.input_usd_per_mtok
    total = (
        (usage.prompt_tokens - usage.cached_tokens) * spec.input_usd_per_mtok
        + usage.cached_tokens * cached_usd_per_mtok
        + usage.completion_tokens * spec.output_usd_per_mtok
    )
    return total.scaleb(-6)
