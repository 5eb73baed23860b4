"""What a slider has to show at a point, worked out from the report alone."""

from typing import Any

from jobs.report.numbers import Unit, written
from tests.browser.snippets import AGAINST_JSON
from tests.report_pages import at

MOVED = """() => [...document.querySelectorAll('[data-at]')].map(cell => (
  {text: cell.textContent, value: cell.value, json: cell.dataset.json || '', none: cell.classList.contains('none'),
    at: cell.dataset.at, unit: cell.dataset.unit, how: cell.dataset.how || '', of: cell.dataset.of || '',
    absent: cell.dataset.none || '\\u2013', shown: cell.dataset.shown || ''}))"""

PLACED = """() => [...document.querySelectorAll('[data-places]')].map(mark =>
  [mark.getAttribute('transform'), mark.dataset.places.split(';')])"""


def expected(cell: dict[str, str], index: int, document: Any) -> tuple[float | None, str]:
    """Value and text of a moving number, worked out from the report alone."""
    found = at(document, cell["at"].replace("*", str(index)))
    value = None if found is None else float(found)
    if cell["how"] and value is not None:
        whole = float(at(document, cell["of"]))
        value = whole - value if cell["how"] == "less" else None if whole == 0 else 1 - value / whole
    if cell["shown"] == "word":
        return None, "more" if value is not None and value < 0 else "less"
    unit: Unit = cell["unit"]  # type: ignore[assignment]
    if cell["shown"] and value is not None:
        return value, written(abs(value), unit)
    return value, cell["absent"] if value is None else written(value, unit)


def check_point(page: Any, index: int, document: Any) -> int:
    """Every number and mark stands at a point; returns how many numbers."""
    cells = page.evaluate(MOVED)
    assert {cell["shown"] for cell in cells} == {"", "size", "word"}
    for cell in cells:
        value, text = expected(cell, index, document)
        assert cell["text"] == text, cell
        if cell["shown"] == "word":
            continue
        assert (None if cell["value"] == "" else float(cell["value"])) == value, cell
        assert cell["none"] == (value is None), cell
        assert cell["json"] == ("" if cell["how"] else cell["at"].replace("*", str(index)))
    for transform, places in page.evaluate(PLACED):
        assert len(places) > 1
        assert transform == f"translate({places[index]})"
    assert page.evaluate(AGAINST_JSON)[1] == []
    return len(cells)
