"""A sweep runs what has no result, once; what is chosen, failed, changed and interrupted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lorakit import errors
from lorakit.experiments.jobs import Job, Outcomes
from lorakit.experiments.progress import Progress
from lorakit.experiments.running import run_sweep
from lorakit.experiments.sweep_file import planned
from lorakit.experiments.sweep_table import sweep_table
from lorakit.experiments.table import Table
from lorakit.locks import exclusive
from lorakit.recipe.yaml_file import load_mapping
from tests.experiments.sweeps import Runs, accuracy, run, sweep

RATES = {"training.learning_rate": [0.1, 0.3, 0.2]}


def center(table: Table, row: str, column: int = 0) -> float | None:
    return next(r for r in table.rows if r.name == row).cells[column].center


def test_every_combination_is_run_once_and_never_again(tmp_path: Path) -> None:
    runs = Runs()
    table = run(sweep(tmp_path), runs)
    assert len(runs.names) == len(set(runs.names)) == 2 * 2 * 2
    assert [row.name for row in table.rows] == ["head", "lora"]
    assert [(c.task, c.metric) for c in table.columns] == [("one", "accuracy"), ("two", "accuracy")]
    assert center(table, "lora") == pytest.approx(0.505)
    again = Runs()
    assert run(sweep(tmp_path), again) == table
    assert again.names == []


def test_an_interrupted_sweep_goes_on_with_what_is_left(tmp_path: Path) -> None:
    first, second = Runs(most=3), Runs()
    with pytest.raises(KeyboardInterrupt):
        run(sweep(tmp_path), first)
    run(sweep(tmp_path), second)
    assert len(first.names) == 3
    assert len(second.names) == 5
    assert not {*first.names} & {*second.names}


def test_a_further_seed_runs_alone(tmp_path: Path) -> None:
    run(sweep(tmp_path), Runs())
    more = Runs()
    table = run(sweep(tmp_path, seeds=[0, 1, 2]), more)
    assert len(more.names) == 4
    assert all(name.endswith("seed 2") for name in more.names)
    assert table.rows[0].cells[0].seeds == (0, 1, 2)


def test_the_best_candidate_is_chosen_for_each_method_on_the_validation_set(tmp_path: Path) -> None:
    measured = []

    def metrics(recipe):
        measured.append((recipe["data"]["measured_on"], recipe["data"]["validation"]))
        return accuracy(recipe)

    runs = Runs(metrics)
    methods = {"lora": {"choose": {"training.learning_rate": [0.2]}}, "head": None}
    mapping = sweep(tmp_path, methods=methods, choose=RATES, validation=0.25)
    table = run(mapping, runs)
    candidates = [name for name in runs.names if name.endswith("candidate")]
    assert len(candidates) == 3 * 2  # the only value of lora needs none
    assert runs.names[0].endswith("seed 0"), "what needs no choice does not wait"
    assert measured.count(("validation", 0.25)) == 6
    assert measured.count(("test", None)) == 8
    assert center(table, "head") == pytest.approx(0.505 + 0.3)
    assert center(table, "lora") == pytest.approx(0.505 + 0.2)
    chosen = "training.learning_rate=0.3 for one; training.learning_rate=0.3 for two"
    assert table.notes[-1] == f"chosen on the validation set, head: {chosen}"


def test_candidates_of_another_first_seed_are_runs_of_their_own(tmp_path: Path) -> None:
    mapping = sweep(tmp_path, methods=["lora"], tasks=["one"], choose=RATES)
    run(mapping, Runs())
    other = Runs()
    run({**mapping, "seeds": [1, 0]}, other)
    assert len(other.names) == 3
    assert all(name.endswith("candidate") for name in other.names)


def test_values_of_any_length_have_a_directory(tmp_path: Path) -> None:
    patterns = [".*" + "x" * 300, ".*" + "x" * 301]
    grid = {"training.weight_decay": [0.1, 0.2], "init_adapter": patterns}
    runs = Runs()
    run(sweep(tmp_path, methods=["lora"], tasks=["one"], grid=grid), runs)
    assert len(list(tmp_path.rglob("result.json"))) == 2 * 2 * 2


def test_a_row_of_the_grid_may_be_the_reference(tmp_path: Path) -> None:
    mapping = sweep(tmp_path, methods=["lora"], tasks=["one"], grid={"lora.r": [2, 4]})
    table = run({**mapping, "reference": "lora, lora.r=4"}, Runs())
    assert table.reference == "lora, lora.r=4"
    assert [row.cells[0].p_value is None for row in table.rows] == [False, True]
    assert sweep_table(planned(mapping)).reference == "lora, lora.r=2"


def test_a_longer_list_of_candidates_keeps_what_was_run(tmp_path: Path) -> None:
    mapping = sweep(tmp_path, methods=["lora"], tasks=["one"], choose=RATES)
    run(mapping, Runs())
    more = Runs()
    table = run({**mapping, "choose": {"training.learning_rate": [0.1, 0.3, 0.2, 0.4]}}, more)
    assert len(more.names) == 1 + 2
    assert center(table, "lora") == pytest.approx(0.505 + 0.4)
    back = Runs()
    run(mapping, back)
    assert back.names == []


def test_a_run_that_fails_stands_in_the_table_and_is_tried_again(tmp_path: Path) -> None:
    def fails(recipe):
        if recipe["method"] == "lora" and recipe["training"]["seed"] == 1:
            raise RuntimeError("The loss is not finite.")
        return accuracy(recipe)

    table = run(sweep(tmp_path), Runs(fails))
    assert [f.error for f in table.failures] == ["The loss is not finite."] * 2
    assert [f.name for f in table.failures] == ["tiny/one/lora seed 1", "tiny/two/lora seed 1"]
    cell = table.rows[1].cells[0]
    assert (cell.values, cell.failed) == ((0.5,), 1)
    text = (tmp_path / "table.txt").read_text()
    assert "50.0 (1 failed)" in text
    assert "failed: tiny/one/lora seed 1 and 1 other: The loss is not finite.\n" in text
    again = Runs()
    assert run(sweep(tmp_path), again).failures == ()
    assert again.names == ["tiny/one/lora seed 1", "tiny/two/lora seed 1"]


def test_a_sweep_changed_under_its_runs_names_those_and_keeps_the_others(tmp_path: Path) -> None:
    run(sweep(tmp_path), Runs())
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    changed = sweep(tmp_path, methods={"head": None, "lora": {"lora.r": 4}})
    runs = Runs()
    with pytest.raises(errors.StateError) as found:
        run(changed, runs)
    assert runs.names == []
    assert "4 finished runs are as it says and would be kept" in str(found.value)
    assert len(found.value.problems) == 4
    name = tmp_path / "tiny" / "one" / "lora" / "seed-0"
    assert found.value.problems[0].startswith(f"{name} (lora.r is 8 in that run and 4 in")
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


def test_runs_that_no_cell_has_any_more_are_named_and_stay(tmp_path: Path) -> None:
    run(sweep(tmp_path), Runs())
    said: list[str] = []
    table = run_sweep(
        sweep(tmp_path, seeds=[1]), Runs(), 1, lambda progress, text: said.append(text)
    )
    assert said[0] == f"4 finished runs of this sweep in {tmp_path}"
    gone = tmp_path / "tiny" / "one" / "head" / "seed-0"
    assert f"{gone} is a run of no cell of this sweep any more, and stays" in said
    assert len(said) == 5
    assert (gone / "result.json").is_file()
    assert table.rows[0].cells[0].seeds == (1,)


def test_a_result_that_cannot_be_read_is_made_again(tmp_path: Path) -> None:
    run(sweep(tmp_path), Runs())
    file = tmp_path / "tiny" / "two" / "lora" / "seed-1" / "result.json"
    file.write_text("{")
    again = Runs()
    run(sweep(tmp_path), again)
    assert again.names == ["tiny/two/lora seed 1"]


def test_two_calls_at_once_are_refused_by_name(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(errors.SaveError, match="is being written by process"):
        run(sweep(tmp_path), Runs())


def test_the_tables_and_the_sweep_are_kept_beside_the_runs(tmp_path: Path) -> None:
    table = run(sweep(tmp_path), Runs())
    endings = {file.suffix for file in tmp_path.glob("table.*")}
    assert endings == {".txt", ".md", ".csv", ".tex", ".json"}
    assert len(json.loads((tmp_path / "table.json").read_text())["rows"]) == len(table.rows)
    copy = load_mapping(tmp_path / "sweep.yaml", "sweep")
    assert sweep_table(planned(copy)) == table


def test_the_tables_are_written_after_every_run(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(sweep(tmp_path), Runs(most=2))
    text = (tmp_path / "table.txt").read_text()
    assert "50.0 (1 to run)" not in text
    assert "to run" in text


def test_what_is_shown_of_jobs_that_start_at_once_is_shown_one_after_the_other(tmp_path) -> None:
    showing: list[str] = []

    def show(progress: Progress, text: str) -> None:
        showing.append(text)
        time.sleep(0.01)  # in which another thread could come between
        assert showing.pop() == text
        assert not showing

    def execute(jobs: Sequence[Job], started: Callable[[Job], None]) -> Outcomes:
        with ThreadPoolExecutor(len(jobs)) as pool:
            list(pool.map(started, jobs))
        yield from Runs()(jobs, lambda job: None)

    run_sweep(sweep(tmp_path), execute, 2, show)


def begun_otherwise(tmp_path: Path, mapping) -> Path:
    """A run of one cell that was begun with other settings, and made nothing."""
    run(mapping, Runs())
    directory = tmp_path / "tiny" / "one" / "lora" / "seed-0"
    (directory / "result.json").unlink()
    (directory / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    return directory


def test_a_run_without_result_or_checkpoint_does_not_block_its_correction(tmp_path: Path) -> None:
    mapping = sweep(tmp_path, methods=["lora"], tasks=["one"], seeds=[0])
    directory = begun_otherwise(tmp_path, mapping)
    (directory / "wandb").mkdir()
    corrected = {**mapping, "methods": {"lora": {"lora.r": 4}}}
    said: list[str] = []
    runs = Runs()
    run_sweep(corrected, runs, 1, lambda progress, text: said.append(text))
    assert runs.names == ["tiny/one/lora seed 0"]
    assert said[0] == (
        "tiny/one/lora seed 0: made anew, as its settings have changed; it had no result"
    )
    assert load_mapping(directory / "recipe.yaml", "recipe")["lora"]["r"] == 4
    assert not (directory / "checkpoints").exists()
    assert (directory / "wandb").exists()


def test_a_run_with_a_checkpoint_or_a_process_is_not_made_anew(tmp_path: Path) -> None:
    mapping = sweep(tmp_path, methods=["lora"], tasks=["one"], seeds=[0])
    directory = begun_otherwise(tmp_path, mapping)
    corrected = {**mapping, "methods": {"lora": {"lora.r": 4}}}
    with exclusive(directory), pytest.raises(errors.StateError, match=r"lora\.r is 8 in that run"):
        run(corrected, Runs())
    (directory / "checkpoints" / "checkpoint-1" / "complete").touch()
    with pytest.raises(errors.StateError, match=r"lora\.r is 8 in that run"):
        run(corrected, Runs())


def test_an_interrupted_sweep_leaves_its_tables_and_is_published(tmp_path: Path) -> None:
    published: list[Table] = []
    with pytest.raises(KeyboardInterrupt):
        run_sweep(
            sweep(tmp_path), Runs(most=1), 1, lambda progress, text: None,
            lambda plan, table: published.append(table),
        )  # fmt: skip
    [table] = published
    assert (table.rows[0].cells[0].values, table.rows[0].cells[0].missing) == ((0.5,), 1)
    assert "50.0* (1 to run)" in (tmp_path / "table.txt").read_text()


def test_a_sweep_that_is_refused_publishes_nothing(tmp_path: Path) -> None:
    published: list[Table] = []
    with pytest.raises(errors.ConfigError):
        run_sweep(
            sweep(tmp_path, seeds=[]), Runs(), 1, lambda progress, text: None,
            lambda plan, table: published.append(table),
        )  # fmt: skip
    assert published == []
    assert not list(tmp_path.glob("table.*"))
