"""The traffic behind the example log: who calls when, which model, with how many tokens, and with which prompt.

What is drawn here was fitted to public traces, which are not part of this repository; only the numbers below are
(tests/unit/audit/test_make_log.py fits them again where the data is):

* tokens: quantiles of the two Azure LLM inference traces of 2023 (conversation and code, CC-BY-4.0), log-linear
  between; input and output are drawn apart, for their rank correlation is 0.07 and -0.02;
* bursts: the gamma shapes that give the variance of the calls per minute of the same traces;
* lengths of prompts: quantiles of 11,993 public prompts; skew of tenants: the rank-size exponent of their categories.

The traces last an hour. The hours of the day, the days of the week and the growth are therefore assumed, not fitted.
Prompts are those of `examples/queries`, alone, as numbered tickets, or many in one message to fill long prompts.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import gamma

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

QUERIES = Path(__file__).resolve().parent / "queries.parquet"

START = datetime(2026, 7, 7, tzinfo=UTC)
DAYS = 90
MINUTES = DAYS * 1440

KNOTS = (0, 0.01, 0.02, 0.05, *(n / 20 for n in range(2, 20)), 0.98, 0.99, 1)
"""Probabilities of the quantiles below."""

# fmt: off
CONVERSATION_INPUT = (2, 29, 91, 181, 207, 372, 387, 396, 403, 414, 703, 984, 1020, 1045, 1071, 1097, 1130, 1189, 1315,
                      1876, 2734, 4083, 4098, 4142, 14050)
CONVERSATION_OUTPUT = (7, 16, 24, 41, 54, 67, 77, 85, 91, 96, 103, 113, 129, 151, 177, 217, 384, 395, 400, 411, 424,
                       451, 540, 601, 1000)
CODE_INPUT = (3, 17, 35, 75, 147, 232, 386, 578, 770, 939, 1075, 1261, 1469, 1690, 1909, 2164, 2433, 2744, 3192, 3920,
              5188, 7303, 7436, 7436, 7437)
CODE_OUTPUT = (6, 6, 6, 6, 7, 7, 8, 9, 9, 10, 11, 12, 13, 14, 16, 18, 20, 24, 29, 39, 55, 90, 171, 251, 1899)
PROMPT_CHARS = (3, 25, 31, 40, 53, 63, 75, 88, 105, 122, 142, 164, 191, 227, 276, 342, 435, 568, 775, 1027, 1328, 2076,
                4000, 6341, 66445)
# fmt: on
ZIPF_EXPONENT = 0.93
CONVERSATION_BURSTS = 22.0
CODE_BURSTS = 0.93
"""Shape of the gamma that a minute's rate is multiplied by: the smaller, the burstier."""

# Assumed: an office day in Europe, some traffic from elsewhere at night; a week; a log that grows by a fifth.
HOURS = (30, 28, 27, 27, 30, 40, 60, 90, 130, 150, 155, 150, 130, 140, 150, 148, 135, 110, 85, 70, 58, 48, 40, 34)
WEEKDAYS = (1.0, 1.05, 1.04, 1.02, 0.92, 0.4, 0.36)
GROWTH = 0.2

TENANTS = tuple(
    f"{first}-{second}"
    for second in ("bank", "retail", "freight", "clinics", "press", "energy", "travel", "foods", "legal", "telecom")
    for first in ("harbour", "lumen", "fjord", "aster", "quill", "pine", "+one", "kestrel", "moor", "onyx")
)
"""By size, largest first. Some begin with a plus sign, as real names do and as formulas do."""

CODE_EVERY = 3
"""Every third tenant writes code: 27 % of the calls, near the 31 % of the traces."""

MODELS = ("gpt-5.6-sol", "gpt-5.4-nano", "claude-haiku-4-5", "gemini-2.5-flash", "text-embedding-3-small", "harbour-7b")
STRONG, WEAK, RENAMED, GOOGLE, EMBEDDING, OWN = range(len(MODELS))
MODEL_SHARES = ((0.68, 0.10, 0.09, 0.05, 0.05, 0.03), (0.52, 0.20, 0.12, 0.08, 0.05, 0.03))
"""Of tenants that like the strong model, and of those that do not."""

ANSWER_LENGTH = (1.0, 0.75, 1.2, 0.9, 0.0, 1.1)
"""Mean output against the traces, by model."""

TASKS = (
    "Sort these requests by urgency, one line each:",
    "Which of these messages ask for the same thing?",
    "Say for each of these which team should answer it, and why:",
    "Answer each of these in one sentence:",
    "What were our users interested in today? Group these questions by topic:",
)
"""What long prompts want done with many queries."""

CHARS_PER_TOKEN = 4
TICKETS = 0.1
"""Share of the prompts that come from a help desk, each under a number of its own."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Calls in order of time; arrays of shape (n,)."""

    seconds: Floats
    """Since START."""
    tenant: Ints
    model: Ints
    """Index into MODELS."""
    prompt: Ints
    """Row of the pool."""
    ticket: Ints
    """Number that the prompt is filed under; 0: none."""
    input_tokens: Ints
    cached_tokens: Ints
    cache_write_tokens: Ints
    output_tokens: Ints
    reasoning_tokens: Ints
    latency_s: Floats


def quantile(knots: tuple[int, ...], uniform: Floats) -> Floats:
    """Values of a distribution that is given by its quantiles at KNOTS, log-linear between them."""
    return np.exp(np.interp(uniform, KNOTS, np.log(knots)))


def pick(shares: NDArray[np.floating], uniform: Floats) -> Ints:
    """Indices, each with its share of the unit interval."""
    edges = np.cumsum(shares, dtype=np.float64)
    return np.searchsorted(edges[:-1] / edges[-1], uniform, side="right")


def prompt_pool(path: Path = QUERIES) -> pl.DataFrame:
    """The prompts to draw from, shortest first: `prompt`, `difficulty`, `single` (a query of its own), `chars`.

    Long ones want something done with many queries at once; they are as hard as the first of these.
    """
    queries = pl.read_parquet(path).select("prompt", "difficulty")
    texts = queries["prompt"].to_list()
    sizes = [4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192]
    many = [texts[start : start + size] for size in sizes for start in range(0, len(texts) - size, 48)]
    joined = [f"{TASKS[n % len(TASKS)]}\n- " + "\n- ".join(group) for n, group in enumerate(many)]
    hardness = [queries["difficulty"][start] for size in sizes for start in range(0, len(texts) - size, 48)]
    pool = pl.DataFrame({"prompt": joined, "difficulty": hardness}).with_columns(single=False)
    return (
        pl.concat([queries.with_columns(single=True), pool])
        .with_columns(chars=pl.col("prompt").str.len_chars().cast(pl.Int64))
        .sort("chars", maintain_order=True)
    )


def draw(n: int, seed: int, pool: pl.DataFrame, *, silent: tuple[datetime, datetime]) -> Traffic:
    """Draw `n` calls; the same numbers always give the same calls.

    Args:
        n: Calls.
        seed: Of the uniform doubles that all else follows from (their stream is steady between numpy versions).
        pool: See `prompt_pool`.
        silent: An interval without any call: the gateway was down.
    """
    rng = np.random.default_rng(seed)
    tenant_u, tie_u, time_u, second_u, model_u, input_u, output_u, prompt_u, near_u, ticket_u, cache_u, late_u = (
        rng.random((12, n))
    )
    tenant = pick(np.arange(1, len(TENANTS) + 1) ** -ZIPF_EXPONENT, tenant_u)
    code = tenant % CODE_EVERY == CODE_EVERY - 1
    minute = np.where(
        code,
        pick(_rates(CODE_BURSTS, rng.random(MINUTES), silent), time_u),
        pick(_rates(CONVERSATION_BURSTS, rng.random(MINUTES), silent), time_u),
    )
    seconds = 60 * minute + np.floor(60_000 * second_u) / 1_000
    order = np.lexsort((tie_u, seconds))
    model = np.where(tenant % 2 == 0, *(pick(np.array(shares), model_u) for shares in MODEL_SHARES))
    prompt = _prompts(pool, prompt_u, near_u)
    text_tokens = -(-pool["chars"].to_numpy()[prompt] // CHARS_PER_TOKEN)
    context = np.where(code, quantile(CODE_INPUT, input_u), quantile(CONVERSATION_INPUT, input_u))
    input_tokens = np.maximum(context, text_tokens + 20).astype(np.int64)
    cached, written = _cache(model, input_tokens, cache_u)
    visible, reasoning = _answers(model, code, output_u, cache_u)
    latency_s = 0.3 + (visible + reasoning) * (0.008 + 0.02 * late_u)
    ticket = np.where(ticket_u < TICKETS, 10_000 + np.floor(ticket_u / TICKETS * 900_000), 0).astype(np.int64)
    columns = [seconds, tenant, model, prompt, ticket, input_tokens, cached, written, visible + reasoning, reasoning]
    return Traffic(*(column[order] for column in (*columns, latency_s)))


def _rates(bursts: float, uniform: Floats, silent: tuple[datetime, datetime]) -> Floats:
    """Rate of every minute: hour, weekday and growth, times a gamma of mean 1; shape (MINUTES,)."""
    minute = np.arange(MINUTES)
    day = minute // 1440
    season = np.array(HOURS)[minute // 60 % 24] * np.array(WEEKDAYS)[(START.weekday() + day) % 7]
    rates = season * (1 + GROWTH * day / DAYS) * gamma.ppf(uniform, bursts) / bursts
    first, end = ((moment - START).total_seconds() / 60 for moment in silent)
    return np.where((minute >= first) & (minute < end), 0.0, rates)


def _prompts(pool: pl.DataFrame, uniform: Floats, near: Floats) -> Ints:
    """Rows of the pool whose lengths follow PROMPT_CHARS, each drawn among sixteen of about that length."""
    at = np.searchsorted(pool["chars"].to_numpy(), quantile(PROMPT_CHARS, uniform))
    return np.clip(at + np.floor(16 * near).astype(np.int64) - 8, 0, len(pool) - 1)


def _cache(model: Ints, input_tokens: Ints, uniform: Floats) -> tuple[Ints, Ints]:
    """Tokens read from and written to the providers' caches: prefixes of 1,024 tokens and more, in steps of 128."""
    prefix = (input_tokens * (0.4 + 0.6 * ((uniform * 97) % 1))).astype(np.int64) // 128 * 128
    possible = (prefix >= 1024) & (model != EMBEDDING) & (model != OWN)
    cached = np.where(possible & (uniform < 0.45), prefix, 0)
    written = np.where(possible & (model == RENAMED) & (uniform >= 0.45) & (uniform < 0.6), prefix, 0)
    return cached, written


def _answers(model: Ints, code: NDArray[np.bool_], uniform: Floats, think: Floats) -> tuple[Ints, Ints]:
    """Output tokens that are seen, and those of reasoning: the strong model thinks before six answers of ten."""
    length = np.where(code, quantile(CODE_OUTPUT, uniform), quantile(CONVERSATION_OUTPUT, uniform))
    visible = np.ceil(length * np.array(ANSWER_LENGTH)[model]).astype(np.int64)
    thinks = (model == STRONG) & ((think * 31) % 1 < 0.6)
    return visible, np.where(thinks, np.ceil(visible * ((think * 53) % 1)), 0).astype(np.int64)
