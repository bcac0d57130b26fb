"""A model with PEFT's modules is refused by name, and a base is loaded without its adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

import lorakit as lora
from lorakit.errors import LorakitWarning, StateError
from lorakit.methods import METHODS
from lorakit.models.loading import load_base, load_for_task
from tests.training import tiny

CONFIG = lora.LoraConfig(r=2, target_modules=["q_proj"])
PLAIN = ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"]
REFUSED: dict[str, Callable[[nn.Module, Path], Any]] = {
    "inject": lambda model, path: lora.inject(model, CONFIG),
    "targets": lambda model, path: lora.targets(model),
    "load_adapter": lora.load_adapter,
    "save_adapter": lora.save_adapter,
    "eject": lambda model, path: lora.eject(model),
    "fold": lambda model, path: lora.fold(model),
    **{
        f"method {name}": lambda model, path, m=method: m.apply(model, m.default_config())
        for name, method in METHODS.items()
    },
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a base and an adapter of PEFT, which is not zero."""
    path = tiny.save_llama(tmp_path_factory.mktemp("both"))
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(path), config).save_pretrained(path)
    return path


def by_transformers(both: Path) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(both)


def by_peft(both: Path) -> nn.Module:
    base = AutoModelForCausalLM.from_pretrained(both, adapter_kwargs={"subfolder": "none"})
    return peft.PeftModel.from_pretrained(base, both)


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("load", [by_transformers, by_peft])
def test_pefts_modules_are_refused_by_name(load, call, both):
    model = load(both)
    before = {name: type(module) for name, module in model.named_modules()}
    with pytest.raises(StateError, match=r"peft\.(peft_model|tuners\.lora\.layer)") as caught:
        call(model, both)
    assert "merge_and_unload()" in str(caught.value)
    assert {name: type(module) for name, module in model.named_modules()} == before


def test_what_the_message_says_gives_a_plain_model(both):
    assert lora.inject(by_peft(both).merge_and_unload(), CONFIG).layers
    model = AutoModelForCausalLM.from_pretrained(both, adapter_kwargs={"subfolder": "none"})
    assert lora.load_adapter(model, both)


def loaded_for_task(name: str) -> nn.Module:
    return load_for_task(name, "AutoModelForCausalLM", {})[0]


@pytest.mark.parametrize("load", [load_base, loaded_for_task])
def test_a_base_is_loaded_without_the_adapter_beside_it_and_says_so(load, both, tmp_path):
    with pytest.warns(LorakitWarning, match=r"also holds an adapter \(adapter_config\.json\)"):
        model = load(str(both))
    plain = AutoModelForCausalLM.from_pretrained(tiny.save_llama(tmp_path))
    ids = torch.tensor([[2, 5, 7]])
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, plain(ids).logits)
    lora.inject(model, CONFIG)
    assert [n for n, m in model.named_modules() if isinstance(m, lora.Linear)] == PLAIN
