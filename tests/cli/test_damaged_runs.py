"""Finished runs of which a file was changed, deleted or moved: one message that says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import lorakit.training
from lorakit.recipe.schema import from_mapping
from tests.cli.files import write_csv

RESULTS = {
    "text": ({"metrics": {"loss": "x"}}, "metrics is {'loss': 'x'}; it must be a mapping of names"),
    "list": ({"metrics": {"accuracy": [1]}}, "metrics is {'accuracy': [1]}; it must be a mapping"),
    "none": ({"metrics": {}}, "metrics is {}; it must hold at least one metric"),
    "rows": ({"examples": {}}, "examples is {}; it must hold the number of rows of test"),
    "method": ({"method": 3}, "method is 3; it must be a string"),
}
TASKS = {
    "labels": ({"labels": 5}, "labels is 5; it must be a list of strings"),
    "text": ({"text": "text"}, "text is 'text'; it must be a list of strings"),
    "max_length": ({"max_length": "8"}, "max_length is '8'; it must be an integer"),
}


@pytest.fixture(scope="module")
def finished(small_bert, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    rows = [("a joy", "good"), ("a bore", "bad")] * 8
    train = write_csv(folder / "train.csv", [("text", "label"), *rows])
    data = {"train": str(train), "test": 4, "task": "classification", "text": ["text"],
            "label": "label"}  # fmt: skip
    training = {"max_steps": 1, "evaluations": 1, "check": "off"}
    recipe = {"base": str(small_bert), "data": data, "output": str(folder / "run"),
              "training": training}  # fmt: skip
    lorakit.training.train(from_mapping(recipe), log=lambda text: None)
    return folder / "run"


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "moved"))


def train(run: Any, directory: Path) -> tuple[int, str, str]:
    return run("train", directory / "recipe.yaml", "--output", directory)


def change(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("name", RESULTS)
def test_a_wrong_value_of_a_result_is_told_and_train_makes_it_again(name, run, copy):
    values, message = RESULTS[name]
    file = copy / "result.json"
    change(file, values)
    code, _, err = run("compare", copy)
    assert code == 1
    assert f"{file} is not the result of a run:" in err
    assert message in err
    code, out, err = train(run, copy)
    assert code == 0, err
    assert f"{file} cannot be read and is made again" in out
    assert message in out


def test_a_large_number_in_a_result_is_no_damage(run, copy):
    change(copy / "result.json", {"peak_memory_bytes": 70 * 2**30})
    code, out, err = train(run, copy)
    assert code == 0, err
    assert "is finished already" in out


@pytest.mark.parametrize("command", ["predict", "evaluate", "merge"])
@pytest.mark.parametrize("name", TASKS)
def test_a_wrong_value_of_a_task_file_is_told(name, command, run, copy, tmp_path):
    values, message = TASKS[name]
    change(copy / "adapter" / "lorakit_task.json", values)
    base = json.loads((copy / "result.json").read_text())["base"]
    arguments = {
        "predict": [copy, "--text", "x"],
        "evaluate": [copy],
        "merge": [copy / "adapter", "--base", base, "--output", tmp_path / "merged"],
    }
    code, _, err = run(command, *arguments[command])
    assert code == 1
    assert "lorakit_task.json is damaged:" in err
    assert message in err


def test_a_finished_run_without_its_adapter_says_how_to_make_it_again(run, copy):
    shutil.rmtree(copy / "adapter")
    said = {train(run, copy)[2], run("predict", copy, "--text", "x")[2]}
    assert said == {
        f"{copy} is a finished run whose adapter, {copy}/adapter, is gone; delete "
        f"{copy}/result.json to make it again, from the newest checkpoint that is there, with: "
        f"lorakit train {copy}/recipe.yaml --output {copy}\n"
    }
    (copy / "result.json").unlink()
    assert train(run, copy)[0] == 0
    assert run("predict", copy, "--text", "x")[0] == 0


def test_a_moved_run_is_used_where_it_is(run, finished, copy):
    change(copy / "result.json", {"output": str(copy.parent / "gone")})
    code, out, err = train(run, copy)
    assert code == 0, err
    assert f"adapter  {copy}/adapter" in out
    assert f"lorakit predict {copy} " in out
    assert str(copy) in run("compare", finished, copy)[1]


def test_a_model_is_not_merged_into_a_runs_place_for_its_adapter(run, finished, copy):
    shutil.rmtree(copy / "adapter")
    base = json.loads((finished / "result.json").read_text())["base"]
    code, _, err = run("merge", finished / "adapter", "--base", base, "--output", copy / "adapter")
    assert code == 1
    assert f"is the place of the adapter of the run in {copy}" in err
    assert not (copy / "adapter").exists()
