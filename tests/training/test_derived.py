"""Runs whose settings are derived: the recipe on disk has them, and random weights take no harm."""

from __future__ import annotations

import json

import pytest

from lorakit.errors import StateError
from lorakit.recipe.schema import from_mapping
from lorakit.recipe.yaml_file import load_recipe
from lorakit.training import train
from tests.training import tiny

OPEN = {"learning_rate": None, "total_batch": None}


def test_the_runs_recipe_has_what_was_derived_and_the_run_goes_on(encoder, reviews, tmp_path):
    training = OPEN | {"epochs": None, "early_stopping": None, "evaluations": 40}
    recipe = tiny.recipe(encoder, reviews, tmp_path, training=training)
    tiny.interrupt(recipe, 4)
    stored = from_mapping(load_recipe(tmp_path / "recipe.yaml")).training
    assert (stored.learning_rate, stored.total_batch, stored.epochs) == (0.025, 8, 20)
    assert stored.early_stopping == 0
    other = tiny.recipe(encoder, reviews, tmp_path, training=training | {"total_batch": 16})
    with pytest.raises(StateError, match="total_batch is 8 in that run and 16 in this recipe"):
        train(other, lambda text: None)
    said: list[str] = []
    result = train(recipe, said.append)
    assert result.steps == 120
    assert any(line.startswith("resuming from") for line in said)


@pytest.mark.parametrize("method", ["lora", "full", "head"])
def test_a_derived_learning_rate_does_random_weights_no_harm(method, encoder, reviews, tmp_path):
    training = OPEN | {"max_steps": 30, "evaluations": 1}
    recipe = tiny.recipe(encoder, reviews, tmp_path, method=method, training=training)
    result = train(recipe, lambda text: None)
    losses = [e["loss"] for e in json.loads((tmp_path / "log.json").read_text()) if "loss" in e]
    assert sum(losses[-5:]) < 1.05 * sum(losses[:5])
    assert result.metrics["loss"] < 0.8
