"""Config files: TOML into frozen pydantic models. Unknown keys are errors that name the nearest known key.

Paths are relative to the config file, so that cron's working directory does not matter. Secrets are never in a config:
keys and secret headers are named by environment variable and read at use.
"""

import datetime as dt
import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from routing.errors import ConfigError, UsageError

DATE = "{date}"

S = TypeVar("S", bound=BaseModel)


class Section(BaseModel):
    """A table of the config file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def load_config(model: type[S], path: Path, *, overrides: Sequence[str], date: str | None) -> S:
    """Read a config of any kind; arguments and errors are those of `load_job`."""
    if date is not None:
        _check_date(date)
    data = read_toml(path)
    for override in overrides:
        apply_override(data, override)
    return parse(model, data, source=str(path))


def _check_date(date: str) -> None:
    """A misspelt date must not look like a night without rows, nor leave the folders that it is part of."""
    try:
        dt.date.fromisoformat(date)
    except ValueError as error:
        raise UsageError(f"--date wants a calendar date such as 2026-11-20, got {date!r}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: it cannot be read or is no TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"config {path} cannot be read: {error.strerror}; give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path} is no valid TOML: {error}") from error


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one `section.key=value` in place.

    Raises:
        UsageError: it has no `=`, or walks through something that is no table.
    """
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise UsageError(f"--set wants section.key=value, got {override!r}")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word: a path, a model name
    *sections, name = key.strip().split(".")
    table = data
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set {override!r}: {section!r} is no table of the config")
    table[name] = value


def parse(model: type[S], data: Mapping[str, Any], *, source: str) -> S:
    """Validate, and turn every complaint into one line that names the path of the key.

    Raises:
        ConfigError: with all complaints.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_complaint(model, dict(item)) for item in error.errors(include_url=False)]
        raise ConfigError(f"config {source}:\n  " + "\n  ".join(lines)) from error


def _complaint(model: type[BaseModel], item: Mapping[str, Any]) -> str:
    place = ".".join(str(step) for step in item["loc"]) or "(top level)"
    if item["type"] == "extra_forbidden":
        known = _known_keys(model, item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys are {sorted(known)}"
        return f"{place}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{place}: missing; add it"
    message = str(item["msg"]).removeprefix("Value error, ")
    got = f", got {item['input']!r}" if isinstance(item["input"], (str, int, float, bool)) else ""
    return f"{place}: {message}{'' if got and got.removeprefix(', got ') in message else got}"


def _known_keys(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    for step in place:
        if isinstance(step, int):  # a place in a list of tables, whose model the step before has found
            continue
        field = model.model_fields.get(step)
        inner = _section(field.annotation) if field is not None else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _section(annotation: Any) -> type[BaseModel] | None:
    """Find the model in `Model`, `Model | None`, `tuple[Model, ...]` or `list[Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section(part)) is not None), None)


def dated_path(text: str, base: Path, date: str | None) -> Path:
    """Resolve a path of a config: relative to its folder, `{date}` filled in.

    Raises:
        UsageError: it holds `{date}`, and there is none.
    """
    if DATE in text:
        if date is None:
            raise UsageError(f"path {text!r} holds {DATE}, but no --date was given; add --date YYYY-MM-DD")
        text = text.replace(DATE, date)
    return Path(os.path.normpath(base / Path(text).expanduser()))


def secret(variable: str, *, needed_by: str, environment: Mapping[str, str] = os.environ) -> str:
    """Read a secret at use.

    Raises:
        ConfigError: the variable is not set or empty.
    """
    value = environment.get(variable, "")
    if not value:
        raise ConfigError(
            f"{needed_by} needs the environment variable {variable}, which is not set; export it and run again"
        )
    return value
