"""What a labelling run is expected to cost, before anything is sent."""

from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from jobs.config import Model
from jobs.label_run import JUDGE, LabelRun
from jobs.night import SIDES, output_limit, pricing
from routing.estimate import FORECAST, LENGTH_SPREAD, Interval, estimate
from routing.routers import Router
from schemas.labels import ORDERS


@dataclass(frozen=True, slots=True)
class RoleForecast:
    """What one role is expected to do."""

    calls: int
    input_tokens: int
    output_tokens: int
    usd: Interval | None
    """Null when the model is unpriced."""


def forecast(run: LabelRun, sample: pl.DataFrame, router: Router) -> dict[str, RoleForecast]:
    """Role -> expected calls, tokens and cost of the whole sample, each call made once.

    The judge reads the question, both answers at their expected lengths, and the templates, in two orders; the range
    allows for longer answers both where they are written and where they are judged.
    """
    found = {}
    for side in SIDES:
        rows = _estimated(run, sample, run.models[side])
        found[side] = _summed(rows, rows, rows)
    if run.judge is not None:
        words = [run.judge.template, run.judge.system or ""]
        overhead = int(router.count_tokens(words).sum())
        low, expected, high = (
            _estimated(run, _judged(run, sample, overhead, factor), run.models[JUDGE])
            for factor in (1 / LENGTH_SPREAD, 1.0, LENGTH_SPREAD)
        )
        found[JUDGE] = _summed(expected, low, high)
    return found


def total(roles: dict[str, RoleForecast]) -> Interval | None:
    """Sum over the roles; null when one is unpriced."""
    parts = [role.usd for role in roles.values()]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    zero = Decimal(0)
    return Interval(
        sum((part.expected for part in known), zero),
        sum((part.low for part in known), zero),
        sum((part.high for part in known), zero),
    )


def _judged(run: LabelRun, sample: pl.DataFrame, overhead: int, factor: float) -> pl.DataFrame:
    """The sample as questions to the judge, one row a call: its tokens are those of question, answers and templates."""
    lengths = [_length(run.models[side], factor) for side in SIDES]
    tokens = pl.col("prompt_tokens") + overhead + lengths[0] + lengths[1]
    rows = sample.select(prompt_tokens=tokens, max_output_tokens=pl.lit(None, pl.Int64))
    return pl.concat([rows] * len(ORDERS))


def _length(model: Model, factor: float) -> pl.Expr:
    """Expected tokens of an answer, within its limits."""
    mean = pl.lit(model.expected_output_tokens * factor).ceil().cast(pl.Int64)
    limit = pl.coalesce("max_output_tokens", pl.lit(output_limit(model), pl.Int64))
    return pl.min_horizontal(mean, limit)


def _estimated(run: LabelRun, rows: pl.DataFrame, model: Model) -> pl.DataFrame:
    return estimate(rows, run.prices, pricing(model), prefix="call", at=run.plan.created_at, columns=FORECAST)


def _summed(expected: pl.DataFrame, low: pl.DataFrame, high: pl.DataFrame) -> RoleForecast:
    input_tokens = int(expected["prompt_tokens"].sum())
    usd = None
    if not expected["call_usd"].null_count():
        usd = Interval(_sum(expected["call_usd"]), _sum(low["call_low_usd"]), _sum(high["call_high_usd"]))
    return RoleForecast(expected.height, input_tokens, int(expected["call_tokens"].sum()) - input_tokens, usd)


def _sum(money: pl.Series) -> Decimal:
    return Decimal(money.sum() or 0)
