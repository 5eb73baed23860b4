"""The templates' environment: everything is escaped, a name that is not given is an error, nothing is fetched."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True, slots=True)
class Script:
    """A script that stands in a page, and the source that the page's policy allows."""

    text: str
    source: str
    """`'sha256-...'`: this text and no other runs."""


def render(template: str, **values: object) -> str:
    """Return a template filled in; text is escaped in HTML, and `tojson` in script blocks.

    Raises:
        jinja2.UndefinedError: the template reads a name that was not given.
    """
    return _environment().get_template(template).render(values)


@cache
def script(*names: str) -> Script:
    """Return files of the templates' folder as one script; nothing is filled in."""
    environment = _environment()
    assert environment.loader is not None
    text = "'use strict'\n" + "".join(environment.loader.get_source(environment, name)[0] for name in names)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(text, f"'sha256-{digest}'")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("jobs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
