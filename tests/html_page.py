"""Reading the project's HTML pages."""

from __future__ import annotations

import base64
from html.parser import HTMLParser

NEVER_CLOSED = {"meta", "img"}


class Page(HTMLParser):
    """Reads a page: ids, addresses, text by section; fails where tags are not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.sections: dict[str, str] = {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        self.addresses += [given[name] or "" for name in ("src", "href") if name in given]
        if tag == "section":
            self.sections[given["id"] or ""] = ""
        if tag not in NEVER_CLOSED:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "section" in self.open:
            name = list(self.sections)[-1]
            self.sections[name] = f"{self.sections[name]} {data.strip()}"

    def images(self) -> list[bytes]:
        head = "data:image/png;base64,"
        return [
            base64.b64decode(one.removeprefix(head), validate=True)
            for one in self.addresses
            if one.startswith(head)
        ]
