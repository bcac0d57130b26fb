"""A set has its model from the beginning, and until it is closed or gone."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn
from torch.testing import assert_close

import lorakit
from lorakit import AdapterSet, LoraConfig
from lorakit.errors import StateError
from tests.adapters.files import alone, output, save
from tests.injection import zoo
from tests.tolerances import MODEL

CONFIG = LoraConfig(r=2, target_modules=["q_proj"])
CASE = zoo.CASES["llama"]


CHANGES: list[Callable[[nn.Module], object]] = [
    AdapterSet,
    lambda model: lorakit.inject(model, CONFIG),
    lambda model: lorakit.inject(model.get_submodule("model"), CONFIG),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_set_without_adapters_has_its_model(change: Callable[[nn.Module], object]) -> None:
    model = zoo.llama()
    adapters = AdapterSet(model)
    with pytest.raises(StateError, match=r"has an AdapterSet.*or close\(\) it first"):
        change(model)
    adapters.close()
    change(model)


def test_a_set_of_a_part_has_the_whole(tmp_path: Path) -> None:
    path, model = save(zoo.llama, tmp_path, r=2, target_modules=["q_proj"]), zoo.llama()
    adapters = AdapterSet(model.get_submodule("model"))
    with pytest.raises(StateError, match="has an AdapterSet"):
        AdapterSet(model)
    with pytest.raises(StateError, match="has an AdapterSet"):
        lorakit.load_adapter(model, path)
    adapters.close()
    lorakit.load_adapter(model, path)


def test_a_set_that_is_gone_or_of_the_original_does_not_have_it(tmp_path: Path) -> None:
    path = save(zoo.llama, tmp_path, r=2, target_modules=["q_proj"])
    model = zoo.llama()
    adapters = AdapterSet(model)
    twin = copy.deepcopy(model)
    lorakit.inject(twin, CONFIG)
    del adapters
    gc.collect()
    again = AdapterSet(model)
    again.load("a", path)
    again.activate("a")
    expected = output(alone(zoo.llama, path), **CASE.batch())
    assert_close(output(model, **CASE.batch()), expected, **MODEL)


def test_a_model_is_in_memory_no_longer_than_its_user_has_it(tmp_path: Path) -> None:
    """The choice of the base is that of all sets."""
    path, model = save(zoo.llama, tmp_path, r=2, target_modules=["q_proj"]), zoo.llama()
    adapters = AdapterSet(model)
    adapters.load("a", path)
    output(model, **CASE.batch())
    adapters.close()
    module = weakref.ref(model.get_submodule("model.layers.0.self_attn.q_proj"))
    del adapters, model
    gc.collect()
    assert module() is None
