import math

import pytest

from routing.sandbox.config import ModelSpec
from routing.sandbox.limits import ModelLimits, format_duration, retry_after_headers


def limits(**spec: int) -> ModelLimits:
    return ModelLimits(ModelSpec.model_validate({"name": "small", **spec}), now_s=0.0)


def test_a_minutes_worth_passes_at_once_and_then_one_each_interval() -> None:
    bucket = limits(rpm=3)
    assert [bucket.admit(1, 0.0) for _ in range(3)] == [None] * 3
    refusal = bucket.admit(1, 0.0)
    assert refusal == ("requests", 3, 1, 20.0)
    assert bucket.admit(1, refusal.wait_s) is None


def test_a_refused_request_counts_too() -> None:
    bucket = limits(rpm=3)
    for _ in range(3):
        bucket.admit(1, 0.0)
    # 19 s have brought 0.95 of a request; asking throws that away, and the next full one is 20 s off.
    refusal = bucket.admit(1, 19.0)
    assert refusal is not None
    assert refusal.wait_s == pytest.approx(20.0)
    assert bucket.admit(1, 20.0) is not None
    assert bucket.admit(1, 40.0) is None


def test_the_wait_that_is_told_is_enough_and_not_longer_than_needed() -> None:
    for rpm in (7, 60, 500, 997):
        bucket = limits(rpm=rpm)
        now_s = 0.1
        while (refusal := bucket.admit(1, now_s)) is None:
            now_s += 1e-4
        assert bucket.admit(1, now_s + refusal.wait_s) is None
        early = limits(rpm=rpm)
        while (refusal := early.admit(1, 0.0)) is None:
            pass
        assert early.admit(1, refusal.wait_s * 0.99) is not None


def test_tokens_are_taken_by_admitted_requests_only() -> None:
    bucket = limits(tpm=600)
    assert bucket.admit(500, 0.0) is None
    refusal = bucket.admit(200, 0.0)
    assert refusal == ("tokens", 600, 200, 10.0)
    assert bucket.admit(100, 0.0) is None


def test_a_request_larger_than_the_limit_never_passes() -> None:
    refusal = limits(tpm=600).admit(601, 0.0)
    assert refusal is not None
    assert math.isinf(refusal.wait_s)


def test_the_wait_covers_both_limits() -> None:
    bucket = limits(rpm=2, tpm=600)
    assert bucket.admit(590, 0.0) is None
    # 20 tokens lack 10, which is 1 s; but both requests of the minute are used, and the next comes after 30 s.
    assert bucket.admit(20, 0.0) == ("tokens", 600, 20, 30.0)


def test_headers_state_limit_rest_and_reset() -> None:
    bucket = limits(rpm=60, tpm=6000)
    assert bucket.admit(1500, 0.0) is None
    assert bucket.headers(0.0) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "4500",
        "x-ratelimit-reset-tokens": "15s",
    }
    assert limits().headers(0.0) == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (0.12, "120ms"), (0.0001, "1ms"), (1, "1s"), (8.64, "8.64s"), (59.9999, "1m0s"), (60, "1m0s"),
        (360, "6m0s"), (3630, "1h0m30s"), (75.5, "1m15.5s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("wait_s", "seconds", "milliseconds"),
    [(0.05, "1", "50"), (1.0, "1", "1000"), (1.0004, "2", "1001"), (20.2, "21", "20200")],
)
def test_retry_after_is_never_below_the_wait(wait_s: float, seconds: str, milliseconds: str) -> None:
    assert retry_after_headers(wait_s) == {"retry-after": seconds, "retry-after-ms": milliseconds}
