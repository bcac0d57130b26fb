"""What a user has named as an adapted layer names its own is refused, and is as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.errors import TargetError
from tests.injection.checks import assert_same, snapshot
from tests.tolerances import EXACT

NAMES = ["lora_A", "lora_B", "lora_magnitude_vector", "scaling", "spec", "site", "variant"]


def as_attribute(module: nn.Module, name: str) -> None:
    module.__dict__[name] = "mine"


def as_module(module: nn.Module, name: str) -> None:
    module.add_module(name, nn.Linear(2, 2))


def as_parameter(module: nn.Module, name: str) -> None:
    module.register_parameter(name, nn.Parameter(torch.ones(2)))


def as_buffer(module: nn.Module, name: str) -> None:
    module.register_buffer(name, torch.ones(2))


KINDS: list[Callable[[nn.Module, str], None]] = [as_attribute, as_module, as_parameter, as_buffer]


@pytest.mark.parametrize("variant", ["lora", "dora"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("give", KINDS)
def test_a_name_of_the_users_is_refused_and_kept(
    give: Callable[[nn.Module, str], None], name: str, variant: str
) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    give(model[0], name)
    before, value = snapshot(model), getattr(model[0], name)
    config = lora.LoraConfig(r=2, target_modules=["0", "1"], use_dora=variant == "dora")
    with pytest.raises(
        TargetError, match=f"0.* has its own {name}, a name that adapted layers use"
    ):
        lora.inject(model, config)
    assert_same(before, snapshot(model))
    assert getattr(model[0], name) is value


def test_a_file_is_not_loaded_onto_such_a_name(tmp_path: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"]))
    lora.save_adapter(model, tmp_path)
    plain = nn.Sequential(nn.Linear(4, 4))
    plain[0].register_buffer("lora_A", torch.ones(3))
    with pytest.raises(lora.errors.LorakitError, match="has its own lora_A"):
        lora.load_adapter(plain, tmp_path)
    assert_close(plain[0].lora_A, torch.ones(3), **EXACT)


def test_what_a_conv1d_has_beside_its_own_is_refused() -> None:
    from transformers.pytorch_utils import Conv1D

    model = nn.Sequential(Conv1D(6, 4))
    model[0].in_features = "mine"
    with pytest.raises(TargetError, match="has its own in_features"):
        lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"]))
    assert model[0].in_features == "mine"
