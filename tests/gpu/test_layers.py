"""Every kind of layer on the device against its definition in float64: output, each gradient."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from tests.gpu.kinds import ATTENTION, KINDS, Kind, One, assert_near, exact, results
from tests.tolerances import TF32, TOLERANCES

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LOW = DTYPES[1:]
EVERY = {**KINDS, "MultiheadAttention": ATTENTION}


def placed(kind: Kind, device: torch.device, dtype: torch.dtype) -> tuple[One, Tensor]:
    """The model and an input on the device; A and B stay float32 beside a narrower weight."""
    model, x = kind.adapted().to(device), kind.input().to(device)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or name.endswith("bias"):
            parameter.data = parameter.data.to(dtype)
    return model, x if kind.ids else x.to(dtype).requires_grad_()


def assert_is_its_definition(model, kind, x, tolerance, autocast=None):
    with autocast or nullcontext():
        y = model(x)
    upstream = torch.randn(y.shape, device=y.device).to(y.dtype)
    y.backward(upstream)
    found = results(y, x, dict(model.named_parameters()))
    assert_near(found, exact(model, kind, x.detach(), upstream), kind.tolerance(tolerance))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", EVERY)
def test_values_and_each_gradient_are_the_definitions(name, dtype, device):
    model, x = placed(EVERY[name], device, dtype)
    assert_is_its_definition(model, EVERY[name], x, TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("name", EVERY)
def test_autocast_computes_the_definition(name, dtype, device):
    model, x = placed(EVERY[name], device, torch.float32)
    autocast = torch.autocast(device.type, dtype)
    assert_is_its_definition(model, EVERY[name], x, TOLERANCES[dtype], autocast)
    assert model.layer.lora_B.grad.dtype == torch.float32


@pytest.mark.parametrize("name", EVERY)
def test_scaled_gradients_are_the_definitions_after_unscaling(name, device):
    """Under float16 autocast, with a GradScaler at the scale that it starts with."""
    kind = EVERY[name]
    model, x = placed(kind, device, torch.float32)
    trained = [p for p in model.parameters() if p.requires_grad]
    scaler = torch.amp.GradScaler(device.type)
    optimizer = torch.optim.SGD(trained, lr=0.1)
    with torch.autocast(device.type, torch.float16):
        y = model(x)
    upstream = torch.randn(y.shape, device=device).bfloat16().float() / scaler.get_scale()
    scaler.scale((y.float() * upstream).sum()).backward()
    scaler.unscale_(optimizer)
    if x.grad is not None:
        x.grad /= scaler.get_scale()
    found = results(y, x, dict(model.named_parameters()))
    tolerance = kind.tolerance(TOLERANCES[torch.float16])
    assert_near(found, exact(model, kind, x.detach(), upstream), tolerance)
    before = model.layer.lora_B.detach().clone()
    scaler.step(optimizer)
    scaler.update()
    assert not torch.equal(model.layer.lora_B, before), "the scaler has skipped the step"


def test_a_step_that_overflows_is_skipped_and_the_next_one_is_not(device):
    model, x = placed(KINDS["linear"], device, torch.float32)
    optimizer = torch.optim.SGD([model.layer.lora_A, model.layer.lora_B], lr=0.1)
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**30, backoff_factor=2.0**-20)
    before, moved = model.layer.lora_B.detach().clone(), []
    for _ in range(2):
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.float16):
            loss = model(x).float().square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        moved.append(not torch.equal(model.layer.lora_B, before))
    assert moved == [False, True]


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("name", ["linear", "slices", "Conv1D", "conv2d", "DoRA"])
def test_tf32_on_and_off(name, on, cuda):
    kind = KINDS[name]
    torch.set_float32_matmul_precision("high" if on else "highest")
    torch.backends.cudnn.allow_tf32 = on
    model, x = placed(kind, cuda, torch.float32)
    with torch.no_grad():
        x += torch.randn_like(x) * 1e-3  # numbers that TF32 has to cut off
    tolerance = TF32 if on else TOLERANCES[torch.float32]
    assert_is_its_definition(model, kind, x, tolerance)
