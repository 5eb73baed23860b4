"""What if these calls had been routed? Two passes over the stored calls, one to score and one to sum up.

The first asks the router about every prompt and learns how long answers are; the second prices each call on both
models. In between, win rates and token counts of the routed calls are held (37 bytes a call); everything else is
bounded by the parts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from jobs.audit_config import WhatIfModel, WhatIfSection
from jobs.audit_history import answers_of, unseen
from jobs.audit_what_if_inputs import WhatIfInputs
from jobs.calibrate_tables import WIN_RATE
from jobs.evaluate_scores import OpenRouter, Scorer
from routing.audit import what_if_prices, what_if_routed
from routing.audit.answer_lengths import Answers, covariates_of, fit_lengths, repeats
from routing.audit.what_if_advice import Ground, advice, assumptions, choose, nothing_routed
from routing.audit.what_if_costs import cost_curve
from routing.audit.what_if_groups import BY_DAY, by_day, groups_of
from routing.audit.what_if_points import points_of
from routing.audit.what_if_prices import on_model
from routing.audit.what_if_quality import Graded, QualityModel, fit_quality, quality_curve
from routing.audit.what_if_routed import REASONS, PairModel, Served, Side
from routing.audit.what_if_sums import RoutedPart, Sums, add
from routing.audit.what_if_sweep import Found, sweep_of, unrouted
from routing.audit.what_if_tenants import Lengths, by_tenant
from routing.metrics import Floats
from routing.score import stable_hash
from schemas.audit import AnswerLengths, UnroutedCalls, WhatIf

LEFT = -1
"""Mark of a call that is not routed; the others are marked with their `Side`."""

_FIRST = (*what_if_routed.COLUMNS, "input_tokens", "output_tokens", "tenant", "cost_usd")
_SECOND = (*what_if_prices.COLUMNS, "cost_usd")


class LoggedCalls(Protocol):
    """Calls that can be gone through more than once, always in the same order."""

    def kept(self, prices: pl.DataFrame, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        """Yield CALL_LOG + COSTS, part by part."""


@dataclass(frozen=True, slots=True)
class WhatIfResult:
    """What was found."""

    report: WhatIf
    by_day: pl.DataFrame
    """See `routing.audit.what_if_groups.by_day`."""
    seconds: dict[str, float]
    """Time taken to `read` the calls, to `score` their prompts, to `price` them and to `sweep` over alpha."""


@dataclass(frozen=True, slots=True)
class _Scored:
    """What the first pass leaves."""

    marks: list[NDArray[np.int8]]
    """For each part, the side of every call; -1 where it is not routed."""
    routed: pl.DataFrame
    """`side`, `tenant` (its number), `win_rate`, `input_tokens`, `output_tokens`, `prompt_hash` of the routed calls."""
    paid_usd: Decimal
    unrouted: list[UnroutedCalls]
    tenants: pl.DataFrame
    """All calls: `tenant`, `calls`, `cost_usd`, in the order of their numbers."""

    @property
    def win_rates(self) -> Floats:
        return self.routed["win_rate"].to_numpy()

    def answers(self, side: Side) -> Answers:
        rows = self.routed.filter(pl.col("side") == int(side))
        asked, rates, answered = (
            rows[name].cast(pl.Float64).to_numpy() for name in ("input_tokens", "win_rate", "output_tokens")
        )
        tenants = rows["tenant"].cast(pl.Int64).to_numpy()
        return Answers(asked, rates, answered, rows["prompt_hash"].to_numpy(), tenants)


class _Prompts:
    """Asks a router about prompts, each distinct one of a part once, and adds up the time that it takes."""

    def __init__(self, opened: OpenRouter, cache: Path, clock: Callable[[], float]) -> None:
        self._name = opened.name
        self._scorer = Scorer([opened], cache, clock)
        self._clock = clock
        self.seconds = 0.0

    def win_rates(self, prompts: pl.Series) -> pl.Series:
        distinct = prompts.unique(maintain_order=True)
        rates = self._rates(distinct.to_list())
        known = pl.DataFrame({"prompt": distinct, WIN_RATE: rates}, schema={"prompt": pl.String, WIN_RATE: pl.Float64})
        return prompts.to_frame("prompt").join(known, on="prompt", how="left", maintain_order="left")[WIN_RATE]

    def _rates(self, prompts: list[str]) -> Floats:
        started = self._clock()
        rates = self._scorer.win_rates(self._name, prompts) if prompts else np.empty(0)
        self.seconds += self._clock() - started
        return rates


def what_if(
    inputs: WhatIfInputs, calls: LoggedCalls, prices: pl.DataFrame, *, cache: Path, clock: Callable[[], float]
) -> WhatIfResult:
    """CALL_LOG + COSTS -> what routing would have cost and been worth at every alpha.

    Where no call can be routed, the curve has no points, and the advice says why.

    Args:
        inputs: Router, pair, labels and history.
        calls: The kept calls of its log.
        prices: See `routing.prices.price_snapshot`.
        cache: Folder of the win rates (see `jobs.evaluate_scores`).
        clock: Seconds.

    Raises:
        ConfigError: a model of the pair has no price at the time of a call, or none for output.
        DataError: labels are too few.
        StorageError: the cache cannot be written.
    """
    section, opened, pair = inputs.section, inputs.router, inputs.pair
    started = clock()
    prompts = _Prompts(opened, cache, clock)
    scored = _score(calls, prices, Served(*pair, section.replaces, prices), prompts)
    if scored.routed.is_empty():
        seconds = {"read": clock() - started - prompts.seconds, "score": prompts.seconds, "price": 0.0, "sweep": 0.0}
        return WhatIfResult(_nothing(section, opened, scored.unrouted), pl.DataFrame(schema=BY_DAY), seconds)
    labels = _labels(inputs, prompts)
    history = _history(inputs, prompts, scored.tenants["tenant"].to_list())
    read_at = clock()
    points = points_of(scored.win_rates, section.points)
    lengths = _lengths(section, scored, history)
    model = None if labels is None else fit_quality(labels[0], seed=section.seed)
    sums = Sums.empty(points, lengths, warm=section.cache == "warm")
    swept_s = clock() - read_at
    _sum_up(sums, calls, prices, scored, pair=pair, lengths=lengths, quality=model)
    priced_at = clock()
    repeated = repeats(scored.routed["prompt_hash"].to_numpy())
    costs = cost_curve(
        sums,
        lengths,
        repeated=repeated,
        draws=section.resamples,
        seed=section.seed,
        tokenizer_spread=section.tokenizer_spread,
    )
    quality = None
    if labels is not None and model is not None:
        quality = quality_curve(
            labels[0],
            model,
            points,
            scored.win_rates,
            gains=sums.gains,
            weak=float(model.expected(scored.win_rates)[0].mean()),
            repeated=repeated,
        )
    groups = groups_of(scored.tenants)
    found = Found(sums, costs, quality, scored.win_rates, groups, (pair[0].name, pair[1].name))
    report = _report(section, opened, scored, found, lengths, labels=labels, model=model, pair=pair)
    table = by_day(sums, groups)
    seconds = {
        "read": read_at - started - prompts.seconds,
        "score": prompts.seconds,
        "price": priced_at - read_at - swept_s,
        "sweep": swept_s + clock() - priced_at,
    }
    return WhatIfResult(report, table, seconds)


def _score(calls: LoggedCalls, prices: pl.DataFrame, served: Served, prompts: _Prompts) -> _Scored:
    marks, routed, left, tenants = [], [], [], []
    numbers: dict[str | None, int] = {}
    for part in calls.kept(prices, _FIRST):
        marked = part.with_columns(served.routed(part))
        marked = marked.with_columns(mark=pl.when(pl.col("reason").is_null()).then("side").otherwise(LEFT))
        marks.append(marked["mark"].cast(pl.Int8).to_numpy())
        spent = (pl.len().alias("calls"), pl.col("cost_usd").sum())
        left.append(marked.group_by("reason").agg(*spent))
        tenants.append(marked.group_by("tenant").agg(*spent))
        rows = marked.filter(pl.col("reason").is_null())
        for name in part["tenant"].unique(maintain_order=True):
            numbers.setdefault(name, len(numbers))
        number = pl.col("tenant").replace_strict(numbers, return_dtype=pl.Int32)
        kept = rows.select("side", number, "input_tokens", "output_tokens", stable_hash("prompt").alias("prompt_hash"))
        routed.append(kept.with_columns(prompts.win_rates(rows["prompt"])))
    reasons = _added(left, "reason")
    return _Scored(
        marks=marks,
        routed=pl.concat(routed) if routed else pl.DataFrame(),
        paid_usd=sum(reasons.filter(pl.col("reason").is_null())["cost_usd"], Decimal(0)),
        unrouted=[
            UnroutedCalls(reason=name, calls=row["calls"].item(), cost_usd=row["cost_usd"].item())
            for name in REASONS
            if not (row := reasons.filter(reason=name)).is_empty()
        ],
        tenants=pl.DataFrame({"tenant": list(numbers)}, schema={"tenant": pl.String}).join(
            _added(tenants, "tenant"), on="tenant", nulls_equal=True, maintain_order="left"
        ),
    )


def _added(tables: list[pl.DataFrame], key: str) -> pl.DataFrame:
    if not tables:
        return pl.DataFrame(schema={key: pl.String, "calls": pl.Int64, "cost_usd": pl.Decimal(38, 12)})
    total = pl.concat(tables).group_by(key).agg(pl.col("calls").cast(pl.Int64).sum(), pl.col("cost_usd").sum())
    return total.sort(key)


def _nothing(section: WhatIfSection, opened: OpenRouter, left: list[UnroutedCalls]) -> WhatIf:
    return WhatIf(
        router=opened.name,
        router_sha256=opened.artifact.sha256,
        sweep=unrouted(section.strong.name, section.weak.name),
        routed_calls=0,
        routed_paid_usd=Decimal(0),
        unrouted=left,
        answer_lengths=[],
        calibration="no call could be routed, so there is no quality to estimate",
        quality_floor=section.quality_floor,
        advice=nothing_routed(left),
        assumptions=[],
    )


def _labels(inputs: WhatIfInputs, prompts: _Prompts) -> tuple[Graded, str] | None:
    """Labelled prompts and their digest."""
    labels = inputs.labels
    if labels is None:
        return None
    rates = labels.given if labels.given is not None else prompts.win_rates(labels.rows["prompt"]).to_numpy()
    return Graded(rates, labels.strong, labels.weak), labels.sha256


def _history(inputs: WhatIfInputs, prompts: _Prompts, tenants: Sequence[str | None]) -> dict[str, Answers]:
    """Model -> answers of the history."""
    return {
        name: answers_of(rows, prompts.win_rates(rows["prompt"].drop_nulls()), tenants)
        for name, rows in inputs.history.items()
    }


def _lengths(section: WhatIfSection, scored: _Scored, history: dict[str, Answers]) -> tuple[Lengths, Lengths]:
    asked = scored.routed["input_tokens"].cast(pl.Float64).to_numpy()
    covariates = covariates_of(asked, scored.win_rates)

    def fitted(side: Side, model: WhatIfModel) -> Lengths:
        answers = scored.answers(side)
        if model.name in history:
            answers = answers.with_more(unseen(history[model.name], answers))
        lengths = fit_lengths(answers, covariates, assumed=float(model.expected_output_tokens), seed=section.seed)
        return by_tenant(lengths, answers, len(scored.tenants))

    return fitted(Side.STRONG, section.strong), fitted(Side.WEAK, section.weak)


def _sum_up(
    sums: Sums,
    calls: LoggedCalls,
    prices: pl.DataFrame,
    scored: _Scored,
    *,
    pair: tuple[PairModel, PairModel],
    lengths: tuple[Lengths, Lengths],
    quality: QualityModel | None,
) -> None:
    start = 0
    for part, marks in zip(calls.kept(prices, _SECOND), scored.marks, strict=True):
        routed = part.filter(marks != LEFT)
        if routed.is_empty():
            continue
        here = slice(start, start + len(routed))
        start += len(routed)
        rates = scored.win_rates[here]
        nothing = np.zeros(len(routed))
        weak, gain = (nothing, nothing) if quality is None else quality.expected(rates)
        row = RoutedPart(
            calls=routed,
            tenant=scored.routed["tenant"][here].to_numpy(),
            side=marks[marks != LEFT],
            win_rates=rates,
            design=lengths[0].model.covariates.design(routed["input_tokens"].cast(pl.Float64).to_numpy(), rates),
            weak_quality=weak,
            gain=gain,
        )
        add(sums, row, (on_model(routed, prices, pair[0]), on_model(routed, prices, pair[1])), lengths)


def _report(
    section: WhatIfSection,
    opened: OpenRouter,
    scored: _Scored,
    found: Found,
    lengths: tuple[Lengths, Lengths],
    *,
    labels: tuple[Graded, str] | None,
    model: QualityModel | None,
    pair: tuple[PairModel, PairModel],
) -> WhatIf:
    floor, quality = section.quality_floor, found.quality
    sweep = sweep_of(found, floor)
    chosen = choose(sweep, floor)
    count = None if labels is None else len(labels[0].win_rates)
    ground = Ground(
        models=pair,
        lengths=lengths,
        warm=section.cache == "warm",
        at_standard=found.sums.at_standard,
        labels=count,
        effective_labels=None if quality is None else quality.effective_labels,
        tokenizer_spread=section.tokenizer_spread,
    )
    return WhatIf(
        router=opened.name,
        router_sha256=opened.artifact.sha256,
        sweep=sweep,
        routed_calls=len(scored.routed),
        routed_paid_usd=scored.paid_usd,
        unrouted=scored.unrouted,
        answer_lengths=[
            AnswerLengths(
                model=side.name,
                calls=fitted.model.answers,
                mean_output_tokens=fitted.model.mean_output_tokens,
                assumed=fitted.model.answers == 0,
            )
            for side, fitted in zip(pair, lengths, strict=True)
        ],
        labels_sha256=None if labels is None else labels[1],
        label_rows=count,
        calibration="no labels, so no quality: only the router's own claim" if model is None else model.method,
        quality_floor=floor,
        recommended=None if chosen is None else chosen.point,
        alone=None if chosen is None else chosen.alone,
        advice=advice(sweep, chosen, floor, labelled=labels is not None, paid_usd=float(scored.paid_usd)),
        assumptions=assumptions(ground),
    )
