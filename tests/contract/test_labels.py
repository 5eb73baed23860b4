"""The battle table that `nightroute label` publishes, and what the command loads."""

import polars as pl
import pytest
from dataframely.exc import ValidationError

from schemas.billing import USD
from schemas.labels import Judged
from tests.contract.test_imports import HEAVY, loaded_by

# What training configs and dashboards read: a change here is a breaking change and belongs into the CHANGELOG.
PUBLISHED = {
    "query_id": pl.String(),
    "prompt": pl.String(),
    "model_a": pl.String(),
    "model_b": pl.String(),
    "winner": pl.Enum(["model_a", "model_b", "tie"]),
    "source": pl.String(),
    "label_kind": pl.Enum(["judge", "golden"]),
    "status": pl.Enum(["ok", "failed", "unsent"]),
    "error_code": pl.String(),
    "error_message": pl.String(),
    "stratum": pl.String(),
    "win_rate": pl.Float64(),
    "answer_a": pl.String(),
    "answer_b": pl.String(),
    "finish_reason_a": pl.String(),
    "finish_reason_b": pl.String(),
    "reference": pl.String(),
    "strong_score": pl.Float64(),
    "weak_score": pl.Float64(),
    "judge_model": pl.String(),
    "judgement_ab": pl.String(),
    "judgement_ba": pl.String(),
    "verdict_ab": pl.Enum(["model_a", "model_b", "tie"]),
    "verdict_ba": pl.Enum(["model_a", "model_b", "tie"]),
    "attempts": pl.Int64(),
    "strong_cost_usd": USD,
    "weak_cost_usd": USD,
    "judge_cost_usd": USD,
    "cost_usd": USD,
    "unpriced_reason": pl.String(),
}


def test_the_published_columns_are_these() -> None:
    assert dict(Judged.create_empty().schema) == PUBLISHED


@pytest.mark.parametrize(("status", "winner"), [("ok", None), ("failed", "tie"), ("unsent", "model_a")])
def test_a_winner_stands_where_the_status_is_ok_and_nowhere_else(status: str, winner: str | None) -> None:
    row = dict.fromkeys(PUBLISHED) | {
        "query_id": "q", "prompt": "p", "model_a": "s", "model_b": "w", "source": "x", "label_kind": "judge",
        "win_rate": 0.5, "attempts": 0, "status": status, "winner": winner,
    }  # fmt: skip
    with pytest.raises(ValidationError, match="labelled_where_ok"):
        Judged.validate(pl.DataFrame([row], schema=PUBLISHED))


def test_labelling_starts_without_the_training_stack() -> None:
    assert not loaded_by("import jobs.label") & (HEAVY - {"tenacity", "openai"})
