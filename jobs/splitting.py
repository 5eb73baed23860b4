"""Stage 2: cut the whole table once, from its scores and the expected cost of each query."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from jobs.config import SplitSection
from jobs.embedding_cost import embedding_usd
from jobs.night import SIDES, Night
from jobs.rundir import read_json, write_json
from jobs.scoring import read_scored
from routing.errors import ChangedRunError
from routing.estimate import FORECAST, SPLIT, Interval, estimate
from routing.split import by_alpha, by_budget, by_strong_share, is_strong
from schemas.run import Part, Split

_SPLIT_COLUMNS = ("win_rate", "tie_key", "strong_usd", "weak_usd")


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


def estimated(night: Night, part: Part, columns: Sequence[str]) -> pl.DataFrame:
    """SCORED of a part with estimates of both models."""
    scored = read_scored(night, part)
    at = night.plan.created_at
    for side in SIDES:
        scored = estimate(scored, night.prices, night.pricing(side), prefix=side, at=at, columns=columns)
    return scored


def find_split(night: Night) -> Split:
    """Find the split of a run, or read the one it was started with.

    Raises:
        ChangedRunError: the config now asks for another split than the run was started with.
    """
    section = night.job.config.split
    if night.run.split.exists():
        split = read_json(Split, night.run.split)
        wanted = wanted_split(section)
        if (split.rule, split.wanted) != wanted:
            raise ChangedRunError(
                f"run {night.run.root} was split by {split.rule} = {split.wanted}, the config now says "
                f"{wanted[0]} = {wanted[1]}; use `nightroute resplit {night.run.root}` to move the cut "
                "and keep paid answers"
            )
        return split
    split = cut(night, section)
    write_json(night.run.split, split, night.run.staging)
    return split


def wanted_split(section: SplitSection) -> tuple[str, str]:
    """The rule of a config and its number, as text."""
    for rule in ("alpha", "strong_share", "max_usd"):
        if (value := getattr(section, rule)) is not None:
            return rule, str(value)
    raise AssertionError("the config was validated")


def cut(night: Night, section: SplitSection) -> Split:
    """Compute a split over all parts: 48 bytes a row are held, never the texts."""
    table = pl.concat([estimated(night, part, SPLIT).select(_SPLIT_COLUMNS) for part in night.plan.parts])
    if section.alpha is not None:
        return by_alpha(table, section.alpha)
    if section.strong_share is not None:
        return by_strong_share(table, section.strong_share)
    assert section.max_usd is not None
    return by_budget(table, section.max_usd, spent_usd=embedding_usd(night))


def forecast(night: Night, split: Split) -> Forecast:
    """Sum the estimates of a split over all parts."""
    columns = [f"{side}_{name}" for side in SIDES for name in ("usd", "low_usd", "high_usd")]
    strong = is_strong(split)
    sums = pl.concat(
        [
            estimated(night, part, FORECAST).select(
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
