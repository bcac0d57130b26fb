"""The page of an analysis: what stands in it, and in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorakit.analysis import analysis_page, analyze
from lorakit.analysis.overview import Analysis
from lorakit.pages import render, write_page
from lorakit.pages.content import Figure, Page, Table
from lorakit.variants import EmbeddingSite, LinearSite
from tests.analysis.adapters import SITES, random_adapter, random_weight
from tests.analysis.test_overview import layers
from tests.browser.assertions import assert_good_page
from tests.browser.chromium import Browser
from tests.pages.figures.shapes import texts


def whole_analysis() -> Analysis:
    weights = {name: random_weight(LinearSite(6, 5), n) for n, name in enumerate(layers(3))}
    return analyze(layers(3), weights, {"runs/r3": layers(3, 3, 1)})


@pytest.fixture(scope="module")
def page() -> Page:
    return analysis_page(whole_analysis(), "runs/<r2>", [("Command", "lorakit analyze runs/r2")])


def titles(page: Page) -> list[str]:
    return [section.title for section in page.sections]


def figures(page: Page, section: int) -> list[Figure]:
    return [part for part in page.sections[section].parts if isinstance(part, Figure)]


def test_page_has_a_section_for_each_question(page: Page) -> None:
    assert titles(page) == [
        "Updates",
        "Which rank would have done",
        "Each update",
        "The base in the directions of its update",
        "Beside runs/r3",
    ]
    assert page.title == "Analysis of runs/<r2>"
    assert page.lead.startswith("6 modules, of rank 2 at most.")
    assert "lorakit analyze runs/r2" in render(page)


def test_maps_of_phi_stand_beside_those_of_chance(page: Page) -> None:
    maps = figures(page, 4)
    assert [figure.caption.partition(":")[0] for figure in maps] == [
        f"Directions of {of}" for of in ("A", "B", "dW, input", "dW, output")
    ]
    assert all(len(figure.panels) == 3 for figure in maps)  # q, v, random
    assert "random, D = 6" in maps[0].panels[-1].svg
    assert "random, D = 5" in maps[1].panels[-1].svg


def test_numbers_of_tables_can_be_sorted(page: Page) -> None:
    table = page.sections[3].parts[-1]
    assert isinstance(table, Table)
    assert all(isinstance(cell, str) or cell.value is not None for cell in table.rows[0][1:])


def test_errors_of_many_ranks_are_drawn_at_the_powers_of_two() -> None:
    adapters = {"q": random_adapter(LinearSite(30, 30), 20)}
    (panel,) = figures(analysis_page(analyze(adapters), "x"), 0)[0].panels
    assert [text for text in texts(panel) if text.isdigit()] == ["1", "2", "4", "8", "16", "20"]


def test_page_without_base_and_others_is_about_the_updates_alone() -> None:
    page = analysis_page(analyze({"e": random_adapter(EmbeddingSite(9, 4))}), "x")
    assert len(page.sections) == 3
    assert "e" in render(page)


def test_page_of_two_stacks_keeps_their_kinds_apart() -> None:
    adapters = {
        f"{stack}.{n}.q": random_adapter(SITES["linear"])
        for stack in ("encoder", "decoder")
        for n in range(2)
    }
    (panel,) = figures(analysis_page(analyze(adapters), "x"), 0)[1].panels
    assert [key.name for key in panel.keys] == ["encoder.*.q", "decoder.*.q"]


def test_page_is_good_in_a_browser(page: Page, tab: Browser, tmp_path: Path) -> None:
    write_page(page, tmp_path / "analysis.html")
    assert_good_page(tab, tmp_path / "analysis.html")
