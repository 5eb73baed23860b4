"""Which alpha to take for a quality floor, in words; and what the what-if took for granted, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from routing.audit.answer_lengths import FEW_ANSWERS
from routing.audit.what_if_routed import PairModel
from routing.audit.what_if_tenants import Lengths
from schemas.sweep import Estimate, Sweep, SweepPoint

FEW_EFFECTIVE = 0.5
"""Share of the labels below which it is said how little they stand for these calls."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What the figures rest on."""

    models: tuple[PairModel, PairModel]
    lengths: tuple[Lengths, Lengths]
    warm: bool
    at_standard: int
    """Prices of calls in a batch or a tier that were taken as standard."""
    labels: int | None
    effective_labels: float | None


def recommended(costs: Sequence[float], shares: Sequence[Estimate], floor: float) -> int:
    """Return the cheapest point that is shown to hold a floor; all strong always does.

    From all strong towards all weak, the first point that is not shown to hold it ends the walk (fixed-sequence
    testing, as in `routing.guarantee`): a lucky point beyond is not taken.

    Args:
        costs: Of each point.
        shares: Share of the strong model's quality at each point.
        floor: Share to keep.
    """
    last = len(shares) - 1
    first = last
    while first > 0 and shares[first - 1].low >= floor:
        first -= 1
    return min(range(first, last + 1), key=lambda point: (costs[point], point))


def advice(sweep: Sweep, chosen: int | None, floor: float | None, *, labelled: bool, paid_usd: float) -> str:
    """Say what to do, or why nothing can be recommended.

    Args:
        sweep: The curve.
        chosen: Index of the recommended point.
        floor: Share of the strong model's quality to keep.
        labelled: Whether there are labels.
        paid_usd: What the routed calls did cost.
    """
    strong, weak = sweep.strong.model, sweep.weak.model
    if not labelled:
        return (
            "No alpha is recommended, because quality is unknown without labels: add [what_if.labels] with graded "
            "prompts of this traffic (`nightroute label` makes them) and a quality_floor."
        )
    if floor is None:
        return f"No alpha is recommended without a floor: set what_if.quality_floor, a share of {strong}'s quality."
    if chosen is None:
        return f"No alpha is recommended: {strong}'s answers score 0 in the labels, so there is no quality to keep."
    point = sweep.points[chosen]
    held = f"{floor:.1%} of {strong}'s quality"
    if chosen == 0:
        return f"{weak} alone holds the floor of {held}{_kept(point)}: routing buys nothing, send every call to {weak}."
    if chosen == len(sweep.points) - 1:
        return (
            f"No point below all strong is shown to hold {held}: stay with {strong}. More labels, another router or a "
            "lower floor may change that."
        )
    told = (
        f"alpha = {point.alpha:g} sends {point.strong_share:.1%} of the calls to {strong} and is the cheapest point "
        f"shown to hold {held}{_kept(point)}. Cost {_usd(point.cost_usd.value)} instead of "
        f"{_usd(sweep.strong.cost_usd.value)}"
    )
    if point.saving_share.value <= 0:
        return f"{told}: routing buys nothing, stay with {strong}."
    saving = point.saving_share
    return (
        f"{told}: {saving.value:.1%} saved (95 % interval {saving.low:.1%} to {saving.high:.1%}). "
        f"{_against_paid(point, paid_usd)}"
    )


def assumptions(ground: Ground) -> list[str]:
    """Return what was taken for granted, in short sentences."""
    said = [
        "Calls that stay on the model that answered them cost what they did cost; only calls that move are modelled.",
        "A call that moves has the input tokens that were logged, although another model has another tokenizer.",
        "A call that moves finds its cached tokens cached."
        if ground.warm
        else "A call that moves pays its cached tokens in full: the cache is cold after a move.",
        "The single models keep their cache warm, which makes savings smaller rather than larger.",
        "The other model would have answered as long as it answers calls of the same input tokens and win rate, and "
        "the same tenant as far as it answered it; when it is asked makes no difference.",
    ]
    for model, known in zip(ground.models, ground.lengths, strict=True):
        lengths = known.model
        mean = lengths.mean_output_tokens
        if lengths.answers == 0:
            said.append(
                f"No answer of {model.name} is known: {mean:,.0f} output tokens are assumed, give or take half."
            )
        elif lengths.answers < FEW_ANSWERS:
            said.append(f"{model.name}: {lengths.answers} answers say little of how long its answers are.")
    if ground.at_standard:
        said.append(
            f"{ground.at_standard:,} prices of batch or tier calls were taken as standard: the other model has no such "
            "price."
        )
    if ground.labels is not None and ground.effective_labels is not None:
        said.append(
            f"The {ground.labels:,} labels are drawn from the same traffic as the calls; only their win rates may be "
            "spread otherwise."
        )
        if ground.effective_labels < FEW_EFFECTIVE * ground.labels:
            said.append(
                f"Their win rates are spread so differently that they count as {ground.effective_labels:,.0f} labels."
            )
    return said


def _kept(point: SweepPoint) -> str:
    share = point.quality_share
    return "" if share is None else f" ({share.value:.1%}, 95 % interval {share.low:.1%} to {share.high:.1%})"


def _against_paid(point: SweepPoint, paid_usd: float) -> str:
    """What was paid need not be all strong: routing may cost more than what was done."""
    saved = paid_usd - point.cost_usd.value
    said = f"{_usd(saved)} more than that" if saved >= 0 else f"{_usd(-saved)} less than that"
    return f"These calls did cost {_usd(paid_usd)}, {said}."


def _usd(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.6f}"
