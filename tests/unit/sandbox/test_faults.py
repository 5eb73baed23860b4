from collections import Counter

import pytest

from routing.sandbox.config import FaultConfig
from routing.sandbox.faults import FaultKind, FaultPlan

MIXED = FaultConfig(rate_429=0.1, rate_500=0.05, rate_drop=0.2, rate_truncated_body=0.15, retry_after_s=(2.0, 4.0))


def kinds(plan: FaultPlan, names: list[str]) -> dict[str, list[FaultKind | None]]:
    drawn: dict[str, list[FaultKind | None]] = {}
    for ordinal, name in enumerate(names):
        fault = plan.next(name, ordinal)
        drawn.setdefault(name, []).append(fault and fault.kind)
    return drawn


def test_faults_come_at_their_rates() -> None:
    n = 20_000
    plan = FaultPlan(MIXED, seed=1)
    drawn = Counter(fault and fault.kind for fault in (plan.next(f"q-{i}", i) for i in range(n)))
    # Four standard deviations of a binomial share at n = 20,000 are at most 4 * 0.5 / sqrt(n) = 0.014.
    assert {kind: count / n for kind, count in drawn.items()} == pytest.approx(
        {
            None: 0.5,
            FaultKind.RATE_LIMITED: 0.1,
            FaultKind.SERVER_ERROR: 0.05,
            FaultKind.DROP: 0.2,
            FaultKind.TRUNCATED_BODY: 0.15,
        },
        abs=0.014,
    )


def test_the_order_of_arrival_changes_nothing() -> None:
    names = [f"q-{i}" for i in range(200)] * 3
    assert kinds(FaultPlan(MIXED, seed=1), names) == kinds(FaultPlan(MIXED, seed=1), sorted(names))


def test_attempts_under_one_id_are_drawn_apart() -> None:
    drawn = kinds(FaultPlan(MIXED, seed=1), ["q-1"] * 400)["q-1"]
    assert 140 < drawn.count(None) < 260


def test_without_an_id_the_ordinal_decides() -> None:
    first, second = FaultPlan(MIXED, seed=1), FaultPlan(MIXED, seed=1)
    assert [first.next(None, i) for i in range(300)] == [second.next(None, i) for i in reversed(range(300))][::-1]


def test_another_seed_draws_otherwise() -> None:
    names = [f"q-{i}" for i in range(200)]
    assert kinds(FaultPlan(MIXED, seed=1), names) != kinds(FaultPlan(MIXED, seed=2), names)


def test_the_wait_is_drawn_from_its_range() -> None:
    plan = FaultPlan(FaultConfig(rate_503=1.0, retry_after_s=(2.0, 4.0)), seed=0)
    waits = [fault.retry_after_s for i in range(500) if (fault := plan.next(None, i))]
    assert len(waits) == 500
    assert 2.0 <= min(waits) < 2.1
    assert 3.9 < max(waits) < 4.0


def test_a_rate_of_one_always_hits_and_of_zero_never() -> None:
    assert all(FaultPlan(FaultConfig(rate_empty=1.0), seed=0).next(None, i) for i in range(500))
    assert not any(FaultPlan(FaultConfig(), seed=0).next(None, i) for i in range(500))


def test_every_kind_has_its_rate() -> None:
    rates = {name for name in FaultConfig.model_fields if name.startswith("rate_")}
    assert {f"rate_{kind}" for kind in FaultKind} == rates
