"""What `nightroute label` writes: battles of two models on a sample of queries, and the files of such a run."""

from datetime import datetime
from decimal import Decimal

import dataframely as dy
import polars as pl

from schemas.preferences import WINNERS
from schemas.run import PLAN_VERSION, Identity, InputFile, Plan, Record

LABEL_KINDS = ("judge", "golden")
LABEL_STATUSES = ("ok", "failed", "unsent")
ORDERS = ("ab", "ba")
"""Which answer the judge sees first: `ab` the strong model's, `ba` the weak model's."""

UNPARSED = "unparsed_judgement"
"""Error code: a judgement holds no verdict, or was cut before its end."""
NO_REFERENCE = "no_reference"
"""Error code: the reference is null, blank, or holds nothing to compare with."""


class Sampled(dy.Schema):
    """One row is one query that was drawn. Written before any money is spent."""

    batch = dy.UInt32(nullable=False)
    """Rows worked on at once; the ledger files calls under this number."""
    row = dy.UInt32(nullable=False)
    """Position in the sample, which keeps the order of the table."""
    query_id = dy.String(nullable=False, min_length=1)
    content_sha256 = dy.String(nullable=False)
    win_rate = dy.Float64(nullable=False, min=0.0, max=1.0)
    prompt_tokens = dy.Int64(nullable=False, min=0)
    max_output_tokens = dy.Int64(nullable=True)
    prompt = dy.String(nullable=False)
    messages_json = dy.String(nullable=True)
    system = dy.String(nullable=True)
    stratum = dy.String(nullable=True)
    reference = dy.String(nullable=True)


class Judged(dy.Schema):
    """One row is one sampled query and who won it. `nightroute train` reads it as layout `battles`.

    A query without a label keeps its row: its `winner` is null, which the importer leaves out and counts.
    """

    query_id = dy.String(nullable=False, min_length=1)
    prompt = dy.String(nullable=False)
    model_a = dy.String(nullable=False)
    """The strong model."""
    model_b = dy.String(nullable=False)
    """The weak model."""
    winner = dy.Enum(list(WINNERS), nullable=True)
    """Both orders agree on it, else a tie; null unless `status` is `ok`."""
    source = dy.String(nullable=False)
    label_kind = dy.Enum(list(LABEL_KINDS), nullable=False)
    status = dy.Enum(list(LABEL_STATUSES), nullable=False)
    error_code = dy.String(nullable=True)
    error_message = dy.String(nullable=True)
    """Begins with the role that failed: strong, weak, judge ab, judge ba, golden."""
    stratum = dy.String(nullable=True)
    win_rate = dy.Float64(nullable=False, min=0.0, max=1.0)
    """What the router of the config says about this query."""
    answer_a = dy.String(nullable=True)
    answer_b = dy.String(nullable=True)
    finish_reason_a = dy.String(nullable=True)
    finish_reason_b = dy.String(nullable=True)
    """`length`: the answer was cut, and judged as it is."""
    reference = dy.String(nullable=True)
    strong_score = dy.Float64(nullable=True, min=0.0, max=1.0)
    weak_score = dy.Float64(nullable=True, min=0.0, max=1.0)
    judge_model = dy.String(nullable=True)
    judgement_ab = dy.String(nullable=True)
    """The judge's text, as it came, with the strong model's answer shown first."""
    judgement_ba = dy.String(nullable=True)
    verdict_ab = dy.Enum(list(WINNERS), nullable=True)
    verdict_ba = dy.Enum(list(WINNERS), nullable=True)
    attempts = dy.Int64(nullable=False, min=0)
    """HTTP calls made for this query, all roles together."""
    strong_cost_usd = dy.Decimal(38, 12, nullable=True)
    weak_cost_usd = dy.Decimal(38, 12, nullable=True)
    judge_cost_usd = dy.Decimal(38, 12, nullable=True)
    """Of both orders together."""
    cost_usd = dy.Decimal(38, 12, nullable=True)
    """The sum; null money is unpriced, never free."""
    unpriced_reason = dy.String(nullable=True)

    @dy.rule()
    def labelled_where_ok(cls) -> pl.Expr:
        """A winner stands where the status is `ok`, and nowhere else."""
        return pl.col("winner").is_not_null() == (pl.col("status") == "ok")


class LabelIdentity(Identity):
    """Everything that decides the labels: a resume under another identity is refused."""

    judge: dict[str, str] | None
    """Model name, base_url and parameters of the judge; null where answers are compared with a reference."""
    template_sha256: str | None
    system_template_sha256: str | None
    golden_column: str | None
    golden_match: str | None
    sample_size: int
    sample_seed: int
    stratify: str | None
    allocation: str
    source: str


class LabelPlan(Plan):
    """`plan.json` of a labelling run."""

    identity: LabelIdentity


class Orders(Record):
    """What the two orders of a judge say about its position bias; counts of queries with two verdicts."""

    judged: int
    agreed: int
    """Both orders gave the same verdict."""
    chose_first: int
    """Both times the answer shown first won: counted as a tie."""
    chose_second: int
    """Both times the answer shown second won: counted as a tie."""


class LabelTotals(Record):
    """Money and calls of a labelling run."""

    strong_cost_usd: Decimal
    weak_cost_usd: Decimal
    judge_cost_usd: Decimal
    cost_usd: Decimal
    """Sum over priced calls whose reply decided them."""
    spent_usd: Decimal
    """Everything that the ledger booked, repeated calls included."""
    unpriced_rows: int
    unknown_calls: int
    """Calls in flight when a run was killed: possibly billed by the provider."""
    attempts: int


class LabelManifest(Record):
    """`manifest.json` of a labelling run: written after the table."""

    version: int = PLAN_VERSION
    run_id: str
    revision: int
    started_at: datetime
    published_at: datetime
    nightroute_version: str
    identity: LabelIdentity
    rows: dict[str, int]
    """rejected, sampled, ok, failed, unsent."""
    winners: dict[str, int]
    strata: dict[str, int]
    """Stratum -> rows of the sample; empty without `stratify`."""
    errors: dict[str, int]
    orders: Orders | None
    """Null without a judge."""
    totals: LabelTotals
    output: str
    sha256: str
    prices_sha256: str
    input_files: list[InputFile]
    timings_s: dict[str, float]
