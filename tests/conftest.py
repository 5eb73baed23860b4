import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from pydantic import BaseModel

# The same examples on every machine, so that a red run is a change and not luck; `make explore` looks for new ones.
settings.register_profile(
    "fast", max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", settings.get_profile("fast"), max_examples=400, derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

DATA = Path(os.environ.get("NIGHTROUTE_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def nightroute_data() -> Path:
    """The folder with benchmark and preference data; a test that reads it is skipped where it is not there."""
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is no folder; set NIGHTROUTE_DATA to the data folder")
    return DATA


@pytest.fixture(scope="module")
def document(report: BaseModel) -> Any:
    """What is in report.json of a module's `report`."""
    return json.loads(report.model_dump_json())


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """Started in the background by a shell, this process ignores Ctrl-C, and so would every child of a test."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches beyond this machine, not even by accident."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(method: Any) -> Any:
        def checked(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
                raise AssertionError(f"a test tried to reach {address}; only loopback is allowed")
            return method(self, address)

        return checked

    monkeypatch.setattr(socket.socket, "connect", guarded(connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
