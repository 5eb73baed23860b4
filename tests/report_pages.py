"""Holding a page against the report that it was made from, with no help from the code that wrote it."""

import base64
import hashlib
import itertools
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.pages import Element

SUFFIXES = {"k": 3, "M": 6, "B": 9}
DASH = "\N{EN DASH}"


def at(document: Any, pointer: str) -> Any:
    """RFC 6901."""
    for step in pointer.removeprefix("/").split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def leaves(document: Any, pointer: str = "") -> Iterator[str]:
    """Pointers of every number of a JSON document; money is text there."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from leaves(value, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(document, list):
        for k, value in enumerate(document):
            yield from leaves(value, f"{pointer}/{k}")
    elif is_number(document):
        yield pointer


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number, or money."""
    if isinstance(value, str):
        return bool(re.fullmatch(r"-?\d+(\.\d+)?(E[-+]?\d+)?", value)) and len(value) < 40
    return isinstance(value, int | float) and not isinstance(value, bool)


def read(text: str) -> tuple[Decimal, Decimal]:
    """A number as a page writes it, and how far it may be from what it stands for."""
    text = text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-").replace(",", "")
    scale = Decimal(1)
    if text.endswith(" %"):
        text, scale = text.removesuffix(" %"), Decimal("0.01")
    if found := re.fullmatch(r"(.*) ([kMB])", text):
        text, scale = found[1], Decimal(10) ** SUFFIXES[found[2]]
    around = re.fullmatch(r"[<>] (.*)", text)
    text = (around[1] if around else text).replace("$", "").replace("+", "")
    places = len(text.partition(".")[2])
    half = Decimal("0.50001") * Decimal(10) ** -places
    return (Decimal(0), half * 2 * scale) if around else (Decimal(text) * scale, half * scale)


def check_numbers(document: Any, page: Element) -> set[str]:
    """Compare every number of the page that has a place in the JSON; returns the places."""
    shown = [element for element in page.all("data") if "data-json" in element.attributes]
    for element in shown:
        place, text, raw = element.attributes["data-json"], element.text, element.attributes["value"]
        value = at(document, place)
        if value is None:
            assert raw == "", place
            assert text in (DASH, element.attributes.get("data-none")), place
            continue
        assert Decimal(raw) == Decimal(str(value)), (place, raw, value)
        if text == "unpriced":
            assert Decimal(raw) == 0, place
            continue
        written, tolerance = read(text)
        exact = abs(Decimal(raw)) if element.attributes.get("data-shown") == "size" else Decimal(raw)
        assert abs(written - exact) <= tolerance, (place, text, raw)
    return {element.attributes["data-json"] for element in shown}


def section(page: Element, name: str) -> Element:
    """The section of a page with this heading's id."""
    return page.one("section", aria_labelledby=name)


def table(page: Element, caption: str) -> Element:
    """The one table whose caption has these words."""
    (found,) = [t for t in page.all("table") if caption in t.one("caption").words]
    return found


def cells(row: Element) -> list[str]:
    """What stands in a row, its head first."""
    return [cell.words for cell in row.all("th") + row.all("td")]


def check_inert(html: str, page: Element, *, script: bool) -> None:
    """One script at most, allowed by its digest; nothing is fetched, nothing leads out."""
    scripts = page.all("script")
    assert [element.attributes for element in scripts] == [
        {"type": "application/json", "id": "report"},
        *([{}] if script else []),
    ]
    policy = next(m for m in page.all("meta") if m.attributes.get("http-equiv") == "Content-Security-Policy")
    parts = [part.strip() for part in policy.attributes["content"].split(";")]
    wanted = ["default-src 'none'", "style-src 'unsafe-inline'", "base-uri 'none'", "form-action 'none'"]
    if script:
        digest = base64.b64encode(hashlib.sha256(scripts[1].text.encode()).digest()).decode()
        wanted.insert(2, f"script-src 'sha256-{digest}'")
    assert parts == wanted
    assert html.count("<script") == html.count("</script") == len(scripts)
    assert html.count("<style") == html.count("</style") == 1
    assert "<!--" not in html
    for element in page.all():
        assert element.tag not in ("link", "img", "iframe", "object", "embed", "form", "base"), element.tag
        assert not {"src", "srcset", "action", "xlink:href"} & set(element.attributes), element.attributes
        assert not [name for name in element.attributes if name.startswith("on")], element.attributes
    assert all(link.attributes["href"].startswith("#") for link in page.all("a"))
    assert "url(" not in page.one("style").text
    assert "@import" not in page.one("style").text


def check_readable(page: Element) -> None:
    """What a reader who does not see the page needs."""
    assert page.one("html").attributes["lang"] == "en"
    assert page.one("body").all()[0].attributes == {"class": "skip", "href": "#content"}
    assert len(page.all("h1")) == 1
    levels = [int(element.tag[1]) for element in page.all() if re.fullmatch("h[1-6]", element.tag)]
    assert all(deeper <= level + 1 for level, deeper in itertools.pairwise(levels))
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    assert {link.attributes["href"][1:] for link in page.all("a")} <= set(ids)
    for table in page.all("table"):
        assert table.one("caption").words
        assert all(head.attributes["scope"] in ("col", "row", "colgroup") for head in table.all("th"))
        widths = {
            sum(int(cell.attributes.get("colspan", 1)) for cell in row.all("th") + row.all("td"))
            for row in table.all("tr")
        }
        assert len(widths) == 1, table.one("caption").words
    for chart in page.all("svg", class_="chart"):
        assert chart.attributes["role"] == "img"
        assert chart.attributes["aria-label"]
    for sample in page.all("svg", class_="sample"):
        assert sample.attributes["aria-hidden"] == "true"
    for plate in page.all("figure"):
        assert plate.one("figcaption").words
        assert plate.all("svg", class_="chart")
    for region in page.all(tabindex="0"):
        assert region.attributes["role"] == "region"
        assert region.attributes["aria-label"]
    for slider in page.all("input"):
        assert page.one("label", **{"for": slider.attributes["id"]}).words
        assert slider.attributes["aria-valuetext"]
        assert slider.attributes["aria-describedby"] in ids


def told(page: Element) -> str:
    """The page in words, for a golden file."""
    tags = ("h1", "h2", "h3", "p", "li", "dt", "dd", "tr", "caption", "text", "summary", "button", "label")
    words = [element.words for element in page.one("body").all() if element.tag in tags]
    return "\n".join(line for line in words if line) + "\n"
