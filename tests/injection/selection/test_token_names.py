"""Modules that `trainable_token_indices` names, in their thousands."""

from __future__ import annotations

import time

import pytest
from torch import nn

import lorakit as lora
from lorakit.errors import TargetError
from lorakit.injection.selection.token_rows import token_modules

MANY = 4000
SECONDS = 1


def model() -> nn.Module:
    tables = {f"e{n}": nn.Embedding(2, 1) for n in range(MANY)}
    return nn.ModuleDict({"tables": nn.ModuleDict(tables), "q": nn.Linear(1, 1)})


def test_thousands_of_named_modules_are_found_in_linear_time() -> None:
    made = model()
    config = lora.LoraConfig(trainable_token_indices={f"e{n}": [1] for n in range(MANY)})
    start = time.process_time()
    found, problems = token_modules(made, config)
    assert time.process_time() - start < SECONDS
    assert found == {f"tables.e{n}": (1,) for n in range(MANY)}
    assert problems == []


def test_of_two_names_of_one_module_the_last_counts() -> None:
    config = lora.LoraConfig(trainable_token_indices={"tables.e3": [0], "e3": [1]})
    assert token_modules(model(), config) == ({"tables.e3": (1,)}, [])


def test_thousands_of_names_without_a_module_are_refused_in_linear_time() -> None:
    made = model()
    tokens = {f"x{n}": [1] for n in range(MANY)}
    config = lora.LoraConfig(target_modules=["q"], trainable_token_indices=tokens)
    start = time.process_time()
    with pytest.raises(TargetError, match="names 'x0', which matches no module") as caught:
        lora.inject(made, config)
    assert time.process_time() - start < SECONDS
    assert len(caught.value.problems) == MANY
