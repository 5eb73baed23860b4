"""What the sandbox tests share: hand-countable tokenizers, a clock to turn, clients of a live server."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import openai
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from routing.sandbox.config import FaultConfig, ModelSpec, SandboxConfig
from routing.sandbox.serving import serving

QUESTION = "What is the capital of France?"
QUESTION_TOKENS = 7 + 4 + 3
"""Seven words and marks, 4 for the message, 3 for the reply."""


def save_word_tokenizer(path: Path) -> Path:
    """Every word and every mark is one token; the file asks for truncation and padding, as MiniLM's does."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(max_length=3)
    tokenizer.enable_padding(length=5)
    tokenizer.save(str(path))
    return path


def byte_bpe(texts: list[str]) -> Tokenizer:
    """A GPT-2 style tokenizer: words carry their leading space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    return tokenizer


def phrase_bpe(texts: list[str]) -> Tokenizer:
    """A tokenizer whose tokens run across spaces, so that counts of parts do not add up."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=900))
    return tokenizer


class FakeClock:
    """Time that passes only when somebody sleeps or turns the clock."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Live:
    """A running sandbox and two clients of it."""

    base_url: str
    openai: openai.AsyncOpenAI
    http: aiohttp.ClientSession

    async def post(self, payload: object = None, *, path: str = "/chat/completions", **headers: str) -> Reply:
        body = payload if isinstance(payload, bytes) else json.dumps(payload or ask()).encode()
        sent = {
            "content-type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        async with self.http.post(self.base_url + path, data=BytesIO(body), headers=sent) as response:
            return Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read())


@asynccontextmanager
async def live(config: SandboxConfig, *, clock: FakeClock | None = None) -> AsyncIterator[Live]:
    fake = {} if clock is None else {"clock": clock, "sleep": clock.sleep}
    async with (
        serving(config, **fake) as base_url,  # type: ignore[arg-type]
        openai.DefaultAioHttpClient() as transport,
        aiohttp.ClientSession() as http,
    ):
        client = openai.AsyncOpenAI(api_key="any", base_url=base_url, max_retries=0, http_client=transport)
        yield Live(base_url, client, http)


def ask(content: object = QUESTION, *, model: str = "small", **fields: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": content}], **fields}


def config_with(tokenizer: Path, *models: ModelSpec, **fields: Any) -> SandboxConfig:
    if isinstance(fields.get("faults"), dict):
        fields["faults"] = FaultConfig(**fields["faults"])
    return SandboxConfig(port=0, tokenizer=tokenizer, models=models, **fields)


def events(path: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["event"] == kind]
