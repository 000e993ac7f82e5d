"""Find links within the built site that lead nowhere; needs nothing but Python.

python docs/check_links.py [FOLDER]

Links to other sites are not followed: ``python -m sphinx -b linkcheck docs docs/_build/linkcheck``
does that, where there is a network.
"""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

SITE = Path(__file__).parent / "_build" / "html"
ADDRESSES = {"a": "href", "link": "href", "img": "src", "script": "src", "iframe": "src"}


class Page(HTMLParser):
    """What a page links to, and the anchors that others can link to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the address and the anchors of one element."""
        found = dict(attrs)
        self.anchors.update(value for key in ("id", "name") if (value := found.get(key)))
        if link := found.get(ADDRESSES.get(tag, "")):
            self.links.append(link)


def pages_of(site: Path) -> list[Path]:
    """List the pages; what lies in ``_static`` are templates of the theme."""
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]


def broken_links(site: Path = SITE) -> Iterator[str]:
    """Yield a line for each link to a file or an anchor that the site does not have."""
    site = site.resolve()
    pages = {path: Page(path) for path in pages_of(site)}
    if not pages:
        yield f"{site} has no pages: build them with `make docs`"
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            target = target / "index.html" if target.is_dir() else target
            source = path.relative_to(site)
            if not target.is_file():
                yield f"{source}: no file for {link}"
            elif target in pages and unquote(address.fragment) not in pages[target].anchors:
                yield f"{source}: no anchor for {link}"


if __name__ == "__main__":
    sys.exit("\n".join(broken_links(*map(Path, sys.argv[1:2]))) or 0)
