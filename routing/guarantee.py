"""Alpha from a table or from labels, with what can be said of the next table from the same source.

A share is read off win rates, so its chance is binomial. A share of the quality gap (PGR) needs labels, and a promise
about it a test: alpha is good enough where E[(1[win_rate >= alpha] - pgr) (strong - weak)] >= 0. From all strong
towards all weak, each alpha is tested against "it is not", and the first that is not refused ends the walk:
fixed-sequence testing as in Learn then Test (arXiv 2110.01052), so one level serves all alphas. The sequence is the
whole line of alphas, on which the data only change at observed win rates, so it is fixed before any label is seen.

The test is a bet: capital 1 is staked, prompt by prompt, on the mean being positive; if it is not, the capital reaches
1 / level with a probability of at most `level` (Ville). That holds for any number of labels and any bounded score, and
needs hardly more labels than a t test, which does not hold it (docs/calibrate.md has the simulation).
"""

import math
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import polars as pl
from scipy import stats

from routing.errors import ConfigError, DataError
from routing.metrics import Z95, Floats, Interval, bootstrap, has_gap
from schemas.billing import USD

MAX_STAKE = 0.5
"""Share of the capital that one prompt can lose at most (arXiv 2010.09686)."""

MAX_ALPHAS = 2_000
"""Alphas tested at most; with more distinct win rates, alphas of fewer decimals are."""

_CHUNK_CELLS = 1_000_000


@dataclass(frozen=True, slots=True)
class ShareAlpha:
    """An alpha, and the strong share that it gives."""

    alpha: float
    n: int
    n_strong: int
    """Rows with win_rate >= alpha."""

    @property
    def strong_share(self) -> Interval:
        """Of the table, with the 95 % interval of its source."""
        return share_interval(self.n_strong, self.n)


@dataclass(frozen=True, slots=True)
class BudgetAlpha(ShareAlpha):
    """An alpha that keeps a budget."""

    expected_usd: Decimal
    next_usd: Interval
    """Of another table of as many rows from the same source, 95 % interval. A normal approximation: where a few queries
    cost most of the money, more than one table in forty lies above it."""


@dataclass(frozen=True, slots=True)
class PgrAlpha:
    """What labels support of a PGR target."""

    alpha: float | None
    """The largest alpha that is shown to reach the target; null where not even all strong is."""
    n: int
    decided: int
    """Prompts with different scores."""
    gap: float
    """Mean score of the strong model minus that of the weak one."""
    strong_share: Interval | None
    pgr: Interval | None
    """Estimate at alpha, 95 % bootstrap interval; null with alpha, and where the labels' own gap is not above zero."""
    labels_needed: int | None
    """Where alpha is null and the strong model seems better: labels that would about support all strong."""


def alpha_for_share(win_rates: Floats, share: float) -> ShareAlpha:
    """Return the alpha whose strong share is nearest to the wanted one; of two as near, the cheaper.

    Equal win rates go together, because no alpha splits them. `routing.split.by_strong_share` does split them, on the
    very table that it is given; an alpha is for tables to come.

    Args:
        win_rates: Of a table, shape (n,).
        share: Wanted share, 0..1.

    Raises:
        ConfigError: the share is outside [0, 1].
        DataError: no rows.
    """
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"strong_share must lie in [0, 1], got {share}; it is a share, not percent")
    alphas, n_strong = _cuts(win_rates)
    best = int(np.argmin(np.abs(n_strong - share * len(win_rates))))
    return ShareAlpha(float(alphas[best]), len(win_rates), int(n_strong[best]))


def share_interval(n_strong: int, n: int) -> Interval:
    """Return a share with the 95 % interval of its source: Clopper and Pearson (Biometrika 26, 1934)."""
    low = stats.beta.ppf(0.025, n_strong, n - n_strong + 1) if n_strong else 0.0
    high = stats.beta.ppf(0.975, n_strong + 1, n - n_strong) if n_strong < n else 1.0
    return Interval(n_strong / n, float(low), float(high))


def next_share(n_strong: int, n: int, rows: int) -> Interval:
    """Return a share with the 95 % interval of another table of `rows` rows from the same source.

    Two chances add up: that of the table the share was read from, and that of the new one. Beta-binomial, with the beta
    distributions of Clopper and Pearson's two ends.
    """
    low = stats.betabinom.ppf(0.025, rows, n_strong, n - n_strong + 1) if n_strong else 0
    high = stats.betabinom.ppf(0.975, rows, n_strong + 1, n - n_strong) if n_strong < n else rows
    return Interval(n_strong / n, float(low) / rows, float(high) / rows)


def alpha_for_budget(scored: pl.DataFrame, max_usd: Decimal) -> BudgetAlpha:
    """Return the smallest alpha whose expected cost stays within a budget, and all larger ones' as well.

    Args:
        scored: `win_rate`, and `strong_usd` and `weak_usd`, what each query is expected to cost on either model.
        max_usd: Budget for the whole table.

    Raises:
        ConfigError: even all weak costs more, no alpha keeps the budget, or a model has no price.
        DataError: no rows.
    """
    alphas, n_strong = _cuts(scored["win_rate"].to_numpy())
    if unpriced := [name for name in ("strong_usd", "weak_usd") if scored[name].null_count()]:
        raise ConfigError(
            f"max_usd = {max_usd} needs prices for both models, but {unpriced} are unknown; add [[prices]]"
        )
    all_weak = Decimal(scored["weak_usd"].sum() or 0)
    if all_weak > max_usd:
        raise ConfigError(
            f"max_usd = {max_usd} is less than the {all_weak:.6f} expected for sending every query to the weak model; "
            "raise it, or name a table of as many rows as it is meant for"
        )
    ranked = scored.sort("win_rate", descending=True)
    extra = ranked.select((pl.col("strong_usd") - pl.col("weak_usd")).cast(USD).cum_sum().alias("extra"))["extra"]
    spent = pl.concat([pl.Series("extra", [Decimal(0)], dtype=USD), extra]).gather(n_strong)
    over = (spent > max_usd - all_weak).to_numpy()
    if over[0]:
        raise ConfigError(
            f"max_usd = {max_usd} is kept by no alpha: {int(n_strong[0])} queries have a win rate of 1 and go strong "
            "at each; split the table itself with max_usd"
        )
    best = int(np.argmax(over)) - 1 if over.any() else len(alphas) - 1
    alpha = float(alphas[best])
    cost = scored.select(
        pl.when(pl.col("win_rate") >= alpha).then("strong_usd").otherwise("weak_usd").cast(pl.Float64).alias("usd")
    )["usd"].to_numpy()
    expected = all_weak + spent[best]
    # The table's own cost was drawn with the same chance as the next one's: twice the variance.
    half = Z95 * math.sqrt(2.0 * len(cost)) * float(cost.std(ddof=min(1, len(cost) - 1)))
    value = float(expected)
    return BudgetAlpha(
        alpha, len(cost), int(n_strong[best]), expected, Interval(value, max(0.0, value - half), value + half)
    )


def alpha_for_pgr(
    win_rates: Floats, strong: Floats, weak: Floats, *, pgr: float, confidence: float, seed: int
) -> PgrAlpha:
    """Return the largest alpha whose PGR on new prompts is at least `pgr`, with a probability of `confidence`.

    The promise is about labels drawn as the new prompts are: whoever draws them otherwise (only hard ones, only last
    month) has it for such prompts. It is kept by every number of labels; more labels find a larger alpha.

    Args:
        win_rates: Of labelled prompts, shape (n,).
        strong: Score of the strong model's answer in 0..1, same shape.
        weak: Score of the weak model's answer in 0..1, same shape.
        pgr: Share of the gap to reach, above 0 and below 1.
        confidence: Above 0 and below 1.
        seed: Order in which the labels are bet on, and the resamples of the interval.

    Raises:
        ConfigError: `pgr` or `confidence` is not between 0 and 1.
        DataError: no labels, different lengths, or a score outside 0..1.
    """
    for name, value in (("pgr", pgr), ("confidence", confidence)):
        if not 0.0 < value < 1.0:
            raise ConfigError(f"{name} must lie between 0 and 1, got {value}; 95 % is written 0.95")
    _check(win_rates, strong, weak)
    gain, level = strong - weak, 1.0 - confidence
    alpha = largest_alpha(win_rates, gain, pgr=pgr, level=level, seed=seed)
    n, decided, gap = len(gain), int((gain != 0).sum()), float(gain.mean())
    if alpha is None:
        return PgrAlpha(None, n, decided, gap, None, None, _labels_needed(gain, pgr=pgr, level=level))
    above = win_rates >= alpha
    estimate = None
    if has_gap(gain):  # a bet that was won early stays won, even if later labels take the gap back
        estimate = bootstrap(above.astype(np.float64), strong, weak, lambda _, curve: curve[..., 1], seed=seed)
    return PgrAlpha(alpha, n, decided, gap, share_interval(int(above.sum()), n), estimate, None)


def largest_alpha(win_rates: Floats, gain: Floats, *, pgr: float, level: float, seed: int) -> float | None:
    """Walk from all strong to the first alpha that is not shown to reach a PGR; return the one before it.

    Args:
        win_rates: Of labelled prompts, shape (n,).
        gain: Score of the strong model minus that of the weak one, -1..1, same shape.
        pgr: Share of the gap to reach, above 0 and below 1.
        level: Probability, at most, that the alpha returned does not reach it.
        seed: Order in which the labels are bet on.

    Returns:
        Null where not even all strong is shown to.
    """
    decided = gain != 0  # ties lose nothing and win nothing, whatever the bet
    if not decided.any():
        return None
    order = np.random.default_rng(seed).permutation(int(decided.sum()))
    rates, gains = win_rates[decided][order], gain[decided][order]
    alphas = _alphas(rates)
    step = max(1, _CHUNK_CELLS // len(gains))
    found = None
    for start in range(0, len(alphas), step):
        chunk = alphas[start : start + step]
        shown = _wins_bet(((rates >= chunk[:, None]) - pgr) * gains, least=-max(pgr, 1.0 - pgr), level=level)
        reached = len(chunk) if shown.all() else int(np.argmin(shown))
        if reached:
            found = float(chunk[reached - 1])
        if reached < len(chunk):
            break
    return found


def _labels_needed(gain: Floats, *, pgr: float, level: float) -> int | None:
    """Return about how many labels like these show all strong to reach a PGR; null where they show no gap.

    A stake b on values of mean m and second moment s grows by b m - b^2 s / 2 a prompt: most at b = m / s, if no more
    than `MAX_STAKE` can be lost at once there.
    """
    if not has_gap(gain):
        return None
    mean, moment = (1.0 - pgr) * float(gain.mean()), (1.0 - pgr) ** 2 * float((gain**2).mean())
    stake = min(mean / moment, MAX_STAKE / max(pgr, 1.0 - pgr))
    growth = stake * mean - stake**2 * moment / 2.0
    return max(len(gain) + 1, math.ceil(math.log(1.0 / level) / growth))


def _wins_bet(values: Floats, *, least: float, level: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Refuse "the mean of a row is not positive" at a level, row by row.

    The stake sqrt(2 log(1 / level) / (n variance)) is best for n prompts of that variance; it is estimated from the
    prompts before, so each bet is placed before its prompt is seen (Waudby-Smith and Ramdas, arXiv 2010.09686).

    Args:
        values: Shape (rows, n), each at least `least`.
        least: Negative.
        level: Probability of a wrong refusal, at most.
    """
    n = values.shape[1]
    count = np.arange(1, n + 1)
    mean = np.cumsum(values, axis=1) / (count + 1)
    # Starts at the variance of a coin that shows +least or -least half of the time.
    variance = (0.25 * least**2 + np.cumsum((values - mean) ** 2, axis=1)) / (count + 1)
    before = np.concatenate([np.full((len(values), 1), 0.25 * least**2), variance[:, :-1]], axis=1)
    stake = np.minimum(np.sqrt(2.0 * math.log(1.0 / level) / (n * before)), MAX_STAKE / -least)
    capital = np.cumsum(np.log1p(stake * values), axis=1)
    return np.asarray(capital.max(axis=1, initial=0.0) >= math.log(1.0 / level))


def _alphas(win_rates: Floats) -> Floats:
    """Return rising alphas, the lowest sending all of these strong: the win rates, or a grid of fewer decimals."""
    alphas = np.unique(win_rates)
    for decimals in (5, 4, 3):
        if len(alphas) <= MAX_ALPHAS:
            break
        scale = 10.0**decimals
        alphas = np.unique(np.floor(win_rates * scale) / scale)
    return alphas


def _cuts(win_rates: Floats) -> tuple[Floats, np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """Return falling alphas, from one that sends nothing strong where one exists, and how many rows each sends."""
    if not len(win_rates):
        raise DataError("no rows to read alpha from; check the table")
    known, sizes = np.unique(win_rates, return_counts=True)
    alphas, n_strong = known[::-1], np.cumsum(sizes[::-1])
    if alphas[0] < 1.0:
        alphas, n_strong = np.append(1.0, alphas), np.append(0, n_strong)
    return alphas, n_strong


def _check(win_rates: Floats, strong: Floats, weak: Floats) -> None:
    if not win_rates.shape == strong.shape == weak.shape or win_rates.ndim != 1 or not len(win_rates):
        raise DataError(
            f"labels need a win rate and two scores a row, got shapes {win_rates.shape}, {strong.shape}, {weak.shape}"
        )
    for scores in (strong, weak):
        if not ((scores >= 0.0) & (scores <= 1.0)).all():
            raise DataError(
                f"scores must lie in 0..1, got {scores.min()} to {scores.max()}; divide them by the largest grade"
            )
