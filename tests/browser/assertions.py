"""What holds of every page in a browser."""

from __future__ import annotations

from pathlib import Path

from tests.browser.chromium import Browser

_CHECKS = Path(__file__).with_name("checks.js").read_text("utf-8")

_HEAD = """
document.documentElement.lang === "en" && document.title
  && document.querySelectorAll("h1").length === 1 ? "" : "no language, no title, or not one h1"
"""


def assert_good_page(tab: Browser, page: Path) -> None:
    """Wide and narrow, light and dark: it is whole, can be read, and asks for nothing else."""
    for width, dark in ((1200, False), (1200, True), (400, False), (400, True)):
        tab.open(page, width, dark)
        wrong = [tab.value(_CHECKS), tab.complaints(), tab.value(_HEAD)]
        assert not any(wrong), f"{page.name}, {width} px, {'dark' if dark else 'light'}: {wrong}"
        assert tab.requests() == [page.as_uri()]
