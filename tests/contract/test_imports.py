"""Which module may import which, and that the nightly path starts without the training stack."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("jobs", "routing", "schemas")
HEAVY = {"torch", "transformers", "peft", "onnx", "onnxscript", "model2vec", "safetensors", "tenacity", "openai"}


def imported(folder: str) -> dict[str, set[str]]:
    """Top-level module -> the files of a folder that import it, anywhere in them."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                names = [node.module or ""]
            for name in names:
                found.setdefault(name.partition(".")[0], set()).add(str(path.relative_to(ROOT)))
    return found


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    report = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement],
        capture_output=True, text=True, check=True, timeout=120, cwd=ROOT,
    ).stderr  # fmt: skip
    names = re.findall(r"^import time:.*\|\s*(\S+)$", report, re.MULTILINE)
    assert {"jobs", "routing"} & set(names)
    return {name.partition(".")[0] for name in names}


def test_the_import_contracts_of_pyproject_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    report = subprocess.run([linter, "--no-cache"], capture_output=True, text=True, check=False, timeout=300, cwd=ROOT)
    assert report.returncode == 0, report.stdout + report.stderr
    n_contracts = len(PROJECT["tool"]["importlinter"]["contracts"])
    assert f"Contracts: {n_contracts} kept, 0 broken" in report.stdout


@pytest.mark.parametrize("module", ["jobs.run", "jobs.plan", "jobs.status", "jobs.cli"])
def test_the_nightly_path_starts_without_the_training_stack(module: str) -> None:
    assert not loaded_by(f"import {module}") & (HEAVY - {"tenacity", "openai"})


def test_scoring_needs_no_http_client() -> None:
    assert not loaded_by("import routing.score, routing.split, routing.account, routing.replies") & HEAVY


def test_a_domain_that_reads_no_environment_and_prints_nothing() -> None:
    """DESIGN section 1: no argument parsing, no config files, no printing, no environment in routing and schemas.

    `routing/__init__.py` sets one variable, and reads none: onnxruntime's telemetry is off for whoever imports it.
    """
    for folder in ("routing", "schemas"):
        found = imported(folder)
        for module in ("argparse", "typer", "rich", "tomllib", "os"):
            outside = {
                name
                for name in found.get(module, set()) - {"routing/__init__.py"}
                if "/sandbox/" not in name and "/training/" not in name
            }
            assert not outside, f"{module} is imported by {outside}"


EXTRA_OF = {"train": "routing/training/", "demo": "jobs/demo"}
"""Extra -> where the names of its importers begin."""


def test_every_import_is_declared() -> None:
    declared = {_normalized(line) for line in PROJECT["project"]["dependencies"]}
    extras = {
        extra: {_normalized(line) for line in lines}
        for extra, lines in PROJECT["project"]["optional-dependencies"].items()
    }
    assert extras.keys() == EXTRA_OF.keys()
    owners = packages_distributions()
    for folder in PACKAGES:
        for module, files in imported(folder).items():
            if module in sys.stdlib_module_names or module in PACKAGES:
                continue
            names = {_normalized(name) for name in owners.get(module, [module])}
            allowed = declared.union(
                *(extras[extra] for extra, place in EXTRA_OF.items() if all(place in name for name in files))
            )
            assert names & allowed, f"{module} is imported by {sorted(files)}, but pyproject declares none of {names}"


def _normalized(requirement: str) -> str:
    return re.split(r"[\s<>=!~\[;]", requirement)[0].lower().replace("_", "-")
