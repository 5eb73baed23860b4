import pytest

from routing.calls import CONTENT_FILTER_CODES, QUOTA_CODES, Verdict, error_code, verdict
from tests.fakes import answered, broken, refused


@pytest.mark.parametrize(
    ("status", "name", "meaning"),
    [
        (400, "bad_request", Verdict.DONE),
        (401, "authentication", Verdict.STOP_CREDENTIALS),
        (402, "insufficient_quota", Verdict.STOP_QUOTA),
        (403, "permission", Verdict.STOP_CREDENTIALS),
        (404, "not_found", Verdict.DONE),
        (408, "timeout", Verdict.RETRY),
        (409, "conflict", Verdict.RETRY),
        (413, "too_large", Verdict.DONE),
        (418, "bad_request", Verdict.DONE),
        (422, "unprocessable", Verdict.DONE),
        (429, "rate_limit", Verdict.COOL_DOWN),
        (500, "server_error", Verdict.RETRY),
        (502, "server_error", Verdict.RETRY),
        (503, "server_error", Verdict.RETRY),
        (504, "server_error", Verdict.RETRY),
        (529, "server_error", Verdict.RETRY),
    ],
)
def test_every_status_has_a_name_and_a_meaning(status: int, name: str, meaning: Verdict) -> None:
    assert error_code(status, None) == name
    assert verdict(refused(status)) is meaning


@pytest.mark.parametrize("status", [400, 402, 403, 429])
@pytest.mark.parametrize("code", sorted(QUOTA_CODES))
def test_an_empty_account_stops_the_run_whatever_the_status(status: int, code: str) -> None:
    assert error_code(status, code) == "insufficient_quota"
    assert verdict(refused(status, code)) is Verdict.STOP_QUOTA


@pytest.mark.parametrize("code", sorted(CONTENT_FILTER_CODES))
def test_a_content_filter_is_an_error_row(code: str) -> None:
    assert error_code(400, code) == "content_filter"
    assert verdict(refused(400, code)) is Verdict.DONE


def test_a_prompt_that_is_too_long_is_an_error_row() -> None:
    assert error_code(400, "context_length_exceeded") == "context_length"
    assert verdict(refused(400, "context_length_exceeded")) is Verdict.DONE


def test_an_unknown_provider_code_changes_nothing() -> None:
    assert error_code(429, "rate_limit_exceeded") == "rate_limit"
    assert error_code(500, "model_overloaded") == "server_error"


def test_a_503_that_names_a_time_is_a_refusal_not_a_failure() -> None:
    assert verdict(refused(503, retry_after_s=2.0)) is Verdict.COOL_DOWN
    assert verdict(refused(503, retry_after_s=0.0)) is Verdict.COOL_DOWN
    assert verdict(refused(500, retry_after_s=2.0)) is Verdict.RETRY


@pytest.mark.parametrize("code", ["timeout", "connection"])
def test_a_dead_line_is_tried_again(code: str) -> None:
    assert verdict(broken(code)) is Verdict.RETRY


@pytest.mark.parametrize("body", ["", "no json"])
def test_http_200_decides_a_call_whatever_it_holds(body: str) -> None:
    assert verdict(answered(body)) is Verdict.DONE
