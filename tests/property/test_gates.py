import operator
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from routing.audit.gates import broken_gates, check_gates
from routing.errors import UsageError

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
NAMES = ("a", "b_share", "c2_usd")
numbers = st.floats(-1e9, 1e9) | st.integers(-9, 9).map(float)
comparisons = st.tuples(st.sampled_from(NAMES), st.sampled_from(list(OPERATORS)), numbers)
gates = st.lists(st.lists(comparisons, min_size=1, max_size=3), min_size=1, max_size=3)
known = st.fixed_dictionaries(dict.fromkeys(NAMES, numbers))


def text(gate: list[list[tuple[str, str, float]]], space: str) -> str:
    parts = [" and ".join(f"{name}{space}{op}{space}{number!r}" for name, op, number in part) for part in gate]
    return " or ".join(parts)


@given(gate=gates, figures=known, space=st.sampled_from(["", " ", "\t"]))
def test_a_gate_is_an_or_of_ands(
    gate: list[list[tuple[str, str, float]]], figures: dict[str, float | None], space: str
) -> None:
    holds = any(all(OPERATORS[op](figures[name] or 0.0, number) for name, op, number in part) for part in gate)
    assert bool(broken_gates([text(gate, space)], figures)) is holds


@given(gate=gates, figures=known, lost=st.sampled_from(NAMES))
def test_an_unknown_figure_always_breaks(
    gate: list[list[tuple[str, str, float]]], figures: dict[str, float | None], lost: str
) -> None:
    found = broken_gates([text(gate, " ")], figures | {lost: None})
    if any(name == lost for part in gate for name, _, _ in part):
        assert "is not known" in found[0]


@given(st.text(max_size=40) | st.lists(st.sampled_from(["cost_usd", "<", "1", "and", "or", "-", "("])).map(" ".join))
def test_any_text_is_a_gate_or_a_usage_error(gate: str) -> None:
    if _reads(gate):
        assert gate.split()[0].startswith("cost_usd")


def _reads(gate: str) -> bool:
    try:
        check_gates([gate])
    except UsageError:
        return False
    return True
