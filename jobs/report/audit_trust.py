"""Can the log be trusted? What speaks against it, in sentences, and the verdict that follows from them."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from jobs.report.numbers import Number, number, observed
from jobs.report.phrases import plural, share
from jobs.report.views import Words
from schemas.audit import AuditReport, Reconciliation, Spend

TOLERATED: Final = 0.01
"""Share of rows, calls or dollars that may be missing or unclear before a log does not hold."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know of a log."""

    said: Words
    breaks: bool = False
    """Whether it makes the totals of this page unreliable."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The verdict."""

    level: Literal["holds", "holds with remarks", "does not hold"]
    findings: Sequence[Finding]

    @property
    def breaking(self) -> int:
        """How many findings make the totals unreliable."""
        return sum(finding.breaks for finding in self.findings)


def trust(report: AuditReport) -> Trust:
    """Return whether a log holds: it does not where more than one part in a hundred is missing or unclear."""
    checks: tuple[Callable[[Reconciliation], Finding | None], ...] = (
        _rejected, _gaps, _unpriced, _spend, _stale, _duplicated, _ids, _models,
    )  # fmt: skip
    found = [_control(report), *(check(report.reconciliation) for check in checks), _failed(report)]
    findings = sorted((f for f in found if f is not None), key=lambda finding: not finding.breaks)
    if any(finding.breaks for finding in findings):
        return Trust("does not hold", findings)
    return Trust("holds with remarks" if findings else "holds", findings)


def _rejected(found: Reconciliation) -> Finding | None:
    rows = found.rows
    if not rows.rejected:
        return None
    part = share(rows.rejected, rows.read)
    said: Words = [
        observed(rows.rejected, "count", "reconciliation", "rows", "rejected"), f" {plural(rows.rejected, 'row')} (",
        part, f") broke a rule of the format and {plural(rows.rejected, 'is', 'are')} in no number.",
    ]  # fmt: skip
    return Finding(said, _above(part))


def _control(report: AuditReport) -> Finding | None:
    found = report.reconciliation
    if found.control_keys is None:
        return Finding([
            "No control totals were given: from the log alone nobody can tell whether calls are missing from it."
        ])  # fmt: skip
    if not found.control_keys:
        return Finding([
            "The control totals are of other days than the log: nothing was compared, and nobody can tell whether "
            "calls are missing from it."
        ])  # fmt: skip
    if not found.control:
        return None
    said: list[str | Number] = [
        "It differs from the control totals at ", number(len({c.key for c in found.control}), "count"), " of ",
        observed(found.control_keys, "count", "reconciliation", "control_keys"), " keys, by ",
    ]  # fmt: skip
    breaks = False
    for k, measure in enumerate(dict.fromkeys(c.measure for c in found.control)):
        # Not netted: what is missing at one key is not made up at another.
        off = sum((abs(c.difference) for c in found.control if c.measure == measure), Decimal(0))
        part = share(off, _logged(report.paid.total, measure))
        name = "" if measure == "usd" else f" {measure.replace('_', ' ')}"
        said += [", " if k else "", number(off, "money" if measure == "usd" else "count"), f"{name} (", part, ")"]
        breaks = breaks or _above(part)
    return Finding([*said, " of the log's."], breaks)


def _logged(total: Spend, measure: str) -> Decimal:
    """What the log has of a measure of control totals."""
    own = {"calls": total.calls, "input_tokens": total.input_tokens, "output_tokens": total.output_tokens}
    return Decimal(own[measure]) if measure in own else total.cost_usd


def _gaps(found: Reconciliation) -> Finding | None:
    if not found.gaps:
        return None
    expected = sum(gap.expected_calls for gap in found.gaps)
    part = share(expected, found.rows.kept + expected)
    said: Words = [
        number(len(found.gaps), "count"), f" {plural(len(found.gaps), 'gap')} of ",
        number(sum(gap.hours for gap in found.gaps), "count"), " hours in all: about ",
        number(round(expected), "count"),
        " calls (", part, ") would have been there by the same hours of other weeks.",
    ]  # fmt: skip
    return Finding(said, _above(part))


def _unpriced(found: Reconciliation) -> Finding | None:
    rows = found.rows
    if not rows.unpriced:
        return None
    part = share(rows.unpriced, rows.kept)
    said: Words = [
        observed(rows.unpriced, "count", "reconciliation", "rows", "unpriced"), f" {plural(rows.unpriced, 'call')} (",
        part, f") {plural(rows.unpriced, 'has', 'have')} no price. That is not $0: the cost is unknown and in no sum.",
    ]  # fmt: skip
    return Finding(said, _above(part))


def _spend(found: Reconciliation) -> Finding | None:
    logged = sum((m.logged_usd for m in found.models), Decimal(0))
    recomputed = sum((m.recomputed_usd for m in found.models), Decimal(0))
    differing = sum(m.differing_calls for m in found.models)
    if not differing:
        return None
    off = _unexplained(found)
    part = share(off, recomputed or logged)
    said: list[str | Number] = [
        "The spend that the log states is wrong for ", number(differing, "count"), " of ",
        number(sum(m.compared_calls for m in found.models), "count"), " calls: ", number(logged, "money"), " logged, ",
        number(recomputed, "money"), " recomputed (", number(logged - recomputed, "balance"), "). ",
    ]  # fmt: skip
    if off:
        said += [number(off, "money"), " (", part, "), not netted between models, has no known reason."]
    else:
        said.append("All of it has a known reason.")
    if _above(part):
        said.append(
            " One of the two is not what was charged: hold both against an invoice, and give rates of your own as "
            "[[prices]]."
        )
    return Finding(said, _above(part))


def _unexplained(found: Reconciliation) -> Decimal:
    """Dollars between logged and recomputed spend that are not due to an old price; not netted between models."""
    stale = defaultdict[tuple[str | None, str | None], Decimal](Decimal)
    for change in found.price_changes:
        stale[change.provider, change.model] += change.stale_usd
    return sum((abs(m.difference_usd - stale[m.provider, m.model]) for m in found.models), Decimal(0))


def _stale(found: Reconciliation) -> Finding | None:
    stale = sum(change.stale_calls for change in found.price_changes)
    if not stale:
        return None
    off = sum((change.stale_usd for change in found.price_changes), Decimal(0))
    return Finding([
        number(stale, "count"), f" {plural(stale, 'call is', 'calls are')} logged at a price that no longer held (",
        number(off, "balance"), ").",
    ])  # fmt: skip


def _duplicated(found: Reconciliation) -> Finding | None:
    rows = found.rows
    if not rows.duplicated:
        return None
    said: Words = [
        observed(rows.duplicated, "count", "reconciliation", "rows", "duplicated"),
        f" {plural(rows.duplicated, 'row')} (", share(rows.duplicated, rows.read),
        f") {plural(rows.duplicated, 'repeats', 'repeat')} an earlier one, which is counted once.",
    ]  # fmt: skip
    return Finding(said)


def _ids(found: Reconciliation) -> Finding | None:
    rows = found.rows
    if not rows.null_ids and not rows.reused_ids:
        return None
    said: list[str | Number] = []
    if rows.null_ids:
        said += [
            observed(rows.null_ids, "count", "reconciliation", "rows", "null_ids"),
            f" {plural(rows.null_ids, 'call')} (", share(rows.null_ids, rows.kept),
            ") have no id: whether they repeat other ones cannot be told.",
        ]  # fmt: skip
    if rows.identical_null_ids:
        said += [
            " ", observed(rows.identical_null_ids, "count", "reconciliation", "rows", "identical_null_ids"),
            f" of them {plural(rows.identical_null_ids, 'is', 'are')} like an earlier one in everything and counted "
            "twice if it is the same call.",
        ]  # fmt: skip
    if rows.reused_ids:
        said += [
            " " if said else "", observed(rows.reused_ids, "count", "reconciliation", "rows", "reused_ids"),
            f" {plural(rows.reused_ids, 'call stands', 'calls stand')} under the id of another call and "
            f"{plural(rows.reused_ids, 'is', 'are')} counted.",
        ]  # fmt: skip
    return Finding(said)


def _models(found: Reconciliation) -> Finding | None:
    n = len(found.model_changes)
    if not n:
        return None
    first = found.model_changes[0]
    more = "" if n == 1 else f", and {n - 1} more {plural(n - 1, 'change')} of model"
    return Finding([f"{first.before} gives way to {first.after} on {first.changed_at:%Y-%m-%d}{more}."])


def _failed(report: AuditReport) -> Finding | None:
    waste = report.paid.waste
    if not waste.failed_usd:
        return None
    return Finding([
        observed(waste.failed_usd, "money", "paid", "waste", "failed_usd"), " (",
        share(waste.failed_usd, report.paid.total.cost_usd),
        ") of what was paid is for failed calls: their tokens are in the log, and it is assumed that they were "
        "charged. Map billed under log.columns if they were not.",
    ])  # fmt: skip


def _above(part: Number) -> bool:
    return part.value is not None and part.value > TOLERATED
