"""The figures of what a what-if advises: of the recommended point, or of a single model where routing buys nothing."""

from dataclasses import dataclass
from typing import Literal

from schemas.audit import WhatIf
from schemas.sweep import Estimate, SingleModel, SweepPoint

Side = Literal["strong", "weak"]


@dataclass(frozen=True, slots=True)
class Advised:
    """What following the advice would have cost and saved."""

    index: int
    """Of the recommended point."""
    point: SweepPoint
    single: Side | None
    """Where the figures stand in `Sweep`: those of a single model, or null, those of the point."""
    cost_usd: Estimate
    saving_usd: float
    """Against all strong."""
    saving_share: Estimate
    """Against all strong."""
    saving_vs_best_share: float
    saving_vs_paid_share: float | None
    """Against what the routed calls did cost; null where that was nothing."""


def advised(found: WhatIf) -> Advised | None:
    """WHAT IF -> the figures of its advice; None where nothing is advised."""
    if found.recommended is None:
        return None
    sweep, point = found.sweep, found.sweep.points[found.recommended]
    single: Side | None = None
    source: SweepPoint | SingleModel = point
    saving_usd, against_best = point.saving_usd.value, point.saving_vs_best_share.value
    if found.alone is not None:
        single, source = ("weak", sweep.weak) if found.alone == sweep.weak.model else ("strong", sweep.strong)
        saving_usd, against_best = sweep.strong.cost_usd.value - source.cost_usd.value, 0.0
    paid = float(found.routed_paid_usd)
    return Advised(
        index=found.recommended,
        point=point,
        single=single,
        cost_usd=source.cost_usd,
        saving_usd=saving_usd,
        saving_share=source.saving_share,
        saving_vs_best_share=against_best,
        saving_vs_paid_share=1.0 - source.cost_usd.value / paid if paid else None,
    )
