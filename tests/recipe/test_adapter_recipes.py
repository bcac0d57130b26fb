"""A file with several adapters: what each recipe is, and what is wrong with one."""

from __future__ import annotations

from typing import Any

import pytest

from lorakit.errors import ConfigError
from lorakit.recipe.adapter_recipes import adapter_recipes
from lorakit.recipe.catalogue import recipe_file
from lorakit.recipe.schema import from_mapping
from lorakit.recipe.yaml_file import load_recipe, with_settings


def file(**adapters: Any) -> dict[str, Any]:
    shared = {"base": "b", "data": {"train": "t.csv"}, "output": "runs", "lora": {"r": 4}}
    return {**shared, "training": {"seed": 3}, "adapters": adapters}


def test_each_has_what_is_shared_and_its_own() -> None:
    found = adapter_recipes(
        file(small={"lora.r": 2}, other={"data.train": "o.csv", "training": {"learning_rate": 0.1}})
    )
    assert list(found) == ["small", "other"]
    assert [recipe.output for recipe in found.values()] == ["runs/small", "runs/other"]
    assert [recipe.lora.r for recipe in found.values()] == [2, 4]
    assert [recipe.data.train for recipe in found.values()] == ["t.csv", "o.csv"]
    assert found["other"].training.learning_rate == 0.1
    assert found["other"].training.seed == 3


def test_settings_are_for_all_and_output_for_the_file() -> None:
    settings = ["lora.r=9", "output=elsewhere", "adapters.a.lora.r=5"]
    found = adapter_recipes(file(a={"lora.r": 2}, b={}), settings)
    assert [recipe.lora.r for recipe in found.values()] == [9, 9]
    assert found["a"].output == "runs/a"


def test_every_mistake_is_listed_once() -> None:
    wrong = file(a={"lora.r": 0}, b={"lora.rank": 3}, c={})
    wrong["training"] = {"epoch": 1}
    with pytest.raises(ConfigError) as error:
        adapter_recipes(wrong)
    problems = error.value.problems
    assert any(text.startswith("unknown setting training.epoch") for text in problems)
    assert any(text.startswith("adapters.a: lora.r is 0") for text in problems)
    assert any(text.startswith("adapters.b: unknown setting lora.rank") for text in problems)
    assert len(problems) == 3


@pytest.mark.parametrize("adapters", [{}, [], "a", None])
def test_adapters_are_names_with_settings(adapters: Any) -> None:
    with pytest.raises(ConfigError, match=r"adapters is .*; it must be a mapping"):
        adapter_recipes({**file(), "adapters": adapters})


@pytest.mark.parametrize("name", ["", "..", "a/b", 3])
def test_a_name_is_a_directory(name: Any) -> None:
    with pytest.raises(ConfigError, match="names no directory"):
        adapter_recipes({**file(), "adapters": {name: {}}})


def test_settings_of_an_adapter_are_a_mapping() -> None:
    with pytest.raises(ConfigError, match=r"its settings are 3; they must be a mapping"):
        adapter_recipes(file(a=3, b={}))


def test_a_setting_of_an_adapter_stands_once() -> None:
    with pytest.raises(ConfigError, match=r"adapters.a: it has \['lora.r'\] twice"):
        adapter_recipes(file(a={"lora": {"r": 2}, "lora.r": 3}, b={}))


def test_the_shipped_one_is_of_four_tasks() -> None:
    mapping = load_recipe(recipe_file("four-tasks"))
    found = adapter_recipes(with_settings(mapping, ["adapters.reviews.data.train=mine.csv"]))
    assert list(found) == ["reviews", "sst2", "mrpc", "qnli"]
    assert found["reviews"].data.train == "mine.csv"
    assert found["mrpc"].training.epochs == 3
    assert {recipe.training.base_dropout for recipe in found.values()} == {"off"}


def test_one_recipe_has_no_adapters() -> None:
    with pytest.raises(ConfigError, match="adapters makes it recipes of several runs"):
        from_mapping(file(a={}))
