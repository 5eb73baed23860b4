import json
import shutil
from pathlib import Path

import pytest

from jobs.cli import invoke
from routing.artifact import BUILTIN, load


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
