"""Pages that list the keys of a config: what they say, and what the models say."""

import re
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """Key -> the other cells of the table under a heading."""
    body = re.split(rf"\n###? {re.escape(heading)}\n", page)[1].split("\n##")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in re.findall(r"^\| `.*\|$", body, re.M)]
    return {key.strip("`"): rest for key, *rest in cells}


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
