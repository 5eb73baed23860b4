"""The templates' environment: everything is escaped, a name that is not given is an error, nothing is fetched."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: object) -> str:
    """Return a template filled in; text is escaped in HTML, and `tojson` in script blocks.

    Raises:
        jinja2.UndefinedError: the template reads a name that was not given.
    """
    return _environment().get_template(template).render(values)


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
