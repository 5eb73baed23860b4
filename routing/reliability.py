"""Does a win rate mean what it says? Predicted against observed share of strong wins, in bins of equal mass.

The observed outcome of a prompt is (1 + strong - weak) / 2 for scores in [0, 1]: 1 where the strong model won outright,
0 where the weak one did, one half for a tie.
"""

from collections.abc import Sequence

import numpy as np

from routing.errors import DataError
from routing.metrics import Z95, Floats
from schemas.evaluation import ReliabilityBin


def outcomes(strong: Floats, weak: Floats) -> Floats:
    """Return what happened to prompts, (1 + strong - weak) / 2 of scores in 0..1, shape (n,)."""
    return (1.0 + strong - weak) / 2.0


def reliability(win_rates: Floats, outcome: Floats, *, bins: int = 10) -> list[ReliabilityBin]:
    """Return the reliability curve of a router, from its lowest win rates to its highest.

    Equal win rates stay in one bin (that of their middle rank), so there can be fewer bins than wanted. The interval of
    `observed` is Wilson's. Where outcomes are not all 0 or 1 it is Wilson's at the effective sample size
    n p (1 - p) / variance, because ties make a mean more certain than as many coin flips would.

    Args:
        win_rates: P(strong beats weak), shape (n,), each in [0, 1].
        outcome: What happened, same shape, each in [0, 1].
        bins: Bins wanted.

    Raises:
        DataError: no rows, different lengths, or a value outside [0, 1].
        ValueError: `bins` is less than one.
    """
    if bins < 1:
        raise ValueError(f"a reliability curve needs at least one bin, got {bins}")
    _check(win_rates, outcome)
    _, group, sizes = np.unique(win_rates, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - (sizes + 1) / 2  # middle rank of a group of equal win rates, from 0
    bin_of_row = (middle * bins / len(win_rates)).astype(np.intp)[group]
    return [_bin(win_rates[rows], outcome[rows]) for rows in (bin_of_row == b for b in np.unique(bin_of_row))]


def expected_calibration_error(rows: Sequence[ReliabilityBin]) -> float:
    """Return the mean |predicted - observed| of a reliability curve, weighted by the bins' prompts.

    It is zero for no finite sample: noise alone adds about the half width of the bins' intervals.

    Raises:
        DataError: no bins.
    """
    if not rows:
        raise DataError("an expected calibration error needs the bins of a reliability curve, got none")
    return sum(row.n * abs(row.predicted - row.observed) for row in rows) / sum(row.n for row in rows)


def _bin(win_rates: Floats, outcome: Floats) -> ReliabilityBin:
    n, observed = len(outcome), float(outcome.mean())
    low, high = _wilson(observed, _effective(n, observed, float(outcome.var())))
    return ReliabilityBin(n=n, predicted=float(win_rates.mean()), observed=observed, low=low, high=high)


def _effective(n: int, mean: float, variance: float) -> float:
    """Coin flips whose mean is as certain as that of n outcomes; at most n squared, or equal ones would be certain."""
    binomial = mean * (1 - mean)
    return n if binomial == 0 else n * binomial / max(variance, binomial / n)


def _wilson(mean: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (J. Am. Stat. Assoc. 22, 1927)."""
    z2 = Z95 * Z95
    centre = (mean + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * np.sqrt(mean * (1 - mean) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # The mean lies inside; at 0 and at 1 rounding would say otherwise.
    return min(mean, float(centre - half)), max(mean, float(centre + half))


def _check(win_rates: Floats, outcome: Floats) -> None:
    if win_rates.shape != outcome.shape or win_rates.ndim != 1 or not len(win_rates):
        raise DataError(
            f"win rates and outcomes must be vectors of one length, with rows; got shapes {win_rates.shape} and "
            f"{outcome.shape}"
        )
    for name, values in (("win rates", win_rates), ("outcomes", outcome)):
        if not ((values >= 0) & (values <= 1)).all():
            raise DataError(
                f"{name} of a reliability curve must lie in [0, 1], got {values.min()} to {values.max()}; divide "
                "grades by their largest value, and leave baselines without a win rate out"
            )
