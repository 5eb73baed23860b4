import io
import json
import time
from dataclasses import dataclass
from decimal import Decimal

import pytest
from rich.console import Console

from jobs import console
from jobs.splitting import Forecast
from routing.dispatch import Progress
from routing.estimate import Interval
from schemas.run import Split
from tests.run_reports import manifest, table


@dataclass(frozen=True)
class FitProgress:
    """Has the shape of `routing.training.router.Progress`, which lives with the training stack."""

    step: int
    steps: int
    loss: float
    validation_loss: float | None = None
    apgr: float | None = None


HALF = Split(
    rule="strong_share",
    wanted="0.5",
    alpha=0.75,
    tie_key_max=7,
    n=4,
    n_strong=2,
    n_tied=3,
    n_tied_strong=1,
    expected_usd=None,
)
TOKENS = {"strong": 1234, "weak": 5}


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "unpriced"),
        (Decimal(0), "$0.000000"),
        (Decimal("0.0000004"), "$0.000000"),
        (Decimal("9.9999994"), "$9.999999"),
        (Decimal(10), "$10.00"),
        (Decimal("1234567.891"), "$1,234,567.89"),
        (Decimal("-12.5"), "$-12.50"),
    ],
)
def test_dollars_for_people(amount: Decimal | None, text: str) -> None:
    assert console.usd(amount) == text


def test_emit_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    console.emit({"text": "two\nlines, é", "usd": Decimal("0.1")})
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert json.loads(out) == {"text": "two\nlines, é", "usd": "0.1"}
    assert "é" in out
    assert err == ""


def test_what_is_said_is_neither_wrapped_nor_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    text = "error: [bold]x[/bold] [/nonsense] " + "word " * 60 + "end"
    console.say(text)
    assert capsys.readouterr() == ("", text + "\n")


def test_a_plan_names_ties_and_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    known = Interval(Decimal("1.5"), Decimal(1), Decimal(20))
    forecast = Forecast(routed=None, all_strong=known, all_weak=None, input_tokens=TOKENS, output_tokens=TOKENS)
    console.show_plan(HALF, forecast, {"strong": "a-model", "weak": "b-model"}, rejected=0)
    err = capsys.readouterr().err
    assert "alpha 0.750000 from strong_share = 0.5, 1 of 3 queries at exactly alpha go strong" in err
    assert "expected cost: unknown: a model has no price, which is not $0; add [[prices]] to the config" in err
    assert "all strong: $1.500000 ($1.000000 to $20.00)" in err
    assert "1,234" in err
    assert "rejected" not in err


def test_a_plan_of_nothing_divides_by_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    empty = HALF.model_copy(update={"n": 0, "n_strong": 0, "n_tied": 0, "n_tied_strong": 0})
    forecast = Forecast(None, None, None, TOKENS, TOKENS)
    console.show_plan(empty, forecast, {"strong": "a", "weak": "b"}, rejected=3)
    assert "rows rejected: 3" in capsys.readouterr().err


def test_progress_in_a_log_is_lines_not_an_animation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PLAIN_S", 0.01)
    counters = {"strong": Progress(answered=3, failed=1, attempts=9, refusals=5), "weak": Progress()}
    err = ""
    with console.dispatch_bar(counters, {"strong": 10, "weak": 2}):
        for _ in range(500):
            err += capsys.readouterr().err
            if "\n" in err:
                break
            time.sleep(0.01)
    assert err.splitlines()[0] == "dispatch: strong 4/10 (failed 1, refused 5), weak 0/2 (failed 0, refused 0)"
    assert "\x1b" not in err


def test_a_part_bar_in_a_log_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with console.part_bar("score", 3) as on_part:
        on_part(None)
    assert capsys.readouterr() == ("", "")


FIT = (
    FitProgress(step=1, steps=4, loss=0.7),
    FitProgress(step=2, steps=4, loss=0.6, validation_loss=0.65, apgr=0.5678),
    FitProgress(step=3, steps=4, loss=0.5),
    FitProgress(step=4, steps=4, loss=0.4, validation_loss=0.61),
)


def test_a_fit_in_a_log_is_a_line_per_validation(capsys: pytest.CaptureFixture[str]) -> None:
    with console.fit_bar("a-router") as show:
        for report in FIT:
            show(report)
    assert capsys.readouterr() == (
        "",
        "step 2 of 4, a-router: loss 0.6000, held-out loss 0.6500, held-out APGR 0.568\n"
        "step 4 of 4, a-router: loss 0.4000, held-out loss 0.6100\n",
    )


def test_a_fit_on_a_terminal_is_a_bar_with_its_last_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "STDERR", Console(file=screen, force_terminal=True, width=120, color_system=None))
    with console.fit_bar("a-router") as show:
        for report in FIT[:3]:
            show(report)
    assert "a-router: loss 0.6000, held-out loss 0.6500, held-out APGR 0.568" in screen.getvalue()
    assert "3/4" in screen.getvalue()
    assert "step 2 of 4" not in screen.getvalue()


def test_the_summary_of_a_run_of_which_nothing_was_answered(capsys: pytest.CaptureFixture[str]) -> None:
    """Both models have prices; there is just no answer to price."""
    console.show_manifest(manifest(table().filter(status="failed")), "answers")
    err = capsys.readouterr().err
    assert "unpriced" not in err
    assert "all strong" not in err
    assert " 0 answered (0 truncated), 10 failed, " in err
    assert "timeout: 10" in err


def test_the_summary_counts_truncated_answers_as_the_page_does(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_manifest(manifest(table()), "answers")
    err = capsys.readouterr().err
    assert " 190 answered (7 truncated), 10 failed, " in err
    assert "all strong, modelled" in err
