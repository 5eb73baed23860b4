import asyncio
from decimal import Decimal

import pytest

from routing.errors import TryLaterError
from routing.guards import Breaker, Budget, DiskGuard
from tests.fakes import let_others_run

DIME = Decimal("0.10")


def breaker_after(outcomes: str, *, window: int = 10, share: float = 0.5) -> Breaker:
    """`x` is a failure, `.` a success."""
    breaker = Breaker(window=window, max_failed_share=share)
    for outcome in outcomes:
        breaker.record(failed=outcome == "x")
    return breaker


@pytest.mark.parametrize(
    ("outcomes", "opens"),
    [
        ("", False),
        ("xxxxxxxxx", False),  # nine are no window of ten
        ("xxxxxxxxxx", True),
        ("xxxxx.....", False),  # half is not above half
        ("xxxxxx....", True),
        ("xxxxxx.....", False),  # the first failure has left the window
        (".........." * 5 + "xxxxx", False),
        (".........." * 5 + "xxxxxx", True),
        ("xxxxxxxxxx" + ".....", False),
    ],
)
def test_the_breaker_opens_when_most_of_the_window_failed(outcomes: str, opens: bool) -> None:
    assert breaker_after(outcomes).open is opens


def test_a_share_of_one_never_opens_and_a_share_of_zero_bears_no_failure() -> None:
    assert not breaker_after("x" * 50, share=1.0).open
    assert breaker_after("." * 9 + "x", share=0.0).open


def test_the_breaker_says_what_it_saw() -> None:
    assert breaker_after("x......xxxxxx").describe() == "6 of the last 10 attempts failed"


# ---- budget ---------------------------------------------------------------------------------------------------------


def test_a_budget_admits_up_to_its_limit_and_then_refuses_with_the_amounts() -> None:
    async def scenario() -> Budget:
        budget = Budget(Decimal("0.30"), booked_usd=DIME)
        await budget.admit(DIME)
        budget.settle(DIME, DIME)
        await budget.admit(DIME)  # 0.20 booked + 0.10 is exactly the limit
        budget.settle(DIME, Decimal("0.04"))
        with pytest.raises(
            TryLaterError, match=r"budget of \$0\.30 is reached: \$0\.240000 is booked.*\$0\.100000.*--max-usd"
        ):
            await budget.admit(DIME)
        return budget

    assert asyncio.run(scenario()).booked_usd == Decimal("0.24")


def test_a_call_waits_while_those_in_flight_may_still_make_room() -> None:
    async def scenario() -> None:
        budget = Budget(Decimal("0.20"))
        await budget.admit(DIME)
        await budget.admit(DIME)
        waiting = asyncio.create_task(budget.admit(DIME))
        await let_others_run()
        assert not waiting.done()
        budget.settle(DIME, Decimal("0.03"))  # 0.03 booked + 0.10 in flight: still no room for 0.10
        await let_others_run()
        assert not waiting.done()
        budget.settle(DIME, Decimal("0.05"))
        await asyncio.wait_for(waiting, timeout=5)
        assert budget.booked_usd == Decimal("0.08")

    asyncio.run(scenario())


def test_a_call_that_waited_in_vain_is_refused() -> None:
    async def scenario() -> None:
        budget = Budget(Decimal("0.15"))
        await budget.admit(DIME)
        waiting = asyncio.create_task(budget.admit(DIME))
        await let_others_run()
        assert not waiting.done()
        budget.settle(DIME, DIME)
        with pytest.raises(TryLaterError, match="is reached"):
            await asyncio.wait_for(waiting, timeout=5)

    asyncio.run(scenario())


def test_a_call_too_dear_for_what_is_left_is_refused_at_once() -> None:
    async def scenario() -> None:
        budget = Budget(Decimal("0.15"), booked_usd=DIME)
        await budget.admit(Decimal("0.01"))
        # Even if the call in flight cost nothing, 0.10 + 0.06 would pass 0.15: waiting could not help.
        with pytest.raises(TryLaterError, match="is reached"):
            await asyncio.wait_for(budget.admit(Decimal("0.06")), timeout=5)

    asyncio.run(scenario())


def test_every_waiting_call_is_looked_at_when_one_settles() -> None:
    async def scenario() -> int:
        budget = Budget(DIME)
        await budget.admit(DIME)
        waiting = [asyncio.create_task(budget.admit(Decimal("0.05"))) for _ in range(2)]
        await let_others_run()
        budget.settle(DIME, Decimal(0))
        await let_others_run()
        return sum(task.done() for task in waiting)

    assert asyncio.run(scenario()) == 2


def test_without_a_limit_nothing_is_refused_and_all_is_booked() -> None:
    async def scenario() -> Budget:
        budget = Budget(None)
        for _ in range(100):
            await budget.admit(Decimal(1_000_000))
            budget.settle(Decimal(1_000_000), Decimal(1))
        return budget

    assert asyncio.run(scenario()).booked_usd == 100


# ---- disk -----------------------------------------------------------------------------------------------------------


def test_the_disk_is_looked_at_first_and_then_now_and_then() -> None:
    free = iter([500, 400, 99])
    guard = DiskGuard(lambda: next(free), min_free_bytes=100, every=3)
    for _ in range(6):
        guard.check()
    with pytest.raises(TryLaterError, match="resume the run"):
        guard.check()


def test_a_full_disk_is_named_in_megabytes() -> None:
    guard = DiskGuard(lambda: 12_000_000, min_free_bytes=200_000_000)
    with pytest.raises(TryLaterError, match=r"only 12 MB are free .*200 MB have to stay free"):
        guard.check()


def test_a_full_disk_stays_full_until_there_is_room() -> None:
    free = [1]
    guard = DiskGuard(lambda: free[0], min_free_bytes=100)
    for _ in range(2):
        with pytest.raises(TryLaterError):
            guard.check()
    free[0] = 100
    guard.check()
