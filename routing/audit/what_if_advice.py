"""Which alpha to take for a quality floor, in words; and what the what-if took for granted, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from routing.audit.answer_lengths import FEW_ANSWERS
from routing.audit.what_if_routed import PairModel
from routing.audit.what_if_tenants import Lengths
from routing.estimate import TOKENIZER_SPREAD
from schemas.audit import UnroutedCalls
from schemas.sweep import Estimate, Sweep, SweepPoint

FEW_EFFECTIVE = 0.5
"""Share of the labels below which it is said how little they stand for these calls."""

_REMEDIES = {
    "failed": "Look into the errors of the log first.",
    "answered by a cache": "A gateway's cache answers these calls already: there is nothing to route.",
    "not a chat": "The router decides between chat models; other operations stay where they are.",
    "another model": "Name the models that answered as what_if.strong, what_if.weak or what_if.replaces.",
    "unpriced": "Add [[prices]] for the models that answered, or log their tokens.",
    "no prompt text": "A router reads prompts: let the log hold them (docs/audit-formats.md says how), or take "
    "[what_if] out.",
}
"""Reason why a call is not routed -> what to do."""


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
    tokenizer_spread: float = TOKENIZER_SPREAD


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do."""

    point: int
    """Index of the recommended point."""
    alone: str | None
    """The single model that every call should go to instead, since routing buys nothing over it."""


def choose(sweep: Sweep, floor: float | None) -> Choice | None:
    """Decide between routing and a single model; None without a floor or without a quality to hold it against.

    Args:
        sweep: The curve. Its `best_single` says whether the weak model alone holds the floor and is cheaper.
        floor: Share of the strong model's quality to keep.
    """
    shares = [point.quality_share for point in sweep.points if point.quality_share is not None]
    if floor is None or not shares or len(shares) < len(sweep.points):
        return None
    last = len(shares) - 1
    point = recommended([point.cost_usd.value for point in sweep.points], shares, floor)
    # An end of the curve is a single model whose calls all lost their cache: never cheaper than that model alone.
    if 0 < point < last and sweep.points[point].saving_vs_best_share.value > 0:
        return Choice(point, None)
    return Choice(0 if sweep.best_single == sweep.weak.model else last, sweep.best_single)


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


def advice(sweep: Sweep, chosen: Choice | None, floor: float | None, *, labelled: bool, paid_usd: float) -> str:
    """Say what to do, or why nothing can be recommended.

    Args:
        sweep: The curve.
        chosen: What `choose` decided.
        floor: Share of the strong model's quality to keep.
        labelled: Whether there are labels.
        paid_usd: What the routed calls did cost.
    """
    strong = sweep.strong.model
    if not labelled:
        return (
            "No alpha is recommended, because quality is unknown without labels: add [what_if.labels] with graded "
            "prompts of this traffic (`nightroute label` makes them) and a quality_floor."
        )
    if floor is None:
        return f"No alpha is recommended without a floor: set what_if.quality_floor, a share of {strong}'s quality."
    if chosen is None:
        return f"No alpha is recommended: {strong}'s answers score 0 in the labels, so there is no quality to keep."
    held = f"{floor:.1%} of {strong}'s quality"
    if chosen.alone is None:
        return _routing(sweep, sweep.points[chosen.point], held, paid_usd)
    if chosen.alone == strong:
        return _strong_alone(sweep, held, floor)
    weak = sweep.weak
    return (
        f"{weak.model} alone holds the floor of {held}{_kept(sweep.points[0])}: routing buys nothing, send every call "
        f"to {weak.model}. Cost {_usd(weak.cost_usd.value)} instead of {_usd(sweep.strong.cost_usd.value)}"
        f"{_saved(weak.saving_share)}. {_against_paid(weak.cost_usd.value, paid_usd)}"
    )


def nothing_routed(unrouted: Sequence[UnroutedCalls]) -> str:
    """Say why no call of a log could be routed, and what to do about the reason that holds for most."""
    if not unrouted:
        return "No call of this log could be routed: it holds none."
    counts = ", ".join(f"{row.reason}: {row.calls:,}" for row in unrouted)
    most = max(unrouted, key=lambda row: row.calls)
    return f"No call of this log could be routed ({counts}). {_REMEDIES[most.reason]}"


def assumptions(ground: Ground) -> list[str]:
    """Return what was taken for granted, in short sentences."""
    said = [
        "Calls that stay on the model that answered them cost what they did cost, cache discounts included; only "
        "calls that move are modelled.",
        "A call that moves has the input tokens that were logged"
        + (f", give or take {ground.tokenizer_spread:.0%} for another tokenizer." if ground.tokenizer_spread else "."),
        "A call that moves finds its cached tokens cached."
        if ground.warm
        else "A call that moves finds nothing cached: what was read from the cache or written to it is written anew, "
        "at the input rate where writing has no price.",
        "The single models keep their cache warm, which makes savings smaller rather than larger.",
        "The other model would have answered as long as it answers calls of the same input tokens and win rate, and "
        "the same tenant as far as it answered it; when it is asked makes no difference.",
    ]
    for model, known in zip(ground.models, ground.lengths, strict=True):
        lengths = known.model
        mean = lengths.mean_output_tokens
        if lengths.answers == 0:
            said.append(
                f"No answer of {model.name} is known: {mean:,.0f} output tokens are assumed, and the interval "
                "reaches from half to double of that."
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


def _routing(sweep: Sweep, point: SweepPoint, held: str, paid_usd: float) -> str:
    weak = sweep.weak
    dearer = sweep.best_single == weak.model
    alone = f" {weak.model} alone holds the floor as well, for {_usd(weak.cost_usd.value)}." if dearer else ""
    return (
        f"alpha = {point.alpha:g} sends {point.strong_share:.1%} of the calls to {sweep.strong.model} and is the "
        f"cheapest point shown to hold {held}{_kept(point)}. Cost {_usd(point.cost_usd.value)} instead of "
        f"{_usd(sweep.strong.cost_usd.value)}{_saved(point.saving_share)}.{alone} "
        f"{_against_paid(point.cost_usd.value, paid_usd)}"
    )


def _strong_alone(sweep: Sweep, held: str, floor: float) -> str:
    strong = sweep.strong
    tested_first = (sweep.points[-2].quality_share, sweep.points[0].quality_share)
    if any(share is not None and share.low >= floor for share in tested_first):
        return (
            f"No point that is shown to hold {held} costs less than {strong.model} alone "
            f"({_usd(strong.cost_usd.value)}): routing buys nothing, stay with {strong.model}."
        )
    return (
        f"No point below all strong is shown to hold {held}: stay with {strong.model}. More labels, another router or "
        "a lower floor may change that."
    )


def _saved(share: Estimate) -> str:
    return f": {share.value:.1%} saved (95 % interval {share.low:.1%} to {share.high:.1%})"


def _kept(point: SweepPoint) -> str:
    share = point.quality_share
    return "" if share is None else f" ({share.value:.1%}, 95 % interval {share.low:.1%} to {share.high:.1%})"


def _against_paid(cost_usd: float, paid_usd: float) -> str:
    """What was paid need not be all strong: routing may cost more than what was done."""
    saved = paid_usd - cost_usd
    said = f"{_usd(saved)} more than that" if saved >= 0 else f"{_usd(-saved)} less than that"
    return f"These calls did cost {_usd(paid_usd)}, {said}."


def _usd(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.6f}"
