"""`predict --data` of a run of GLUE reads what `evaluate --data` reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorakit.tasks.registry import TASKS
from lorakit.training import train
from tests import glue_samples
from tests.training import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return glue_samples.write_folder(tmp_path_factory.mktemp("glue"), repeat=4)


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory) -> Path:
    """A run of one step for a task of a headless file, one of other names, one of two test sets."""
    base = tiny.save_encoder(tmp_path_factory.mktemp("base"))
    output = tmp_path_factory.mktemp("runs")
    for task in ("cola", "mrpc", "mnli"):
        data = {"task": task, "test": str(folder)}
        recipe = tiny.recipe(base, folder, output / task, data=data, training={"max_steps": 1})
        train(recipe, lambda text: None)
    return output


def predicted(run, source: Path, data: Path, output: Path) -> list[dict]:
    code, _, err = run("predict", source, "--data", data, "--output", output)
    assert code == 0, err
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("task", ["cola", "mrpc"])
@pytest.mark.parametrize("place", ["", "dev.tsv", "test.tsv"])
def test_glues_own_files_are_predicted(task, place, run, runs, folder, tmp_path):
    source = folder / TASKS[task].row.folder / place if place else folder
    rows = predicted(run, runs / task, source, tmp_path / "out.jsonl")
    texts = [tuple(row[name] for name in TASKS[task].row.text) for row in rows]
    assert texts == [row[:-1] for row in glue_samples.ROWS[task]], "quotes are text"
    if place != "test.tsv":
        code, out, err = run("evaluate", runs / task, "--data", source, "--json")
        assert code == 0, err
        assert json.loads(out)["rows"] == len(rows)
        hits = sum(row["prediction"] == row["label"] for row in rows) / len(rows)
        spec = TASKS[task].make(None, None, 8)
        if "accuracy" in spec.metrics:
            assert json.loads(out)["metrics"]["accuracy"] == pytest.approx(hits)


def test_one_of_two_sets_has_to_be_chosen(run, runs, folder, tmp_path):
    output = tmp_path / "out.jsonl"
    code, _, err = run("predict", runs / "mnli", "--data", folder, "--output", output)
    assert code == 1
    assert "pass the file of dev_matched or dev_mismatched" in " ".join(err.split())
    assert not output.exists()
    data = folder / "MNLI" / "test_mismatched.tsv"
    assert len(predicted(run, runs / "mnli", data, output)) == len(glue_samples.ROWS["mnli"])


def test_a_table_that_is_not_glues_keeps_its_columns(run, runs, tmp_path):
    data = tmp_path / "mine.csv"
    data.write_text('id,sentence1,sentence2\n7,"the ""film""",the plot\n', encoding="utf-8")
    (row,) = predicted(run, runs / "mrpc", data, tmp_path / "out.jsonl")
    assert (row["id"], row["sentence1"]) == ("7", 'the "film"')


def test_a_registered_reader_is_used_in_prediction_too(run, runs, monkeypatch, tmp_path):
    """The reader of a task, whichever it is, and not the one for tables of any kind."""
    spec = TASKS["classification"]
    asked = []

    class Read(type(spec)):
        def read(self, source, role):
            asked.append((source, role))
            return super().read(source, role)

    monkeypatch.setitem(
        TASKS, "classification", Read("classification", spec.task_class, task_types=("SEQ_CLS",))
    )
    data = tmp_path / "rows.csv"
    data.write_text("sentence1,sentence2\na,b\n", encoding="utf-8")
    arguments = ("--task", "classification", "--data", data, "--output", tmp_path / "out.csv")
    code, _, err = run("predict", runs / "mrpc" / "adapter", *arguments)
    assert code == 0, err
    assert asked == [(str(data), "test")]
