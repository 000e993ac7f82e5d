"""A table as Markdown and as HTML."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass


@dataclass
class Table:
    """A table; cells may have ``**bold**``, `` `code` `` and ``*italic*``."""

    header: list[str]
    rows: list[list[str]]
    caption: str

    def markdown(self) -> str:
        """Return the table as Markdown, the caption below it."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join(["| " + " | ".join(line) + " |" for line in lines]) + (
            f"\n\n{self.caption}\n" if self.caption else "\n"
        )

    def html(self) -> str:
        """Return the table as HTML."""
        head = "".join(f"<th>{_inline(cell)}</th>" for cell in self.header)
        body = "".join(
            "<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>\n"
            for row in self.rows
        )
        caption = f"<caption>{_inline(self.caption)}</caption>\n" if self.caption else ""
        return (
            f"<table>\n{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>\n"
        )


def _inline(text: str) -> str:
    text = html.escape(text.replace("\\*", "&#42;"), quote=False).replace("&amp;#42;", "&#42;")
    for pattern, tag in [(r"\*\*(.+?)\*\*", "b"), (r"\*(.+?)\*", "i"), (r"`(.+?)`", "code")]:
        text = re.sub(pattern, rf"<{tag}>\1</{tag}>", text)
    return text
