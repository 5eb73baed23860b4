"""Gates: figures of an audit held against numbers, so that cron and Airflow see a bill that is too high.

A gate is text such as `saving_share < 0.2` or `cost_usd > 500 or unpriced_share > 0`: comparisons of a figure with a
number, joined by `and` and `or`, of which `and` binds tighter. It is read word by word, never evaluated as code.
"""

import difflib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isinf
from typing import NoReturn

from routing.audit.what_if_advised import Advised, advised
from routing.errors import UsageError
from schemas.audit import AuditReport

Number = int | float | Decimal | None

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WORD = re.compile(rf"{_NAME.pattern}|{_NUMBER.pattern}|<=|>=|==|!=|<|>|\S", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One figure against one number."""

    figure: str
    operator: str
    number: float


_QUOTED = 100
"""Characters of a wrong gate that an error repeats."""

_Gate = list[list[_Comparison]]
"""Alternatives (`or`), each a list of comparisons that hold together (`and`)."""


def check_gates(expressions: Sequence[str]) -> None:
    """Refuse gates that cannot be read, before any work is done.

    Raises:
        UsageError: An expression is no gate, or names no figure; says which figure is nearest.
    """
    for expression in expressions:
        _parse(expression, FIGURES)


def broken_gates(expressions: Sequence[str], figures: Mapping[str, float | None]) -> list[str]:
    """Return a sentence for each gate that holds or cannot be judged, in order; an empty list lets the job pass.

    Args:
        expressions: Gates. A gate that names a figure without a value is broken: what is not known is not fine.
        figures: Name -> value, see `figures`.

    Raises:
        UsageError: An expression is no gate, or names no figure.
    """
    found = []
    for expression in expressions:
        gate = _parse(expression, figures)
        named = list(dict.fromkeys(comparison.figure for part in gate for comparison in part))
        if any(figures[name] is None for name in named) or any(all(_holds(c, figures) for c in part) for part in gate):
            found.append(f"{expression.strip()} ({', '.join(_told(name, figures[name]) for name in named)})")
    return found


def figures(report: AuditReport) -> dict[str, float | None]:
    """AUDIT REPORT -> what a gate may name. Null: the audit does not know it (docs/audit-exports.md lists them all)."""
    values = {name: read(report) for name, read in FIGURES.items()}
    return {name: None if value is None else float(value) for name, value in values.items()}


def _share(part: Number, whole: Number) -> float | None:
    """A share of nothing is not known."""
    return None if part is None or not whole else float(part) / float(whole)


def _advised(read: Callable[[Advised], Number]) -> Callable[[AuditReport], Number]:
    """Read a figure of what is advised; null where nothing is."""

    def value(report: AuditReport) -> Number:
        found = None if report.what_if is None else advised(report.what_if)
        return None if found is None else read(found)

    return value


def _routed_share(report: AuditReport) -> Number:
    found = report.what_if
    return None if found is None else _share(found.routed_calls, report.reconciliation.rows.kept)


def _difference_usd(report: AuditReport) -> Decimal:
    return sum((model.difference_usd for model in report.reconciliation.models), Decimal(0))


def _difference_share(report: AuditReport) -> Number:
    recomputed = sum((model.recomputed_usd for model in report.reconciliation.models), Decimal(0))
    return _share(abs(_difference_usd(report)), recomputed)


def _differing_calls(report: AuditReport) -> Number:
    """Not netted. Null where no call has both spends: nothing was compared."""
    compared = any(model.compared_calls for model in report.reconciliation.models)
    return sum(model.differing_calls for model in report.reconciliation.models) if compared else None


def _differing_share(report: AuditReport) -> Number:
    return _share(_differing_calls(report), sum(model.compared_calls for model in report.reconciliation.models))


def _of_read(name: str) -> Callable[[AuditReport], Number]:
    return lambda report: _share(getattr(report.reconciliation.rows, name), report.reconciliation.rows.read)


def _of_kept(name: str) -> Callable[[AuditReport], Number]:
    return lambda report: _share(getattr(report.reconciliation.rows, name), report.reconciliation.rows.kept)


FIGURES: dict[str, Callable[[AuditReport], Number]] = {
    "calls": lambda report: report.paid.total.calls,
    "cost_usd": lambda report: report.paid.total.cost_usd,
    "logged_usd": lambda report: report.paid.total.logged_usd,
    "max_day_usd": lambda report: max((day.spend.cost_usd for day in report.paid.days), default=None),
    "last_day_usd": lambda report: report.paid.days[-1].spend.cost_usd if report.paid.days else None,
    "failed_usd": lambda report: report.paid.waste.failed_usd,
    "cached_share": lambda report: _share(report.paid.total.cached_tokens, report.paid.total.input_tokens),
    "reasoning_share": lambda report: _share(report.paid.total.reasoning_tokens, report.paid.total.output_tokens),
    "rows_read": lambda report: report.reconciliation.rows.read,
    "rejected_share": _of_read("rejected"),
    "duplicated_share": _of_read("duplicated"),
    "null_id_share": _of_kept("null_ids"),
    "identical_null_id_share": _of_kept("identical_null_ids"),
    "reused_id_share": _of_kept("reused_ids"),
    "unpriced_share": _of_kept("unpriced"),
    "unbilled_share": _of_kept("unbilled"),
    "failed_share": _of_kept("failed"),
    "missing_prompt_share": _of_kept("missing_prompts"),
    "gap_hours": lambda report: sum(gap.hours for gap in report.reconciliation.gaps),
    "difference_usd": _difference_usd,
    "difference_share": _difference_share,
    "differing_calls": _differing_calls,
    "differing_share": _differing_share,
    "stale_calls": lambda report: sum(change.stale_calls for change in report.reconciliation.price_changes),
    "control_differences": lambda report: (
        len(report.reconciliation.control) if report.reconciliation.control_keys else None
    ),
    "routed_share": _routed_share,
    "strong_share": _advised(lambda found: found.point.strong_share),
    "saving_usd": _advised(lambda found: found.saving_usd),
    "saving_share": _advised(lambda found: found.saving_share.value),
    "saving_share_low": _advised(lambda found: found.saving_share.low),
    "saving_vs_best_share": _advised(lambda found: found.saving_vs_best_share),
    "saving_vs_paid_share": _advised(lambda found: found.saving_vs_paid_share),
    "quality_share": _advised(
        lambda found: None if found.point.quality_share is None else found.point.quality_share.value
    ),
    "quality_share_low": _advised(
        lambda found: None if found.point.quality_share is None else found.point.quality_share.low
    ),
}
"""Name -> how it is read. Money in USD, shares 0..1; those of the what-if as it advises."""


def _parse(expression: str, known: Mapping[str, object]) -> _Gate:
    words = [match.group() for match in _WORD.finditer(expression)]
    gate: _Gate = [[]]
    for start in range(0, max(len(words), 1), 4):
        gate[-1].append(_comparison(words[start : start + 3], expression, known))
        joint = words[start + 3 : start + 4]
        if joint == ["or"]:
            gate.append([])
        elif joint not in ([], ["and"]):
            _refuse(expression, f"{_short(joint[0])!r} stands where `and` or `or` should")
        if joint and len(words) == start + 4:
            _refuse(expression, f"nothing follows {joint[0]!r}")
    return gate


def _comparison(words: Sequence[str], expression: str, known: Mapping[str, object]) -> _Comparison:
    if len(words) != 3 or words[1] not in _OPERATORS or not _NUMBER.fullmatch(words[2]) or isinf(float(words[2])):
        _refuse(expression, f"got {_short(' '.join(words))!r}")
    name = words[0]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]!r}? " if near else ""
        _refuse(expression, f"an audit has no figure {_short(name)!r}; {meant}Figures: {', '.join(known)}")
    return _Comparison(name, words[1], float(words[2]))


def _refuse(expression: str, reason: str) -> NoReturn:
    raise UsageError(
        f"--fail-if {_short(expression)!r}: {reason}; expected `FIGURE < NUMBER` with one of "
        f"{' '.join(sorted(_OPERATORS))}, joined by `and` or `or`, e.g. 'saving_share < 0.2 or cost_usd > 500'"
    )


def _short(text: str) -> str:
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."


def _holds(comparison: _Comparison, figures: Mapping[str, float | None]) -> bool:
    value = figures[comparison.figure]
    return value is not None and _OPERATORS[comparison.operator](value, comparison.number)


def _told(name: str, value: float | None) -> str:
    return f"{name} is not known" if value is None else f"{name} is {value:.6g}"
