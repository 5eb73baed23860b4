"""Seams filled by hand: a clock to turn, scripted completions, literal tables, a router that adds up by eye."""

import asyncio
import hashlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from routing.calls import Call, error_code
from routing.ledger import Reply, Send
from routing.routers import WinRates
from routing.sandbox.config import DEFAULT_TOKENIZER
from routing.score import stable_hash
from routing.split import by_alpha, route
from schemas.artifact import EmbeddingInput, RouterCard, Truncation
from schemas.queries import Queries

NOON = 1_790_000_000.0
"""A moment for wall clocks, Unix seconds."""


class FakeClock:
    """Monotonic seconds that pass only when everybody who could run sleeps, or when a test turns the clock."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s
        self.slept: list[float] = []
        self._wakes: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def turn(self, seconds: float) -> None:
        self.now_s += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        wake = self.now_s + seconds
        self._wakes.append(wake)
        try:
            while self.now_s < wake:
                await let_others_run()
                if wake <= min(self._wakes):
                    self.now_s = max(self.now_s, wake)
        finally:
            self._wakes.remove(wake)


async def let_others_run(rounds: int = 20) -> None:
    """Give every task that can run several turns."""
    for _ in range(rounds):
        await asyncio.sleep(0)


# ---- replies and calls ----------------------------------------------------------------------------------------------


def completion(answer: str | None = "Paris.", **fields: Any) -> str:
    """The raw body of a chat completion; `usage=None` leaves the usage out."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": fields.get("model", "served-1"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer, "refusal": fields.get("refusal")},
                "finish_reason": fields.get("finish_reason", "stop"),
            }
        ],
        "usage": fields.get("usage", usage),
        "service_tier": fields.get("service_tier"),
    }
    return json.dumps({name: value for name, value in body.items() if value is not None})


def answered(body: str | None = None, **fields: Any) -> Reply:
    """A reply of HTTP 200."""
    return _reply(status=200, body=completion() if body is None else body, **fields)


def refused(status: int, provider_code: str | None = None, **fields: Any) -> Reply:
    """A reply with an HTTP error, classified as the provider module does."""
    return _reply(status=status, error_code=error_code(status, provider_code), error_message="said no", **fields)


def broken(code: str) -> Reply:
    """An attempt that ended without an HTTP status: `timeout` or `connection`."""
    return _reply(error_code=code, error_message="the line went dead")


def _reply(**fields: Any) -> Reply:
    default: dict[str, Any] = {
        "status": None,
        "error_code": None,
        "error_message": None,
        "retry_after_s": None,
        "request_id": None,
        "latency_s": 0.25,
        "replied_at": NOON,
        "body": None,
    }
    return Reply(**{**default, **fields})


def call(query_id: str, **fields: Any) -> Call:
    """A call of model `m` whose key is made from its id."""
    default: dict[str, Any] = {
        "call_key": hashlib.sha256(query_id.encode()).hexdigest(),
        "part": 0,
        "row": 0,
        "query_id": query_id,
        "model": "m",
        "messages": [{"role": "user", "content": query_id}],
        "max_output_tokens": None,
        "estimated_tokens": 10,
        "estimate_usd": None,
    }
    return Call(**{**default, **fields})


def send(call_key: str, *, attempt: int = 1, part: int = 0, model: str = "m") -> Send:
    """A request about to leave, for tests of the ledger alone."""
    return Send(call_key, part, 7, f"id-{call_key}", model, attempt, NOON, "0.25")


async def stream(calls: Iterable[Call]) -> AsyncIterator[Call]:
    for one in calls:
        yield one


class FakeComplete:
    """A `Complete` that follows a script: per query id the replies in turn; the last one, or `default`, repeats."""

    def __init__(
        self,
        script: Mapping[str, Sequence[Reply]] | None = None,
        *,
        default: Reply | None = None,
        before: Callable[[Call], Awaitable[None]] | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Write the script.

        Args:
            script: Query id -> replies.
            default: For queries that are not in the script.
            before: Awaited while the request is in flight.
            clock: Read when a request arrives.
        """
        self._script = {query_id: list(replies) for query_id, replies in (script or {}).items()}
        self._default = default or answered()
        self._before = before
        self._clock = clock
        self.query_ids: list[str] = []
        self.request_ids: list[str] = []
        self.at: list[float] = []
        self.in_flight = 0
        self.most_in_flight = 0

    async def __call__(self, call: Call, request_id: str) -> Reply:
        self.query_ids.append(call.query_id)
        self.request_ids.append(request_id)
        self.at.append(self._clock())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
            if self._before is not None:
                await self._before(call)
            replies = self._script.get(call.query_id)
            if not replies:
                return self._default
            return replies.pop(0) if len(replies) > 1 else replies[0]
        finally:
            self.in_flight -= 1


# ---- tables ---------------------------------------------------------------------------------------------------------


def queries(*rows: Mapping[str, Any]) -> pl.DataFrame:
    """QUERIES: rows of prompts, all other columns as a table of plain prompts has them."""
    default = {"n_messages": 1, "valid_utf8": True, "has_id": True}
    records = [{**default, "row": number, **row} for number, row in enumerate(rows)]
    return pl.DataFrame(records, schema=Queries.create_empty().schema)


def scored(win_rates: Sequence[float], tie_keys: Sequence[int] | None = None, **columns: Any) -> pl.DataFrame:
    """SCORED: ids `q0`, `q1`, ...; tie keys are the hashes of the ids unless given."""
    n = len(win_rates)
    frame = pl.DataFrame(
        {
            "row": pl.Series(range(n), dtype=pl.UInt32),
            "query_id": pl.Series([f"q{i}" for i in range(n)], dtype=pl.String),
            "content_sha256": pl.Series([f"{i:064x}" for i in range(n)], dtype=pl.String),
            "win_rate": pl.Series(win_rates, dtype=pl.Float64),
            "prompt_tokens": pl.Series([10] * n, dtype=pl.Int64),
            "max_output_tokens": pl.Series([None] * n, dtype=pl.Int64),
        }
    )
    keys = stable_hash("query_id") if tie_keys is None else pl.Series(tie_keys, dtype=pl.UInt64)
    return frame.with_columns(tie_key=keys).with_columns(**columns)


def routed(n: int) -> pl.DataFrame:
    """ROUTED: `n` queries for the strong model `big`; the key of a call is the id of its query."""
    table = scored([0.5] * n)
    return route(table, by_alpha(table, 0.5), strong="big", weak="small").with_columns(call_key="query_id")


def ledger_replies(*rows: Mapping[str, Any]) -> pl.DataFrame:
    """What `Ledger.replies` returns: by default answered by HTTP 200 at the first attempt."""
    default = {"attempts": 1, "status": 200, "latency_s": 0.5, "replied_at": NOON}
    schema: dict[str, Any] = {
        "call_key": pl.String,
        "attempts": pl.Int64,
        "error_code": pl.String,
        "error_message": pl.String,
        "status": pl.Int64,
        "latency_s": pl.Float64,
        "replied_at": pl.Float64,
        "body": pl.String,
    }
    return pl.DataFrame([{**default, **row} for row in rows], schema=schema)


# ---- routers --------------------------------------------------------------------------------------------------------


class FakeRouter:
    """Win rates by text; a token is a word."""

    def __init__(self, win_rates: Mapping[str, float]) -> None:
        self._win_rates = win_rates

    def win_rates(self, texts: Sequence[str]) -> WinRates:
        rates = np.array([self._win_rates.get(text, 0.5) for text in texts], np.float64)
        return WinRates(rates, self.count_tokens(texts))

    def count_tokens(self, texts: Sequence[str]) -> NDArray[np.int64]:
        return np.array([len(re.findall(r"\S+", text)) for text in texts], np.int64)


def save_adding_router(folder: Path, *, head: int = 3, tail: int = 2, inputs: Sequence[str] = ()) -> Path:
    """Write an artifact whose win rate is the sum of the kept tokens over 1000; the token of `7` is 7.

    Args:
        folder: Made if needed.
        head: Tokens kept from the start.
        tail: Tokens kept from the end.
        inputs: Names of the graph's inputs, if not the right ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, **{str(i): i for i in range(1, 1000)}}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), "removed")
    # As MiniLM's file does: the router has to switch both off.
    tokenizer.enable_truncation(max_length=2)
    tokenizer.enable_padding(length=4)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "model.onnx").write_bytes(_adding_graph(inputs or ("input_ids", "attention_mask")))
    write_card(folder, truncation=Truncation(head=head, tail=tail))
    return folder


def save_embedding_router(folder: Path, *, dim: int = 16, max_tokens: int = 8_191) -> Path:
    """Write an artifact with the shipped tokenizer whose win rate is sigmoid(4 x the first number of an embedding)."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(DEFAULT_TOKENIZER, folder / "tokenizer.json")
    (folder / "model.onnx").write_bytes(_first_number_graph(dim))
    embedding = EmbeddingInput(provider="openai", model="text-embedding-3-small", dim=dim, max_tokens=max_tokens)
    write_card(folder, name="first-number", kind="mf", embedding=embedding)
    return folder


def write_card(folder: Path, **fields: Any) -> None:
    """Write `router.json` with the digests of what lies in the folder now."""
    names = ("model.onnx", "tokenizer.json")
    default: dict[str, Any] = {
        "name": "adding",
        "kind": "linear",
        "description": "adds token numbers",
        "trained_pair": "none",
        "truncation": Truncation(head=3, tail=2),
        "files": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names},
        "opset": 18,
        "score_quantiles": [i / 100 for i in range(101)],
        "training": [],
        "seed": 0,
        "config_sha256": "0" * 64,
        "parity_max_error": 0.0,
        "parity_prompts": 0,
        "metrics": [],
        "licence": "Apache-2.0",
        "limits": [],
        "versions": {},
    }
    card = RouterCard(**{**default, **fields})
    (folder / "router.json").write_text(card.model_dump_json(indent=1), encoding="utf-8")


def _adding_graph(inputs: Sequence[str]) -> bytes:
    """ONNX bytes of `win_rate = sum(float(input_ids), axis=1) / 1000`, written field by field (onnx.proto)."""
    cast = _node("Cast", [inputs[0]], ["floats"], _field(1, b"to") + _varint(3, 1) + _varint(20, 2))
    reduce = _node("ReduceSum", ["floats", "axis"], ["sum"], _field(1, b"keepdims") + _varint(3, 0) + _varint(20, 2))
    divide = _node("Div", ["sum", "thousand"], ["win_rate"])
    axis = _varint(1, 1) + _varint(2, 7) + _field(8, b"axis") + _field(9, np.array([1], "<i8").tobytes())
    thousand = _varint(2, 1) + _field(8, b"thousand") + _field(9, np.array([1000], "<f4").tobytes())
    graph = b"".join(_field(1, node) for node in (cast, reduce, divide)) + _field(2, b"adding")
    graph += _field(5, axis) + _field(5, thousand)
    graph += b"".join(_field(11, _tensor(name, 7, ("rows", "tokens"))) for name in inputs)
    graph += _field(12, _tensor("win_rate", 1, ("rows",)))
    return _varint(1, 8) + _field(7, graph) + _field(8, _varint(2, 18))


def _first_number_graph(dim: int) -> bytes:
    """ONNX bytes of `win_rate = sigmoid(embedding @ weights)` with weights (4, 0, 0, ...)."""
    weights = np.zeros(dim, "<f4")
    weights[0] = 4.0
    weight = _varint(1, dim) + _varint(2, 1) + _field(8, b"weights") + _field(9, weights.tobytes())
    nodes = (_node("MatMul", ["embedding", "weights"], ["logit"]), _node("Sigmoid", ["logit"], ["win_rate"]))
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"first") + _field(5, weight)
    graph += _field(11, _tensor("embedding", 1, ("rows", "dim"))) + _field(12, _tensor("win_rate", 1, ("rows",)))
    return _varint(1, 8) + _field(7, graph) + _field(8, _varint(2, 18))


def _node(kind: str, inputs: Sequence[str], outputs: Sequence[str], attribute: bytes | None = None) -> bytes:
    names = b"".join(_field(1, name.encode()) for name in inputs) + b"".join(
        _field(2, name.encode()) for name in outputs
    )
    return names + _field(4, kind.encode()) + (b"" if attribute is None else _field(5, attribute))


def _tensor(name: str, kind: int, dims: Sequence[str]) -> bytes:
    shape = b"".join(_field(1, _field(2, dim.encode())) for dim in dims)
    return _field(1, name.encode()) + _field(2, _field(1, _varint(1, kind) + _field(2, shape)))


def _field(number: int, payload: bytes) -> bytes:
    return _base128(number << 3 | 2) + _base128(len(payload)) + payload


def _varint(number: int, value: int) -> bytes:
    return _base128(number << 3) + _base128(value)


def _base128(value: int) -> bytes:
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
