"""What fails in a sweep stands in its table under its own name, once, and with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lorakit import errors
from lorakit.experiments.overview import overview
from lorakit.experiments.running import run_sweep
from lorakit.experiments.sweep_file import planned
from lorakit.experiments.sweep_page import sweep_page
from lorakit.experiments.sweep_table import sweep_table
from lorakit.experiments.table import Column, Table
from lorakit.pages import Cell
from lorakit.pages import Table as PageTable
from tests.experiments.sweeps import Runs, U, accuracy, run, sweep

RATES = {"training.learning_rate": [0.1, 0.3, 0.2]}


def one_cell(output: Path, **changes: Any) -> dict[str, Any]:
    return sweep(output, **{"methods": ["lora"], "tasks": ["one"], "choose": RATES, **changes})


def fails(recipe: Mapping[str, Any]) -> Mapping[str, float]:
    raise RuntimeError("The loss is not finite.")


def told(mapping: Mapping[str, Any], runs: Runs) -> tuple[Table, list[str]]:
    """The table, and what was said meanwhile."""
    said: list[str] = []
    return run_sweep(mapping, runs, 1, lambda progress, text: said.append(text)), said


def test_candidates_that_fail_are_named_and_the_best_of_the_others_is_chosen(tmp_path) -> None:
    def one_fails(recipe: Mapping[str, Any]) -> Mapping[str, float]:
        if recipe["training"]["learning_rate"] == 0.3:
            raise RuntimeError("The loss is not finite.")
        return accuracy(recipe)

    table = run(one_cell(tmp_path), Runs(one_fails))
    assert table.rows[0].cells[0].center == pytest.approx(0.505 + 0.2)
    assert table.rows[0].cells[0].failed == 0, "it is none of the cell's seeds"
    [failure] = table.failures
    assert failure.error == "The loss is not finite."
    assert failure.name == "tiny/one/lora training.learning_rate=0.3 candidate"


def test_candidates_without_a_value_say_so_in_place_of_the_runs(tmp_path: Path) -> None:
    runs = Runs(lambda recipe: {"accuracy": math.nan})
    table, said = told(one_cell(tmp_path), runs)
    assert len(runs.names) == 3
    why = (
        "none of 3 candidates has a value to choose by: accuracy is nan "
        "(training.learning_rate=0.1 and 2 others)"
    )
    assert [failure.error for failure in table.failures] == [why] * 2
    assert (table.rows[0].cells[0].failed, table.rows[0].cells[0].missing) == (2, 0)
    assert said[-1] == f"tiny/one/lora: {why}"
    text = (tmp_path / "table.txt").read_text().splitlines()
    assert text[1].split() == ["lora", "failed"]
    assert text[-1] == f"failed: tiny/one/lora seed 0 and 1 other: {why}"
    again, said = told(one_cell(tmp_path), Runs(fails))
    assert again == table, "nothing is run again"
    assert said[1:] == [f"tiny/one/lora: {why}"]
    assert [r.state for r in overview(planned(one_cell(tmp_path))).runs][-2:] == ["failed"] * 2


def test_candidates_that_all_fail_are_a_reason_of_their_own(tmp_path: Path) -> None:
    table, said = told(one_cell(tmp_path), Runs(fails))
    assert said[-1] == (
        "tiny/one/lora: none of 3 candidates has a value to choose by: it failed "
        "(training.learning_rate=0.1 and 2 others)"
    )
    last = [failure.name.split()[-1] for failure in table.failures]
    assert last == ["candidate", "candidate", "candidate", "0", "1"]


def test_a_metric_that_no_candidate_has_is_named_with_those_that_are_there(tmp_path) -> None:
    mapping = one_cell(tmp_path, tasks={"one": {"metrics": ["f1"]}})
    table, said = told(mapping, Runs())
    assert said[-1].endswith(
        ": its result has no f1, but accuracy (training.learning_rate=0.1 and 2 others)"
    )
    assert len(table.failures) == 2
    page = sweep_page(planned(mapping), table)
    assert any(section.title == "What was chosen" for section in page.sections)


def test_failures_are_said_while_other_runs_are_missing(tmp_path: Path) -> None:
    class Breaks(Runs):
        def _run(self, job):
            if len(self.names) == 2:
                raise KeyboardInterrupt
            return super()._run(job)

    with pytest.raises(KeyboardInterrupt):
        run(one_cell(tmp_path), Breaks(fails))
    table = sweep_table(planned(one_cell(tmp_path)))
    assert [f.name for f in table.failures] == [
        "tiny/one/lora training.learning_rate=0.1 candidate"
    ]
    assert table.rows[0].cells[0].missing == 2


def test_an_error_of_several_runs_is_said_once_with_their_number(tmp_path: Path) -> None:
    table, said = told(sweep(tmp_path), Runs(fails))
    assert len(table.failures) == 8
    assert [text for text in said if "finite" in text] == [
        "tiny/one/head seed 0: The loss is not finite."
    ]
    assert "tiny/two/lora seed 1: failed as tiny/one/head seed 0 did" in said
    for ending in ("txt", "md"):
        text = (tmp_path / f"table.{ending}").read_text()
        assert text.count("finite") == 1
        assert "failed: tiny/one/head seed 0 and 7 others: The loss is not finite." in text
    [section] = [
        s for s in sweep_page(planned(sweep(tmp_path)), table).sections if s.title == "Failed runs"
    ]
    [failures] = section.parts
    assert isinstance(failures, PageTable)
    [[names, _]] = failures.rows
    assert isinstance(names, Cell)
    assert names.text == "tiny/one/head seed 0 and 7 others"
    assert len(names.details.splitlines()) == 8


def test_a_task_whose_runs_all_failed_has_a_column(tmp_path: Path) -> None:
    def two_fails(recipe: Mapping[str, Any]) -> Mapping[str, float]:
        return fails(recipe) if recipe["data"]["train"] == U else accuracy(recipe)

    table = run(sweep(tmp_path), Runs(two_fails))
    assert table.columns == (Column("one", "accuracy"), Column("two", ""))
    head, row = (tmp_path / "table.txt").read_text().splitlines()[:2]
    assert head.split("  ")[-6].strip() or "two" in head
    assert "failed" in row
    assert [cell.failed for cell in table.rows[0].cells] == [0, 2]
    sweep_page(planned(sweep(tmp_path)), table)


def test_a_run_without_room_in_its_own_directory_ends_the_sweep(tmp_path: Path) -> None:
    def full(recipe: Mapping[str, Any]) -> Mapping[str, float]:
        if recipe["training"]["seed"] == 1:
            raise RuntimeError(
                f"{recipe['output']}/adapter could not be written: No space left on device"
            )
        return accuracy(recipe)

    runs = Runs(full)
    with pytest.raises(errors.SaveError) as found:
        run(sweep(tmp_path), runs)
    assert str(found.value) == (
        f"{tmp_path} can no longer be written: No space left on device. What is finished stays as "
        "it is (1 run); make room, and run the same command again."
    )
    assert len(runs.names) == 2, "no further run was tried"
    assert len(list(tmp_path.rglob("result.json"))) == 1


def test_an_output_without_room_ends_the_sweep_whatever_the_run_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("lorakit.experiments.running.obstacle", lambda directory: full)
    runs = Runs(fails)
    with pytest.raises(errors.SaveError, match="can no longer be written: No space left on device"):
        run(sweep(tmp_path), runs)
    assert len(runs.names) == 1


def test_a_disk_that_is_full_elsewhere_fails_that_run_alone(tmp_path: Path) -> None:
    def full_node(recipe: Mapping[str, Any]) -> Mapping[str, float]:
        if recipe["training"]["seed"] == 1:
            raise RuntimeError(
                "/tmp/lorakit-run-x/run could not be written: No space left on device"
            )
        return accuracy(recipe)

    runs = Runs(full_node)
    table = run(sweep(tmp_path), runs)
    assert len(runs.names) == 8
    assert len(table.failures) == 4


def test_a_seed_whose_metric_is_not_finite_ends_neither_the_sweep_nor_its_table(tmp_path) -> None:
    def diverges(recipe: Mapping[str, Any]) -> Mapping[str, float]:
        seed = recipe["training"]["seed"]
        return {"accuracy": math.nan if recipe["method"] == "lora" and seed else 0.5}

    runs, mapping = Runs(diverges), sweep(tmp_path, tasks=["one"])
    table = run(mapping, runs)
    assert len(runs.names) == 4
    assert [row.cells[0].is_best for row in table.rows] == [True, False]
    assert "nan" in (tmp_path / "table.txt").read_text()
    sweep_page(planned(mapping), table)
