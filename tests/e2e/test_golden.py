"""What people read, letter by letter: help texts, plan, summary, status, manifest."""

import os
import re
from pathlib import Path

import polars as pl
import pytest

from jobs import console
from jobs.cli import app, invoke
from tests.e2e.desk import Desk, questions
from tests.e2e.harness import STRONG, WEAK
from tests.fakes import save_adding_router

GOLDEN = Path(__file__).parents[1] / "golden"


def golden(name: str, text: str) -> None:
    """Compare with a file of tests/golden; NIGHTROUTE_GOLDEN=write writes it instead."""
    path = GOLDEN / name
    if os.environ.get("NIGHTROUTE_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def without_trailing_space(text: str) -> str:
    """Tables are padded to the width of the terminal."""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def masked(text: str, night: Desk) -> str:
    """Take out of a text what differs from run to run."""
    text = without_trailing_space(text).replace(str(night.folder), "FOLDER").replace(night.base_url, "URL")
    text = re.sub(r"\b[0-9a-f]{64}\b", "SHA256", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)", "TIME", text)
    text = re.sub(r'("(?:open|score|split|dispatch|publish)": )[\d.]+', r"\1SECONDS", text)
    text = re.sub(
        r'("(?:polars|pyarrow|onnxruntime|tokenizers|openai|genai-prices|nightroute_version)": )".*?"',
        r'\1"VERSION"',
        text,
    )
    return re.sub(r'(run |"run_id": ")[0-9a-f]{12}', r"\1RUN_ID", text)


COMMANDS = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_texts(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    assert invoke([*command.split(), "--help"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    golden(f"help-{command}.txt" if command else "help.txt", without_trailing_space(told.out))


def test_what_a_night_says(night: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.STDERR, "_width", 100)
    night.put(questions(12).with_columns(text=pl.when(pl.col("id") == "q3").then(pl.lit(" ")).otherwise("text")))
    save_adding_router(night.folder / "router")  # the win rate of question i is i / 1000
    rates = {STRONG: ("2", "8"), WEAK: ("0.1", "0.4")}
    prices = [
        {"model": model, "input_usd_per_mtok": rate[0], "output_usd_per_mtok": rate[1]} for model, rate in rates.items()
    ]
    night.write_config(router__artifact="router", prices=prices)
    for command, name in (("plan", "plan.txt"), ("run", "summary.txt")):
        golden(name, masked(night.run(command=command).stderr, night))
    golden("status.txt", masked(night.of_run("status").stderr, night))
    golden("manifest.json", masked((night.output / "_manifest.json").read_text(encoding="utf-8"), night))
