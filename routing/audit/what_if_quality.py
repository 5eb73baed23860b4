"""Quality along alpha, for calls whose answers nobody graded, from labelled prompts of the same traffic.

Calibrated win rates say what to expect of each call; the labels' own residuals correct the mean of that:

    quality(point) = mean over calls of f(w) + weighted mean over labels of (score at this point - f(w)),
    f(w) = weak(w) + [w >= alpha] gain(w),   gain(w) = 2 calibrated(w) - 1 = expected strong minus weak score,

the difference estimator of survey sampling (Sarndal, Swensson and Wretman 1992, ch. 6), as AIPW and prediction-powered
inference (arXiv 2301.09633) use it. If labels are drawn as calls are, it holds however wrong f is; a good f makes it
surer. Its distance from the mean score of these very calls is a mean of residuals over the labels minus one over the
calls, so its variance is

    sum over labels of (weight * residual)^2 + (variance of residuals) / calls.

Labels are weighted so that their win rates are spread as those of the calls are; where labels and calls differ within
a bin of win rates, f has to be right. Share of the strong model's quality: the same, with the residuals of the ratio.
Two labels' worth of made-up ones, half a label of each outcome (after Agresti and Coull, Am. Stat. 52, 1998), keeps
labels that all agree from claiming certainty.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from routing.audit.what_if_points import Points, running
from routing.calibrating import Method, WinRateMap, cross_fitted, fit, fitness
from routing.errors import DataError
from routing.metrics import Floats
from schemas.sweep import Estimate

MIN_LABELS = 50
ISOTONIC_LABELS = 2_000
"""From as many labels on, any rising shape is fitted; below, a sigmoid."""
LABELS_PER_BIN, MOST_BINS = 50, 10
"""Of win rates, in which labels are weighted to match the calls."""
PARAMETERS = 4
"""Of two sigmoids, which the residuals have already been fitted with."""

_PSEUDO = ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0))
_PSEUDO_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Graded:
    """Labelled prompts."""

    win_rates: Floats
    """Shape (n,)."""
    strong: Floats
    """Score of the strong model's answer, 0..1, shape (n,)."""
    weak: Floats
    """Score of the weak model's answer, 0..1, shape (n,)."""


@dataclass(frozen=True, slots=True)
class QualityModel:
    """What a win rate says about the scores of both models; the means of the labels where it says nothing."""

    weak_fails: WinRateMap | None
    """Win rate -> 1 - expected score of the weak model."""
    strong_wins: WinRateMap | None
    """Win rate -> calibrated win rate."""
    mean_weak: float
    mean_gain: float
    method: str
    """In words."""

    def expected(self, win_rates: Floats) -> tuple[Floats, Floats]:
        """Return the expected score of the weak model and the expected gain of the strong one, each of shape (n,)."""
        with np.errstate(over="ignore"):  # labels that are separated make a sigmoid as steep as a step
            weak = self.weak_fails.apply(win_rates) if self.weak_fails else None
            wins = self.strong_wins.apply(win_rates) if self.strong_wins else None
        return (
            np.full(len(win_rates), self.mean_weak) if weak is None else 1.0 - weak,
            np.full(len(win_rates), self.mean_gain) if wins is None else 2.0 * wins - 1.0,
        )


@dataclass(frozen=True, slots=True)
class QualityCurve:
    """Quality at each point."""

    quality: list[Estimate]
    share: list[Estimate] | None
    """Of the quality of all strong; null where that is zero."""
    correction: Floats
    """What the labels' residuals add to the calls' expected quality, shape (points,)."""
    effective_labels: float
    """As many labels drawn like the calls would say as much."""


def fit_quality(labels: Graded, *, seed: int) -> QualityModel:
    """Learn from labels what a win rate says.

    Args:
        labels: At least `MIN_LABELS`.
        seed: Of the folds in which the calibration is judged.

    Raises:
        DataError: too few labels.
    """
    n = len(labels.win_rates)
    if n < MIN_LABELS:
        raise DataError(f"what_if.labels: {n} labels say too little of quality; expected {MIN_LABELS} or more")
    method: Method = "isotonic" if n >= ISOTONIC_LABELS else "platt"
    wins = _fitted(labels.win_rates, labels.strong, labels.weak, method)
    return QualityModel(
        weak_fails=_fitted(labels.win_rates, 1.0 - labels.weak, labels.weak, method),
        strong_wins=wins,
        mean_weak=float(labels.weak.mean()),
        mean_gain=float((labels.strong - labels.weak).mean()),
        method=_described(labels, method, known=wins is not None, seed=seed),
    )


def quality_curve(
    labels: Graded,
    model: QualityModel,
    points: Points,
    win_rates: Floats,
    *,
    gains: Floats,
    weak: float,
    repeated: float,
) -> QualityCurve:
    """Return the quality of the routed calls at every point.

    Args:
        labels: Labelled prompts.
        model: Fitted on them.
        points: Of the curve.
        win_rates: Of the calls, shape (calls,).
        gains: Sums of their expected gains, by cell.
        weak: Mean of their expected scores on the weak model.
        repeated: How often a prompt occurs among the calls (`routing.audit.answer_lengths.repeats`); its answers are
            taken to be equally good each time.
    """
    n = len(labels.win_rates)
    weights, bins = _weights(labels.win_rates, win_rates)
    effective = 1.0 / float(weights @ weights)
    cell = points.cell(labels.win_rates)
    expected_weak, expected_gain = model.expected(labels.win_rates)
    predicted = weak + running(gains) / len(win_rates)
    shares = points.n_strong / points.n_strong[-1]

    def residuals(point: int) -> tuple[float, Floats]:
        """Their weighted mean, and how far each label and each made-up one is from it, shape (n + 4,)."""
        goes = cell < point
        raw = np.where(goes, labels.strong - expected_gain, labels.weak) - expected_weak
        mean = float(weights @ raw)
        made_up = [shares[point] * s + (1.0 - shares[point]) * w - predicted[point] - mean for s, w in _PSEUDO]
        return mean, np.concatenate([raw - mean, made_up])

    # Of a label: its weight squared, and its part of the variance of residuals that single calls have.
    each = np.concatenate([weights, np.full(len(_PSEUDO), 1.0 / effective)])
    fitted = n / (n - PARAMETERS - bins + 1)
    factor = np.concatenate([np.full(n, fitted), np.full(len(_PSEUDO), _PSEUDO_WEIGHT)])
    trust = factor * (each**2 + each * repeated / len(win_rates))
    count = points.cells + 1
    correction, variance, of_ratio = np.zeros((3, count))
    correction[-1], last = residuals(count - 1)
    # Where no label has a point for the strong model, what is left of the sum is rounding.
    whole = predicted[-1] + correction[-1] if weights @ labels.strong > 0 else 0.0
    for point in range(count):
        correction[point], off = residuals(point)
        variance[point] = trust @ off**2
        if whole > 0:
            of_ratio[point] = trust @ (off - (predicted[point] + correction[point]) / whole * last) ** 2
    far = float(stats.t.ppf(0.975, max(effective - 1.0, 1.0)))
    found = predicted + correction
    share = _intervals(found / whole, far * np.sqrt(of_ratio) / whole, most=np.inf) if whole > 0 else None
    return QualityCurve(_intervals(found, far * np.sqrt(variance), most=1.0), share, correction, effective)


def _intervals(value: Floats, half: Floats, *, most: float) -> list[Estimate]:
    ends = (np.clip(end, 0.0, most).tolist() for end in (value, value - half, value + half))
    return [Estimate(value=middle, low=low, high=high) for middle, low, high in zip(*ends, strict=True)]


def _weights(labels: Floats, calls: Floats) -> tuple[Floats, int]:
    """Return a weight per label, together 1, and the number of bins.

    Each bin of labels weighs as much as the calls with such win rates.
    """
    bins = int(np.clip(len(labels) // LABELS_PER_BIN, 1, MOST_BINS))
    edges = np.unique(np.quantile(labels, np.arange(1, bins) / bins, method="higher"))
    edges = edges[edges > labels.min()]  # where the lowest win rates are tied: no bin is without a label
    of_label = np.searchsorted(edges, labels, side="right")
    held = np.bincount(of_label, minlength=len(edges) + 1)
    wanted = np.bincount(np.searchsorted(edges, calls, side="right"), minlength=len(edges) + 1)
    weights = (wanted / np.maximum(held, 1))[of_label]
    return np.asarray(weights / weights.sum()), len(held)


def _fitted(win_rates: Floats, strong: Floats, weak: Floats, method: Method) -> WinRateMap | None:
    """Fit a map; null where the labels are ranked backwards, all alike, or separated."""
    try:
        with np.errstate(all="ignore"):
            found = fit(win_rates, strong, weak, method)
            usable = np.isfinite(found.apply(win_rates)).all()
    except (DataError, np.linalg.LinAlgError):
        return None
    return found if usable else None


def _described(labels: Graded, method: Method, *, known: bool, seed: int) -> str:
    n = len(labels.win_rates)
    if not known:
        return (
            f"the router does not rank these {n:,} labels by what they gain: every call counts with the mean of the "
            "labels, and alpha only moves the share"
        )
    before = fitness(labels.win_rates, labels.strong, labels.weak).ece
    name = {"platt": "Platt scaling", "isotonic": "isotonic regression"}[method]
    try:
        with np.errstate(all="ignore"):
            rates = cross_fitted(labels.win_rates, labels.strong, labels.weak, method, seed=seed)
            after = f"{fitness(rates, labels.strong, labels.weak).ece:.3f}"
    except (DataError, np.linalg.LinAlgError):
        after = "unknown"
    return (
        f"{name} of {n:,} labels, corrected by their residuals; expected calibration error {before:.3f} before and "
        f"{after} after, each label judged by a map fitted without it"
    )
