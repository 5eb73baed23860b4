"""`nightroute plan`: score and split, print what a run would do and cost. No call is made, no key is needed.

A router that starts at an embedding cannot score for nothing: its plan ends at the price of the embeddings, unless
`--embed` buys them.
"""

from typing import Any

from jobs import console
from jobs.config import Job
from jobs.embedding_cost import EmbeddingForecast, embedding_bill, forecast_embedding
from jobs.night import SIDES, Night, open_night
from jobs.run import prepare, warn_unpriced
from jobs.rundir import RunDir, at_work
from jobs.scoring import count_rejected
from jobs.splitting import forecast
from jobs.stopwatch import Stopwatch
from routing.estimate import Interval


def plan(job: Job, *, embed: bool = False) -> int:
    """Carry out everything up to the split; returns the exit code. A later `run` reuses the scores.

    Args:
        job: The job.
        embed: Buy the embeddings that the router starts at, if it does.

    Raises:
        NightrouteError: with the exit code of DESIGN section 9.
    """
    with at_work(RunDir(job.run_dir)):
        night = open_night(job)
        warn_unpriced(night, night.models)
        if night.embedding is not None and not embed and (missing := forecast_embedding(night)).prompts:
            return _without_embeddings(night, missing)
        split = prepare(night, Stopwatch())
        found = forecast(night, split)
        rejected = count_rejected(night)
        models = {side: night.model(side).name for side in SIDES}
        bill = embedding_bill(night)
        console.show_plan(split, found, models, rejected=rejected, embedding=bill)
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
                "cost_usd": interval_record(found.routed),
                "all_strong_usd": interval_record(found.all_strong),
                "all_weak_usd": interval_record(found.all_weak),
                "embedding": None if bill is None else bill.model_dump(mode="json"),
            }
        )
    return 0


def _without_embeddings(night: Night, missing: EmbeddingForecast) -> int:
    model = night.router.card.embedding
    assert model is not None
    console.show_embedding_plan(missing, model.model)
    console.emit(
        {
            "job": "plan",
            "status": "needs_embeddings",
            "exit_code": 0,
            "run_dir": str(night.run.root),
            "embedding": {
                "model": model.model,
                "prompts": missing.prompts,
                "requests": missing.requests,
                "input_tokens": missing.input_tokens,
                "cost_usd": interval_record(missing.usd),
            },
        }
    )
    return 0


def interval_record(interval: Interval | None) -> dict[str, Any] | None:
    """A cost with its range, for the JSON summary."""
    if interval is None:
        return None
    return {"expected": str(interval.expected), "low": str(interval.low), "high": str(interval.high)}
