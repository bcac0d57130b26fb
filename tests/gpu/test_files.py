"""Saved on the device, loaded on the CPU and back: the same bits, on the base's device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import lorakit as lora
from tests.tolerances import EXACT, MODEL


def base(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Embedding(20, 8), nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 6), nn.Linear(6, 3)
    return nn.Sequential(*layers).to(dtype).eval()


CONFIG = lora.LoraConfig(
    r=2,
    lora_alpha=3,
    target_modules=["0", "1", "3"],
    modules_to_save=["4"],
    bias="lora_only",
    init_lora_weights=False,
)
IDS = torch.arange(20).view(4, 5)


def assert_same(first: nn.Module, second: nn.Module) -> None:
    state, other = first.state_dict(), second.state_dict()
    assert state.keys() == other.keys()
    for name, value in state.items():
        torch.testing.assert_close(other[name].cpu(), value.cpu(), **EXACT, msg=name)


def assert_on(model: nn.Module, device: torch.device) -> None:
    assert {tensor.device.type for tensor in model.state_dict().values()} == {device.type}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_adapter_goes_from_the_device_to_the_cpu_and_back(dtype, device, tmp_path):
    ours = base(dtype).to(device)
    lora.inject(ours, CONFIG)
    assert_on(ours, device)
    with torch.no_grad(), lora.merged(ours):
        ours(IDS.to(device))
        lora.save_adapter(ours, tmp_path / "device")
    on_cpu, back = base(dtype), base(dtype).to(device)
    lora.load_adapter(on_cpu, tmp_path / "device")
    assert_on(on_cpu, torch.device("cpu"))
    lora.save_adapter(on_cpu, tmp_path / "cpu")
    lora.load_adapter(back, tmp_path / "cpu")
    assert_on(back, device)
    assert_same(ours, on_cpu)
    assert_same(ours, back)
    with torch.no_grad():
        expected = ours(IDS.to(device))
        torch.testing.assert_close(back(IDS.to(device)), expected, **EXACT)
        if dtype == torch.float32:
            torch.testing.assert_close(on_cpu(IDS), expected.cpu(), **MODEL)


def test_a_whole_state_goes_to_the_cpu_and_back(device, tmp_path):
    ours, on_cpu, back = base().to(device), base(), base().to(device)
    for model in (ours, on_cpu, back):
        lora.inject(model, CONFIG)
    torch.save(ours.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", map_location="cpu", weights_only=True)
    on_cpu.load_state_dict(state)
    back.load_state_dict(on_cpu.state_dict())
    assert_on(on_cpu, torch.device("cpu"))
    assert_on(back, device)
    assert_same(ours, on_cpu)
    assert_same(ours, back)


def test_an_adapted_model_moves_there_and_back(device):
    model = base()
    lora.inject(model, CONFIG)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model(IDS)
        moved = model.to(device)
        assert_on(moved, device)
        with lora.merged(moved):
            torch.testing.assert_close(moved(IDS.to(device)).cpu(), expected, **MODEL)
        model.cpu()
        torch.testing.assert_close(model(IDS), expected, **EXACT)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], **EXACT, msg=name)
    with torch.no_grad(), lora.disabled(model.to(device)):
        base_output = model(IDS.to(device))
    torch.testing.assert_close(base_output.cpu(), base()(IDS), **MODEL)


def test_a_model_adapted_on_the_meta_device_is_filled_on_the_device(device):
    with torch.device("meta"):
        model = base()
    lora.inject(model, CONFIG.replace(modules_to_save=None, bias="none", init_lora_weights=True))
    model.to_empty(device=device)
    model.load_state_dict(base().state_dict(), strict=False)
    assert_on(model, device)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS.to(device)).cpu(), base()(IDS), **MODEL)
    report = lora.check_training(model)
    assert report.trainable == 6


def test_folding_and_ejecting_stay_on_the_device(device):
    for undo in (lora.fold, lora.eject):
        model = base().to(device)
        lora.inject(model, CONFIG)
        undo(model)
        assert_on(model, device)


def test_an_adapter_of_peft_is_loaded_and_written_on_the_device(device, tmp_path):
    peft = pytest.importorskip("peft")
    fields = {"r": 2, "lora_alpha": 3, "target_modules": ["1", "3"], "init_lora_weights": False}
    theirs = peft.get_peft_model(base().to(device), peft.LoraConfig(**fields)).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = base().to(device)
    lora.load_adapter(ours, tmp_path / "theirs")
    assert_on(ours, device)
    again = lora.save_adapter(ours, tmp_path / "ours")
    back = peft.PeftModel.from_pretrained(base().to(device), again).eval()
    ids = IDS.to(device)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids), **MODEL)
        torch.testing.assert_close(back(ids), theirs(ids), **EXACT)
    assert_same_tensors(tmp_path / "theirs", again)


def assert_same_tensors(first: Path, second: Path) -> None:
    tensors, others = (load_file(path / "adapter_model.safetensors") for path in (first, second))
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        torch.testing.assert_close(others[name], value, **EXACT, msg=name)
