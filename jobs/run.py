"""`nightroute run` and `nightroute resume`: score, split, dispatch, publish; killed, it goes on."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from jobs import console
from jobs.config import Job, Model, RouterSection
from jobs.dispatching import dispatch_all
from jobs.embedding import Vectors, embed
from jobs.embedding_cost import unscored
from jobs.night import EMBEDDING, Night, TableRun, endpoint, open_night, place
from jobs.publishing import check_output, publish
from jobs.rundir import RunDir, at_work, read_json
from jobs.scoring import score_parts
from jobs.splitting import find_split
from jobs.stopwatch import Stopwatch
from routing.errors import NothingToDoError
from routing.ledger import Ledger
from routing.pricing import Unpriced, rate_card
from routing.routers import EmbeddingRouter, OnnxRouter, Router
from routing.split import GAIN_PER_USD
from schemas.run import Manifest, Split


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What one invocation may ask for besides the config."""

    command: str = "run"
    """What the JSON summary calls the job: run, resume or resplit."""
    retry_failed: bool = False
    """Send calls again that the endpoint failed for good; what it answered stays, of use or not."""
    publish_unsent: bool = False
    """Publish even though the run stopped early; rows not sent get the status `unsent`."""


def run(job: Job, options: RunOptions) -> int:
    """Carry out a night, or what is left of it; returns the exit code.

    Raises:
        NightrouteError: with the exit code of DESIGN section 9.
    """
    started_at, watch = datetime.now(UTC), Stopwatch()
    with at_work(RunDir(job.run_dir)):
        night = open_night(job)
        check_output(night)
        for role, model in night.models.items():
            endpoint(model, role)  # a missing key is told before an hour of scoring
        warn_unpriced(night, night.models)
        if night.run.manifest.exists() and not options.retry_failed and job.output.exists():
            last = read_json(Manifest, night.run.manifest)
            if not last.rows["unsent"]:
                find_split(night)  # says so when the config asks for another split than the published one
                raise NothingToDoError(
                    f"run {night.run.root} is finished and published at {job.output}; use --retry-failed to send "
                    "again what the endpoint failed, `nightroute resplit` to move alpha, or another run_dir for a new "
                    "run"
                )
        watch.lap("open")
        split = prepare(night, watch)
        return finish(night, split, options, watch, started_at)


def prepare(night: Night, watch: Stopwatch) -> Split:
    """Score and split: nothing of it costs anything, but the embeddings that a router may start at."""
    buy_embeddings(night, watch)
    with console.part_bar("score", len(night.plan.parts)) as on_part:
        score_parts(night, partial(open_router, night, night.job.config.router), on_part)
    watch.lap("score")
    split = find_split(night)
    watch.lap("split")
    if split.order == GAIN_PER_USD and night.router.card.calibration is None:
        console.say(
            f"warning: {split.order} takes 2 win_rate - 1 for the expected gain, but router "
            f"{night.router.card.name!r} was not calibrated on your labels; `nightroute calibrate` writes one that is"
        )
    if not split.n:
        raise NothingToDoError(
            f"no query is left to answer: every row was rejected (see {night.run.rejected}) or none matched the date"
        )
    return split


def buy_embeddings(night: Night, watch: Stopwatch) -> None:
    """Buy what the router starts at, if it does not read tokens.

    Raises:
        NightrouteError: why it stopped early.
    """
    section = night.job.config.router.embedding
    if section is not None:
        # At most: repeated prompts are bought once.
        requests = math.ceil(sum(part.rows for part in unscored(night)) / section.batch_size)
        embed(night, lambda counters: console.dispatch_bar(counters, {EMBEDDING: requests}))
        watch.lap("embed")


def finish(night: Night, split: Split, options: RunOptions, watch: Stopwatch, started_at: datetime) -> int:
    """Dispatch and publish; returns the exit code.

    Raises:
        NightrouteError: why the run stopped early, unless what there is was to be published.
    """
    totals = {"strong": split.n_strong, "weak": split.n - split.n_strong}
    with Ledger(night.run.ledger) as ledger:
        result = asyncio.run(
            dispatch_all(
                night,
                split,
                ledger,
                retry_failed=options.retry_failed,
                watch=lambda counters: console.dispatch_bar(counters, totals),
            )
        )
        watch.lap("dispatch")
        if result.stopped_by is not None and not options.publish_unsent:
            raise result.stopped_by
        revision = 1
        if night.run.manifest.exists():
            revision += read_json(Manifest, night.run.manifest).revision
        with console.part_bar("publish", len(night.plan.parts)) as on_part:
            manifest = publish(
                night,
                split,
                ledger,
                revision=revision,
                started_at=started_at,
                timings_s=watch.timings_s,
                on_part=on_part,
            )
    if result.stopped_by is not None:
        console.say(str(result.stopped_by))
    console.show_manifest(manifest, str(night.job.output))
    code = exit_code(manifest, night.job.config.output.max_failed_share)
    console.emit(summary(options.command, night, manifest, code))
    return code


def open_router(table: TableRun, settings: RouterSection) -> Router:
    """Open the run's router; one that starts at an embedding reads those that the run has bought."""
    if table.router.card.embedding is not None:
        return EmbeddingRouter(table.router, Vectors(table), threads=settings.threads)
    return OnnxRouter(table.router, threads=settings.threads, token_budget=settings.token_budget)


def warn_unpriced(table: TableRun, models: Mapping[str, Model]) -> list[str]:
    """Say loudly, and early, that a model has no price; returns the roles of those that have none."""
    found = []
    for role, model in models.items():
        rates = rate_card(
            model.name, table.prices, at=table.plan.created_at, provider=model.provider, base_url=model.base_url
        )
        if isinstance(rates, Unpriced):
            console.say(f"warning: {place(role)}: {rates}")
            found.append(role)
    return found


def exit_code(manifest: Manifest, max_failed_share: float) -> int:
    """0, or 1 when more rows than allowed failed, were rejected or stayed unsent."""
    rows = manifest.rows
    bad = rows["failed"] + rows["unsent"] + rows["rejected"]
    return int(bad > max_failed_share * rows["read"])


def summary(job_name: str, night: Night, manifest: Manifest, code: int) -> dict[str, Any]:
    """The one-line JSON summary of a published run."""
    totals = manifest.totals.model_dump(mode="json")
    return {
        "job": job_name,
        "status": "published",
        "exit_code": code,
        "run_id": manifest.run_id,
        "revision": manifest.revision,
        "run_dir": str(night.run.root),
        "output": str(night.job.output),
        "rows": manifest.rows,
        "alpha": manifest.split.alpha,
        "min_gain_per_usd": manifest.split.min_gain_per_usd,
        "strong_share": manifest.rows["strong"] / max(1, manifest.rows["published"]),
        "cost_usd": totals["cost_usd"],
        "all_strong_usd": totals["all_strong_usd"],
        "all_weak_usd": totals["all_weak_usd"],
        "saved_share": totals["saved_share"],
        "spent_usd": totals["spent_usd"],
        "embedding": None if manifest.embedding is None else manifest.embedding.model_dump(mode="json"),
        "unpriced_rows": totals["unpriced_rows"],
        "attempts": totals["attempts"],
        "errors": manifest.errors,
        "seconds": round(sum(manifest.timings_s.values()), 1),
    }
