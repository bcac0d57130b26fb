"""An adapter opened beside its base, and the rows that a run is measured on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lorakit.errors import StateError
from lorakit.inference.description import LoadOptions, describe
from lorakit.inference.session import evaluation_tables
from lorakit.recipe.schema import Recipe, from_mapping
from lorakit.recipe.yaml_file import load_recipe, to_yaml
from lorakit.runs.directory import RECIPE
from lorakit.runs.origin import ORIGIN
from lorakit.training import train
from tests.inference.test_batch_generation import saved_adapter
from tests.training import tiny, tiny_gpt2


@pytest.mark.usefixtures("torch_for_gpus")
def test_a_torch_for_gpus_opens_an_adapter_on_a_machine_without_one(tmp_path):
    session = saved_adapter(tiny_gpt2.save_gpt2(tmp_path / "base"), tmp_path / "adapter")
    assert session.model.device.type == "cpu"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """That of a finished run, as it was trained."""
    place = tmp_path_factory.mktemp("run")
    base, data = tiny.save_encoder(place / "base"), tiny.save_reviews(place / "reviews.csv")
    recipe = tiny.recipe(base, data, place / "run", training={"max_steps": 1})
    train(recipe, lambda text: None)
    return from_mapping(load_recipe(Path(recipe.output) / RECIPE))


def with_recipe(recipe: Recipe, place: Path) -> str:
    """A copy of the run with this recipe."""
    shutil.copytree(recipe.output, place)
    (place / RECIPE).write_text(to_yaml(recipe), encoding="utf-8")
    return str(place)


def test_a_run_is_not_measured_on_rows_that_it_learned_where_its_data_file_grew(
    recipe: Recipe, tmp_path: Path
) -> None:
    grown = Path(shutil.copy(recipe.data.train_name, tmp_path / "grown.csv"))
    data = replace(recipe.data, train=str(grown))
    source = with_recipe(replace(recipe, data=data), tmp_path / "run")
    run = describe(source)
    assert len(evaluation_tables(run, None)["test"]) == 12
    with grown.open("a", encoding="utf-8") as file:
        file.write("the film was good,pos\n")
    with pytest.raises(StateError, match="pass --data FILE") as caught:
        evaluation_tables(run, None)
    assert "test: column text (data) has changed" in caught.value.problems
    assert not any("rows" in problem for problem in caught.value.problems)
    assert len(evaluation_tables(run, str(grown))["test"]) == 61
    (tmp_path / "run" / ORIGIN).unlink()  # of a run without one it cannot be told
    assert len(evaluation_tables(run, None)["test"]) == 12


def test_a_run_with_a_damaged_origin_is_measured_on_a_file(recipe: Recipe, tmp_path: Path) -> None:
    run = describe(with_recipe(recipe, tmp_path / "run"))
    damaged = tmp_path / "run" / ORIGIN
    damaged.write_text("{")
    with pytest.raises(StateError, match="pass --data FILE") as caught:
        evaluation_tables(run, None)
    assert str(damaged) in str(caught.value)
    assert "delete" not in str(caught.value)
    assert len(evaluation_tables(run, recipe.data.train_name)["test"]) == 60


def test_a_revision_is_that_of_the_runs_own_base_alone(recipe: Recipe, tmp_path: Path) -> None:
    source = with_recipe(replace(recipe, revision="refs/pr/7"), tmp_path / "run")
    for base, revision in {None: "refs/pr/7", recipe.base: "refs/pr/7", "other": None}.items():
        found = describe(source, LoadOptions(base=base))
        assert (found.base, found.revision) == (base or recipe.base, revision)
        assert found.recipe is not None
        assert found.recipe.revision == revision


def test_the_own_set_is_called_as_the_recipe_says(recipe: Recipe, tmp_path: Path) -> None:
    session = saved_adapter(tiny_gpt2.save_gpt2(tmp_path / "base"), tmp_path / "adapter")
    assert session.measured_on == "test"
    data = replace(recipe.data, measured_on="validation")
    assert replace(session, recipe=replace(recipe, data=data)).measured_on == "validation"
