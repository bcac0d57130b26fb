"""Runs for tasks of GLUE: the server's files, several runs at once, averages over the tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModel

from lorakit.metrics.glue import AVERAGED
from lorakit.tasks.glue.benchmark import GLUE
from lorakit.tasks.glue.files import read_glue
from tests import glue_samples
from tests.cli.test_glue import config_of
from tests.training import tiny

TRAINED = ("mnli", "mrpc", "rte", "stsb")
MIXED = ("mnli", "stsb")
"""Three labels and two test sets beside a number."""


@pytest.fixture(scope="module")
def glue(tmp_path_factory) -> Path:
    return glue_samples.write_folder(tmp_path_factory.mktemp("glue"), repeat=4)


@pytest.fixture(scope="module")
def runs(glue, tmp_path_factory) -> Path:
    """Runs of two steps: names and numbers as labels, one number, two sets to test on."""
    from lorakit.recipe.catalogue import recipe_file
    from lorakit.recipe.schema import from_mapping
    from lorakit.recipe.yaml_file import load_recipe, with_settings
    from lorakit.training import train

    folder = tmp_path_factory.mktemp("runs")
    base = folder.parent / "roberta"
    AutoModel.from_config(config_of("roberta")).save_pretrained(base)
    tiny.tokenizer().save_pretrained(base)
    for task in TRAINED:
        settings = [
            f"task={task}",
            f"base={base}",
            f"data.train={glue}",
            f"output={folder / task}",
            "training.max_steps=2",
            "training.evaluations=1",
            "init_adapter=null",
        ]
        recipe = with_settings(load_recipe(recipe_file("glue-roberta-base")), settings)
        train(from_mapping(recipe), lambda text: None)
    return folder


@pytest.mark.parametrize("task", TRAINED)
def test_predictions_for_the_server(task, run, runs, glue, tmp_path):
    code, out, err = run("predict", runs / task, "--glue", tmp_path, "--data", glue)
    assert code == 0, err
    row = GLUE[task]
    names = ["MNLI-m.tsv", "MNLI-mm.tsv"] if task == "mnli" else [f"{row.folder}.tsv"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    for name in names:
        assert f"{name}: 6 predictions" in out
        header, *lines = (tmp_path / name).read_bytes().decode().split("\n")[:-1]
        assert header == "index\tprediction"
        cells = [line.split("\t") for line in lines]
        assert [index for index, _ in cells] == [str(i) for i in range(6)]
        values = [value for _, value in cells]
        if task == "stsb":
            assert all(0 <= float(v) <= 5 and len(v.partition(".")[2]) == 3 for v in values)
        else:
            known = [str(i) for i in range(len(row.labels))] if row.numbered else row.labels
            assert set(values) <= set(known)


def test_a_run_names_only_commands_that_work_and_guesses_nothing(run, runs):
    code, out, err = run("train", runs / "mrpc" / "recipe.yaml", "--set", "data.text=null")
    assert code == 0, err
    assert "is finished already" in out
    assert "guessed" not in out
    assert f"lorakit predict {runs / 'mrpc'} --data FILE" in out
    assert "--text" not in out, "one text is no pair"


def test_predictions_for_the_server_are_those_of_the_model(run, runs, glue, tmp_path):
    data = tmp_path / "test.csv"
    table = read_glue(str(glue), GLUE["mrpc"], "test")
    table.to_csv(data, index=False)
    run("predict", runs / "mrpc", "--data", data, "--output", tmp_path / "all.jsonl")
    run("predict", runs / "mrpc", "--data", glue, "--glue", tmp_path)
    told = [
        json.loads(line)["prediction"] for line in (tmp_path / "all.jsonl").read_text().splitlines()
    ]
    lines = (tmp_path / "MRPC.tsv").read_text().splitlines()[1:]
    assert [GLUE["mrpc"].labels[int(line.split("\t")[1])] for line in lines] == told


def test_one_call_predicts_the_test_sets_of_several_adapters(run, runs, glue, tmp_path):
    together, alone = tmp_path / "together", tmp_path / "alone"
    adapters = [part for task in MIXED for part in ("--adapter", f"{task}={runs / task}")]
    call = ["predict", *adapters, "--data", glue, "--glue"]
    code, out, err = run(*call, together)
    assert code == 0, err
    for task in MIXED:
        assert run("predict", runs / task, "--data", glue, "--glue", alone)[0] == 0
    files = sorted(alone.iterdir())
    assert [file.name for file in files] == sorted(file.name for file in together.iterdir())
    for file in files:
        assert f"{file.name}: 6 predictions" in out
        assert (together / file.name).read_bytes() == file.read_bytes()
    code, _, err = run(*call, together)
    assert (code, "exists already" in err) == (1, True)
    again = ["--adapter", f"again={runs / MIXED[0]}"]
    code, _, err = run(*call, tmp_path / "twice", *again)
    assert code == 1
    assert f"{MIXED[0]} and again are both for " in err
    assert not (tmp_path / "twice").exists()


def test_several_runs_are_evaluated_on_the_dev_sets_of_their_tasks(run, runs):
    adapters = [part for task in MIXED for part in ("--adapter", f"{task}={runs / task}")]
    code, out, err = run("evaluate", *adapters, "--json")
    assert code == 0, err
    for task, found in zip(MIXED, json.loads(out)["adapters"], strict=True):
        alone = json.loads(run("evaluate", runs / task, "--json")[1])
        assert (found["adapter"], found["rows"]) == (task, alone["rows"])
        assert found["metrics"] == pytest.approx(alone["metrics"], rel=1e-3, nan_ok=True), "bf16"


def test_the_servers_files_are_not_overwritten_and_need_a_task_of_glue(run, runs, glue, tmp_path):
    (tmp_path / "RTE.tsv").write_text("mine")
    command = ["predict", runs / "rte", "--data", glue, "--glue", tmp_path]
    code, _, err = run(*command)
    assert (code, (tmp_path / "RTE.tsv").read_text()) == (1, "mine")
    assert "exists already" in err
    assert run(*command, "--overwrite")[0] == 0
    adapter = runs / "rte" / "adapter"
    code, _, err = run("predict", adapter, "--data", glue, "--glue", tmp_path / "other")
    assert code == 1
    assert "is not known as an adapter for a task of GLUE" in err
    arguments = ["--data", glue, "--glue", tmp_path / "other", "--task", "rte"]
    assert run("predict", adapter, *arguments)[0] == 0
    code, _, err = run("predict", adapter, "--glue", tmp_path, "--task", "qnli", "--data", glue)
    assert code == 0  # the same labels: a task may be tried on another one's sentences
    code, _, err = run("predict", adapter, "--glue", tmp_path, "--task", "mrpc", "--data", glue)
    assert code == 1
    assert "those of mrpc are not_equivalent, equivalent" in err


def test_runs_of_the_eight_tasks_are_averaged(run, runs, tmp_path):
    result = json.loads((runs / "rte" / "result.json").read_text())
    scores = {task: 0.5 + i / 100 for i, task in enumerate(AVERAGED)}
    for task, value in scores.items():
        metrics = {"loss": 1.0, "accuracy": value, "matthews_correlation": value, "pearson": value}
        if task == "mnli":
            metrics |= {"accuracy": value - 0.1, "mismatched_accuracy": value + 0.1}
        for seed, change in enumerate((-0.02, 0.02)):
            folder = tmp_path / f"{task}-{seed}"
            folder.mkdir()
            moved = {name: found + change for name, found in metrics.items()}
            text = json.dumps({**result, "task": task, "metrics": moved, "seed": seed})
            (folder / "result.json").write_text(text)
    code, out, err = run("compare", tmp_path, "--json")
    assert code == 0, err
    report = json.loads(out)
    columns = {column["task"]: column["metric"] for column in report["columns"]}
    assert list(columns) == [task for task in GLUE if task in scores] + ["average"]
    assert (columns["cola"], columns["stsb"]) == ("matthews_correlation", "pearson")
    row = next(row for row in report["rows"] if row["name"] == "LoRA")
    found = dict(zip(columns, row["cells"], strict=True))
    assert found.pop("average")["center"] == pytest.approx(sum(scores.values()) / 8)
    assert {task: cell["center"] for task, cell in found.items()} == pytest.approx(scores)
    assert [len(cell["values"]) for cell in found.values()] == [2] * 8
    out = run("compare", tmp_path)[1]
    assert "average GLUE" in out
    assert "53.5" in out
    code, out, _ = run("compare", tmp_path / "rte-0", tmp_path / "mrpc-0", "--json")
    assert [column["task"] for column in json.loads(out)["columns"]] == ["mrpc", "rte"]


def test_runs_of_other_losses_and_bases_are_rows_of_their_own(run, runs, tmp_path):
    result = json.loads((runs / "mnli" / "result.json").read_text())
    assert (Path(result["base"]).name, result["loss"]) == ("roberta", "plain")
    for name, accuracy, more in (
        ("mnli", 0.5, {}),
        ("mnli.rdrop", 0.7, {"loss": "loralib_rdrop"}),
        ("rte", 0.6, {"task": "rte"}),
    ):
        metrics = {"accuracy": accuracy, "mismatched_accuracy": accuracy}
        (tmp_path / "small" / name).mkdir(parents=True)
        text = json.dumps({**result, **more, "metrics": metrics})
        (tmp_path / "small" / name / "result.json").write_text(text)
    (tmp_path / "large" / "mnli").mkdir(parents=True)
    other = {**result, "base": "large", "metrics": {"accuracy": 0.9, "mismatched_accuracy": 0.9}}
    (tmp_path / "large" / "mnli" / "result.json").write_text(json.dumps(other))

    def means(*folders: str) -> dict[tuple[str, str, str], float]:
        code, out, err = run("compare", *(tmp_path / folder for folder in folders), "--json")
        assert code == 0, err
        table = json.loads(out)
        return {
            (column["task"], row["name"], row["base"]): cell["center"]
            for row in table["rows"]
            if row["base"]
            for column, cell in zip(table["columns"], row["cells"], strict=True)
            if cell["values"]
        }

    base, rdrop = result["base"], "LoRA, loss.kind=loralib_rdrop"
    small = {("mnli", "LoRA", base): 0.5, ("mnli", rdrop, base): 0.7, ("rte", "LoRA", base): 0.6}
    assert means("small") == small
    assert means("small", "large") == {**small, ("mnli", "LoRA", "large"): 0.9}
