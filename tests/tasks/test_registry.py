"""The table of tasks: what it holds, how one is added, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from datasets import Dataset

from lorakit.errors import ConfigError, FormatError
from lorakit.losses import LOSSES
from lorakit.recipe.decoding import DecodingConfig
from lorakit.recipe.schema import from_mapping
from lorakit.tasks import TASKS, Classification, Columns, Regression, TableTask, Task, register
from lorakit.tasks.columns import make_task, resolve
from lorakit.tasks.registry import task_of_type, task_spec
from lorakit.tasks.task_file import TASK_FILE, load_task, save_task


@dataclass(frozen=True)
class Tone(Classification):
    """A classification with a setting of its own."""

    opening: str = "the"

    name: ClassVar[str] = "tone"


def recognise(table: Any, given: Columns) -> Columns | None:
    found = replace(given, text=("said",), label="tone")
    return found if "tone" in table.column_names else None


@pytest.fixture
def tone() -> Iterator[None]:
    register(TableTask("tone", Tone, recognise=recognise))
    yield
    del TASKS["tone"]


def test_every_entry_has_its_own_name_and_a_class_that_task_files_find() -> None:
    for name, spec in TASKS.items():
        assert spec.name == name
        assert TASKS[spec.task_class.name].task_class is spec.task_class


@pytest.mark.parametrize("name", TASKS)
def test_decoding_is_settings_of_sampling(name: str) -> None:
    DecodingConfig(**TASKS[name].decoding)


def test_what_only_labels_and_rows_of_logits_allow_is_known_for_every_task() -> None:
    rdrop = LOSSES["rdrop"]
    one_pass = {n for n, spec in TASKS.items() if rdrop.problem_with(spec.task_class, n)}
    corpora = {"e2e", "webnlg", "dart", "data_to_text"}
    several = {"multi_label_classification"}
    texts = {"generation", "chat", "language_modeling", *corpora}
    assert one_pass == {"multiple_choice", "token_classification", *texts, *several}
    learned = {
        what: {n for n, spec in TASKS.items() if spec.task_class.learns == what}
        for what in ("a number", "a set of labels")
    }
    assert learned == {"a number": {"regression", "stsb"}, "a set of labels": several}


def test_task_types_of_peft_mean_a_task() -> None:
    types = ("CAUSAL_LM", "SEQ_CLS", "TOKEN_CLS", None)
    tasks = ["generation", "classification", "token_classification", None]
    assert [*map(task_of_type, types)] == tasks


@pytest.mark.usefixtures("tone")
def test_an_added_task_is_guessed_made_and_kept_with_an_adapter(tmp_path: Path) -> None:
    table = Dataset.from_dict({"said": ["a", "b"], "tone": ["warm", "cold"], "messages": ["", ""]})
    columns = resolve(table, Columns())
    assert columns == Columns("tone", ("said",), "tone")
    task = make_task(table, columns, 9)
    assert task == Tone(("said",), "tone", 9, ("cold", "warm"))
    save_task(replace(task, opening="a"), tmp_path)
    assert load_task(tmp_path) == replace(task, opening="a")


@pytest.mark.usefixtures("tone")
def test_a_recipe_knows_an_added_task() -> None:
    mapping = {"base": "b", "output": "o", "data": {"train": "t", "task": "tone"}}
    assert from_mapping({**mapping, "loss": {"kind": "rdrop"}}).data.task == "tone"
    mapping["data"] = {"train": "t", "task": "tones"}
    with pytest.raises(ConfigError, match=r"did you mean 'tone'\?.*wnli, tone"):
        from_mapping(mapping)


def test_without_it_a_task_file_says_what_is_missing(tmp_path: Path) -> None:
    save_task(Tone(("said",), "tone", 9, ("a", "b")), tmp_path)
    with pytest.raises(FormatError, match="names an unknown task: task is 'tone'"):
        load_task(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps({"task": "regression"})])
def test_a_damaged_task_file_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / TASK_FILE).write_text(content)
    with pytest.raises(FormatError, match="is damaged"):
        load_task(tmp_path)


@dataclass(frozen=True)
class Nameless(Classification):
    """A class that has forgotten to say its name."""


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (TableTask("classification", Tone), "a task 'classification' is registered already"),
        (TableTask("mnli", Regression), "a task 'mnli' is registered already"),
        (TableTask("tone", Nameless), r"Nameless\.name is 'classification'.*set it to 'tone'"),
        (
            TableTask("mood", Tone),
            r"Tone\.name is 'tone', the name that task files .*; set it to 'mood'",
        ),
    ],
)
def test_a_taken_name_is_refused_and_nothing_has_changed(spec: TableTask, problem: str) -> None:
    before = dict(TASKS)
    with pytest.raises(ConfigError, match=problem):
        register(spec)
    assert before == TASKS


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"The task is 'mrcp' \(did you mean 'mrpc'"):
        task_spec("mrcp")


def test_a_task_may_be_an_entry_of_another_name_as_glues_are() -> None:
    spec = TableTask("stars", Regression)
    register(spec)
    try:
        task: Task = spec.make({"stars": [1, 2]}, Columns("stars", ("text",), "stars"), 8)
        assert (task.name, task_spec("stars")) == ("regression", spec)
    finally:
        del TASKS["stars"]
