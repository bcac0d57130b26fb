"""What runs would fail for is found before the first of them: data, metrics, methods of a base."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import LlamaConfig

from lorakit.experiments.sweep_file import runnable
from lorakit.tables import reading
from tests.experiments.sweeps import T, sweep
from tests.experiments.test_sweep_file import problems

RATES = {"training.learning_rate": [0.1, 0.2]}


def test_a_misspelt_metric_is_named_once_with_those_that_the_task_has(tmp_path: Path) -> None:
    tasks = {"one": {"metrics": ["accurate", "loss"]}}
    (problem,) = problems(sweep(tmp_path, tasks=tasks, choose=RATES))
    assert problem == (
        "tasks.one.metrics has 'accurate' (did you mean 'accuracy'?); the task classification has "
        "accuracy, f1, matthews_correlation, loss (in tiny/one/head and 1 other)"
    )


@pytest.mark.parametrize(
    ("task", "metrics"),
    [
        ("mnli", ["accuracy", "mismatched_accuracy"]),
        ("stsb", ["pearson", "spearman", "mse"]),
        ("mrpc", ["f1_binary"]),
        ("regression", ["mse"]),
        ("token_classification", ["f1_PER", "overall_f1"]),
        ("multi_label_classification", ["f1_macro"]),
    ],
)
def test_metrics_that_a_task_has_are_taken(tmp_path: Path, task: str, metrics: list[str]) -> None:
    runnable(sweep(tmp_path, tasks={"one": {"data.task": task, "metrics": metrics}}))


def test_a_misspelt_metric_of_a_published_figure_is_named(tmp_path: Path) -> None:
    figures = [{"method": "lora", "source": "s", "values": {"one": {"acc": 80}}}]
    (problem,) = problems(sweep(tmp_path, published=figures))
    assert problem.startswith("published has for one 'acc'; the task classification has accuracy")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data.train": "missing.csv"}, "settings.data.train: missing.csv does not exist"),
        ({"data.train": "gone/*.csv"}, "settings.data.train: No file fits the pattern gone/*.csv."),
        ({"data.train": [T, "missing.tsv"]}, "settings.data.train: missing.tsv does not exist"),
        ({"data.test": "missing.json"}, "settings.data.test: missing.json does not exist"),
        ({"data.validation": "no.csv"}, "settings.data.validation: no.csv does not exist"),
    ],
)
def test_data_that_are_not_there_are_named_once_before_any_run(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    mapping = sweep(tmp_path, tasks=["one"])
    mapping["settings"] |= settings
    (problem,) = problems(mapping)
    assert problem.startswith(message)
    assert problem.endswith("(in tiny/one/head and 1 other)")


def test_a_name_on_the_hub_is_not_looked_for(tmp_path: Path) -> None:
    runnable(sweep(tmp_path, tasks={"one": {"data.train": "nyu-mll/glue:sst2"}}))


def test_a_base_that_a_method_cannot_be_used_on_is_named_where_the_task_is_guessed(
    tmp_path: Path,
) -> None:
    base = tmp_path / "llama"
    sizes = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8, "vocab_size": 9}
    LlamaConfig(num_attention_heads=2, **sizes).save_pretrained(base)
    tasks = {"one": {"data.task": None}}
    (problem,) = problems(sweep(tmp_path, base=str(base), tasks=tasks, methods=["bitfit", "lora"]))
    assert problem.startswith(f"the method bitfit cannot be used on {base}: ")


def test_data_that_tell_no_task_are_named(tmp_path: Path) -> None:
    file = tmp_path / "odd.csv"
    file.write_text("a,b,c\n1,2,3\n")
    tasks = {"one": {"data.task": None, "data.train": str(file)}}
    (problem,) = problems(sweep(tmp_path, tasks=tasks))
    assert problem.startswith(f"The task and columns of {file} cannot be determined:")


def test_data_are_read_once_for_all_methods(tmp_path: Path, monkeypatch) -> None:
    read: list[str] = []
    table_of = reading.read_table

    def counted(source: str, split: str = "train"):
        read.append(source)
        return table_of(source, split)

    monkeypatch.setattr("lorakit.recipe.data.training_tables", lambda data, log: {T: counted(T)})
    runnable(sweep(tmp_path, tasks={"one": {"data.task": None}}))
    assert read == [T]
