"""Files of a run folder and of a published partition: plan, split, manifest. All JSON, all written atomically."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict

PLAN_VERSION = 1


class Record(BaseModel):
    """A frozen file record; unknown keys are refused, so that two versions never half-understand each other."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputFile(Record):
    """One Parquet file of the input."""

    path: str
    rows: int
    sha256: str
    partition: dict[str, str | None]
    """Hive keys read from the path, as text; null for Hive's default partition."""


class Part(Record):
    """The unit of work: `rows` rows of one file from row `start` on."""

    number: int
    file: int
    """Index into `Plan.files`."""
    start: int
    rows: int


class Identity(Record):
    """Everything that decides what is asked, and of whom: a resume under another identity is refused."""

    input_path: str
    columns: dict[str, str]
    drop: list[str]
    date: str | None
    date_column: str | None
    max_prompt_tokens: int
    part_rows: int
    router_sha256: str
    strong: dict[str, str]
    """Model name, base_url and parameters (JSON text) of the strong model."""
    weak: dict[str, str]
    embedding: dict[str, str] | None = None
    """The same of the embedding model; null for a router that reads tokens."""


class Plan(Record):
    """`plan.json`: written once, before the first row is scored."""

    version: int
    run_id: str
    created_at: datetime
    nightroute_version: str
    identity: Identity
    files: list[InputFile]
    parts: list[Part]


class AnswerLength(Record):
    """How long a model's answers are expected to be: scale * prompt_tokens ** power output tokens."""

    scale: float
    power: float = 0.0
    """0: the prompt says nothing about it."""
    answers: int = 0
    """Answers that it was fitted on; 0: assumed (`expected_output_tokens`)."""


class Split(Record):
    """`split.json`: where this table was cut.

    A query goes strong iff its place in the order is above a threshold, or at the threshold with
    `tie_key <= tie_key_max`. The tie key is a hash of the query id, so ties are cut fairly, by no column of the table,
    and the same way every time. The order is that of win rates, and the threshold `alpha`; or that of the gain per
    extra dollar, and the threshold `min_gain_per_usd` (docs/splitting.md).
    """

    rule: str
    """`alpha`, `strong_share` or `max_usd`."""
    wanted: str
    """The number asked for, as text (a budget is an exact decimal)."""
    order: Literal["win_rate", "gain_per_usd"] = "win_rate"
    alpha: float | None
    """Null where the order is `gain_per_usd`: each query has an alpha of its own then."""
    min_gain_per_usd: float | None = None
    """Score points that a dollar more has to buy; null where the order is `win_rate`."""
    answer_lengths: dict[str, AnswerLength] = {}
    """Route -> what the split took for the length of answers, where that was not `expected_output_tokens` alone."""
    tie_key_max: int
    """-1 sends no tie to the strong model; 2**64 - 1 sends all."""
    n: int
    n_strong: int
    n_tied: int
    """Queries that are at the threshold."""
    n_tied_strong: int
    expected_usd: Decimal | None
    """Expected cost of the whole table at this split; null when a model is unpriced."""


class Totals(Record):
    """Money and tokens of a published partition. Null money means that no row could be priced."""

    cost_usd: Decimal
    """Sum over priced rows."""
    all_strong_usd: Decimal | None
    all_weak_usd: Decimal | None
    saved_vs_strong_usd: Decimal | None
    saved_share: float | None
    unpriced_rows: int
    """Rows with an answer but without a price; their cost is in no sum."""
    spent_usd: Decimal
    """Everything booked for this run, answers of earlier splits and embeddings included."""
    unknown_calls: int
    """Calls in flight when a run was killed: sent, outcome unknown, possibly billed by the provider."""
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    attempts: int


class EmbeddingBill(Record):
    """What a run paid for the embeddings of its prompts: no part of any query's cost."""

    model: str
    prompts: int
    """Distinct prompts that have their vector."""
    requests: int
    """Replies that were billed, repeated ones included."""
    input_tokens: int
    cost_usd: Decimal
    """Sum over priced requests."""
    unpriced_requests: int
    unknown_calls: int
    """Requests in flight when a run was killed: possibly billed by the provider."""


class PublishedFile(Record):
    """One Parquet file of a published partition."""

    path: str
    rows: int
    sha256: str


class Manifest(Record):
    """`_manifest.json`: the last file written. Its presence means that the partition is whole."""

    version: int = PLAN_VERSION
    run_id: str
    revision: int
    """1 for the first publication of a run; resplits and retries count up."""
    started_at: datetime
    published_at: datetime
    nightroute_version: str
    versions: dict[str, str]
    identity: Identity
    router: dict[str, str]
    split: Split
    rows: dict[str, int]
    """read, rejected, published, strong, weak, ok, truncated, failed, unsent."""
    errors: dict[str, int]
    """error_code -> rows."""
    models: dict[str, dict[str, str | int | float | None]]
    """Per model: rows, tokens, mean output tokens, cost."""
    totals: Totals
    embedding: EmbeddingBill | None = None
    """Null for a router that reads tokens."""
    prices_sha256: str
    input_files: list[InputFile]
    files: list[PublishedFile]
    timings_s: dict[str, float]
