"""The plan of a recipe is the one that its run begins with, without the base's weights."""

from __future__ import annotations

import pytest

from lorakit.errors import ConfigError
from lorakit.planner.table import plan_steps
from lorakit.training import train
from lorakit.training.recipe_step import recipe_steps
from tests.training import tiny


def plan_of(recipe):
    said: list[str] = []
    table = plan_steps(recipe_steps({recipe.method: recipe}, said.append))
    return table.plans[recipe.method], said


CHANGES = {
    "plain": {},
    "two passes": {"loss": {"kind": "rdrop"}},
    "smoothed labels": {"training": {"max_steps": 1, "label_smoothing": 0.1}},
    "checkpointing": {"training": {"max_steps": 1, "gradient_checkpointing": True}},
    "no clipping": {"training": {"max_steps": 1, "max_grad_norm": 0}},
    "bf16": {"training": {"max_steps": 1, "dtype": "bf16"}},
    "small micro-batches": {"training": {"max_steps": 1, "token_budget": 32}},
}


QUICK = ("two passes", "smoothed labels", "small micro-batches")


@pytest.mark.parametrize(
    "change",
    [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CHANGES],
)
def test_peak_is_the_one_that_the_run_predicts(change, encoder, reviews, tmp_path):
    settings = {"method": "full", "training": {"max_steps": 1}, **CHANGES[change]}
    recipe = tiny.recipe(encoder, reviews, tmp_path / "run", **settings)
    plan, _ = plan_of(recipe)
    assert not (tmp_path / "run").exists()
    assert plan.peak_bytes == train(recipe, lambda _: None).planned_peak_bytes


def test_settings_are_those_of_the_longest_batch(encoder, reviews, tmp_path):
    training = {"token_budget": 64, "total_batch": 8, "dtype": "bf16"}
    plan, said = plan_of(tiny.recipe(encoder, reviews, tmp_path, training=training))
    settings = plan.settings
    assert (settings.batch, settings.rows, settings.length) == (8, 4, 16)
    assert settings.dtype == "bf16"
    assert any(line.startswith("guessed from") for line in said)


def test_rows_as_long_as_the_recipe_allows_stand_in_for_data(encoder, reviews, tmp_path):
    training = {"token_budget": 64, "total_batch": 8, "base_dropout": "off"}
    recipe = tiny.recipe(
        encoder, tmp_path / "missing.csv", tmp_path, training=training, data={"max_length": 20}
    )
    plan, (note,) = plan_of(recipe)
    assert (plan.settings.batch, plan.settings.rows, plan.settings.length) == (8, 3, 20)
    assert "missing.csv does not exist" in note


def test_row_is_as_long_as_the_base_has_positions(encoder, tmp_path):
    recipe = tiny.recipe(encoder, tmp_path / "missing.csv", tmp_path)
    plan, _ = plan_of(recipe)
    sections = {"method": "prefix_embedding", "prefix_embedding": {"prefix": 5, "infix": 3}}
    prefixed, _ = plan_of(tiny.recipe(encoder, tmp_path / "missing.csv", tmp_path, **sections))
    assert plan.settings.length == 40
    assert prefixed.settings.length == 40 - 5 - 3


def test_what_is_said_of_all_methods_is_said_once(encoder, reviews, tmp_path):
    recipes = {
        name: tiny.recipe(encoder, reviews, tmp_path, method=name) for name in ("full", "head")
    }
    said: list[str] = []
    table = plan_steps(recipe_steps(recipes, said.append))
    assert list(table.plans) == ["full", "head"]
    assert len(said) == len(set(said))


def test_base_without_a_limit_needs_one(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("lorakit.training.recipe_step.position_limit", lambda model: None)
    with pytest.raises(ConfigError, match=r"set data\.max_length"):
        plan_of(tiny.recipe(encoder, tmp_path / "missing.csv", tmp_path))
