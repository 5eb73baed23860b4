"""The battle table: the ledger read, priced and judged batch by batch, published by one rename, manifest after it."""

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl

from jobs.dispatching import spent_usd
from jobs.label_run import JUDGE, LabelRun, answers, batches, judge_calls, usable
from jobs.night import SIDES, package_version
from jobs.publishing import check_writable
from jobs.rundir import PARQUET_LEVEL, storing, write_atomic, write_json
from jobs.scoring import count_rejected
from routing import golden
from routing.account import observed
from routing.artifact import file_sha256
from routing.errors import ConfigError, DataError
from routing.labelling import both_orders, by_score, verdict
from routing.ledger import LedgerReader
from routing.prices import snapshot_sha256
from routing.replies import outcomes
from routing.routers import Router
from schemas.billing import USD
from schemas.labels import (
    LABEL_KINDS,
    LABEL_STATUSES,
    NO_REFERENCE,
    ORDERS,
    UNPARSED,
    Judged,
    LabelManifest,
    LabelTotals,
    Orders,
)

RUN_ID = "nightroute.run_id"
"""Key of the table's own metadata: it says whose it is, even if the run was killed before its manifest."""
UNSENT = "unsent"
_SUFFIX = {"strong": "a", "weak": "b"}
_ROLE = {"a": "strong", "b": "weak", "ab": "judge ab", "ba": "judge ba"}
_COSTS = {"strong_cost_usd": ("a",), "weak_cost_usd": ("b",), "judge_cost_usd": ORDERS}
_MESSAGE = {
    UNPARSED: "no [[A]], [[B]] or [[C]] in the judgement; its text is kept",
    NO_REFERENCE: "the reference holds nothing to compare with",
}
_CUT = (
    "the judgement was cut at its token limit; only a new run with a higher limit in models.judge.params reads it "
    "whole, and it buys the answers again"
)


def check_label_output(run: LabelRun) -> None:
    """Refuse an output file that another run or program wrote, before any money is spent.

    Raises:
        ConfigError: it belongs to somebody else, or is among the input.
        StorageError: it cannot be written.
    """
    output = run.job.output
    if output.match(str(run.job.path(run.job.config.input.path))):  # folders and ** are refused already
        raise ConfigError(f"output.path {output} would be read as input by the next run; choose another folder")
    check_writable(output)
    if output.exists() and published_by(run) != run.plan.run_id:
        raise ConfigError(
            f"output.path {output} already holds something else; remove it, or choose another output.path"
        )


def published_by(run: LabelRun) -> str | None:
    """Run id in the published table; null where there is none, or none of ours."""
    try:
        return pl.read_parquet_metadata(run.job.output).get(RUN_ID)
    except (OSError, pl.exceptions.PolarsError):
        return None


def judged(run: LabelRun, batch: pl.DataFrame, ledger: LedgerReader, number: int, router: Router) -> pl.DataFrame:
    """SAMPLED of a batch x ledger -> JUDGED: one row out for each row in, same order."""
    rows = batch
    for side in SIDES:
        said = observed(answers(run, batch, side, ledger, number), run.prices, run.bills)
        rows = rows.join(_side(said, _SUFFIX[side]), on="row", how="left", maintain_order="left")
    parts: tuple[str, ...] = ("a", "b")
    if run.judge is None:
        rows = _graded(rows, run.job.config.golden.match)
    else:
        asked = judge_calls(run, batch, ledger, number, router)
        said = observed(outcomes(asked, ledger.replies(number)), run.prices, run.bills)
        for order in ORDERS:
            rows = rows.join(_order(said, order), on="row", how="left", maintain_order="left")
        rows = rows.with_columns(
            winner=both_orders(pl.col("verdict_ab"), pl.col("verdict_ba")),
            strong_score=pl.lit(None, pl.Float64),
            weak_score=pl.lit(None, pl.Float64),
            golden_error=pl.lit(None, pl.String),
        )
        parts = (*parts, *ORDERS)
    return _finished(run, rows, parts)


def _side(said: pl.DataFrame, suffix: str) -> pl.DataFrame:
    error = pl.when(~usable()).then("error_code")
    texts = {f"answer_{suffix}": pl.when(usable()).then("answer"), f"finish_reason_{suffix}": pl.col("finish_reason")}
    return said.select("row", **texts, **_shared(suffix, error, pl.col("error_message")))


def _order(said: pl.DataFrame, order: str) -> pl.DataFrame:
    cut = pl.col("status") == "truncated"
    found = pl.when(pl.col("status") == "ok").then(verdict(pl.col("answer"), order))
    unparsed = usable() & found.is_null()
    error = pl.when(unparsed).then(pl.lit(UNPARSED)).when(~usable()).then("error_code")
    message = pl.when(cut).then(pl.lit(_CUT)).when(unparsed).then(pl.lit(_MESSAGE[UNPARSED])).otherwise("error_message")
    texts = {f"judgement_{order}": pl.col("answer"), f"verdict_{order}": found}
    return said.filter(pl.col("order") == order).select("row", **texts, **_shared(order, error, message))


def _shared(suffix: str, error: pl.Expr, message: pl.Expr) -> dict[str, pl.Expr]:
    """Columns that every role has, under its suffix."""
    return {
        f"error_{suffix}": error,
        f"message_{suffix}": message,
        f"attempts_{suffix}": pl.col("attempts"),
        f"cost_{suffix}": pl.col("cost_usd"),
        f"unpriced_{suffix}": pl.col("unpriced_reason"),
    }


def _graded(rows: pl.DataFrame, match: golden.Match) -> pl.DataFrame:
    both = pl.col("answer_a").is_not_null() & pl.col("answer_b").is_not_null()
    scores = {
        name: pl.when(pl.col(answer).is_not_null()).then(golden.score(pl.col(answer), pl.col("reference"), match))
        for name, answer in (("strong_score", "answer_a"), ("weak_score", "answer_b"))
    }
    nothing = dict.fromkeys((f"judgement_{order}" for order in ORDERS), pl.lit(None, pl.String))
    no_verdict = dict.fromkeys((f"verdict_{order}" for order in ORDERS), pl.lit(None, Judged.verdict_ab.dtype))
    return rows.with_columns(**scores, **nothing, **no_verdict).with_columns(
        winner=by_score(pl.col("strong_score"), pl.col("weak_score")),
        golden_error=pl.when(both & pl.col("strong_score").is_null()).then(pl.lit(NO_REFERENCE)),
    )


def _finished(run: LabelRun, rows: pl.DataFrame, parts: tuple[str, ...]) -> pl.DataFrame:
    """Add status, error and money; what failed for good goes before what was not sent."""
    failed = {part: pl.col(f"error_{part}").is_not_null() & (pl.col(f"error_{part}") != UNSENT) for part in parts}
    unsent = pl.any_horizontal((pl.col(f"error_{part}") == UNSENT).fill_null(value=False) for part in parts)
    code = pl.coalesce(
        *(pl.when(failed[part]).then(f"error_{part}") for part in parts),
        "golden_error",
        pl.when(unsent).then(pl.lit(UNSENT)),
    )
    message = pl.coalesce(
        *(pl.when(failed[part]).then(_told(part)) for part in parts),
        pl.when(pl.col("golden_error").is_not_null()).then(pl.lit(f"golden: {_MESSAGE[NO_REFERENCE]}")),
        pl.when(unsent).then(pl.lit("the run stopped before all of its calls were made")),
    )
    status = (
        pl.when(code.is_null()).then(pl.lit("ok")).when(code == UNSENT).then(pl.lit(UNSENT)).otherwise(pl.lit("failed"))
    )
    costs = {
        name: _sum(
            [f"cost_{part}" for part in of if part in parts], [f"unpriced_{part}" for part in of if part in parts]
        )
        for name, of in _COSTS.items()
    }
    models, kind = run.models, LABEL_KINDS[run.judge is None]
    judge = models[JUDGE].name if JUDGE in models else None
    table = (
        rows.with_columns(
            model_a=pl.lit(models["strong"].name),
            model_b=pl.lit(models["weak"].name),
            source=pl.lit(run.job.config.source),
            label_kind=pl.lit(kind, pl.Enum(list(LABEL_KINDS))),
            status=status.cast(pl.Enum(list(LABEL_STATUSES))),
            error_code=code,
            error_message=message,
            judge_model=pl.lit(judge, pl.String),
            attempts=pl.sum_horizontal(pl.col(f"attempts_{part}").fill_null(0) for part in parts),
            unpriced_reason=pl.coalesce(*(f"unpriced_{part}" for part in parts)),
            **costs,
        )
        .with_columns(winner=pl.when(pl.col("status") == "ok").then("winner"))
        .with_columns(cost_usd=pl.sum_horizontal(*_COSTS, ignore_nulls=False).cast(USD))
    )
    return Judged.validate(table.select(Judged.column_names()))


def _told(part: str) -> pl.Expr:
    return pl.format("{}: {}", pl.lit(_ROLE[part]), pl.coalesce(f"message_{part}", f"error_{part}"))


def _sum(costs: list[str], reasons: list[str]) -> pl.Expr:
    """Sum of calls; what was not asked costs nothing, what is unpriced makes the sum null."""
    if not costs:
        return pl.lit(0).cast(USD)
    unpriced = pl.any_horizontal(pl.col(reason).is_not_null() for reason in reasons)
    return pl.when(~unpriced).then(pl.sum_horizontal(pl.col(cost).fill_null(0) for cost in costs)).cast(USD)


# ---- publishing -----------------------------------------------------------------------------------------------------


def publish_labels(
    run: LabelRun,
    sample: pl.DataFrame,
    ledger: LedgerReader,
    router: Router,
    *,
    revision: int,
    started_at: datetime,
    timings_s: Mapping[str, float],
) -> LabelManifest:
    """Write and publish the battle table; returns its manifest.

    Args:
        run: The run, every call decided or given up.
        sample: SAMPLED.
        ledger: Its ledger.
        router: Counts tokens.
        revision: Counts publications of this run.
        started_at: When this process began.
        timings_s: Seconds of the stages before.

    Raises:
        StorageError: the disk refuses; nothing is published.
        DataError: the ids written are not the ids drawn; nothing is published.
    """
    staged, output = run.run.staging / "labels", run.job.output
    with storing(staged):
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
    spent = Decimal(0)
    for number, batch in batches(sample):
        table = judged(run, batch, ledger, number, router)
        if table["query_id"].to_list() != batch["query_id"].to_list():
            raise DataError(
                f"batch {number} would be published with other ids than were drawn; nothing was published; "
                f"please report this with {run.run.plan}"
            )
        with storing(staged):
            table.write_parquet(staged / f"part-{number:05d}.parquet", compression="zstd")
        spent += spent_usd(run, ledger, number, run.bills)
    whole = pl.scan_parquet(sorted(staged.glob("*.parquet")))
    write_atomic(
        output,
        lambda draft: whole.sink_parquet(
            draft, compression="zstd", compression_level=PARQUET_LEVEL, metadata={RUN_ID: run.plan.run_id}
        ),
        run.run.staging,
    )
    manifest = LabelManifest(
        run_id=run.plan.run_id,
        revision=revision,
        started_at=started_at,
        published_at=datetime.now(UTC),
        nightroute_version=package_version(),
        identity=run.identity,
        rows={"rejected": count_rejected(run), "sampled": sample.height, **_counts(whole, "status", LABEL_STATUSES)},
        winners=_counts(whole, "winner", Judged.winner.categories),
        strata={} if run.identity.stratify is None else _counts(whole, "stratum"),
        errors=_counts(whole, "error_code"),
        orders=None if run.judge is None else _orders(whole),
        totals=_totals(whole, spent, unknown_calls=ledger.unknown().height),
        output=str(output),
        sha256=file_sha256(output),
        prices_sha256=snapshot_sha256(run.prices),
        input_files=run.plan.files,
        timings_s={name: round(seconds, 3) for name, seconds in timings_s.items()},
    )
    write_json(run.run.manifest, manifest, run.run.staging)
    with storing(run.run.staging):
        shutil.rmtree(run.run.staging, ignore_errors=True)
    return manifest


def _counts(table: pl.LazyFrame, column: str, names: tuple[str, ...] | list[str] = ()) -> dict[str, int]:
    """Value -> rows, the most frequent first after the given names; null counts as nothing, but for strata."""
    values = table.select(pl.col(column).cast(pl.String).fill_null("null" if column == "stratum" else pl.lit(None)))
    found = values.drop_nulls().group_by(column).len().sort(["len", column], descending=[True, False]).collect()
    return dict.fromkeys(names, 0) | dict(found.iter_rows())


def _orders(table: pl.LazyFrame) -> Orders:
    ab, ba = (pl.col(f"verdict_{order}").cast(pl.String) for order in ORDERS)
    both = table.filter(ab.is_not_null() & ba.is_not_null())
    counts = both.select(
        judged=pl.len(),
        agreed=(ab == ba).sum(),
        chose_first=((ab == "model_a") & (ba == "model_b")).sum(),
        chose_second=((ab == "model_b") & (ba == "model_a")).sum(),
    ).collect()
    return Orders(**counts.row(0, named=True))


def _totals(table: pl.LazyFrame, spent: Decimal, *, unknown_calls: int) -> LabelTotals:
    money = (*_COSTS, "cost_usd")
    sums = table.select(
        *(pl.col(name).sum() for name in money),
        unpriced_rows=pl.col("unpriced_reason").count(),
        attempts=pl.col("attempts").sum(),
    ).collect()
    row = sums.row(0, named=True)
    return LabelTotals(
        spent_usd=spent, unknown_calls=unknown_calls, **{**row, **{name: row[name] or 0 for name in money}}
    )
