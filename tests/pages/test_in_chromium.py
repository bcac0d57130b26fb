"""A page opened in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorakit.pages import Page, write_page
from tests.browser.assertions import assert_good_page
from tests.browser.chromium import Browser
from tests.pages.sample import HOSTILE, METHODS, sample_page

ROWS = """
[...document.querySelectorAll("tbody tr")].map(
  (row) => [...row.cells].slice(0, 3).map((cell) => cell.firstChild.textContent))
"""
NAMES = "[...document.querySelectorAll('tbody th')].map((head) => head.textContent)"
KEYS = """
[...document.querySelectorAll(".keys")].map(
  (keys) => [...keys.children].map((key) => key.textContent.trim()))
"""
COLOURS = """
[getComputedStyle(document.body).backgroundColor,
 getComputedStyle(document.querySelector("figure svg text")).fill]
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    write_page(sample_page(), path)
    return path


def test_page_is_good_wide_and_narrow_light_and_dark(tab: Browser, page: Path) -> None:
    assert_good_page(tab, page)


def test_page_has_every_row_and_figure(tab: Browser, page: Path) -> None:
    tab.open(page)
    assert tab.value(ROWS) == [
        ["full", "1", "87.6 ± 0.4"],
        ["lora", "10", "90.2 ± 0.3"],
        [HOSTILE, "100", "9.5"],
    ]
    assert tab.value("document.querySelectorAll('figure svg').length") == 6
    shown = tab.value("document.querySelector('figure svg').textContent")
    assert "MRPC" in shown
    assert "accuracy" in shown


def test_hostile_name_is_text_and_runs_nothing(tab: Browser, page: Path) -> None:
    tab.open(page)
    assert tab.value("document.title") == "Three methods & one task"
    assert tab.value("document.querySelectorAll('img').length") == 0
    assert tab.value("document.querySelectorAll('script').length") == 1


def test_click_on_a_head_sorts_by_value_and_then_the_other_way(tab: Browser, page: Path) -> None:
    tab.open(page)
    head = "document.querySelectorAll('.heads th')[2]"
    tab.value(f"{head}.querySelector('button').click()")
    assert tab.value(NAMES) == [HOSTILE, "full", "lora"]
    assert tab.value(f"{head}.ariaSort") == "ascending"
    tab.value(f"{head}.querySelector('button').click()")
    assert tab.value(NAMES) == ["lora", "full", HOSTILE]
    assert tab.value(f"{head}.ariaSort") == "descending"


def test_dark_scheme_changes_paper_and_ink_but_not_in_print(tab: Browser, page: Path) -> None:
    tab.open(page, dark=False)
    light = tab.value(COLOURS)
    tab.open(page, dark=True)
    assert all(one != other for one, other in zip(tab.value(COLOURS), light, strict=True))
    tab.open(page, dark=True, media="print")
    assert tab.value(COLOURS) == light


def test_a_page_that_asks_for_something_is_seen(tab: Browser, page: Path) -> None:
    text = page.read_text("utf-8")
    page.write_text(text.replace("<main>", "<main><img src='https://example.org/a.png'>"), "utf-8")
    with pytest.raises(AssertionError, match="Content Security Policy"):
        assert_good_page(tab, page)


def test_a_page_that_is_too_wide_is_seen(tab: Browser, tmp_path: Path) -> None:
    path = tmp_path / "wide.html"
    write_page(Page("Wide", "Lead", []), path)
    text = path.read_text("utf-8")
    path.write_text(text.replace("</main>", "<div style='width: 900px'>x</div></main>"), "utf-8")
    with pytest.raises(AssertionError, match=r"400 px.*tooWide"):
        assert_good_page(tab, path)


def test_ink_that_is_hard_to_read_is_seen(tab: Browser, tmp_path: Path) -> None:
    path = tmp_path / "grey.html"
    write_page(Page("Grey", "Lead", []), path)
    text = path.read_text("utf-8")
    path.write_text(text.replace("</main>", "<p style='color: #bbb'>x</p></main>"), "utf-8")
    with pytest.raises(AssertionError, match="hardToRead"):
        assert_good_page(tab, path)


def test_every_method_has_a_mark_of_its_own(tab: Browser, page: Path) -> None:
    tab.open(page)
    keys = tab.value(KEYS)
    assert keys[0] == ["● ours", "□ published"]
    assert [key[2:] for key in keys[1]] == list(METHODS)
