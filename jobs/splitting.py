"""Stage 2: cut the whole table once, from its scores and the expected cost of each query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import polars as pl

from jobs.config import SplitSection
from jobs.embedding_cost import embedding_usd
from jobs.history import answer_lengths
from jobs.night import SIDES, Night
from jobs.rundir import read_json, write_json
from jobs.scoring import read_scored
from routing.errors import ChangedRunError
from routing.estimate import FORECAST, SPLIT, Interval, estimate
from routing.split import GAIN_PER_USD, WIN_RATE, by_alpha, by_budget, by_strong_share, is_strong, with_gain_per_usd
from schemas.run import AnswerLength, Part, Split

_SPLIT_COLUMNS = ("win_rate", "tie_key", "strong_usd", "weak_usd")
_RULES = ("alpha", "strong_share", "max_usd")


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a split is expected to cost; intervals are null when a model is unpriced."""

    routed: Interval | None
    all_strong: Interval | None
    all_weak: Interval | None
    input_tokens: dict[str, int]
    """Route -> tokens to send."""
    output_tokens: dict[str, int]
    """Route -> tokens expected back."""


def estimated(night: Night, part: Part, columns: Sequence[str], lengths: Mapping[str, AnswerLength]) -> pl.DataFrame:
    """SCORED of a part with estimates of both models.

    Args:
        night: The run.
        part: Which rows.
        columns: See `routing.estimate`.
        lengths: Route -> how long answers are; a route that is not in it is taken at its expected_output_tokens.
    """
    scored = read_scored(night, part)
    at = night.plan.created_at
    for side in SIDES:
        pricing = replace(night.pricing(side), answer_length=lengths.get(side))
        scored = estimate(scored, night.prices, pricing, prefix=side, at=at, columns=columns)
    return scored


def in_order(night: Night, part: Part, split: Split) -> pl.DataFrame:
    """SCORED of a part with the column that the split's order reads."""
    if split.order == WIN_RATE:
        return read_scored(night, part)
    return with_gain_per_usd(estimated(night, part, SPLIT, split.answer_lengths))


def find_split(night: Night) -> Split:
    """Find the split of a run, or read the one it was started with.

    Raises:
        ChangedRunError: the config now asks for another split than the run was started with, or expects other costs
            in a split that depends on them.
    """
    section = night.job.config.split
    if night.run.split.exists():
        split = read_json(Split, night.run.split)
        before, now = said(split.rule, split.wanted, split.order), _wanted(section)
        if before != now:
            raise ChangedRunError(
                f"run {night.run.root} was split by {before}, the config now says {now}; "
                f"use `nightroute resplit {night.run.root}` to move the cut and keep paid answers"
            )
        _check_costs(night, split)
        return split
    split = cut(night, section)
    write_json(night.run.split, split, night.run.staging)
    return split


def said(rule: str, wanted: str, order: str) -> str:
    """What a split was asked for, in words."""
    return f"{rule} = {wanted}" if order == WIN_RATE else f"{rule} = {wanted} in the order of {order}"


def _wanted(section: SplitSection) -> str:
    given = [(rule, str(value)) for rule in _RULES if (value := getattr(section, rule)) is not None]
    return said(*given[0], section.order)


def _check_costs(night: Night, split: Split) -> None:
    """A resume must send what the run would have sent: costs that decide it are frozen, but for who bills."""
    if split.order == WIN_RATE:
        return
    n_strong = sum(int(in_order(night, part, split).select(is_strong(split).sum()).item()) for part in night.plan.parts)
    if n_strong != split.n_strong:
        raise ChangedRunError(
            f"run {night.run.root} was split in the order of {split.order} with {split.n_strong} strong queries, "
            f"expected costs of now give {n_strong}: put `provider` of the models back, or use "
            f"`nightroute resplit {night.run.root}` to cut anew and keep paid answers"
        )


def cut(night: Night, section: SplitSection) -> Split:
    """Compute a split over all parts: 48 bytes a row are held, never the texts."""
    lengths = answer_lengths(night, section)
    if section.order == GAIN_PER_USD:  # written down, because a resume must order the queries by the same costs
        lengths = {side: AnswerLength(scale=night.model(side).expected_output_tokens) for side in SIDES} | lengths
    table = pl.concat([estimated(night, part, SPLIT, lengths).select(_SPLIT_COLUMNS) for part in night.plan.parts])
    return _cut(table, section, spent_usd=embedding_usd(night)).model_copy(update={"answer_lengths": lengths})


def _cut(table: pl.DataFrame, section: SplitSection, *, spent_usd: Decimal) -> Split:
    if section.alpha is not None:
        return by_alpha(table, section.alpha)
    if section.strong_share is not None:
        return by_strong_share(table, section.strong_share)
    assert section.max_usd is not None
    if section.order == GAIN_PER_USD:
        table = with_gain_per_usd(table)
    return by_budget(table, section.max_usd, spent_usd=spent_usd, order=section.order)


def _forecast_part(night: Night, part: Part, split: Split) -> pl.DataFrame:
    table = estimated(night, part, FORECAST, split.answer_lengths)
    return table if split.order == WIN_RATE else with_gain_per_usd(table)


def forecast(night: Night, split: Split) -> Forecast:
    """Sum the estimates of a split over all parts."""
    columns = [f"{side}_{name}" for side in SIDES for name in ("usd", "low_usd", "high_usd")]
    strong = is_strong(split)
    sums = pl.concat(
        [
            _forecast_part(night, part, split).select(
                *(pl.col(name).sum() for name in columns),
                *(
                    pl.when(strong).then(f"strong_{name}").otherwise(f"weak_{name}").sum().alias(f"routed_{name}")
                    for name in ("usd", "low_usd", "high_usd")
                ),
                *(
                    pl.col(name).null_count().cast(pl.Int64).alias(f"{name}_missing")
                    for name in ("strong_usd", "weak_usd")
                ),
                strong_input=pl.col("prompt_tokens").filter(strong).sum(),
                weak_input=pl.col("prompt_tokens").filter(~strong).sum(),
                strong_all=pl.col("strong_tokens").filter(strong).sum(),
                weak_all=pl.col("weak_tokens").filter(~strong).sum(),
            )
            for part in night.plan.parts
        ]
    ).sum()
    total = sums.row(0, named=True)

    def interval(prefix: str, *needs: str) -> Interval | None:
        if any(total[f"{side}_usd_missing"] for side in needs):
            return None
        expected, low, high = (Decimal(total[f"{prefix}_{name}"] or 0) for name in ("usd", "low_usd", "high_usd"))
        return Interval(expected, low, high)

    return Forecast(
        routed=interval("routed", *SIDES),
        all_strong=interval("strong", "strong"),
        all_weak=interval("weak", "weak"),
        input_tokens={side: total[f"{side}_input"] for side in SIDES},
        output_tokens={side: total[f"{side}_all"] - total[f"{side}_input"] for side in SIDES},
    )
