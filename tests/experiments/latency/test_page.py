"""The page of a study of latency, as values and in a browser."""

from __future__ import annotations

from pathlib import Path

from lorakit.experiments.latency import Latency, LatencyTable, Spread
from lorakit.experiments.latency.page import latency_page
from lorakit.pages import Figure, Table, write_page
from tests.browser.assertions import assert_good_page
from tests.browser.chromium import Browser

SLOWDOWNS = {"base": 1.0, "base again": 0.99, "LoRA, unmerged": 1.25}


def table() -> LatencyTable:
    cells = tuple(
        Latency(name, batch, length, Spread(20, 19, 21), Spread(ratio + batch / 100, 1, 2), 5)
        for batch in (1, 4)
        for length in (64, 128)
        for name, ratio in SLOWDOWNS.items()
    )
    parameters = dict.fromkeys(SLOWDOWNS, 0)
    return LatencyTable("m", "BertModel", 10, "cpu", "fp32", 2, parameters, cells)


def test_each_candidate_but_the_base_has_a_map_over_one_scale():
    page = latency_page(table(), ())
    (figure,) = page.sections[0].parts
    assert isinstance(figure, Figure)
    assert len(figure.panels) == 2
    assert "LoRA, unmerged from 26.0 to 29.0 per cent" in figure.alt


def test_the_table_has_every_cell_with_its_numbers():
    (times,) = latency_page(table(), ()).sections[1].parts
    assert isinstance(times, Table)
    assert len(times.rows) == 2 * 2 * 3
    last = [cell if isinstance(cell, str) else cell.text for cell in times.rows[-1]]
    assert last == ["LoRA, unmerged", "4", "128", "0", "20", "19", "21", "1.29", "1", "2", "5"]


def test_the_page_is_good_in_a_browser(tab: Browser, tmp_path: Path):
    write_page(latency_page(table(), (("Command", "lorakit latency m"),)), tmp_path / "page.html")
    assert_good_page(tab, tmp_path / "page.html")
