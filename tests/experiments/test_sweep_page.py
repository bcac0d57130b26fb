"""The page of a sweep says what varied, what was chosen, and how it was run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorakit.experiments.sweep_file import planned
from lorakit.experiments.sweep_page import sweep_page
from lorakit.experiments.sweep_table import sweep_table
from lorakit.pages import Cell, Figure, Listing, Page, Table, write_page
from tests.browser.assertions import assert_good_page
from tests.browser.chromium import Browser
from tests.experiments.sweeps import Runs, U, accuracy, run, sweep, tiny_base
from tests.pages.figures.shapes import marks

GRID = {"lora.r": [1, 4, 16], "lora.target_modules": [["query"], ["query", "value"]]}


def page_of(mapping: Mapping[str, Any], runs: Runs | None = None) -> Page:
    table = run(mapping, runs or Runs())
    return sweep_page(planned(mapping), table)


def sections(page: Page) -> dict[str, list[Any]]:
    return {section.title: list(section.parts) for section in page.sections}


def test_settings_stand_as_they_were_run(tmp_path: Path) -> None:
    (listing,) = sections(page_of(sweep(tmp_path)))["Settings"]
    assert isinstance(listing, Listing)
    assert listing.text == (tmp_path / "sweep.yaml").read_text()


def test_scores_are_drawn_over_the_numbers_of_a_grid(tmp_path: Path) -> None:
    page = page_of(sweep(tmp_path, methods={"head": {}, "lora": {"grid": GRID}}))
    (figure,) = sections(page)["What varies"]
    assert isinstance(figure, Figure)
    assert [key.name for key in figure.panels[0].keys] == [
        *("lora, lora.target_modules=query", "lora, lora.target_modules=query+value")
    ]
    assert "lora.r" in figure.panels[0].svg


def test_answers_that_need_no_model_are_no_points_of_the_lines(tmp_path: Path) -> None:
    mapping = sweep(tmp_path, methods={"lora": {"grid": {"lora.r": [1, 8]}}})
    run(mapping, Runs())
    for file in tmp_path.rglob("result.json"):
        baseline = {"answer": "majority class", "metric": "accuracy", "value": 0.6}
        file.write_text(json.dumps({**json.loads(file.read_text()), "baseline": baseline}))
    plan = planned(mapping)
    table = sweep_table(plan)
    assert table.rows[0].name == "majority class"
    (figure,) = sections(sweep_page(plan, table))["What varies"]
    assert marks(figure.panels[0], "series-1") == 2  # as the second of the names


def test_a_grid_without_numbers_has_no_lines(tmp_path: Path) -> None:
    grid = {"lora.target_modules": GRID["lora.target_modules"]}
    page = page_of(sweep(tmp_path, methods={"lora": {"grid": grid}}))
    assert "What varies" not in sections(page)


def test_scores_are_drawn_over_the_rows_that_tasks_train_on(tmp_path: Path) -> None:
    sizes = {"10": {"data.train_rows": 10}, "all": None, "100": {"data.train_rows": 100}}
    bases = {name: {"base": str(tiny_base(tmp_path))} for name in ("small", "large")}
    mapping = sweep(tmp_path, tasks=sizes, methods=["head"], base=None, bases=bases)
    (figure,) = sections(page_of(mapping))["What varies"]
    assert isinstance(figure, Figure)
    [panel] = figure.panels
    assert [key.name for key in panel.keys] == ["head, small", "head, large"]
    assert marks(panel, "series-1") == 3
    assert "training rows" in panel.svg


def test_tasks_that_differ_otherwise_are_no_line_over_rows(tmp_path: Path) -> None:
    sizes = {"10": {"data.train_rows": 10}, "all": {"data.train": U}}
    assert "What varies" not in sections(page_of(sweep(tmp_path, tasks=sizes, methods=["head"])))


def test_what_was_tried_stands_with_its_score_and_the_chosen_in_bold(tmp_path: Path) -> None:
    def fails(recipe: Mapping[str, Any]) -> Mapping[str, float]:
        if recipe["training"]["learning_rate"] == 0.3:
            raise RuntimeError("Training has diverged.")
        return accuracy(recipe)

    rates = {"training.learning_rate": [0.1, 0.2, 0.3]}
    mapping = sweep(tmp_path, methods={"lora": {"choose": rates}}, tasks=["one"])
    (tried,) = sections(page_of(mapping, Runs(fails)))["What was chosen"]
    assert isinstance(tried, Table)
    cells = [[c for c in row if isinstance(c, Cell)] for row in tried.rows]
    assert [[cell.text for cell in row] for row in cells] == [
        ["training.learning_rate=0.1", "60.0"],
        ["training.learning_rate=0.2", "70.0"],
        ["training.learning_rate=0.3", "failed"],
    ]
    assert [row[0].best for row in cells] == [False, True, False]


def test_page_is_good_in_a_browser(tab: Browser, tmp_path: Path) -> None:
    rates = {"training.learning_rate": [0.1, 0.2]}
    methods = {"head": {"choose": rates}, "lora": {"grid": {"lora.r": [1, 4]}}}
    write_page(page_of(sweep(tmp_path, methods=methods)), tmp_path / "table.html")
    assert_good_page(tab, tmp_path / "table.html")
