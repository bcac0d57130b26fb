"""Keys of PEFT's files as they are where a live or a wrapped model was saved by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from tests.tolerances import TOLERANCES

PREFIX = "base_model.model."
KEYS: dict[str, Callable[[str], str]] = {
    "adapter's name": lambda key: key.replace(".weight", ".default.weight"),
    "torch.compile": lambda key: key.replace(PREFIX, f"{PREFIX}_orig_mod."),
    "torch.compile around all": lambda key: f"_orig_mod.{key}",
    "DataParallel": lambda key: key.replace(PREFIX, f"{PREFIX}module."),
    "DataParallel around all": lambda key: f"module.{key}",
    "no prefix": lambda key: key.removeprefix(PREFIX),
}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(5, 4)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.q_proj(x))


def base() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Block()).eval()


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Tensor]:
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj"], init_lora_weights=False)
    theirs = peft.get_peft_model(base(), config).eval()
    theirs.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved", theirs(torch.ones(1, 5)).detach()


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
@pytest.mark.parametrize("changed", KEYS.values(), ids=KEYS)
def test_keys_of_live_models_are_read(
    changed: Callable[[str], str], ending: str, saved: tuple[Path, Tensor], tmp_path: Path
) -> None:
    directory, expected = saved
    (tmp_path / "a").mkdir()
    shutil.copy(directory / "adapter_config.json", tmp_path / "a")
    tensors = load_file(directory / "adapter_model.safetensors")
    tensors = {changed(key): tensor for key, tensor in tensors.items()}
    file = tmp_path / "a" / f"adapter_model.{ending}"
    if ending == "bin":
        torch.save(tensors, file)
    else:
        save_file(tensors, file)
    ours = base()
    lora.load_adapter(ours, tmp_path / "a")
    assert_close(ours(torch.ones(1, 5)).detach(), expected, **TOLERANCES[torch.float32])
