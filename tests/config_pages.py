"""Pages that list the keys of a config: what they say, and what the models say."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from routing import errors


def table(page: str, heading: str) -> dict[str, list[str]]:
    """First cell -> the other cells of the table under a heading."""
    body = re.split(rf"\n###? {re.escape(heading)}\n", page)[1].split("\n##")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in re.findall(r"^\| `.*\|$", body, re.M)]
    return {key: rest for key, *rest in cells}


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """Key -> the other cells of the table under a heading."""
    return {key.strip("`"): rest for key, rest in table(page, heading).items()}


def documented(page: str, heading: str) -> dict[str, str]:
    """Key -> default, as the page writes it."""
    return {key: default.strip("`") for key, (_, default, *_) in rows(page, heading).items()}


def expected(model: type[BaseModel]) -> dict[str, str]:
    """Key -> default, as a page should write it."""
    return {name: default_of(field) for name, field in model.model_fields.items()}


def default_of(field: FieldInfo) -> str:
    """A field's default as TOML writes it."""
    return "needed" if field.is_required() else _written(field.get_default(call_default_factory=True))


def sections_of(model: type[BaseModel]) -> set[type[BaseModel]]:
    """Every model that a config of this type is made of, itself included."""
    found: set[type[BaseModel]] = set()
    left: list[Any] = [model]
    while left:
        kind = left.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind not in found:
                found.add(kind)
                left += [field.annotation for field in kind.model_fields.values()]
        else:
            left += get_args(kind)
    return found


def check_links(page: Path) -> None:
    """Every link of a page to a file or a heading leads there."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")) if link[:4] != "http"]
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / (name or page.name)
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


def check_messages(messages: Iterable[tuple[str, str]], source: str) -> None:
    """Every (exit code, part of a message) of a page is raised somewhere in the source with that code."""
    wrong = {}
    for code, fragment in messages:
        # pydantic turns a validator's ValueError into one of our ConfigErrors.
        raised = [
            re.findall(r"raise (\w+)\(", source[: found.start()])[-1].replace("ValueError", "ConfigError")
            for found in re.finditer(re.escape(fragment.replace("\\`", "`")), source)
        ]
        if int(code) not in {getattr(errors, name).exit_code for name in raised if hasattr(errors, name)}:
            wrong[fragment] = raised
    assert not wrong


def _written(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case BaseModel():
            return _written({key: getattr(value, key) for key in sorted(value.model_fields_set)})
        case dict():
            return "{ " + ", ".join(f"{key} = {_written(one)}" for key, one in value.items()) + " }" if value else "{}"
        case tuple() | list():
            return "[" + ", ".join(_written(one) for one in value) + "]"
        case _:
            return str(value)
