"""A mistake in a setting is named by where the setting stands in the sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorakit.experiments.places import placed
from tests.experiments.sweeps import sweep
from tests.experiments.test_sweep_file import problems

LORA = {"method": "lora", "lora.r": 0}


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        (
            {"settings": {"training.learning_rate": -1.0}},
            "settings.training.learning_rate is -1.0;",
        ),
        ({"settings": {"training": {"learning_rate": -1.0}}}, "settings.training.learning_rate is"),
        ({"tasks": {"one": {"data.max_length": 0}}}, "tasks.one.data.max_length is 0; it must"),
        ({"methods": {"lora": {"lora": {"r": 0}}}}, "methods.lora.lora.r is 0;"),
        ({"methods": {"a": LORA, "b": {"like": "a"}}}, "methods.a.lora.r is 0;"),
        ({"methods": {"a": {"method": "lora"}, "b": {**LORA, "like": "a"}}}, "methods.b.lora.r is"),
        ({"grid": {"lora.r": [0]}}, "grid.lora.r is 0;"),
        ({"methods": {"lora": {"grid": {"lora.r": [0]}}}}, "methods.lora.grid.lora.r is 0;"),
        ({"choose": {"lora.r": [0, 1]}}, "choose.lora.r is 0;"),
        ({"seeds": [-1]}, "seeds is -1;"),
        ({"methods": {"head": {"training.learning_rate": 1e30}}}, "methods.head.training.learning"),
        ({"settings": {"init_adapter": 3}}, "settings.init_adapter is 3;"),
        ({"settings": {"trains": {"epochs": 3}}}, "unknown setting trains"),
        (
            {"methods": {"x": {"method": "lora_prefix", "lora_prefix": {"lora": {"r": 0}}}}},
            "methods.x.lora_prefix.lora.r is 0;",
        ),
    ],
)
def test_a_value_that_is_out_of_range_is_named_by_its_place(
    tmp_path: Path, changes: dict[str, Any], begins: str
) -> None:
    changed = sweep(tmp_path)
    if "settings" in changes:
        changes = {**changes, "settings": {**changed["settings"], **changes["settings"]}}
    assert any(p.startswith(begins) for p in problems({**changed, **changes})), begins


def test_a_value_of_the_recipe_alone_has_its_name_there() -> None:
    problem = "base.csv is not there, training.epochs is 0 and lora.r.x is 1"
    places = {"base": "base", "lora.r": "grid.lora.r"}
    assert placed(problem, places) == problem.replace("lora.r.x", "grid.lora.r.x")


def test_mistakes_of_form_and_of_values_are_said_at_once(tmp_path: Path) -> None:
    mapping = sweep(tmp_path, seeds="0,1", statistic="mode", reference="nobody")
    mapping["settings"]["training.learning_rate"] = -1.0
    mapping["methods"] = ["lroa", "lora"]
    found = problems(mapping)
    assert len(found) == 5
    for named in ("seeds", "statistic", "methods.lroa", "reference", "settings.training.learning"):
        assert any(problem.startswith(named) for problem in found), named


def test_an_output_without_a_name_is_named(tmp_path: Path) -> None:
    assert problems({**sweep(tmp_path), "output": ""}) == ("output is empty; name a directory",)


def test_what_is_missing_is_said_once(tmp_path: Path) -> None:
    assert problems({}) == (
        "output is missing",
        "tasks is missing",
        "methods is missing",
        "base is missing; name a model, or several in bases",
    )
    assert problems(sweep(tmp_path, base=3)) == ("base is 3; it must be a string or null",)
