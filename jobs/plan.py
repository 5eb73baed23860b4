"""`nightroute plan`: score and split, print what a run would do and cost. No call is made, no key is needed."""

from typing import Any

from jobs import console
from jobs.config import Job
from jobs.night import SIDES, open_night
from jobs.run import Stopwatch, prepare, warn_unpriced
from jobs.rundir import RunDir, at_work
from jobs.scoring import count_rejected
from jobs.splitting import forecast
from routing.estimate import Interval


def plan(job: Job) -> int:
    """Carry out everything up to the split; returns the exit code. A later `run` reuses the scores.

    Raises:
        NightrouteError: with the exit code of DESIGN section 9.
    """
    with at_work(RunDir(job.run_dir)):
        night = open_night(job)
        warn_unpriced(night)
        split = prepare(night, Stopwatch())
        found = forecast(night, split)
        rejected = count_rejected(night)
        models = {side: night.model(side).name for side in SIDES}
        console.show_plan(split, found, models, rejected=rejected)
        console.emit(
            {
                "job": "plan",
                "status": "planned",
                "exit_code": 0,
                "run_dir": str(night.run.root),
                "rows": {
                    "scored": split.n,
                    "rejected": rejected,
                    "strong": split.n_strong,
                    "weak": split.n - split.n_strong,
                },
                "split": split.model_dump(mode="json"),
                "input_tokens": found.input_tokens,
                "expected_output_tokens": found.output_tokens,
                "cost_usd": _range(found.routed),
                "all_strong_usd": _range(found.all_strong),
                "all_weak_usd": _range(found.all_weak),
            }
        )
    return 0


def _range(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    return {"expected": str(interval.expected), "low": str(interval.low), "high": str(interval.high)}
