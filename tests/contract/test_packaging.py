"""The packages have plain names (docs/decisions/0001): nothing else in this environment may claim them."""

import importlib
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("jobs", "routing", "schemas")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_owns_our_packages(package: str) -> None:
    foreign = sorted(set(packages_distributions().get(package, [])) - {PROJECT["project"]["name"]})
    assert not foreign, (
        f"{foreign} also install a top-level package {package!r}, which overwrites or hides ours; "
        f"run: pip uninstall {' '.join(foreign)}"
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_the_packages_imported_are_those_of_this_checkout(package: str) -> None:
    assert Path(importlib.import_module(package).__file__ or "").parent == ROOT / package


def test_the_wheel_holds_our_packages_and_is_not_for_upload() -> None:
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(PACKAGES)
    assert "Private :: Do Not Upload" in PROJECT["project"]["classifiers"]


def test_every_package_folder_has_a_docstring() -> None:
    for package in PACKAGES:
        for init in (ROOT / package).rglob("__init__.py"):
            assert init.read_text().strip().startswith('"""'), init


def test_every_folder_with_modules_is_a_package() -> None:
    for package in PACKAGES:
        folders = {path.parent for path in (ROOT / package).rglob("*.py")}
        assert all((folder / "__init__.py").is_file() for folder in folders), folders


def test_the_console_script_exists() -> None:
    scripts = PROJECT["project"]["scripts"]
    assert set(scripts) == {"nightroute"}
    module, _, function = scripts["nightroute"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
