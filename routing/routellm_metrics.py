"""RouteLLM's own reading of a curve, for comparison with figures that were published with it.

Their code (routellm 0.2.0, `evals/benchmarks.py` and `evals/evaluate.py`) cuts the win rates at the edges of ten
equal-mass bins, as pandas 3 places them, joins the eleven points by straight lines and reads CPT by looking the wanted
quality up among the points' qualities. Against `routing.metrics` that means: the curve is seen at eleven points only,
CPT is interpolated between points that no alpha reaches, and where the curve falls somewhere it is not the *smallest*
share. The arithmetic is done in their order and unit, so that even ties of rounding fall the same way: an edge that
lies on a win rate can fall on either side of it, and win rates of another scale can give another figure.
"""

from dataclasses import dataclass

import numpy as np

from routing.errors import DataError
from routing.metrics import Floats, check_scores

BINS = 10
PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class RouteLlmCurve:
    """Quality at the eleven thresholds."""

    strong_share: Floats
    """Share of the prompts that go strong, shape (11,), from 0 to 1; level where no win rate lies between."""
    quality: Floats
    """Mean score, same shape, in the unit of the scores."""

    @property
    def auc(self) -> float:
        """Area under quality over the strong share (0..1), in the unit of the scores; theirs is 100 times that."""
        return self._area(self.quality * PERCENT) / PERCENT

    @property
    def apgr(self) -> float:
        """(area - area of all weak) / (area of all strong - area of all weak)."""
        quality = self.quality * PERCENT
        weak, strong = (self._area(np.full_like(quality, quality[end])) for end in (0, -1))
        return (self._area(quality) - weak) / (strong - weak)

    def cpt(self, pgr: float) -> float:
        """Return the strong share (0..1) at which `np.interp` finds the quality of this PGR.

        It wants rising qualities. Where they fall, the answer depends on the steps of its search: theirs all the same.

        Raises:
            ValueError: `pgr` is outside [0, 1].
        """
        if not 0.0 <= pgr <= 1.0:
            raise ValueError(f"CPT needs a PGR in [0, 1], got {pgr}; CPT(80%) is written 0.8")
        quality = self.quality * PERCENT
        wanted = pgr * (quality[-1] - quality[0]) + quality[0]
        return float(np.interp(wanted, quality, self.strong_share * PERCENT)) / PERCENT

    def _area(self, quality: Floats) -> float:
        # Theirs is in percent: there and back again, so that it is rounded as theirs.
        return float(np.trapezoid(quality, self.strong_share * PERCENT / PERCENT))


def routellm_curve(win_rates: Floats, strong: Floats, weak: Floats) -> RouteLlmCurve:
    """Return the curve as RouteLLM's evaluation draws it.

    Args:
        win_rates: P(strong beats weak), shape (n,).
        strong: Grade of the strong model's answers, same shape.
        weak: Grade of the weak model's answers, same shape.

    Raises:
        DataError: as `routing.metrics.cost_quality_curve`; or two bin edges are equal, where RouteLLM's code stops.
    """
    check_scores(win_rates, strong, weak)
    thresholds = _bin_edges(win_rates)
    # Strong from the threshold on, but above the last one, where all are weak.
    selected = win_rates >= thresholds[:, None]
    selected[-1] = win_rates > thresholds[-1]
    quality = np.where(selected, strong, weak).sum(axis=1) / len(win_rates)
    share = selected.sum(axis=1) / len(win_rates)
    return RouteLlmCurve(share[::-1].copy(), quality[::-1].copy())


def _bin_edges(win_rates: Floats) -> Floats:
    """Return the edges of `pandas.qcut(win_rates, 10)`, shape (11,), rising."""
    levels = np.linspace(0.0, 1.0, BINS + 1)
    # pandas 3 rounds a level that binary floats cannot hold up instead of to the nearest.
    levels = np.where(levels * BINS == np.arange(BINS + 1), levels, np.nextafter(levels, 1.0))
    edges = np.quantile(win_rates, levels)
    if len(np.unique(edges)) < len(edges):
        raise DataError(
            f"RouteLLM's metric needs {BINS + 1} different bin edges, but too many win rates are equal (edges "
            f"{np.round(edges, 6).tolist()}); its own code stops here, read the full curve (routing.metrics) instead"
        )
    return edges
