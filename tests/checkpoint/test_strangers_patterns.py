"""Regular expressions in a stranger's config that make `re` hang."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lorakit as lora
from lorakit.checkpoint import read
from lorakit.errors import LorakitError

NAME = "a" * 60
FIELDS = {
    "target_modules": r"(a+)+b",
    "exclude_modules": r"(a|aa)+b",
    "rank_pattern": {r"(\w+\w*)*b": 4},
    "alpha_pattern": {r"(a?){60}a{60}b": 4},
}


def adapter(directory: Path, **fields: object) -> Path:
    """PEFT's files of one adapted module."""
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": [NAME], **fields}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    key = f"base_model.model.{NAME}"
    tensors = {f"{key}.lora_A.weight": torch.ones(2, 4), f"{key}.lora_B.weight": torch.ones(4, 2)}
    save_file(tensors, directory / "adapter_model.safetensors")
    return directory


@pytest.mark.parametrize("field", FIELDS)
def test_pattern_that_backtracks_does_not_hang(field: str, tmp_path: Path) -> None:
    path = adapter(tmp_path, **{field: FIELDS[field]})
    model = nn.ModuleDict({NAME: nn.Linear(4, 4)})
    start = time.process_time()
    assert list(read(path).adapters) == [NAME]
    if field == "target_modules":
        with pytest.raises(LorakitError, match="not a target module of its config"):
            lora.load_adapter(model, path)
    else:
        lora.load_adapter(model, path)
    assert time.process_time() - start < 5
