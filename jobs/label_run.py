"""A labelling run: opened and checked, its sample drawn, its questions made. Nothing is sent here."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from jobs.config import Model
from jobs.dispatching import call_key, model_key
from jobs.label_config import LabelJob, text_sha256
from jobs.night import SIDES, TableRun, billing, embedding_model, endpoint_fields, open_table, table_identity
from jobs.rundir import RunDir, write_atomic, write_parquet
from jobs.scoring import read_scored
from jobs.source import ROW, read_part
from routing.account import Billing
from routing.artifact import RouterArtifact
from routing.errors import ConfigError, DataError, NothingToDoError
from routing.labelling import JudgePrompt, draw, questions
from routing.ledger import LedgerReader
from routing.replies import outcomes
from routing.routers import Router
from routing.score import TOKENS_PER_MESSAGE, TOKENS_PER_REPLY
from schemas.labels import LabelIdentity, LabelPlan, Sampled
from schemas.run import Part

BATCH_ROWS = 1_000
"""Queries worked on at once: their answers and judgements are in memory together."""
JUDGE = "judge"


@dataclass(frozen=True, slots=True)
class LabelRun(TableRun):
    """Everything the stages of a labelling run work with."""

    job: LabelJob
    identity: LabelIdentity
    judge: JudgePrompt | None
    """Null where answers are compared with a reference."""

    @property
    def models(self) -> dict[str, Model]:
        """Role -> model that is called."""
        return self.job.config.asked()

    @property
    def bills(self) -> dict[str, Billing]:
        """Role -> who bills."""
        return {role: billing(model, model.expected_output_tokens) for role, model in self.models.items()}


def open_label(job: LabelJob) -> LabelRun:
    """Check templates, input and router, then create the plan of a run, or check that an existing one is the same run.

    A run that has not sent anything may still change: it begins anew.

    Raises:
        NightrouteError: whatever is wrong, before a cent is spent.
    """
    if RunDir(job.run_dir).config.exists():
        raise ConfigError(f"run_dir {job.run_dir} is a nightly run; give the labelling run a run_dir of its own")
    prompt = job.judge_prompt()
    identities: list[LabelIdentity] = []

    def identify(router: RouterArtifact) -> LabelIdentity:
        identities.append(_identity(job, router, prompt))
        return identities[0]

    table = open_table(
        job,
        LabelPlan,
        identify,
        lambda run: _save(job, prompt, run),
        written=(),
        restart_unspent=True,
    )
    return LabelRun(table.run, table.plan, table.source, table.router, table.prices, job, identities[0], prompt)


def _identity(job: LabelJob, router: RouterArtifact, prompt: JudgePrompt | None) -> LabelIdentity:
    config, models = job.config, job.config.asked()
    if embedding_model(config.router, router) is not None:
        raise ConfigError(
            f"router {router.card.name!r} starts at embeddings, which only `nightroute run` buys; choose a router that "
            "reads tokens for [router] of the labelling config, such as builtin:static-mf"
        )
    golden = config.golden if config.golden.column is not None else None
    return LabelIdentity(
        **table_identity(job, router),
        strong=endpoint_fields(models["strong"]),
        weak=endpoint_fields(models["weak"]),
        judge=endpoint_fields(models[JUDGE]) if JUDGE in models else None,
        template_sha256=None if prompt is None else text_sha256(prompt.template),
        system_template_sha256=None if prompt is None else text_sha256(prompt.system),
        golden_column=None if golden is None else golden.column,
        golden_match=None if golden is None else golden.match,
        sample_size=config.sample.size,
        sample_seed=config.sample.seed,
        stratify=config.sample.stratify,
        allocation=config.sample.allocation,
        source=config.source,
    )


def _save(job: LabelJob, prompt: JudgePrompt | None, run: RunDir) -> None:
    """Keep config and templates: what a label was made with can be read next year."""
    record = {
        "base": str(job.base),
        "date": job.date,
        "config": job.config.model_dump(mode="json"),
        "template": None if prompt is None else prompt.template,
        "system_template": None if prompt is None else prompt.system,
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    write_atomic(run.label_config, lambda draft: draft.write_text(text, encoding="utf-8"), run.staging)


# ---- the sample -----------------------------------------------------------------------------------------------------


def draw_sample(run: LabelRun) -> pl.DataFrame:
    """Return the sample, SAMPLED: drawn from the scored table, or read where it was drawn before.

    Raises:
        DataError: a column that the config names is not there, or holds no plain values.
        NothingToDoError: every row was rejected.
    """
    if not run.run.sample.exists():
        sample = _drawn(run)
        if sample.is_empty():
            raise NothingToDoError(
                f"no query is left to label: every row was rejected (see {run.run.rejected}) or none matched the date"
            )
        write_parquet(run.run.sample, sample, run.run.staging)
    return pl.read_parquet(run.run.sample)


def _drawn(run: LabelRun) -> pl.DataFrame:
    config = run.job.config
    named = {"sample.stratify": config.sample.stratify, "golden.column": config.golden.column}
    for key, column in named.items():
        if column is not None:
            _carried(run, column, key)
    settings = config.sample
    keys = pl.concat(
        [
            _keys(run, part, settings.stratify).with_columns(part=pl.lit(part.number, pl.UInt32))
            for part in run.plan.parts
        ]
    )
    chosen = draw(keys, size=settings.size, seed=settings.seed, allocation=settings.allocation)
    parts = [
        _texts(run, run.plan.parts[int(str(number))], rows)
        for (number,), rows in chosen.group_by("part", maintain_order=True)
    ]
    if not parts:
        return Sampled.create_empty()
    sample = pl.concat(parts).with_columns(row=pl.int_range(pl.len(), dtype=pl.UInt32))
    return Sampled.validate(sample.with_columns(batch=(pl.col("row") // BATCH_ROWS).cast(pl.UInt32)))


def _keys(run: LabelRun, part: Part, stratify: str | None) -> pl.DataFrame:
    """row, query_id and stratum of a part: all that is held of the whole table at once."""
    scored = read_scored(run, part).select("row", "query_id")
    if stratify is None:
        return scored.with_columns(stratum=pl.lit(None, pl.String))
    return scored.join(_column(run, part, stratify, "stratum"), on="row", how="left", maintain_order="left")


def _texts(run: LabelRun, part: Part, chosen: pl.DataFrame) -> pl.DataFrame:
    scored = read_scored(run, part).select(
        "row", "query_id", "content_sha256", "win_rate", "prompt_tokens", "max_output_tokens"
    )
    queries = read_part(run.source, part).queries.select("row", "prompt", "messages_json", "system")
    rows = chosen.select("row", "stratum").join(scored, on="row", how="left", maintain_order="left")
    rows = rows.join(queries, on="row", how="left", maintain_order="left")
    golden = run.job.config.golden.column
    if golden is None:
        return rows.with_columns(reference=pl.lit(None, pl.String))
    return rows.join(_column(run, part, golden, "reference"), on="row", how="left", maintain_order="left")


def _column(run: LabelRun, part: Part, column: str, name: str) -> pl.DataFrame:
    carried = read_part(run.source, part).carried
    values = carried[_ours(run, column)].cast(pl.String)
    return pl.DataFrame({"row": carried[ROW], name: values})


def _ours(run: LabelRun, column: str) -> str:
    """Mapped columns travel under our names."""
    mapped = {theirs: ours for ours, theirs in run.source.config.columns.items()}
    return mapped.get(column, column)


def _carried(run: LabelRun, column: str, key: str) -> None:
    columns = run.source.columns()
    if _ours(run, column) not in columns:
        raise DataError(
            f"{key} names {column!r}, which the input does not hold; its columns are {columns}"
            f"{', and input.drop leaves it out' if column in run.source.config.drop else ''}"
        )
    kind = read_part(run.source, run.plan.parts[0]).carried.schema[_ours(run, column)]
    if kind.is_nested() or kind == pl.Binary:
        raise DataError(f"{key} names {column!r}, which holds {kind}; name a column of plain values")


def batches(sample: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """Number and rows of each batch."""
    for (number,), rows in sample.group_by("batch", maintain_order=True):
        yield int(str(number)), rows


# ---- what is asked --------------------------------------------------------------------------------------------------


def answer_calls(run: LabelRun, batch: pl.DataFrame, side: str) -> pl.DataFrame:
    """SAMPLED of a batch as the calls of one side: `model` and `call_key` are added."""
    model = run.models[side]
    return batch.with_columns(
        model=pl.lit(model.name), call_key=call_key("query_id", "content_sha256", pl.lit(model_key(model)))
    )


def answers(run: LabelRun, batch: pl.DataFrame, side: str, ledger: LedgerReader, number: int) -> pl.DataFrame:
    """What one side said to a batch: rows of `routing.replies.outcomes`, one for each query."""
    return outcomes(answer_calls(run, batch, side), ledger.replies(number))


def usable() -> pl.Expr:
    """An answer that can be compared; one that was cut at its limit is judged as it is."""
    return pl.col("status").cast(pl.String).is_in(["ok", "truncated"])


def judge_calls(run: LabelRun, batch: pl.DataFrame, ledger: LedgerReader, number: int, router: Router) -> pl.DataFrame:
    """The questions to the judge about a batch: both orders of every pair of usable answers.

    Args:
        run: The run.
        batch: SAMPLED of the batch.
        ledger: Its ledger, both sides decided.
        number: Of the batch.
        router: Counts tokens.
    """
    assert run.judge is not None
    model = run.models[JUDGE]
    pairs = batch.select("row", "query_id", "prompt")
    for side, name in zip(SIDES, ("answer_a", "answer_b"), strict=True):
        said = answers(run, batch, side, ledger, number).filter(usable()).select("row", pl.col("answer").alias(name))
        pairs = pairs.join(said, on="row", how="inner", maintain_order="left")
    asked = questions(pairs, run.judge)
    messages = 1 if run.judge.system is None else 2
    framing = TOKENS_PER_REPLY + TOKENS_PER_MESSAGE * messages + _count(router, run.judge.system)
    tokens = router.count_tokens(asked["prompt"].to_list()) if asked.height else np.empty(0, np.int64)
    return asked.with_columns(
        prompt_tokens=pl.Series(tokens, dtype=pl.Int64) + framing,
        model=pl.lit(model.name),
        # The order is part of it: of two equal answers both orders are one text.
        call_key=call_key("query_id", "content_sha256", pl.lit(model_key(model)), "order"),
    )


def _count(router: Router, text: str | None) -> int:
    return 0 if text is None else int(router.count_tokens([text])[0])
