"""The documentation builds without a warning, and its pages need no network to be read."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
REMOTE = re.compile(r"(https?:)?//")
REMOTE_IN_CSS = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//")
LOADED_LINKS = {"stylesheet", "preload", "icon", "modulepreload"}


class Loads(HTMLParser):
    """What a browser fetches for a page, without a click."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "audio", "video"):
            self.addresses.append(values.get("src") or "")
        if tag == "link" and LOADED_LINKS & set((values.get("rel") or "").split()):
            self.addresses.append(values.get("href") or "")

    def remote(self) -> list[str]:
        return [address for address in self.addresses if REMOTE.match(address)]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built as `make docs` builds it."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("html")
    options = ["--fail-on-warning", "--keep-going", "--quiet", "-d", str(folder / ".doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(folder)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


def test_pages_load_nothing_from_a_network(html: Path) -> None:
    pages = {page: Loads(page.read_text(encoding="utf-8")) for page in html.rglob("*.html")}
    assert all(page.addresses for page in pages.values())
    assert {str(page): loads.remote() for page, loads in pages.items() if loads.remote()} == {}
    styles = {style: style.read_text(encoding="utf-8") for style in html.rglob("*.css")}
    assert styles
    assert [str(style) for style, text in styles.items() if REMOTE_IN_CSS.search(text)] == []


def test_a_formula_is_mathml(html: Path) -> None:
    page = (html / "index.html").read_text(encoding="utf-8")
    assert re.search(r'<math [^>]*display="block">.*<mfrac>', page)
    assert "\\frac" not in page


def test_a_prompt_is_not_copied(html: Path) -> None:
    script = (html / "_static" / "copybutton.js").read_text(encoding="utf-8")
    assert "formatCopyText(text, '$ ', false, true, true" in script


def test_what_a_page_loads_is_seen() -> None:
    loads = Loads(
        '<link rel="stylesheet" href="//a/b.css"><script src="https://c"><a href="http://d">'
    )
    assert loads.remote() == ["//a/b.css", "https://c"]
