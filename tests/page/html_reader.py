"""HTML as its readers see it: the tables in it, and the text of everything."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import NamedTuple

EMPTY = {"br"}  # elements without an end


class Element(NamedTuple):
    """One element, with its attributes and all the text in it."""

    tag: str
    attributes: dict[str, str | None]
    parts: list[str]

    @property
    def text(self) -> str:
        return "".join(self.parts)


class Reader(HTMLParser):
    """Collects the elements of a text, in the order in which they begin. An error if one does not end in its place."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        self.close()
        assert not self._open, f"{[one.tag for one in self._open]} do not end"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs), []))
        if tag not in EMPTY:
            self._open.append(self.elements[-1])

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag, f"</{tag}> ends another element"

    def handle_data(self, data: str) -> None:
        for one in self._open:
            one.parts.append(data)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """The elements of a kind that have these attributes; `class_` is for `class`."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [one for one in self.elements if one.tag == tag and wanted.items() <= one.attributes.items()]
