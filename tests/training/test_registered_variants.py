"""A kind of adapter from outside trains through a recipe, is killed, goes on, and answers."""

from __future__ import annotations

import json

import pytest
import torch
from torch.testing import assert_close

from lorakit.checkpoint import read
from lorakit.inference import open_session
from lorakit.training import train
from tests.training import tiny
from tests.training.test_resuming import assert_equal_runs, trained
from tests.variants.toys import registered

LORA = {
    "variant": "hadamard",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["query", "value"],
    "lora_dropout": 0,
}


@pytest.fixture(autouse=True)
def hadamard():
    with registered():
        yield


def test_it_trains_and_its_run_says_what_it_is(encoder, reviews, tmp_path):
    said: list[str] = []
    result = train(tiny.recipe(encoder, reviews, tmp_path / "run", lora=LORA), said.append)
    assert any("Hadamard" in text for text in said)
    bundle = read(tmp_path / "run/adapter")
    assert {adapter.spec.variant for adapter in bundle.adapters.values()} == {"hadamard"}
    moved = [x.tensors["lora_B"] for x in bundle.adapters.values()]
    assert all(tensor.any() for tensor in moved)
    mask = next(iter(bundle.adapters.values())).tensors["mask"]
    assert_close(mask.flatten()[:4], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert result.trainable_parameters < sum(x.parameters for x in bundle.adapters.values())
    session = open_session(str(tmp_path / "run"))
    assert session.model is not None
    assert json.loads((tmp_path / "run/result.json").read_text())["method"] == "lora"


def test_a_killed_run_goes_on_to_the_same_weights(encoder, reviews, tmp_path):
    whole = trained(tiny.recipe(encoder, reviews, tmp_path / "whole", lora=LORA))
    recipe = tiny.recipe(encoder, reviews, tmp_path / "cut", lora=LORA)
    trained(recipe, kill_after=8)
    assert_equal_runs(whole, trained(recipe))
