"""Several adapters without `--data`: each on the rows that its own run was tested on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lorakit.runs.origin import begin
from lorakit.tasks import Task
from tests.inference.many.files import ROWS, TASKS, save_all, save_bert, save_run, write_rows
from tests.inference.many.languages import PLAIN, save_llama, save_writers

Sources = dict[str, str]
FP32 = {"dtype": "fp32"}


def rows_of(name: str) -> list[dict[str, Any]]:
    own = [row for row in ROWS if row["adapter"] == name]
    return [{key: value for key, value in row.items() if key != "adapter"} for row in own]


def data_of(folder: Path, name: str, rows: list[dict[str, Any]], task: Task) -> dict[str, Any]:
    """A recipe's data with these as its test rows."""
    file = str(write_rows(folder / f"{name}.jsonl", rows))
    columns = {"text": [*task.text], "label": task.label}
    return {"train": file, "test": file, "validation": None, "task": task.name, **columns}


@pytest.fixture(scope="module")
def runs(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """A classification of pairs, and one of several labels."""
    base, folder = save_bert(minilm, tmp_path_factory.mktemp("b")), tmp_path_factory.mktemp("runs")
    adapters = save_all(base, tmp_path_factory.mktemp("adapters"), ["pairs", "topics"])
    found = {}
    for name, path in adapters.items():
        data = data_of(folder, f"{name}-rows", rows_of(name), TASKS[name])
        found[name] = save_run(path, folder / name, base, data=data, training=FP32)
    return found


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Runs of a language model, each with prompts of its own."""
    base, folder = save_llama(tmp_path_factory.mktemp("l")), tmp_path_factory.mktemp("writers")
    found = {}
    for name, path in save_writers(base, tmp_path_factory.mktemp("adapters")).items():
        rows = [{"prompt": f"w{len(name)} w{n}", "answer": "w1", name: n} for n in range(2)]
        data = data_of(folder, f"{name}-rows", rows, PLAIN)
        found[name] = save_run(path, folder / name, base, data=data, training=FP32)
    return found


def named(sources: Sources) -> list[str]:
    return [part for name, path in sources.items() for part in ("--adapter", f"{name}={path}")]


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_evaluate_gives_each_the_metrics_of_its_own_test_rows(run, runs):
    code, out, err = run("evaluate", *named(runs), "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["rows"], found["data"]) == (4, "their own sets")
    assert [one["adapter"] for one in found["adapters"]] == [*runs]
    for one in found["adapters"]:
        code, out, err = run("evaluate", one["source"], "--json")
        assert code == 0, err
        alone = json.loads(out)
        assert one["metrics"] == pytest.approx(alone["metrics"], rel=1e-5, nan_ok=True)
        assert (one["rows"], one["task"]) == (alone["rows"], alone["task"])


def test_generate_writes_the_test_rows_of_each_with_its_name(run, writers, tmp_path):
    output, short = tmp_path / "all.jsonl", ("--max-new-tokens", "4")
    code, out, err = run("generate", *named(writers), "--output", output, *short)
    assert code == 0, err
    assert out == f"{output}: 6 rows with their completions\n"
    found = lines_of(output)
    assert [(row["adapter"], row["prompt"]) for row in found] == [
        (name, f"w{len(name)} w{n}") for name in writers for n in range(2)
    ]
    for name, path in writers.items():
        own = tmp_path / f"{name}.jsonl"
        code, _, err = run("generate", path, "--output", own, *short)
        assert code == 0, err
        rows = [row for row in found if row["adapter"] == name]
        alone = lines_of(own)
        assert [row["prediction"] for row in rows] == [row["prediction"] for row in alone]
        assert [row[name] for row in rows] == [0, 1]
        assert all(row[other] is None for row in rows for other in writers if other != name)


def test_adapters_without_a_test_set_are_one_message(run, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("lorakit.inference.many.sessions.load_for_task", None)
    alone = {name: f"{path}/adapter" for name, path in runs.items()}
    grown = shutil.copytree(runs["pairs"], tmp_path / "grown")
    begin(grown, {"data": {"test: rows": 1}})
    code, _, err = run("evaluate", *named(alone | {"run": runs["pairs"], "grown": str(grown)}))
    assert code == 1
    assert "These adapters cannot be measured on test sets of their own:" in err
    assert f"grown: The rows of the run in {grown} are no longer" in " ".join(err.split())
    for name, path in alone.items():
        assert f"{name}: {path} is an adapter" in " ".join(err.split())
    assert "run:" not in err


def test_a_column_of_adapters_is_none_of_the_test_sets(run, runs, writers, tmp_path):
    code, _, err = run("evaluate", *named(runs), "--adapter-column", "who")
    assert code == 1
    assert "--adapter-column names a column of --data FILE" in err
    output = tmp_path / "out.jsonl"
    write = ("generate", *named(writers), "--output", output, "--max-new-tokens", "1")
    code, _, err = run(*write, "--adapter-column", "prompt")
    assert code == 1
    assert "The test sets have a column 'prompt' of their own" in err
    assert "legal, poems, dora" in err
    code, _, err = run(*write, "--adapter-column", "who")
    assert code == 0, err
    assert [row["who"] for row in lines_of(output)] == [n for n in writers for _ in range(2)]


@pytest.mark.parametrize("data", [(), ("--data", "gone.jsonl")])
def test_adapters_of_another_command_are_refused_before_rows_are_read(
    run, runs, writers, tmp_path, monkeypatch, data
):
    monkeypatch.setattr("lorakit.inference.many.sessions.load_for_task", None)
    output = ("--output", tmp_path / "out.jsonl")
    code, _, err = run("generate", *named(runs), *output, *data)
    assert code == 1
    assert "These adapters generate no text" in err
    assert "pairs was trained for classification" in err
    if data:
        code, _, err = run("predict", *named(writers), *output, *data)
        assert code == 1
        assert "legal: " in err
        assert "use lorakit generate" in err
