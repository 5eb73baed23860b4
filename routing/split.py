"""Split: SCORED -> ROUTED. The batch is known, so a share or a budget is met on this very table.

Order: win rate from high to low, among equal win rates the tie key (a hash of the query id) from low to high. Every
split is a prefix of that order, and two numbers describe it for any row: `alpha` and `tie_key_max` (schemas.run.Split).

A budget can also be spent in the order of `gain_per_usd`, the expected gain in score for each dollar that the strong
model costs more. Its threshold is then a price, `min_gain_per_usd`, and every query has an alpha of its own: the win
rate at which the gain pays for what the strong model costs more on this query.
"""

from decimal import ROUND_HALF_UP, Decimal
from typing import Final, Literal

import polars as pl

from routing.errors import ConfigError
from schemas.run import Split

ALL_TIES = 2**64 - 1
NO_TIES = -1

Order = Literal["win_rate", "gain_per_usd"]
WIN_RATE: Final = "win_rate"
GAIN_PER_USD: Final = "gain_per_usd"

FREE = 1e15
"""Gain per dollar of a query that gains and costs nothing more: above any that has a price (a gain of 1 for 1e-12)."""


def with_gain_per_usd(scored: pl.DataFrame) -> pl.DataFrame:
    """Add `gain_per_usd` (Float64, in 0..FREE) to SCORED: what a split in that order looks at.

    The expected gain in score is 2 win_rate - 1, which is what a calibrated win rate means (routing.calibrating). A
    query that is not expected to gain has 0 and never goes strong; one that gains and is no dearer goes first.

    Args:
        scored: SCORED plus `strong_usd` and `weak_usd`, no nulls.
    """
    gain = 2.0 * pl.col("win_rate") - 1.0
    per_usd = gain / _extra_usd()
    no_dearer = pl.col("strong_usd") <= pl.col("weak_usd")
    return scored.with_columns(
        gain_per_usd=pl.when(gain <= 0.0).then(0.0).when(no_dearer).then(FREE).otherwise(per_usd)
    )


def is_strong(split: Split) -> pl.Expr:
    """Return the boolean expression that sends a query to the strong model.

    It reads the column that the split's order is named for (`win_rate` or `gain_per_usd`), and `tie_key`.
    """
    over = pl.col(split.order) > _threshold(split)
    at = pl.col(split.order) == _threshold(split)
    if split.tie_key_max == NO_TIES:
        return over
    if split.tie_key_max == ALL_TIES:
        return over | at
    return over | (at & (pl.col("tie_key") <= pl.lit(split.tie_key_max, pl.UInt64)))


def route(scored: pl.DataFrame, split: Split, *, strong: str, weak: str) -> pl.DataFrame:
    """SCORED -> SCORED + route, model, alpha: cut a part at a split found on its whole table.

    Args:
        scored: Rows of any part; for a split by gain, of `with_gain_per_usd`.
        split: The cut.
        strong: Name of the strong model.
        weak: Name of the weak model.
    """
    return scored.with_columns(
        route=pl.when(is_strong(split))
        .then(pl.lit("strong"))
        .otherwise(pl.lit("weak"))
        .cast(pl.Enum(["weak", "strong"])),
        alpha=_alpha(split),
    ).with_columns(model=pl.when(pl.col("route") == "strong").then(pl.lit(strong)).otherwise(pl.lit(weak)))


def by_alpha(scored: pl.DataFrame, alpha: float) -> Split:
    """Split at a given cost threshold: strong iff win_rate >= alpha.

    Raises:
        ConfigError: alpha is outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha must lie in [0, 1], got {alpha}; `nightroute plan` finds one for a share or a budget")
    n_strong = int(scored.select((pl.col("win_rate") >= alpha).sum()).item())
    ties = int(scored.select((pl.col("win_rate") == alpha).sum()).item())
    return _split(scored, "alpha", str(alpha), alpha, ALL_TIES, n_strong, ties, ties, WIN_RATE)


def by_strong_share(scored: pl.DataFrame, share: float) -> Split:
    """Split so that `round(share * n)` queries go strong (halves up), ties cut by the tie key.

    Raises:
        ConfigError: the share is outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"strong_share must lie in [0, 1], got {share}; it is a share, not percent")
    exact = Decimal(str(share)) * scored.height
    return at_rank(scored, int(exact.to_integral_value(ROUND_HALF_UP)), rule="strong_share", wanted=str(share))


def by_budget(
    scored: pl.DataFrame, max_usd: Decimal, *, spent_usd: Decimal = Decimal(0), order: Order = WIN_RATE
) -> Split:
    """Split so that the expected cost is the largest that stays within `max_usd`: one strong query more would pass it.

    In the order of `gain_per_usd`, or no query more is expected to gain.

    Args:
        scored: SCORED plus `strong_usd` and `weak_usd`, the expected cost of each query on either model.
        max_usd: The budget for the whole table.
        spent_usd: What of it is gone already (embeddings).
        order: Which queries go strong first.

    Raises:
        ConfigError: even all-weak costs more, or a model has no price.
    """
    unpriced = [name for name in ("strong_usd", "weak_usd") if scored[name].null_count()]
    if unpriced:
        raise ConfigError(
            f"max_usd = {max_usd} needs prices for both models, but {unpriced} cannot be computed; "
            "add a [models.*.price] table with input_usd_per_mtok and output_usd_per_mtok, or split by strong_share"
        )
    all_weak = Decimal(scored["weak_usd"].sum() or 0)
    if all_weak + spent_usd > max_usd:
        spent = f" and the {spent_usd:.6f} spent on embeddings" if spent_usd else ""
        raise ConfigError(
            f"max_usd = {max_usd} is less than the {all_weak:.6f} expected for sending every query to the weak model"
            f"{spent}; "
            "raise it, lower expected_output_tokens if answers are shorter, or split the table over several nights"
        )
    # Exact decimal sums, in the order of the split; a prefix fits when its running total does.
    ranked = _ordered(scored, order)
    if order == GAIN_PER_USD:
        ranked = ranked.filter(pl.col(order) > 0)
    running = ranked.select((pl.col("strong_usd") - pl.col("weak_usd")).cum_sum().alias("extra_usd"))
    fits = running.with_row_index("rank").filter(pl.col("extra_usd") <= max_usd - spent_usd - all_weak)["rank"].max()
    n_strong = 0 if fits is None else int(fits) + 1  # type: ignore[arg-type]  # max() is typed as any literal
    return at_rank(scored, n_strong, rule="max_usd", wanted=str(max_usd), order=order)


def at_rank(scored: pl.DataFrame, n_strong: int, *, rule: str, wanted: str, order: Order = WIN_RATE) -> Split:
    """Split after the first `n_strong` queries of an order; the table may be empty."""
    if scored.is_empty():
        return _split(scored, rule, wanted, 1.0, NO_TIES, 0, 0, 0, order)
    if n_strong == 0:
        threshold = float(scored[order].max())  # type: ignore[arg-type]  # max() is typed as any literal
        ties = int(scored.select((pl.col(order) == threshold).sum()).item())
        return _split(scored, rule, wanted, threshold, NO_TIES, 0, ties, 0, order)
    last = _ordered(scored, order).row(n_strong - 1, named=True)
    threshold = float(last[order])
    above = int(scored.select((pl.col(order) > threshold).sum()).item())
    ties = int(scored.select((pl.col(order) == threshold).sum()).item())
    tied_strong = n_strong - above
    tie_key_max = ALL_TIES if tied_strong == ties else int(last["tie_key"])
    return _split(scored, rule, wanted, threshold, tie_key_max, n_strong, ties, tied_strong, order)


def expected_usd(scored: pl.DataFrame, split: Split) -> Decimal | None:
    """Expected cost of the table at a split: exact sum, null when a model is unpriced."""
    if scored["strong_usd"].null_count() or scored["weak_usd"].null_count():
        return None
    chosen = pl.when(is_strong(split)).then(pl.col("strong_usd")).otherwise(pl.col("weak_usd"))
    return Decimal(scored.select(chosen.sum()).item() or 0)


def _threshold(split: Split) -> float:
    threshold = split.alpha if split.order == WIN_RATE else split.min_gain_per_usd
    assert threshold is not None
    return threshold


def _alpha(split: Split) -> pl.Expr:
    """The win rate from which each query goes strong; above 1 where none would pay for its extra cost."""
    if split.order == WIN_RATE:
        return pl.lit(split.alpha)
    return (1.0 + _threshold(split) * pl.max_horizontal(_extra_usd(), 0.0)) / 2.0


def _extra_usd() -> pl.Expr:
    return (pl.col("strong_usd") - pl.col("weak_usd")).cast(pl.Float64)


def _ordered(scored: pl.DataFrame, order: Order) -> pl.DataFrame:
    return scored.sort(order, "tie_key", descending=[True, False])


def _split(
    scored: pl.DataFrame,
    rule: str,
    wanted: str,
    threshold: float,
    tie_key_max: int,
    n_strong: int,
    ties: int,
    tied_strong: int,
    order: Order,
) -> Split:
    split = Split(
        rule=rule,
        wanted=wanted,
        order=order,
        alpha=threshold if order == WIN_RATE else None,
        min_gain_per_usd=threshold if order == GAIN_PER_USD else None,
        tie_key_max=tie_key_max,
        n=scored.height,
        n_strong=n_strong,
        n_tied=ties,
        n_tied_strong=tied_strong,
        expected_usd=None,
    )
    if "strong_usd" not in scored.columns:
        return split
    return split.model_copy(update={"expected_usd": expected_usd(scored, split)})
