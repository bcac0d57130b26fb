"""Settings of a training that a recipe leaves open: derived from data, base and method."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config

from lorakit.methods import METHODS
from lorakit.recipe.adapter_recipes import adapter_recipes
from lorakit.recipe.catalogue import shipped_recipes
from lorakit.recipe.data import with_guesses
from lorakit.recipe.defaults import step_count, with_defaults
from lorakit.recipe.schema import ADAPTERS, Recipe, from_mapping
from lorakit.recipe.yaml_file import load_recipe, with_settings

OPEN = {"learning_rate": 1e-3}
"""With a learning rate nothing is asked of the base."""


def recipe(**sections: Any) -> Recipe:
    data = {"train": "t.csv", "task": "classification", **sections.pop("data", {})}
    given = {"base": "b", "output": "o", "training": OPEN, **sections}
    return from_mapping({**given, "data": data})


def derived(examples: int, **sections: Any) -> Recipe:
    return with_defaults(recipe(**sections), examples, lambda text: None)


@pytest.mark.parametrize(
    ("examples", "batch", "epochs"),
    [(12, 8, 20), (108, 8, 20), (450, 16, 11), (9072, 32, 2), (100_000, 32, 1)],
)
def test_small_data_get_enough_steps_and_large_ones_no_more_than_an_epoch(
    examples: int, batch: int, epochs: int
) -> None:
    training = derived(examples).training
    assert (training.total_batch, training.epochs) == (batch, epochs)
    assert step_count(training, examples) >= 300 or training.epochs == 20


def test_a_task_without_a_new_head_takes_fewer_steps() -> None:
    training = derived(108, data={"task": "generation"}).training
    assert (training.total_batch, training.epochs, step_count(training, 108)) == (8, 8, 112)


def test_given_values_win() -> None:
    given = {"learning_rate": 0.5, "epochs": 0.5, "total_batch": 3, "early_stopping": 0}
    said: list[str] = []
    asked = recipe(training=given, data={"validation": 5})
    assert with_defaults(asked, 450, said.append) == asked
    assert said == []


def test_max_steps_leave_one_epoch() -> None:
    training = derived(450, training={**OPEN, "max_steps": 7}).training
    assert (training.epochs, step_count(training, 450)) == (1, 7)


@pytest.mark.parametrize(("validation", "patience"), [(None, 0), (0.1, 5), ("dev.csv", 5)])
def test_a_validation_set_stops_early(validation: Any, patience: int) -> None:
    assert derived(450, data={"validation": validation}).training.early_stopping == patience


@pytest.mark.parametrize(("method", "rate"), [("lora", 0.025), ("full", 1.3e-3), ("head", 0.1)])
def test_the_learning_rate_is_the_methods_for_the_width_of_the_base(
    method: str, rate: float, tmp_path: Path
) -> None:
    GPT2Config(n_embd=16, n_head=2).save_pretrained(tmp_path)
    found = derived(450, method=method, base=str(tmp_path), training={})
    assert found.training.learning_rate == rate
    own = METHODS[method]
    assert own.learning_rate(4096) == pytest.approx(own.learning_rate(1024) / 4)


def test_with_loraplus_the_derived_rate_is_between_those_of_a_and_b(tmp_path: Path) -> None:
    GPT2Config(n_embd=16, n_head=2).save_pretrained(tmp_path)
    a, both = (
        derived(450, base=str(tmp_path), training=training).training.learning_rate
        for training in ({"loraplus_lr_ratio": 16}, {})
    )
    assert a is not None
    assert both is not None
    assert (a * 16) * a == pytest.approx(both**2, rel=0.05)  # two digits


def test_what_is_derived_is_said() -> None:
    said: list[str] = []
    with_defaults(recipe(data={"validation": 5}), 450, said.append)
    assert said == [
        "derived from 450 examples: total_batch 16, epochs 11 (319 steps), early_stopping 5"
    ]


def test_rows_that_are_split_off_do_not_count(tmp_path: Path) -> None:
    rows = [{"text": f"row {i}", "label": "xy"[i % 2]} for i in range(100)]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    said: list[str] = []
    with_guesses(recipe(data={"train": str(file), "test": 20, "validation": 0.5}), said.append)
    assert said[-1].startswith("derived from 40 examples: ")


def test_one_long_text_counts_as_its_pieces(tmp_path: Path) -> None:
    file = tmp_path / "book.jsonl"
    text = {"text": "a word and " * 20_000}
    file.write_text("\n".join([json.dumps(text)] * 2), encoding="utf-8")
    data = {"train": str(file), "test": 1, "task": None}
    found = with_guesses(recipe(data=data), lambda text: None)
    assert (found.data.task, found.data.max_length) == ("language_modeling", 512)
    assert (found.training.total_batch, found.training.epochs) == (8, 8), "108 pieces"


FOR_ANY_BASE = ("glue",)
"""Recipes whose learning rate follows from the base that is chosen."""


@pytest.mark.parametrize(
    "shipped",
    [recipe for recipe in shipped_recipes().recipes if recipe.name not in FOR_ANY_BASE],
    ids=lambda shipped: shipped.name,
)
def test_shipped_recipes_leave_nothing_to_derive(shipped: Any) -> None:
    mapping = load_recipe(Path(shipped.file))
    for asked in _asked(mapping):
        found = with_defaults(asked, 450, lambda text: None).training
        assert found == replace(asked.training, early_stopping=0)


def _asked(mapping: dict[str, Any]) -> list[Recipe]:
    """Each run that a shipped recipe can make, with a base and data."""
    if ADAPTERS in mapping:
        return list(adapter_recipes(mapping).values())
    own = [with_settings(mapping, [f"task={task}"]) for task in mapping.get("tasks", ())]
    return [
        from_mapping({**one, "base": "b", "data": {"train": "t.csv", **one["data"]}})
        for one in own or [mapping]
    ]
