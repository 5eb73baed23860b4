"""`nightroute label`: draw a sample, let both models answer it, have the answers judged; killed, it goes on."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import polars as pl

from jobs import console
from jobs.dispatching import Lane, budget_guard, calls_of, send_all, undecided
from jobs.label_config import LabelJob
from jobs.label_console import plan_record, show_labels, show_plan
from jobs.label_forecast import forecast, total
from jobs.label_publishing import check_label_output, publish_labels, published_by
from jobs.label_run import JUDGE, LabelRun, answer_calls, batches, draw_sample, judge_calls, open_label
from jobs.night import SIDES, endpoint
from jobs.run import open_router, warn_unpriced
from jobs.rundir import RunDir, at_work, read_json
from jobs.scoring import score_parts
from jobs.stopwatch import Stopwatch
from routing.calls import Call
from routing.errors import ConfigError, NightrouteError, NothingToDoError
from routing.ledger import Ledger
from routing.routers import Router
from schemas.labels import ORDERS, LabelManifest


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """What one invocation may ask for besides the config."""

    dry_run: bool = False
    """Draw the sample and print what it will cost; make no call."""
    retry_failed: bool = False
    """Send calls again that the endpoint failed for good; what it answered stays, of use or not."""
    publish_unsent: bool = False
    """Publish even though the run stopped early; rows not finished get the status `unsent`."""


def label(job: LabelJob, options: LabelOptions) -> int:
    """Label a sample of a table, or what is left of it; returns the exit code.

    Raises:
        NightrouteError: with the exit code of DESIGN section 9.
    """
    started_at, watch = datetime.now(UTC), Stopwatch()
    with at_work(RunDir(job.run_dir)):
        run = open_label(job)
        check_label_output(run)
        if not options.dry_run:
            for role, model in run.models.items():
                endpoint(model, role)  # a missing key is told before anything is scored
        unpriced = warn_unpriced(run, run.models)
        _check_unfinished(run, options)
        if unpriced and run.job.config.budget.max_usd is not None and not options.dry_run:
            raise ConfigError(
                f"budget.max_usd cannot hold a model without a price: add [[prices]], or drop the budget ({unpriced})"
            )
        watch.lap("open")
        router = open_router(run, job.config.router)
        with console.part_bar("score", len(run.plan.parts)) as on_part:
            score_parts(run, lambda: router, on_part)
        sample = draw_sample(run)
        watch.lap("sample")
        roles = forecast(run, sample, router)
        show_plan(run, sample, roles)
        if options.dry_run:
            console.emit(plan_record(run, sample, roles, total(roles)))
            return 0
        return _finish(run, sample, router, options, watch, started_at)


def _check_unfinished(run: LabelRun, options: LabelOptions) -> None:
    if options.retry_failed or not run.run.manifest.exists() or published_by(run) is None:
        return
    if not read_json(LabelManifest, run.run.manifest).rows["unsent"]:
        raise NothingToDoError(
            f"run {run.run.root} is finished and published at {run.job.output}; use --retry-failed to send again "
            "what the endpoint failed, or another run_dir and output.path for a new run"
        )


def _finish(
    run: LabelRun, sample: pl.DataFrame, router: Router, options: LabelOptions, watch: Stopwatch, started_at: datetime
) -> int:
    """Send and publish; returns the exit code."""
    with Ledger(run.run.ledger) as ledger:
        stopped_by = _send_all(run, sample, ledger, router, options, watch)
        if stopped_by is not None and not options.publish_unsent:
            raise stopped_by
        revision = 1
        if run.run.manifest.exists():
            revision += read_json(LabelManifest, run.run.manifest).revision
        manifest = publish_labels(
            run, sample, ledger, router, revision=revision, started_at=started_at, timings_s=watch.timings_s
        )
    if stopped_by is not None:
        console.say(str(stopped_by))
    show_labels(manifest)
    rows = manifest.rows
    code = int(rows["failed"] + rows["unsent"] > run.job.config.output.max_failed_share * rows["sampled"])
    console.emit(_summary(run, manifest, code))
    return code


def _send_all(
    run: LabelRun, sample: pl.DataFrame, ledger: Ledger, router: Router, options: LabelOptions, watch: Stopwatch
) -> NightrouteError | None:
    """Both models answer at once, then the judge compares; returns why it stopped early, or null."""
    again = options.retry_failed
    answering = {side: _answers(run, sample, ledger, side, retry_failed=again) for side in SIDES}
    stopped_by = _send(run, sample, ledger, answering, calls_per_query=1)
    watch.lap("answer")
    if stopped_by is None and run.judge is not None:
        judging = {JUDGE: _judgements(run, sample, ledger, router, retry_failed=again)}
        stopped_by = _send(run, sample, ledger, judging, calls_per_query=len(ORDERS))
        watch.lap("judge")
    return stopped_by


def _send(
    run: LabelRun, sample: pl.DataFrame, ledger: Ledger, calls: dict[str, AsyncIterator[Call]], *, calls_per_query: int
) -> NightrouteError | None:
    config, numbers = run.job.config, sample["batch"].unique().to_list()
    totals = dict.fromkeys(calls, calls_per_query * sample.height)
    result = asyncio.run(
        send_all(
            run,
            [Lane(role, run.models[role], stream) for role, stream in calls.items()],
            ledger,
            settings=config.dispatch,
            budget=budget_guard(run, ledger, config.budget.max_usd, numbers, run.bills),
            resume_with="the same command",
            watch=lambda counters: console.dispatch_bar(counters, totals),
        )
    )
    return result.stopped_by


async def _answers(
    run: LabelRun, sample: pl.DataFrame, ledger: Ledger, side: str, *, retry_failed: bool
) -> AsyncIterator[Call]:
    """Yield the calls of one side that are not decided, batch by batch."""
    for number, batch in batches(sample):
        calls = answer_calls(run, batch, side)
        pending = partial(undecided, run, calls, number, ledger, run.models[side], retry_failed=retry_failed)
        for call in calls_of(await asyncio.to_thread(pending), number):
            yield call


async def _judgements(
    run: LabelRun, sample: pl.DataFrame, ledger: Ledger, router: Router, *, retry_failed: bool
) -> AsyncIterator[Call]:
    """Yield the questions to the judge that are not decided, batch by batch."""
    for number, batch in batches(sample):
        calls = await asyncio.to_thread(judge_calls, run, batch, ledger, number, router)
        pending = partial(undecided, run, calls, number, ledger, run.models[JUDGE], retry_failed=retry_failed)
        for call in calls_of(await asyncio.to_thread(pending), number):
            yield call


def _summary(run: LabelRun, manifest: LabelManifest, code: int) -> dict[str, Any]:
    totals = manifest.totals.model_dump(mode="json")
    return {
        "job": "label",
        "status": "published",
        "exit_code": code,
        "run_id": manifest.run_id,
        "revision": manifest.revision,
        "run_dir": str(run.run.root),
        "output": manifest.output,
        "rows": manifest.rows,
        "winners": manifest.winners,
        "orders": None if manifest.orders is None else manifest.orders.model_dump(),
        "errors": manifest.errors,
        **totals,
        "seconds": round(sum(manifest.timings_s.values()), 1),
    }
