"""Open every page of the built site in a browser, at the widths of a desktop and a phone.

python docs/check_site.py [--screenshots FOLDER]

Fails where a page writes an error to the console, cannot load something, is wider than the screen,
has an image that does not show, or too little contrast, where a link leads nowhere, and where the
search does not find what it should. Needs playwright (``pip install playwright``) and Chromium:
that of the system, or what ``playwright install chromium`` brings.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from check_links import SITE, broken_links, pages_of
from playwright.sync_api import Browser, sync_playwright

SCREENS = {"desktop": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
SEARCHES = {"EASE": "sklrec.linear.EASE", "annealing": "Training neural models"}

# What goes beyond the screen, unless it is made to be scrolled: code, tables, formulas.
OVERFLOW = """() => {
  const width = document.documentElement.clientWidth;
  const page = document.documentElement.scrollWidth;
  return [...document.querySelectorAll("article *")]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > width + 1
      && !e.parentElement.closest("pre, .pst-scrollable-table-container, div.math"))
    .slice(0, 3).map(e => `${e.tagName} ${e.className}: ${e.textContent.trim().slice(0, 40)}`)
    .concat(page > width ? [`page of ${page} px`] : []);
}"""
# Text and the first background below it that is not transparent, compared as WCAG 2 says.
CONTRAST = """() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const channel = v => v <= 10.3 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const solid = c => c.length < 4 || c[3] === 1;
  const ground = e => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor); if (solid(c)) return c; }
    return parse(getComputedStyle(document.documentElement).backgroundColor); };
  const poor = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})) continue;
    const c = parse(getComputedStyle(e).color), [a, b] = [light(c), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (solid(c) && ratio < 4.45) poor[`${e.tagName} ${e.className}`] ??=
      `${ratio.toFixed(1)} for ${e.tagName} ${e.className}: ${text.slice(0, 40)}`;
  }
  return Object.values(poor);
}"""
IMAGES = """() => [...document.images].filter(i => {
  i.loading = "eager"; return i.complete && !i.naturalWidth; }).map(i => i.src)"""


class QuietHandler(SimpleHTTPRequestHandler):
    """Serve files without a line for each of them."""

    def log_message(self, *args: object) -> None:
        """Write nothing."""


def problems(
    browser: Browser, url: str, screen: str, theme: str, folder: Path | None
) -> Iterator[str]:
    """Yield a line for whatever is wrong on any page at one width and in one theme."""
    context = browser.new_context(viewport=SCREENS[screen], color_scheme=theme)
    page = context.new_page()
    seen: list[str] = []
    page.on("console", lambda m: m.type == "error" and seen.append(f"console: {m.text}"))
    page.on("pageerror", lambda error: seen.append(f"script: {error}"))
    page.on("requestfailed", lambda request: seen.append(f"not loaded: {request.url}"))
    for path in pages_of(SITE):
        name = path.relative_to(SITE).with_suffix("").as_posix()
        page.goto(f"{url}/{name}.html", wait_until="load")
        if folder is not None:
            file = folder / f"{screen}-{theme}" / f"{name.replace('/', '-')}.png"
            page.screenshot(path=file, full_page=True)
        seen += [f"wider than the screen: {what}" for what in page.evaluate(OVERFLOW)]
        seen += [f"contrast of {what}" for what in page.evaluate(CONTRAST)]
        seen += [f"image does not show: {source}" for source in page.evaluate(IMAGES)]
        yield from (f"{name} ({screen}, {theme}): {what}" for what in seen)
        seen.clear()
    for query, title in SEARCHES.items():
        page.goto(f"{url}/search.html?q={query}")
        page.wait_for_selector("#search-results p.search-summary")
        if not page.locator("#search-results li a", has_text=title).count():
            yield f"search ({screen}, {theme}): {query!r} does not find {title!r}"
    context.close()


def main() -> int:
    """Print what is wrong; return 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--screenshots", type=Path, help="folder for a picture of each page")
    folder = parser.parse_args().screenshots
    found = list(broken_links())
    server = ThreadingHTTPServer(("localhost", 0), partial(QuietHandler, directory=SITE))
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://localhost:{server.server_port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox"],
        )
        for screen in SCREENS:
            for theme in ("light", "dark"):
                found += problems(browser, url, screen, theme, folder)
        browser.close()
    server.shutdown()
    print("\n".join(found) or f"{len(pages_of(SITE))} pages are as they should be")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
