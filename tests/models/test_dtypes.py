"""Which type a run computes in, and what is stored in it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lorakit as lora
from lorakit.errors import ConfigError
from lorakit.models import dtypes
from tests.variants.toys import registered

CPU_ONLY = pytest.mark.skipif(torch.accelerator.is_available(), reason="asks the processor")


@CPU_ONLY
@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({"avx512_bf16": True}, "bf16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({"bf16": True}, "bf16"),
        ({"avx512_bf16": False, "avx512_f": True}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_auto_is_bf16_where_the_processor_multiplies_in_it(monkeypatch, processor, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    assert dtypes.resolve_dtype("auto") == expected


@pytest.mark.parametrize("setting", ["fp32", "bf16"])
@CPU_ONLY
def test_what_is_asked_for_is_taken(monkeypatch, setting):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert dtypes.resolve_dtype(setting) == setting


@CPU_ONLY
def test_fp16_needs_an_accelerator():
    with pytest.raises(ConfigError, match="use auto, bf16 or fp32"):
        dtypes.resolve_dtype("fp16")


def test_a_gpu_without_bf16_refuses_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert dtypes.resolve_dtype("auto") == "fp32"
    with pytest.raises(ConfigError, match="not supported by this GPU"):
        dtypes.resolve_dtype("bf16")


def test_only_what_is_frozen_is_converted_and_ties_stay():
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3), "head": nn.Linear(3, 2)})
    model["b"].weight = model["a"].weight
    model["a"].requires_grad_(False)
    model["b"].requires_grad_(False)
    model.register_buffer("positions", torch.arange(3))
    before = model["head"].weight
    dtypes.cast_frozen(model, "bf16")
    assert model["a"].weight is model["b"].weight
    assert model["a"].weight.dtype == model["b"].bias.dtype == torch.bfloat16
    assert model["head"].weight is before
    assert before.dtype == torch.float32
    assert model.positions.dtype == torch.int64


def test_fp32_converts_nothing():
    model = nn.Linear(2, 2).double().requires_grad_(False)
    dtypes.cast_frozen(model, "fp32")
    assert model.weight.dtype == torch.float64


def test_a_norm_whose_shift_trains_keeps_its_scale_and_still_runs():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    model.requires_grad_(False)
    model[0].bias.requires_grad_(True)
    model[1].bias.requires_grad_(True)
    dtypes.cast_frozen(model, "bf16")
    assert model[0].weight.dtype is torch.bfloat16
    assert model[1].weight.dtype is torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(2, 4)).sum().backward()
    assert model[1].bias.grad is not None


def test_what_an_adapter_keeps_frozen_is_not_rounded():
    with registered():
        model = nn.Sequential(nn.Linear(4, 4))
        config = {"r": 2, "target_modules": ["0"], "variant": "hadamard"}
        lora.inject(model, lora.LoraConfig(**config))
    dtypes.cast_frozen(model, "bf16")
    assert model[0].weight.dtype is torch.bfloat16
    assert {t.dtype for t in model[0].adapter_tensors()} == {torch.float32}
