"""Runs with bottleneck adapters continue where they were killed, and their files are small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from lorakit.methods import METHODS
from lorakit.recipe.schema import Recipe
from lorakit.training import train
from tests.training import tiny
from tests.training.test_resuming import assert_equal_runs, trained

EACH = pytest.mark.parametrize("name", ["houlsby", "pfeiffer", "lin", "adapter_drop"])


def recipe(name: str, base: Path, data: Path, output: Path, **training: Any) -> Recipe:
    config = METHODS[name].config_type(bottleneck=2)
    plain = tiny.recipe(base, data, output, training={"learning_rate": 0.01, **training})
    return replace(plain, method=name, settings={name: config})


@EACH
def test_a_killed_run_continues_to_the_same_adapters(name, encoder, reviews, tmp_path):
    whole = trained(recipe(name, encoder, reviews, tmp_path / "whole"))
    cut = recipe(name, encoder, reviews, tmp_path / "cut")
    trained(cut, 8)
    assert_equal_runs(whole, trained(cut))


@EACH
def test_a_run_saves_the_adapters_and_the_head_alone(name, encoder, reviews, tmp_path):
    train(recipe(name, encoder, reviews, tmp_path, max_steps=4), lambda text: None)
    stored = load_file(tmp_path / "adapter/trained.safetensors")
    assert all(".adapter." in key for key in stored if ".encoder." in key)
    assert {"classifier.weight", "classifier.bias"} <= stored.keys()
    assert all(tensor.any() for key, tensor in stored.items() if key.endswith((".down", ".up")))
