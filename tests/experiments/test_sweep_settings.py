"""Settings that change a sweep, such as those of `--set`."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorakit import errors
from lorakit.experiments.sweep_file import load_sweep, planned
from lorakit.recipe.yaml_file import mapping_text
from lorakit.recipe_files import sweep_files
from tests.experiments.sweeps import sweep


def test_settings_change_the_sweep(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(mapping_text(sweep(tmp_path)))
    changed = load_sweep(file, ["seeds=[3]", "settings.training.max_steps=7", "base=./other"])
    assert changed["seeds"] == [3]
    assert changed["base"] == "./other"
    assert planned(changed).entries.shared.settings["training.max_steps"] == 7


@pytest.mark.parametrize(
    "given",
    [
        {"training": {"epochs": 3}, "training.max_steps": 1},
        {"training.max_steps": 1, "training": {"epochs": 3}},
        {"training": {"epochs": 3, "max_steps": 1}},
        {"training.max_steps": 1, "training.epochs": 3},
    ],
)
def test_a_setting_changes_what_stands_in_a_section_or_beside_it(tmp_path: Path, given) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(mapping_text(sweep(tmp_path, settings=given)))
    changed = load_sweep(file, ["settings.training.max_steps=7"])
    assert planned(changed).entries.shared.settings == {
        "training.epochs": 3,
        "training.max_steps": 7,
    }


def test_a_setting_chooses_none_of_the_tasks_of_a_sweep() -> None:
    with pytest.raises(errors.ConfigError) as error:
        planned(load_sweep(sweep_files()["glue-readme"], ["task=mrpc"]))
    assert error.value.problems == ("unknown setting task (did you mean 'tasks'?)",)


def test_a_setting_that_cannot_be_applied_is_said_of_the_sweep(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(mapping_text(sweep(tmp_path)))
    with pytest.raises(errors.ConfigError) as error:
        load_sweep(file, ["seeds", "base.name=1"])
    assert error.value.headline == "These settings cannot be applied to the sweep:"
    assert error.value.problems == (
        "'seeds' is not of the form NAME=VALUE",
        "base.name: base is a value, not a section of settings",
    )


def test_another_base_takes_the_place_of_several_without_their_settings(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    bases = {"small": {"base": "b/small", "recipe": "reviews"}, "large": {"base": "b/large"}}
    file.write_text(mapping_text(sweep(tmp_path, base=None, bases=bases, recipe="glue")))
    changed = load_sweep(file, ["base=models/mine"])
    assert "bases" not in changed
    (base,) = planned(changed).entries.bases
    assert (base.name, base.own, base.settings) == ("mine", {"base": "models/mine"}, {})
    assert changed["recipe"] == "glue"
