"""One recipe file for several tasks: which settings count, and what is said about mistakes."""

from __future__ import annotations

import pytest

from lorakit.errors import ConfigError
from lorakit.recipe.schema import from_mapping
from lorakit.recipe.yaml_file import with_settings

FILE = {
    "base": "b",
    "output": "runs/{task}",
    "data": {"train": "glue", "task": "{task}"},
    "training": {"epochs": 3, "seed": 1},
    "tasks": {
        "rte": {"training.epochs": 80},
        "mnli": {"training.learning_rate": 5e-4, "data.max_length": 64},
        "mnli.rdrop": {"data.task": "mnli", "training.seed": 42},
    },
}


def test_a_task_goes_over_the_file_and_a_setting_over_the_task():
    recipe = from_mapping(with_settings(FILE, ["task=rte"]))
    assert (recipe.training.epochs, recipe.training.seed) == (80, 1)
    assert (recipe.output, recipe.data.task) == ("runs/rte", "rte")
    asked = from_mapping(with_settings(FILE, ["training.epochs=1", "task=rte", "output=here"]))
    assert (asked.training.epochs, asked.output) == (1, "here")


def test_a_name_with_a_dot_is_built_on_the_one_before_it():
    recipe = from_mapping(with_settings(FILE, ["task=mnli.rdrop"]))
    assert (recipe.output, recipe.data.task) == ("runs/mnli.rdrop", "mnli")
    assert (recipe.training.learning_rate, recipe.training.seed) == (5e-4, 42)


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (["{task}.csv", "more.csv"], ("rte.csv", "more.csv")),
        ({"{task}.csv": 2, "more.csv": 0.5}, {"rte.csv": 2, "more.csv": 0.5}),
    ],
)
def test_the_name_of_a_task_stands_in_lists_and_keys_too(train, expected):
    data = {"train": train, "text": ["{task}_text"], "task": "classification"}
    recipe = from_mapping(with_settings({**FILE, "data": data}, ["task=rte"]))
    assert (recipe.data.train, recipe.data.text) == (expected, ("rte_text",))


def test_the_file_itself_may_choose_and_the_choice_leaves_the_file_as_it_was():
    before = {**FILE, "tasks": dict(FILE["tasks"])}
    mapping = with_settings({**FILE, "task": "rte"}, [])
    assert mapping["training"]["epochs"] == 80
    assert "task" not in mapping
    assert "tasks" not in mapping
    assert before == FILE


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        (
            "task=ret",
            "task is 'ret' (did you mean 'rte'?); it must be one of rte, mnli, mnli.rdrop",
        ),
        (
            "training.seed=2",
            "task is missing; this recipe has several: choose with --set task=NAME, one of rte,",
        ),
        ("tasks=[rte]", "tasks must be a mapping of names to settings"),
    ],
)
def test_a_task_that_cannot_be_chosen_is_told_with_the_other_mistakes(setting, problem):
    with pytest.raises(ConfigError) as caught:
        from_mapping(with_settings(FILE, [setting, "training.epoch=2", "method=lroa"]))
    problems = "\n".join(caught.value.problems)
    assert problem in problems
    assert len(caught.value.problems) == (4 if "tasks" in setting else 3)
    assert "unknown setting training.epoch" in problems
    assert "method is 'lroa'" in problems


def test_settings_of_a_task_are_checked_like_any_other():
    file = {**FILE, "tasks": {"rte": {"training.epochs.two": 1}}}
    with pytest.raises(ConfigError, match=r"training\.epochs\.two: epochs is a value"):
        with_settings(file, ["task=rte"])


def test_task_is_no_setting_where_a_recipe_is_for_one():
    plain = {name: value for name, value in FILE.items() if name != "tasks"}
    with pytest.raises(ConfigError, match="unknown setting task"):
        from_mapping(with_settings(plain, ["task=rte"]))


def test_an_unknown_task_of_the_data_is_suggested():
    mapping = {"base": "b", "output": "o", "data": {"train": "t", "task": "mrcp"}}
    with pytest.raises(ConfigError, match=r"task is 'mrcp' \(did you mean 'mrpc'\?\)"):
        from_mapping(mapping)
