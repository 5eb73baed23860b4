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


@pytest.mark.parametrize(("first", "left"), [("import routing\n", []), ("import onnxruntime\n", [".cache"])])
def test_scoring_leaves_no_telemetry_in_the_home_folder(first: str, left: list[str], tmp_path: Path) -> None:
    """The second case proves that the test would see it: loaded before `routing`, onnxruntime writes its database."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    subprocess.run(
        [sys.executable, "-c", first + SCORE],
        check=True,
        cwd=ROOT,
        env=environment | {"HOME": str(tmp_path)},
        timeout=120,
    )
    assert [path.name for path in tmp_path.iterdir()] == left
