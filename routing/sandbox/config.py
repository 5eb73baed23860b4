"""What a sandbox is made of: its models, its faults, its recorded answers and its journal."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from routing.errors import ConfigError

LOOPBACK = "127.0.0.1"

DEFAULT_TOKENIZER = Path(__file__).resolve().parent.parent / "artifacts" / "static-mf" / "tokenizer.json"
"""The tokenizer of the router that is shipped with the package."""

Rate = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
UsdPerMtok = Annotated[Decimal, Field(ge=0)]


class _Part(BaseModel):
    """Unknown keys are refused: a typo must not become a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSpec(_Part):
    """One model as the sandbox plays it."""

    name: str = Field(min_length=1)
    """The name that requests ask for."""
    price_class: str = "weak"
    """Free text, shown by `/v1/models`: `strong`, `weak`, ..."""
    input_usd_per_mtok: UsdPerMtok | None = None
    """Price of a million prompt tokens; without prices the journal's `cost_usd` is null, never zero."""
    output_usd_per_mtok: UsdPerMtok | None = None
    """Price of a million completion tokens, reasoning included."""
    cached_input_usd_per_mtok: UsdPerMtok | None = None
    """Price of a million cached prompt tokens; the price of the others when absent."""
    latency_s: Seconds = 0.0
    """Time every answer takes."""
    latency_s_per_output_token: Seconds = 0.0
    """Time that each completion token adds."""
    mean_output_tokens: int = Field(default=120, ge=1)
    """Mean length of a made-up answer."""
    reasoning_tokens: int = Field(default=0, ge=0)
    """Hidden tokens of every answer, counted inside `completion_tokens` as OpenAI does."""
    cached_share: Rate = 0.0
    """Share of the prompt tokens that is reported as cached, rounded down."""
    rpm: int | None = Field(default=None, ge=1)
    """Requests a minute; unlimited when absent."""
    tpm: int | None = Field(default=None, ge=1)
    """Prompt and completion tokens a minute; unlimited when absent."""
    embedding_dimensions: int = Field(default=256, ge=1)
    """Length of an embedding when the request names none."""

    @model_validator(mode="after")
    def _prices_belong_together(self) -> Self:
        if (self.input_usd_per_mtok is None) != (self.output_usd_per_mtok is None):
            raise ValueError(
                f"model '{self.name}' has one price; give input_usd_per_mtok and output_usd_per_mtok, or none"
            )
        if self.cached_input_usd_per_mtok is not None and self.input_usd_per_mtok is None:
            raise ValueError(f"model '{self.name}' has a cached price only; give the other two prices as well")
        return self


class FaultConfig(_Part):
    """How often an admitted request goes wrong, and in which way. The rates add up to at most 1."""

    rate_429: Rate = 0.0
    """429 with Retry-After."""
    rate_500: Rate = 0.0
    """500 at once."""
    rate_503: Rate = 0.0
    """503 with Retry-After."""
    rate_timeout: Rate = 0.0
    """The request is held for `hang_s`, then the connection is closed without a reply. Not billed."""
    rate_drop: Rate = 0.0
    """The connection is reset at once without a reply. Not billed."""
    rate_empty: Rate = 0.0
    """200 with an empty answer. Billed."""
    rate_malformed: Rate = 0.0
    """200 whose body is not JSON. Billed."""
    rate_content_filter: Rate = 0.0
    """200 with half of the answer and finish_reason `content_filter`. Billed."""
    rate_truncated_body: Rate = 0.0
    """200 whose connection closes in the middle of the body. Billed."""
    retry_after_s: tuple[Seconds, Seconds] = (1.0, 3.0)
    """Range from which the Retry-After of a 429 or 503 is drawn."""
    hang_s: Seconds = 30.0
    """How long `rate_timeout` holds a request."""

    @model_validator(mode="after")
    def _rates_and_range_are_possible(self) -> Self:
        total = sum(value for name, value in self if name.startswith("rate_"))
        if total > 1 + 1e-9:
            raise ValueError(f"the fault rates add up to {total:g}, at most 1 is possible; lower some of them")
        low, high = self.retry_after_s
        if low > high:
            raise ValueError(f"retry_after_s must be [low, high], got [{low:g}, {high:g}]; swap them")
        return self


class ReplayConfig(_Part):
    """A Parquet table of recorded answers, looked up by model and last user message."""

    path: Path
    prompt_column: str = "prompt"
    model_column: str = "model"
    response_column: str = "response"


class ScriptedReply(_Part):
    """A reply by pattern: a fake judge, say, that prefers the answer it sees first."""

    pattern: str
    """Python regular expression, searched in the last user message."""
    reply: str
    """The answer, word for word; its tokens are counted like any other's."""
    model: str | None = None
    """Holds for this model only."""

    @field_validator("pattern")
    @classmethod
    def _pattern_compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"pattern {pattern!r} is no regular expression: {error}; mend it") from error
        return pattern

    def holds(self, model: str, query: str) -> bool:
        """Whether this is the reply of `model` to `query`."""
        return self.model in (None, model) and re.search(self.pattern, query) is not None


class SandboxConfig(_Part):
    """The whole sandbox. Every field has a default: an empty config is a server that answers any model name."""

    host: str = LOOPBACK
    """127.0.0.1 and nothing else: the sandbox is not meant to be reached from another machine."""
    port: int = Field(default=8377, ge=0, le=65535)
    """0 picks a free port."""
    models: tuple[ModelSpec, ...] = ()
    default_model: ModelSpec = ModelSpec(name="default")
    """How a model that is not listed behaves, under its own name, when `accept_any_model` is set."""
    accept_any_model: bool = True
    """False: a name that is not listed is a 404 `model_not_found`."""
    require_key: bool = False
    """True: a request without a bearer key is a 401. Any key is good; none is stored or logged."""
    faults: FaultConfig = FaultConfig()
    replay: ReplayConfig | None = None
    """Recorded answers in place of made-up ones; a plain path is short for `{path = ...}`."""
    scripted: tuple[ScriptedReply, ...] = ()
    """Replies by pattern; the first that holds goes before recorded and made-up answers."""
    journal: Path | None = None
    """JSONL file that gets two lines a request; the word `none`, or no key, keeps no journal."""
    seed: int = 0
    """Decides every made-up answer and every fault."""
    tokenizer: Path = DEFAULT_TOKENIZER
    """The tokenizer.json that counts tokens."""

    @field_validator("host")
    @classmethod
    def _host_is_loopback(cls, host: str) -> str:
        if host != LOOPBACK:
            raise ConfigError(
                f"the sandbox listens on {LOOPBACK} only, got host '{host}'; remove the key or set {LOOPBACK}"
            )
        return host

    @field_validator("replay", mode="before")
    @classmethod
    def _path_is_a_replay(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, (str, Path)) else value

    @field_validator("journal", mode="before")
    @classmethod
    def _none_is_no_journal(cls, value: Any) -> Any:
        no_journal: Literal["none"] = "none"
        return None if value == no_journal else value

    @model_validator(mode="after")
    def _models_are_usable(self) -> Self:
        names = [model.name for model in self.models]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"models named twice: {', '.join(repeated)}; keep one entry each")
        if not names and not self.accept_any_model:
            raise ValueError(
                "no model is listed and accept_any_model is false, so every request would be a 404; list a model"
            )
        return self
