"""Names that look like PEFT's own, and keys of raw state dicts of PEFT's live models."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.checkpoint import read, write
from lorakit.errors import FormatError, SaveError
from lorakit.injection.transfer.saving import bundle_of
from tests.checkpoint.bundles import assert_equal_tensors
from tests.tolerances import EXACT, MODEL

FILE = "adapter_model.safetensors"
IDS = torch.arange(6).reshape(2, 3)
HEADS = ["flora_head", "lora_head", "original_module", "modules_to_save", "token_adapter"]


class Net(nn.Module):
    """An embedding, a linear layer, an attention, and a head of any name beside or in another."""

    def __init__(self, head: str = "head", nested: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.body = nn.Embedding(6, 8), nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.inner = nn.Module()
        owner = self.inner if nested else self
        owner.add_module(head, nn.Sequential(nn.BatchNorm1d(3), nn.Linear(8, 3)))
        self.path = f"inner.{head}" if nested else head

    def forward(self, ids: Tensor) -> Tensor:
        x = torch.tanh(self.body(self.embed(ids)))
        x = self.attention(x, x, x, need_weights=False)[0]
        y: Tensor = self.get_submodule(self.path)(x)
        return y


def move(model: nn.Module) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                # PEFT counts the update of an attention's out_proj twice
                factor = 0 if ".out_proj.lora_" in name else 0.3
                parameter.add_(torch.randn_like(parameter) * factor)


def in_peft(base: nn.Module, **fields: object) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.get_peft_model(base, peft.LoraConfig(r=2, **fields)).eval()
    move(theirs)
    return theirs


def ours(base: nn.Module, **fields: object) -> nn.Module:
    lora.inject(base.eval(), lora.LoraConfig(r=2, **fields))
    move(base)
    return base


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_head_whose_name_looks_like_peft_s_is_read_by_both(
    head: str, nested: bool, tmp_path: Path
) -> None:
    fields = {"target_modules": ["body"], "modules_to_save": [head]}
    mine = ours(Net(head, nested), **fields)
    lora.save_adapter(mine, tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(Net(head, nested), tmp_path / "ours").eval()
    assert_close(theirs(IDS), mine(IDS), **MODEL)
    theirs = in_peft(Net(head, nested), **fields)
    theirs.save_pretrained(tmp_path / "theirs")
    for path in (tmp_path / "ours", tmp_path / "theirs"):
        again = Net(head, nested).eval()
        lora.load_adapter(again, path)
        expected = mine if path.name == "ours" else theirs
        assert_close(again(IDS), expected(IDS), **MODEL)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("head", ["base_layer", "lora_A", "lora_B", "lora_embedding_A"])
def test_head_that_peft_cannot_name_is_refused_at_save(
    head: str, nested: bool, tmp_path: Path
) -> None:
    model = ours(Net(head, nested), target_modules=["body"], modules_to_save=[head])
    lora.save_adapter(ours(Net(), target_modules=["body"]), tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    said = f"{model.path}.{{0,1}}.weight has a name that means something else in PEFT's files"
    with pytest.raises(SaveError, match=re.escape(said)):
        lora.save_adapter(model, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    write(bundle_of(model), tmp_path / "own", format="lorakit")
    again = Net(head, nested).eval()
    lora.load_adapter(again, tmp_path / "own")
    assert_close(again(IDS), model(IDS), **EXACT)


@pytest.mark.parametrize("head", ["lora_head", "base_layer", "token_adapter"])
def test_bias_that_would_be_refused_at_load_is_refused_at_save(head: str, tmp_path: Path) -> None:
    model = ours(Net(head), target_modules=["body"], bias="all")
    said = f"{head}.{{0,1}}.bias has a name that means something else"
    with pytest.raises(SaveError, match=re.escape(said)):
        lora.save_adapter(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("bias", ["all", "lora_only"])
@pytest.mark.parametrize("target", ["attention", "body"])
def test_biases_beside_an_attention_s_reach_peft(bias: str, target: str, tmp_path: Path) -> None:
    mine = ours(Net(), target_modules=[target], bias=bias)
    with torch.no_grad():
        for name, parameter in mine.named_parameters():
            if ".out_proj.lora_" in name:
                parameter.zero_()
    theirs = peft.PeftModel.from_pretrained(Net(), lora.save_adapter(mine, tmp_path)).eval()
    assert_close(theirs(IDS), mine(IDS), **MODEL)


# --- raw state dicts


RAW = {
    "linear": {"target_modules": ["body"]},
    "embedding": {"target_modules": ["embed"]},
    "attention": {"target_modules": ["attention"]},
    "dora": {"target_modules": ["body"], "use_dora": True},
    "head": {"target_modules": ["body", "embed"], "modules_to_save": ["head"]},
    "tokens": {"target_modules": ["body"], "trainable_token_indices": {"embed": [1, 3]}},
}


def with_raw_keys(theirs: nn.Module, path: Path, name: Callable[[str], str]) -> None:
    """PEFT's directory, with the keys that its live model has."""
    theirs.save_pretrained(path)
    parts = ("lora_", "modules_to_save", "trainable_tokens_delta")
    raw = {k: v for k, v in theirs.state_dict().items() if any(part in k for part in parts)}
    save_file({name(key): value.contiguous() for key, value in raw.items()}, path / FILE)


@pytest.mark.parametrize("compiled", ["", "_orig_mod."])
@pytest.mark.parametrize("name", RAW)
def test_raw_keys_of_peft_are_read(name: str, compiled: str, tmp_path: Path) -> None:
    theirs = in_peft(Net(), **RAW[name])
    with_raw_keys(theirs, tmp_path, lambda key: compiled + key)
    assert any(".default" in key for key in load_file(tmp_path / FILE))
    again = Net().eval()
    lora.load_adapter(again, tmp_path)
    assert_close(again(IDS), theirs(IDS), **MODEL)


def test_raw_keys_with_the_compiled_part_inside_are_read(tmp_path: Path) -> None:
    theirs = in_peft(Net(), **RAW["head"])
    with_raw_keys(
        theirs,
        tmp_path,
        lambda key: key.replace("base_model.model.", "base_model.model._orig_mod."),
    )
    again = Net().eval()
    lora.load_adapter(again, tmp_path)
    assert_close(again(IDS), theirs(IDS), **MODEL)


def test_raw_keys_of_two_adapters_are_refused_by_name(tmp_path: Path) -> None:
    theirs = in_peft(Net(), **RAW["linear"])
    theirs.add_adapter("other", peft.LoraConfig(r=2, target_modules=["body"]))
    with_raw_keys(theirs, tmp_path, str)
    with pytest.raises(FormatError, match=r"contains 2 adapters \(default, other\)"):
        read(tmp_path)


def test_raw_keys_that_mean_one_tensor_are_refused(tmp_path: Path) -> None:
    with_raw_keys(in_peft(Net(), **RAW["linear"]), tmp_path, str)
    tensors = load_file(tmp_path / FILE)
    again = {f"_orig_mod.{key}": value.clone() for key, value in tensors.items()}
    save_file(tensors | again, tmp_path / FILE)
    key = "base_model.model.body.lora_A.default.weight"
    with pytest.raises(FormatError, match=f"duplicate key: _orig_mod.{key} and {key}"):
        read(tmp_path)


def test_module_called_default_keeps_its_name(tmp_path: Path) -> None:
    model = ours(Net("default"), target_modules=["body"], modules_to_save=["default"])
    again = Net("default").eval()
    lora.load_adapter(again, lora.save_adapter(model, tmp_path))
    assert_close(again(IDS), model(IDS), **EXACT)


@pytest.mark.parametrize("name", ["linear", "embedding", "dora"])
def test_raw_keys_in_a_torch_file_are_read_with_the_caller_s_alpha(
    name: str, tmp_path: Path
) -> None:
    theirs = in_peft(Net(), lora_alpha=6, **RAW[name])
    raw = {f"_orig_mod.{k}": v for k, v in theirs.state_dict().items() if "lora_" in k}
    torch.save(raw, tmp_path / "raw.pt")
    again = Net().eval()
    lora.load_adapter(again, tmp_path / "raw.pt", lora_alpha=6)
    assert_close(again(IDS), theirs(IDS), **MODEL)


def test_loralib_file_of_a_compiled_model_is_read(tmp_path: Path) -> None:
    model = ours(Net(), target_modules=["body"])
    state = {f"_orig_mod.{k}": v for k, v in lora.lora_state_dict(model).items()}
    torch.save(state, tmp_path / "lora.pt")
    again = Net().eval()
    lora.load_adapter(again, tmp_path / "lora.pt", lora_alpha=8)
    assert_close(again(IDS), model(IDS), **EXACT)


def test_dora_of_layers_that_lorakit_does_not_adapt_is_written_as_it_was_read(
    tmp_path: Path,
) -> None:
    model = nn.ModuleDict({"table": nn.Embedding(9, 4), "conv": nn.Conv2d(3, 4, 3)})
    config = peft.LoraConfig(r=2, target_modules=["table", "conv"], use_dora=True)
    theirs = peft.get_peft_model(model, config)
    theirs.save_pretrained(tmp_path / "theirs", save_embedding_layers=False)
    write(read(tmp_path / "theirs"), tmp_path / "ours")
    expected, found = (load_file(tmp_path / name / FILE) for name in ("theirs", "ours"))
    assert_equal_tensors(found, expected)
