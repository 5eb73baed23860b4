"""Nothing reports home: onnxruntime does by default."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCORE = """
from pathlib import Path
from routing.artifact import load, locate
from routing.routers import OnnxRouter
OnnxRouter(load(locate("builtin:static-mf", relative_to=Path(".")))).win_rates(["a prompt"])
"""


def left_in_home(script: str, home: Path) -> list[str]:
    """The names that `script` leaves in its home folder; it sees none of this process's environment but the path.

    onnxruntime reports nothing where a variable of a CI service is set, whichever the service, and the database goes
    elsewhere with `XDG_CACHE_HOME`: either would hide what the test looks for.
    """
    home.mkdir()
    environment = {"HOME": str(home), "PATH": os.environ.get("PATH", os.defpath)}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, env=environment, timeout=120)
    return [path.name for path in home.iterdir()]


def test_scoring_leaves_no_telemetry_in_the_home_folder(tmp_path: Path) -> None:
    assert left_in_home(f"import routing\n{SCORE}", tmp_path / "ours") == []
    # Loaded before `routing`, onnxruntime writes its database: without that, the line above proves nothing.
    if not left_in_home(f"import onnxruntime\n{SCORE}", tmp_path / "theirs"):
        pytest.skip("onnxruntime left no telemetry here even when it may, so that none was seen says nothing")
