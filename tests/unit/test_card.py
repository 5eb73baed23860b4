import json
import shutil
from pathlib import Path

import pytest

from jobs.cli import invoke
from routing.artifact import BUILTIN, load
from schemas.artifact import RouterCard, WinRateCalibration
from tests.fakes import save_adding_router, write_card


def test_the_card_of_the_shipped_router_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["inspect", "builtin:static-mf"]) == 0
    out, err = capsys.readouterr()
    card = load(BUILTIN / "static-mf").card
    assert json.loads(out.splitlines()[-1])["card"]["files"] == card.files
    words = " ".join(err.split())
    for limit in card.limits:
        assert limit in words
    for metric in card.metrics:
        assert f"{metric.low:.3f} to {metric.high:.3f}" in words


def test_a_changed_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "router"
    shutil.copytree(BUILTIN / "static-mf", folder)
    with (folder / "model.onnx").open("ab") as graph:
        graph.write(b"\0")
    assert invoke(["inspect", str(folder)]) == 78
    assert "it was changed or damaged" in capsys.readouterr().err


def test_a_calibrated_router_says_on_how_many_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_adding_router(tmp_path)
    found = WinRateCalibration(
        method="platt", labels_sha256="0" * 64, n=1_234, ece_before=0.0812, ece_after=0.0194, log_loss_before=0.7,
        log_loss_after=0.6, parity_max_error=0.0, base_sha256="1" * 64,
    )  # fmt: skip
    write_card(tmp_path, calibration=found)
    assert invoke(["inspect", str(tmp_path)]) == 0
    words = " ".join(capsys.readouterr().err.split())
    assert "calibrated (platt) on 1,234 labels: ECE 0.081 before, 0.019 after (cross-fitted)" in words


def test_a_card_without_a_calibration_is_written_as_before_there_were_any() -> None:
    text = (BUILTIN / "static-mf" / "router.json").read_text("utf-8")
    assert RouterCard.model_validate_json(text).model_dump_json(indent=2) + "\n" == text
