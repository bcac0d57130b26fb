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
from lorakit.config import expressions
from lorakit.errors import FormatError, LorakitError

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


MANY = {
    "expressions": ({f"layers.{i}.(q|k)": 4 for i in range(20_000)}, "20,000 keys are regular"),
    "letters": ({"a(b|c)" * 20_000 + str(i): 4 for i in range(2)}, "2 keys .* 240,002 letters"),
    "one": ({"a(b|c)" * 200_000: 4}, "1 keys are regular expressions, of 1,200,000 letters"),
}


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize(("keys", "message"), MANY.values(), ids=MANY)
def test_keys_that_take_long_to_read_are_refused(
    field: str, keys: dict[str, int], message: str, tmp_path: Path
) -> None:
    path = adapter(tmp_path, **{field: keys})
    start = time.process_time()
    with pytest.raises(FormatError, match=f"{field}: {message}"):
        read(path)
    assert time.process_time() - start < 2


def test_names_as_keys_are_read_in_little_time(tmp_path: Path) -> None:
    path = adapter(tmp_path, rank_pattern={f"layers.{i}.q": 4 for i in range(100_000)})
    start = time.process_time()
    assert list(read(path).adapters) == [NAME]
    assert time.process_time() - start < 5


def test_expression_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {f"read_once.{i}.(q|k)": 4 for i in range(500)}
    config = lora.LoraConfig(rank_pattern=keys)
    monkeypatch.setattr(expressions, "_Reader", lambda _: pytest.fail("read again"))
    assert config.replace(r=2).ranks_of(["x.read_once.3.q"]) == {"x.read_once.3.q": 4}


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
