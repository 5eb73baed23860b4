"""Random calls as each tool writes them down, for round trips."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Call:
    """A call in our convention."""

    number: int
    claude: bool
    fresh: int
    cached: int
    written: int
    answer: int
    reasoning: int
    nanos_usd: int
    failed: bool
    prompt: str

    @property
    def at(self) -> datetime:
        return START + timedelta(seconds=self.number)

    @property
    def input(self) -> int:
        return self.fresh + self.cached + self.written

    @property
    def hour(self) -> int:
        """None, half or all of what was written to the cache."""
        return self.written * (self.number // 3 % 3) // 2

    @property
    def output(self) -> int:
        return self.answer + self.reasoning

    @property
    def usd(self) -> Decimal:
        return Decimal(self.nanos_usd) / 10**9

    @property
    def model(self) -> str:
        return "claude-sonnet-4-20250514" if self.claude else "gpt-4o"

    @property
    def provider(self) -> str:
        return "anthropic" if self.claude else "openai"


def ages(call: Call) -> dict[str, int]:
    """What was written to the cache, by how long it is kept."""
    return {"ephemeral_5m_input_tokens": call.written - call.hour, "ephemeral_1h_input_tokens": call.hour}


def openai_usage(call: Call) -> dict[str, Any]:
    return {
        "prompt_tokens": call.input,
        "completion_tokens": call.output,
        "prompt_tokens_details": {"cached_tokens": call.cached, "cache_write_tokens": call.written},
        "completion_tokens_details": {"reasoning_tokens": call.reasoning},
    }


def anthropic_usage(call: Call) -> dict[str, Any]:
    return {
        "input_tokens": call.fresh,
        "cache_read_input_tokens": call.cached,
        "cache_creation_input_tokens": call.written,
        "cache_creation": ages(call),
        "output_tokens": call.output,
        "output_tokens_details": {"reasoning_tokens": call.reasoning},
    }


def messages(call: Call) -> list[dict[str, Any]]:
    """Every other one in parts."""
    content: Any = [{"type": "text", "text": call.prompt}, {"type": "image"}] if call.number % 2 else call.prompt
    return [{"role": "system", "content": "s"}, {"role": "user", "content": content}]


def litellm(call: Call) -> dict[str, Any]:
    """Releases of all three conventions."""
    usage = openai_usage(call) | {"cache_creation_input_tokens": call.written, "cache_read_input_tokens": call.cached}
    tokens, metadata = call.input, {"usage_object": usage}
    release = call.number % 3
    if not release:
        usage["prompt_tokens_details"]["cache_creation_token_details"] = ages(call)
    if release:
        del usage["prompt_tokens_details"]["cache_write_tokens"]
    if release == 1:  # 1.66 to 1.77
        tokens -= call.written
    if release == 2:  # before 1.66
        metadata = {"additional_usage_values": usage}
    return {
        "request_id": f"id-{call.number}",
        "call_type": "acompletion",
        "startTime": call.at.isoformat(" ").removesuffix("+00:00"),
        "spend": float(call.usd),
        "prompt_tokens": tokens,
        "completion_tokens": call.output,
        "model": call.model,
        "custom_llm_provider": call.provider,
        "metadata": metadata,
        "messages": messages(call) if release else {},
        "proxy_server_request": {} if release else {"messages": messages(call)},
        "status": "failure" if call.failed else "success",
    }


def langfuse(call: Call) -> dict[str, Any]:
    """Buckets, or buckets that overlap and whose total says so."""
    usage = {
        "input": call.fresh,
        "input_cached_tokens": call.cached,
        "input_cache_creation": call.written,
        "output": call.answer,
        "output_reasoning_tokens": call.reasoning,
        "total": call.input + call.output,
    }
    if call.hour:
        usage |= {f"input_{name}": tokens for name, tokens in ages(call).items()}
    if call.number % 2:
        usage |= {"input": call.input, "output": call.output}
    return {
        "id": f"id-{call.number}",
        "type": "GENERATION",
        "start_time": call.at.isoformat(" ").removesuffix("+00:00"),
        "provided_model_name": call.model,
        "usage_details": usage,
        "cost_details": {"total": float(call.usd)},
        "total_cost": float(call.usd),
        "level": "ERROR" if call.failed else "DEFAULT",
        "input": json.dumps(messages(call)),
    }


def helicone(call: Call) -> dict[str, Any]:
    """Buckets of the tool, and every other row with the provider's own usage beside them."""
    row: dict[str, Any] = {
        "request_id": f"id-{call.number}",
        "request_created_at": call.at.isoformat(),
        "response_status": 500 if call.failed else 200,
        "provider": call.provider.upper(),
        "model": call.model,
        "prompt_tokens": call.fresh + (0 if call.claude else call.written),
        "prompt_cache_read_tokens": call.cached,
        "prompt_cache_write_tokens": call.written,
        "completion_tokens": call.answer,
        "reasoning_tokens": call.reasoning,
        "cost": float(call.usd),
        "request_body": {"model": call.model, "messages": messages(call)},
    }
    if call.number % 2:
        row["response_body"] = {"usage": (anthropic_usage if call.claude else openai_usage)(call)}
        row |= {"prompt_tokens": 1, "completion_tokens": 1, "reasoning_tokens": None}
    return row


def otel(call: Call) -> dict[str, Any]:
    nanos = (call.at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000
    parts = [{"role": "user", "parts": [{"type": "text", "content": call.prompt}, {"type": "blob", "content": "aGk="}]}]
    texts = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": call.provider,
        "gen_ai.response.model": call.model,
        "gen_ai.response.id": f"id-{call.number}",
        "gen_ai.input.messages": json.dumps(parts),
    }
    numbers = {
        "gen_ai.usage.input_tokens": call.input,
        "gen_ai.usage.output_tokens": call.output,
        "gen_ai.usage.cache_read.input_tokens": call.cached,
        "gen_ai.usage.cache_creation.input_tokens": call.written,
        "gen_ai.usage.reasoning.output_tokens": call.reasoning,
    }
    attributes: list[dict[str, Any]] = [{"key": key, "value": {"stringValue": value}} for key, value in texts.items()]
    attributes += [{"key": key, "value": {"intValue": str(value)}} for key, value in numbers.items()]
    attributes.append({"key": "gen_ai.usage.cost", "value": {"doubleValue": float(call.usd)}})
    span = {
        "spanId": f"{call.number:016x}",
        "startTimeUnixNano": str(nanos),
        "attributes": attributes,
        "status": {"code": 2} if call.failed else {},
    }
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [span, {"spanId": "x", "name": "GET"}]}]}]}


def openai_batch(call: Call) -> dict[str, Any]:
    body = {
        "object": "chat.completion",
        "created": int(call.at.timestamp()),
        "model": call.model,
        "usage": (anthropic_usage if call.claude else openai_usage)(call),
    }
    response = {"status_code": 400 if call.failed else 200, "body": body}
    return {"id": f"id-{call.number}", "custom_id": f"c-{call.number}", "response": response, "error": None}


WRITERS: dict[str, Callable[[Call], dict[str, Any]]] = {
    "litellm": litellm,
    "langfuse": langfuse,
    "helicone": helicone,
    "otel": otel,
    "openai_batch": openai_batch,
}
TELLS_HOURS: dict[str, Callable[[Call], bool]] = {
    "litellm": lambda call: call.number % 3 == 0,
    "langfuse": lambda _: True,
    "helicone": lambda call: call.claude and call.number % 2 == 1,
    "otel": lambda _: False,
    "openai_batch": lambda call: call.claude,
    "nightroute": lambda _: False,
    "table": lambda _: True,
}
"""Whether a row says how long the cache keeps what was written."""
