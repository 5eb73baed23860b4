"""Reading an HTML page in a test: elements with their text, with no help from the code that wrote it."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr"}
UNSEEN = {"script", "style", "title"}


@dataclass
class Element:
    """An element with what is in it, in order."""

    tag: str
    attributes: dict[str, str]
    content: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, as it stands."""
        return "".join(part if isinstance(part, str) else part.text for part in self.content)

    @property
    def words(self) -> str:
        """Text that a reader sees, white space joined."""
        return " ".join(self._seen().split())

    def all(self, tag: str = "", **attributes: str) -> "list[Element]":
        """Every element inside with a tag and attributes; `class_` finds one of several classes."""
        found = []
        for part in self.content:
            if isinstance(part, Element):
                wanted = {name: value for name, value in attributes.items() if name != "class_"}
                classes = part.attributes.get("class", "").split()
                if (
                    tag in ("", part.tag)
                    and all(part.attributes.get(name.replace("_", "-")) == value for name, value in wanted.items())
                    and attributes.get("class_", "") in ("", *classes)
                ):
                    found.append(part)
                found += part.all(tag, **attributes)
        return found

    def one(self, tag: str = "", **attributes: str) -> "Element":
        """The only such element."""
        found = self.all(tag, **attributes)
        assert len(found) == 1, f"{len(found)} elements <{tag}> {attributes}"
        return found[0]

    def _seen(self) -> str:
        if self.tag in UNSEEN:
            return ""
        space = "" if self.tag in ("span", "data", "a", "abbr", "strong") else " "
        return space + "".join(p if isinstance(p, str) else p._seen() for p in self.content) + space


def parsed(html: str) -> Element:
    """Parse a page; an element that is not closed in its place is a failure."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert len(reader.open) == 1, [element.tag for element in reader.open]
    return reader.open[0]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        assert len(element.attributes) == len(attrs), f"<{tag}> has an attribute twice: {attrs}"
        self.open[-1].content.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)
