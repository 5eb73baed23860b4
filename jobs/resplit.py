"""`nightroute resplit RUN_DIR`: move the cut of a scored run. Scores and paid answers are reused."""

from datetime import UTC, datetime

from jobs import console
from jobs.config import Job, SplitSection
from jobs.night import open_night, save_job
from jobs.publishing import check_output
from jobs.run import RunOptions, buy_embeddings, finish, open_router
from jobs.rundir import RunDir, at_work, write_json
from jobs.scoring import score_parts
from jobs.splitting import cut
from jobs.stopwatch import Stopwatch


def resplit(job: Job, section: SplitSection, options: RunOptions) -> int:
    """Cut a run's table anew, send the calls that the new cut needs, publish a new revision; returns the exit code.

    Raises:
        NightrouteError: with the exit code of DESIGN section 9.
    """
    started_at, watch = datetime.now(UTC), Stopwatch()
    moved = Job(job.config.model_copy(update={"split": section}), job.base, job.date)
    with at_work(RunDir(job.run_dir)):
        night = open_night(moved)
        check_output(night)
        buy_embeddings(night, watch)
        with console.part_bar("score", len(night.plan.parts)) as on_part:
            score_parts(night, lambda: open_router(night, job.config.router), on_part)
        watch.lap("score")
        split = cut(night, section)
        save_job(moved, night.run)
        write_json(night.run.split, split, night.run.staging)
        watch.lap("split")
        return finish(night, split, options, watch, started_at)
