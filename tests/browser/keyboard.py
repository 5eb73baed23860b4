"""A page without a mouse."""

from collections.abc import Callable
from typing import Any

from tests.browser.snippets import FOCUSED


def tabbed(page: Any, check: Callable[[str], None] = lambda _: None) -> list[str]:
    """Press Tab until nothing more has the focus, which must be seen everywhere; returns the tags it came by.

    Args:
        page: Nothing on it has the focus yet.
        check: Called with what has the focus, at every stop.
    """
    page.keyboard.press("Tab")
    seen = []
    while page.evaluate("document.activeElement !== document.body"):
        tag, text, outline = page.evaluate(FOCUSED)
        assert outline == "solid", (tag, text)
        check(f"{tag} {text}")
        seen.append(tag)
        page.keyboard.press("Tab")
    assert seen.count("SUMMARY") == page.locator("summary").count()
    assert seen.count("DIV") == page.locator("[tabindex='0']:visible").count()
    return seen
