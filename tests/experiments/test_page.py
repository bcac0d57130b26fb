"""The page of a comparison has everything of its table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lorakit.experiments.page import page_of
from lorakit.experiments.table import Cell, Column, Failure, Published, Row, Table
from lorakit.pages import Figure, Section, render, write_page
from lorakit.pages import Table as PageTable
from tests.browser.assertions import assert_good_page
from tests.browser.chromium import Browser

LORA = Row(
    "lora",
    "MiniLM",
    (
        Cell(
            (0, 1), (0.86, 0.88), 0.87, 0.0141, True, published=Published(0.897, 0.007, "table 2")
        ),
        Cell((0, 1), (0.9, 0.9), 0.9, 0.0, True),
    ),
    73_728,
    295_000,
    31.0,
    1_200_000_000,
)
HOULSBY = Row(
    "<houlsby>",
    "MiniLM",
    (
        Cell((0, 1), (0.84, 0.86), 0.85, 0.0141, p_value=0.294, is_noise=True),
        Cell((0,), (0.8,), 0.8, None, failed=1, missing=1),
    ),
    60_000,
    240_000,
    30.0,
    1_100_000_000,
)
TABLE = Table(
    (Column("mrpc", "accuracy"), Column("reviews", "f1")),
    (LORA, HOULSBY),
    reference="lora",
    failures=(Failure("MiniLM/reviews/<houlsby> seed 1", "ConfigError: <no> norm\n  - more"),),
    notes=("mean ± standard deviation over 2 seeds",),
)


def tables(table: Table) -> dict[str, PageTable]:
    parts = [part for section in page_of(table).sections for part in section.parts]
    return {part.caption.partition(" ")[0]: part for part in parts if isinstance(part, PageTable)}


def texts(table: PageTable, row: int) -> list[str]:
    return [cell if isinstance(cell, str) else cell.text for cell in table.rows[row]]


def test_scores_stand_as_in_the_paper_with_published_figures_and_costs() -> None:
    scores = tables(TABLE)["Scores,"]
    assert texts(scores, 0) == [
        *("lora", "73,728", "87.0 ± 1.4", "90.0 ± 0.0", "0.29 MB", "31", "1,200.00 MB")
    ]
    first, second = scores.rows[0][2], scores.rows[1][2]
    assert first.best
    assert first.below == "[89.7 ± 0.7]"
    assert ("[ ]", "published: table 2") in scores.legend
    assert second.marks == "~"


def test_published_figures_of_several_sources_are_numbered() -> None:
    cell = replace(LORA.cells[1], published=Published(0.95, None, "table 7"))
    table = replace(TABLE, rows=(replace(LORA, cells=(LORA.cells[0], cell)), HOULSBY))
    scores = tables(table)["Scores,"]
    assert [scores.rows[0][at].below for at in (2, 3)] == ["[89.7 ± 0.7] (1)", "[95.0] (2)"]
    assert list(scores.legend)[-1] == ("[ ] (2)", "published: table 7")


def test_what_is_missing_or_failed_stands_below_the_score() -> None:
    assert tables(TABLE)["Scores,"].rows[1][3].below == "1 failed\n1 to run"
    failed = tables(TABLE)["Runs"]
    assert texts(failed, 0) == ["MiniLM/reviews/<houlsby> seed 1", "ConfigError: <no> norm"]
    assert failed.rows[0][1].details.endswith("- more")


def test_differences_are_from_the_reference_with_their_p_value() -> None:
    differences = tables(TABLE)["Differences"]
    assert texts(differences, 0) == ["lora", "—"]
    assert texts(differences, 1) == ["<houlsby>", "−2.0"]
    assert differences.rows[1][1].below == "p = 0.29"


def test_runs_stand_seed_by_seed() -> None:
    runs = tables(TABLE)["The"]
    assert texts(runs, 0) == ["lora", "MiniLM", "mrpc", "accuracy", "86.0", "88.0"]
    assert texts(runs, 3) == ["<houlsby>", "MiniLM", "reviews", "F1", "80.0", "—"]


def test_each_base_has_a_section_and_costs_are_drawn() -> None:
    other = replace(LORA, base="RoBERTa", cells=(Cell(missing=2), Cell(missing=2)), seconds=None)
    page = page_of(replace(TABLE, rows=(*TABLE.rows, other)))
    assert [section.title for section in page.sections] == [
        *("MiniLM", "RoBERTa", "Costs", "Runs", "Failed runs")
    ]
    (costs,) = page.sections[2].parts
    assert isinstance(costs, Figure)
    assert len(costs.panels) == 3


def test_answers_that_need_no_model_stand_beside_each_base() -> None:
    baseline = Row("always positive", "", (Cell(center=0.5), Cell()))
    page = page_of(replace(TABLE, rows=(baseline, *TABLE.rows)))
    scores = page.sections[0].parts[0]
    assert isinstance(scores, PageTable)
    assert texts(scores, 0)[:3] == ["always positive", "—", "50.0"]


def test_sweep_without_any_result_has_a_page() -> None:
    row = Row("lora", "MiniLM", (Cell(missing=3), Cell(missing=3)))
    empty = replace(TABLE, rows=(row,), failures=())
    assert "3 to run" in render(page_of(empty))


def test_more_sections_stand_before_the_runs() -> None:
    titles = [section.title for section in page_of(TABLE, [Section("Settings", [])]).sections]
    assert titles.index("Settings") == titles.index("Runs") - 1


def test_page_is_good_in_a_browser(tab: Browser, tmp_path: Path) -> None:
    page = tmp_path / "table.html"
    write_page(page_of(TABLE), page)
    assert_good_page(tab, page)
    assert tab.value("document.querySelectorAll('tbody tr').length") == 2 + 2 + 4 + 1
