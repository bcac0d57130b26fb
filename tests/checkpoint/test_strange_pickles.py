"""Pickles without code in them, whose objects no adapter has."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lorakit.checkpoint import read
from lorakit.errors import FormatError

A, B = torch.ones(2, 4), torch.ones(4, 2)
LOOP: dict[str, Any] = {}
LOOP["model"] = LOOP
NO_STATE = "does not contain a state dict"
CONTENTS: dict[str, tuple[Any, str]] = {
    "a trillion repeated": (torch.zeros(1).expand(2, 10**12), "has 2,000,000,000,000 values, and"),
    "sparse": (A.to_sparse(), "is not a dense tensor of numbers"),
    "meta": (A.to("meta"), "is not a dense tensor of numbers"),
    "complex": (torch.ones(2, 4, dtype=torch.complex64), "has dtype torch.complex64"),
    "number": (3, NO_STATE),
}
WHOLES: dict[str, Any] = {
    "itself": LOOP,
    "list": [A, B],
    "tensor": A,
    "nothing": None,
    "empty": {},
    "keys of numbers": {1: A, 2: B},
}


def write(content: Any, form: str, directory: Path) -> Path:
    """As a file of loralib's, or of PEFT before safetensors."""
    if form == "loralib":
        torch.save(content, directory / "lora.pt")
        return directory / "lora.pt"
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q"]}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    torch.save(content, directory / "adapter_model.bin")
    return directory


@pytest.mark.parametrize("form", ["loralib", "peft"])
@pytest.mark.parametrize("name", CONTENTS)
def test_tensor_without_numbers_is_refused(name: str, form: str, tmp_path: Path) -> None:
    tensor, message = CONTENTS[name]
    keys = {"loralib": "q.lora_{}", "peft": "base_model.model.q.lora_{}.weight"}[form]
    path = write({keys.format("A"): tensor, keys.format("B"): B}, form, tmp_path)
    with pytest.raises(FormatError, match=message):
        read(path, 4.0)


@pytest.mark.parametrize("form", ["loralib", "peft"])
@pytest.mark.parametrize("name", WHOLES)
def test_content_without_tensors_by_name_is_refused(name: str, form: str, tmp_path: Path) -> None:
    path = write(WHOLES[name], form, tmp_path)
    start = time.process_time()
    with pytest.raises(FormatError, match=NO_STATE):
        read(path, 4.0)
    assert time.process_time() - start < 5
