"""Optimizers in every form: the steps of the CPU's single-tensor one in float64, no stale cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import lorakit as lora
from tests.gpu.kinds import KINDS, One
from tests.tolerances import TOLERANCES

STEPS = 10
FORMS: dict[str, dict[str, Any]] = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"capturable": True, "foreach": True},
}
CLASSES = {
    "AdamW": (torch.optim.AdamW, {"lr": 0.02, "weight_decay": 0.1, "eps": 1e-3}),
    "SGD": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
}


def run(model: One, x: Tensor, name: str, form: dict[str, Any]) -> list[float]:
    """The losses of some steps, each with an evaluation that merges before and after."""
    cls, settings = CLASSES[name]
    optimizer = cls([p for p in model.parameters() if p.requires_grad], **settings, **form)
    losses = []
    model.layer.merge_weights = True
    for _ in range(STEPS):
        with torch.no_grad():
            merged = model.eval()(x).square().mean()
        loss = model(x).square().mean()
        torch.testing.assert_close(merged, loss.detach(), rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            model(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CLASSES)
def test_training_is_the_cpus_in_float64(name, form, device):
    if form == "capturable" and (name == "SGD" or device.type == "cpu"):
        pytest.skip("capturable is AdamW's, for CUDA graphs")
    kind = KINDS["linear" if form == "fused" else "linear, few numbers"]
    model, exact, x = kind.adapted(), kind.adapted(), kind.input()
    exact.load_state_dict(model.state_dict())
    expected = run(exact.double(), x.double(), name, {"foreach": False})
    losses = run(model.to(device), x.to(device), name, FORMS[form])
    assert losses[-1] < 0.9 * losses[0]
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=0)
    for key, value in exact.state_dict().items():
        found = model.state_dict()[key].cpu().double()
        # ten steps, each of which carries on the differences of those before it
        tolerance = {n: STEPS * v for n, v in TOLERANCES[torch.float32].items()}
        torch.testing.assert_close(found, value, **tolerance, msg=key)


def test_check_training_sees_what_moves_on_the_device(device):
    model = KINDS["linear"].adapted().to(device)
    lora.eject(model)
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["layer"]))
    assert set(lora.check_training(model).stuck) == {"layer.lora_A", "layer.lora_B"}
    run(model, KINDS["linear"].input().to(device), "AdamW", {"fused": True})
    assert not lora.check_training(model).stuck
