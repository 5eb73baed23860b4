import asyncio
from typing import Any

import pytest

from routing.limits import Concurrency, Gate, Limits, Permit, TokenBucket, pause
from tests.fakes import FakeClock, let_others_run


def gate_with(clock: FakeClock, stop: asyncio.Event | None = None, **limits: Any) -> Gate:
    return Gate(Limits(**limits), clock=clock, sleep=clock.sleep, stop=stop)


# ---- token bucket ---------------------------------------------------------------------------------------------------


def test_a_bucket_starts_full_and_refills_at_its_rate() -> None:
    clock = FakeClock()
    bucket = TokenBucket(120, 2.0, clock)  # 2 a second, capacity 4
    assert bucket.wait_s(4) == 0
    bucket.take(4)
    assert bucket.wait_s(1) == 0.5
    clock.turn(0.5)
    assert bucket.wait_s(1) == 0
    assert bucket.wait_s(4) == 1.5


def test_a_bucket_never_holds_more_than_its_capacity() -> None:
    clock = FakeClock()
    bucket = TokenBucket(120, 2.0, clock)
    clock.turn(3600)
    bucket.take(4)
    assert bucket.wait_s(1) == 0.5


def test_more_than_the_capacity_may_be_taken_from_a_full_bucket_and_is_paid_back_in_time() -> None:
    clock = FakeClock()
    bucket = TokenBucket(60, 10.0, clock)  # 1 a second, capacity 10
    assert bucket.wait_s(25) == 0
    bucket.take(25)  # 15 in debt
    assert bucket.wait_s(1) == 16
    clock.turn(16)
    assert bucket.wait_s(1) == 0


def test_a_refund_shortens_the_wait_and_an_overrun_lengthens_it() -> None:
    bucket = TokenBucket(60, 10.0, FakeClock())
    bucket.take(10)
    bucket.refund(4)  # the estimate was 4 too high
    assert bucket.wait_s(5) == 1
    bucket.refund(-2)  # another was 2 too low
    assert bucket.wait_s(5) == 3


def test_a_refund_does_not_overfill() -> None:
    bucket = TokenBucket(60, 10.0, FakeClock())
    bucket.refund(100)
    bucket.refund(-4)
    assert bucket.wait_s(10) == 4


def test_a_small_limit_still_lets_one_request_through() -> None:
    clock = FakeClock()
    bucket = TokenBucket(6, 1.0, clock)  # one every ten seconds: a second's worth is 0.1
    assert bucket.wait_s(1) == 0
    bucket.take(1)
    assert bucket.wait_s(1) == pytest.approx(10)


# ---- adaptive concurrency -------------------------------------------------------------------------------------------


def succeed(concurrency: Concurrency, times: int) -> int:
    for _ in range(times):
        concurrency.succeeded()
    return concurrency.allowed


def test_slow_start_doubles_per_round_up_to_the_limit() -> None:
    concurrency = Concurrency(Limits(start_in_flight=2, max_in_flight=20), FakeClock())
    assert succeed(concurrency, 1) == 2
    assert succeed(concurrency, 1) == 4
    assert succeed(concurrency, 4) == 8
    assert succeed(concurrency, 8) == 16
    assert succeed(concurrency, 16) == 20
    assert succeed(concurrency, 500) == 20


def test_the_start_is_within_the_limit() -> None:
    assert Concurrency(Limits(start_in_flight=8, max_in_flight=3), FakeClock()).allowed == 3


def test_a_burst_of_refusals_cuts_once_and_slow_start_is_over() -> None:
    clock = FakeClock()
    concurrency = Concurrency(Limits(start_in_flight=16, max_in_flight=64), clock)
    sent_at = clock()
    clock.turn(0.3)
    for _ in range(3):
        concurrency.refused(sent_at)
    assert concurrency.allowed == 12  # 16 * 0.75, once
    assert succeed(concurrency, 12) == 13  # + 1 per round, no doubling any more
    assert succeed(concurrency, 13) == 14


def test_a_refusal_of_a_request_sent_after_the_cut_cuts_again() -> None:
    clock = FakeClock()
    concurrency = Concurrency(Limits(start_in_flight=16), clock)
    concurrency.refused(clock())
    clock.turn(1)
    sent_at = clock()
    clock.turn(1)
    concurrency.refused(sent_at)
    assert concurrency.allowed == 9  # int(12 * 0.75)


def test_concurrency_never_falls_below_one() -> None:
    clock = FakeClock()
    concurrency = Concurrency(Limits(start_in_flight=2), clock)
    for _ in range(5):
        clock.turn(1)
        concurrency.refused(clock())
    assert concurrency.allowed == 1


def test_a_refusal_breaks_a_round_of_successes() -> None:
    clock = FakeClock()
    concurrency = Concurrency(Limits(start_in_flight=4), clock)
    succeed(concurrency, 3)
    concurrency.refused(clock())
    assert concurrency.allowed == 3
    assert succeed(concurrency, 2) == 3
    assert succeed(concurrency, 1) == 4


# ---- cool-down ------------------------------------------------------------------------------------------------------


def refuse(gate: Gate, *, sent_at: float, retry_after_s: float | None = None) -> None:
    gate.refused(Permit(sent_at, 0), retry_after_s)


async def waited(gate: Gate, clock: FakeClock, tokens: int = 0) -> float:
    """Seconds until the gate lets one request through."""
    start = clock()
    async with gate.permit(tokens):
        return clock() - start


def test_retry_after_is_a_floor_for_everybody() -> None:
    async def scenario() -> list[float]:
        clock = FakeClock()
        gate = gate_with(clock)
        refuse(gate, sent_at=clock(), retry_after_s=7)
        refuse(gate, sent_at=clock(), retry_after_s=3)  # a shorter wish does not shorten the pause
        assert gate.cooling
        return await asyncio.gather(*(waited(gate, clock) for _ in range(3)))

    assert asyncio.run(scenario()) == [7, 7, 7]


def test_a_cool_down_without_retry_after_doubles_from_burst_to_burst_up_to_a_minute() -> None:
    async def scenario() -> list[float]:
        clock = FakeClock()
        gate = gate_with(clock, default_cool_down_s=2.0)
        pauses = []
        for _ in range(7):
            clock.turn(1)
            refuse(gate, sent_at=clock())
            pauses.append(await waited(gate, clock))
        return pauses

    assert asyncio.run(scenario()) == [2, 4, 8, 16, 32, 60, 60]


def test_one_burst_of_refusals_is_one_cool_down() -> None:
    async def scenario() -> float:
        clock = FakeClock()
        gate = gate_with(clock, default_cool_down_s=2.0, start_in_flight=8)
        for _ in range(8):  # eight requests were in flight when the endpoint had enough
            refuse(gate, sent_at=clock())
        return await waited(gate, clock)

    assert asyncio.run(scenario()) == 2


def test_a_success_forgets_earlier_refusals() -> None:
    async def scenario() -> float:
        clock = FakeClock()
        gate = gate_with(clock, default_cool_down_s=2.0)
        for _ in range(3):
            clock.turn(1)
            refuse(gate, sent_at=clock())
        await waited(gate, clock)
        gate.succeeded(Permit(clock(), 0), used_tokens=None)
        clock.turn(1)
        refuse(gate, sent_at=clock())
        return await waited(gate, clock)

    assert asyncio.run(scenario()) == 2


# ---- the gate -------------------------------------------------------------------------------------------------------


def test_requests_per_minute_are_kept() -> None:
    async def scenario() -> float:
        clock = FakeClock()
        gate = gate_with(clock, rpm=60, burst_s=1.0)
        start = clock()
        for _ in range(5):
            await waited(gate, clock)
        return clock() - start

    assert asyncio.run(scenario()) == 4  # the first at once, then one a second


def test_tokens_per_minute_are_kept_and_corrected_to_what_was_used() -> None:
    async def scenario() -> list[float]:
        clock = FakeClock()
        gate = gate_with(clock, tpm=600, burst_s=10.0)  # 10 a second, 100 at once
        waits = [await waited(gate, clock, 100)]
        gate.succeeded(Permit(clock(), 100), used_tokens=60)  # 40 come back
        waits.append(await waited(gate, clock, 60))  # 20 are missing
        gate.succeeded(Permit(clock(), 60), used_tokens=110)  # 50 more than reserved
        waits.append(await waited(gate, clock, 10))
        return waits

    assert asyncio.run(scenario()) == [0, 2, 6]


def test_an_answer_without_usage_keeps_its_reservation() -> None:
    async def scenario() -> float:
        clock = FakeClock()
        gate = gate_with(clock, tpm=600, burst_s=10.0)
        await waited(gate, clock, 100)
        gate.succeeded(Permit(clock(), 100), used_tokens=None)
        return await waited(gate, clock, 50)

    assert asyncio.run(scenario()) == 5


def test_no_more_permits_are_out_than_allowed() -> None:
    async def scenario() -> int:
        clock = FakeClock()
        gate = gate_with(clock, start_in_flight=3)
        most = 0

        async def request() -> None:
            nonlocal most
            async with gate.permit(0):
                most = max(most, gate.in_flight)
                await let_others_run(3)

        await asyncio.gather(*(request() for _ in range(20)))
        assert gate.in_flight == 0
        return most

    assert asyncio.run(scenario()) == 3


def test_permits_are_given_in_order_of_arrival() -> None:
    async def scenario() -> list[int]:
        clock = FakeClock()
        gate = gate_with(clock, rpm=60, tpm=600, start_in_flight=2)
        entered: list[int] = []

        async def request(number: int) -> None:
            async with gate.permit(20 if number % 2 else 1):  # who needs little does not overtake who needs much
                entered.append(number)
                await let_others_run(2)

        await asyncio.gather(*(request(number) for number in range(10)))
        return entered

    assert asyncio.run(scenario()) == list(range(10))


def test_nobody_sleeps_holding_a_permit() -> None:
    async def scenario() -> list[int]:
        clock = FakeClock()
        held: list[int] = []

        async def sleep(seconds: float) -> None:
            held.append(gate.in_flight)
            await clock.sleep(seconds)

        gate = Gate(Limits(rpm=60, start_in_flight=4), clock=clock, sleep=sleep)
        for _ in range(4):
            await asyncio.gather(*(waited(gate, clock) for _ in range(3)))
            refuse(gate, sent_at=clock(), retry_after_s=5)
        return held

    held = asyncio.run(scenario())
    assert len(held) == 2 + 3 * 3  # one request a second: the first needs no wait, and the pause of 5 s refills for one
    assert set(held) == {0}


def test_a_permit_is_given_back_when_its_holder_fails() -> None:
    async def scenario() -> int:
        gate = gate_with(FakeClock())
        with pytest.raises(RuntimeError, match="mine"):
            async with gate.permit(0):
                raise RuntimeError("mine")
        return gate.in_flight

    assert asyncio.run(scenario()) == 0


def test_a_stop_ends_all_waiting() -> None:
    async def scenario() -> float:
        clock, stop = FakeClock(), asyncio.Event()

        async def forever(seconds: float) -> None:
            await asyncio.Event().wait()

        gate = Gate(Limits(), clock=clock, sleep=forever, stop=stop)
        refuse(gate, sent_at=clock(), retry_after_s=3600)
        waiting = [asyncio.create_task(waited(gate, clock)) for _ in range(3)]
        await let_others_run()
        assert not any(task.done() for task in waiting)
        stop.set()
        return sum(await asyncio.wait_for(asyncio.gather(*waiting), timeout=5))

    assert asyncio.run(scenario()) == 0


@pytest.mark.parametrize("stopped", [True, False])
def test_a_pause_ends_with_its_time_or_with_the_stop(stopped: bool) -> None:
    async def scenario() -> float:
        clock, stop = FakeClock(), asyncio.Event()
        if stopped:
            stop.set()
        await pause(30, stop, clock.sleep)
        await let_others_run()  # what was cancelled ends now
        return clock() - 1000

    assert asyncio.run(scenario()) == (0 if stopped else 30)
