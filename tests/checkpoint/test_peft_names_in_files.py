"""PEFT's files whose tensors collide under one name, or whose config lists thousands of names."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.formats.peft.decoding import decode
from lorakit.checkpoint.formats.peft.encoding import unsupported
from lorakit.checkpoint.formats.peft.layout import PREFIX, PeftFiles
from lorakit.config import LoraConfig
from lorakit.errors import FormatError

TOKENS = ".token_adapter.trainable_tokens_delta"
MANY = 8000
SECONDS = 1.5
"""Of the processor; what is linear takes less than half of one."""


def read(tensors: dict[str, Tensor], **fields: Any) -> AdapterBundle:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **fields}
    return decode(PeftFiles(config, tensors, None))


@pytest.mark.parametrize("name", ["e", f"{PREFIX}e"])
@pytest.mark.parametrize("leaf", ["weight", "bias"])
def test_table_under_two_names_is_refused(name: str, leaf: str) -> None:
    """The module's own name and that of the layer around it; the last one would win."""
    tensors = {
        f"{PREFIX}e{TOKENS}": torch.ones(1, 2),
        f"{PREFIX}e.token_adapter.base_layer.{leaf}": torch.ones(5, 2),
        f"{name}.{leaf}": torch.zeros(5, 2),
    }
    with pytest.raises(FormatError, match=rf"duplicate key: .*e\.{leaf}"):
        read(tensors, trainable_token_indices=[3])


def test_rows_under_two_names_are_refused() -> None:
    tensors = {f"e{TOKENS}": torch.ones(1, 2), f"{PREFIX}e{TOKENS}": torch.zeros(1, 2)}
    with pytest.raises(FormatError, match=rf"duplicate key: e{TOKENS} and {PREFIX}e{TOKENS}"):
        read(tensors, trainable_token_indices=[3])


def test_rows_are_those_of_the_first_name_that_the_module_ends_in() -> None:
    """As for PEFT, an ending need not begin after a dot."""
    tensors = {f"{PREFIX}{name}{TOKENS}": torch.ones(1, 2) for name in ("a.wte", "b.wte", "wpe")}
    listed = {"pe": [7], ".wte": [3], "b.wte": [4], "e": [5]}
    found = read(tensors, trainable_token_indices=listed).adapters
    rows = {name: adapter.site.rows for name, adapter in found.items()}
    assert rows == {"a.wte": (3,), "b.wte": (3,), "wpe": (7,)}


def test_thousands_of_modules_with_rows_are_read_in_linear_time() -> None:
    names = [f"layers.{n}.e" for n in range(MANY)]
    tensors = {f"{PREFIX}{name}{TOKENS}": torch.ones(1, 2) for name in names}
    start = time.process_time()
    bundle = read(tensors, trainable_token_indices={name: [3] for name in names})
    assert time.process_time() - start < SECONDS
    assert list(bundle.adapters) == names


def test_thousands_of_modules_to_save_are_read_and_written_in_linear_time() -> None:
    names = [f"layers.{n}.head" for n in range(MANY)]
    tensors = {f"{PREFIX}{name}.weight": torch.ones(2) for name in names}
    start = time.process_time()
    bundle = read(tensors, modules_to_save=names[::-1])
    assert unsupported(bundle) == []
    assert time.process_time() - start < SECONDS
    assert list(bundle.trained) == [f"{name}.weight" for name in names]


def test_thousands_of_rows_in_a_config_are_checked_in_linear_time() -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match=r"trainable_token_indices lists 0, 1, .* more"):
        LoraConfig(trainable_token_indices=[*range(10_000), *range(10_000)])
    assert time.process_time() - start < SECONDS
