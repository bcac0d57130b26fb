"""The text of a page's file."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from lorakit.pages import Page, Section, Table, number, render, write_page
from tests.pages.sample import HOSTILE, sample_page, score_figure

VOID = {"meta", "link"}


class Outline(HTMLParser):
    """The tags that are open, and the addresses that are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str | None] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        names = {"src", "srcset", "data", "poster"} | ({"href"} if tag != "a" else set())
        self.loaded += [value for name, value in attributes if name in names]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_the_same_each_time() -> None:
    assert render(sample_page()) == render(sample_page())


def test_tags_are_closed_and_nothing_is_loaded() -> None:
    outline = Outline()
    outline.feed(render(sample_page()))
    assert outline.open == []
    assert all(value and value.startswith(("data:", "#")) for value in outline.loaded)


def test_texts_are_escaped() -> None:
    text = render(sample_page())
    assert HOSTILE not in text
    assert text.count("<script") == 1
    assert "Three methods &amp; one task" in text
    assert "&lt;b&gt;letters&lt;/b&gt;" in text


def test_tables_and_figures_are_numbered_over_the_whole_page() -> None:
    text = render(sample_page())
    assert re.findall(r"<b>(Table|Figure) (\d+)\.</b>", text) == [
        ("Table", "1"),
        *(("Figure", str(at)) for at in range(1, 5)),
    ]


def test_figures_say_what_one_sees_in_them() -> None:
    figure = score_figure()
    assert f'<div class="panels" role="img" aria-label="{figure.alt}">' in render(sample_page())


def test_cells_have_their_marks_second_lines_and_details() -> None:
    text = render(sample_page())
    assert "<strong>90.2 ± 0.3</strong>" in text
    assert "<small>published 88.1</small>" in text
    assert "9.5<sup>†</sup>" in text
    assert "<dt>†</dt><dd>noise could explain it</dd>" in text
    assert "<details><summary>whole message</summary><pre>Traceback\n" in text


def test_columns_of_numbers_stand_to_the_right_and_neighbours_share_a_head() -> None:
    text = render(sample_page())
    assert '<th colspan="2" scope="colgroup">MRPC</th>' in text
    assert '<th scope="col" class="number">trainable</th>' in text
    assert '<th scope="col">remark</th>' in text
    assert '<td class="number" data-value="90.2">' in text


def test_page_without_figures_needs_no_matplotlib() -> None:
    table = Table("Scores", ["method", "score"], [["lora", number(0.9)]])
    assert "0.900" in render(Page("Small", "Lead", [Section("Scores", [table])]))


def test_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_page(sample_page(), path)
    assert path.read_bytes() == render(sample_page()).encode()
    assert list(tmp_path.iterdir()) == [path]


def test_letters_that_no_file_can_hold_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_page(Page("A \udcff path", "Lead", []), path)
    assert "<h1>A ? path</h1>" in path.read_text("utf-8")
