from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.desk import Desk
from tests.e2e.harness import STRONG, WEAK, Server, serving

SLOW = "slow-1"
MODELS = f"""models = [
    {{ name = "{STRONG}", mean_output_tokens = 12 }},
    {{ name = "{WEAK}", mean_output_tokens = 8 }},
    {{ name = "{SLOW}", mean_output_tokens = 8, latency_s = 0.25 }},
]"""


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One sandbox with a journal for every test that only needs answers; other model names are answered too."""
    folder = tmp_path_factory.mktemp("sandbox")
    config = folder / "sandbox.toml"
    config.write_text(MODELS.replace("\n", ""), encoding="utf-8")
    with serving(folder, args=["--config", str(config)]) as server:
        yield server


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk whose models answer nowhere."""
    return Desk(tmp_path)


@pytest.fixture
def night(tmp_path: Path, sandbox: Server) -> Desk:
    """A desk whose models are played by the sandbox."""
    return Desk(tmp_path, sandbox.base_url)
