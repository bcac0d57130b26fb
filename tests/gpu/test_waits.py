"""No forward and no backward waits for the device: the host only queues."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import lorakit as lora
from tests.gpu.kinds import ATTENTION, KINDS


@contextmanager
def no_wait(device: torch.device, otherwise: str = "error") -> Iterator[None]:
    """Inside, whatever waits for the device raises or warns; a CPU has nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode(otherwise)
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("name", KINDS)
def test_training_never_waits(name, dropout, device):
    kind = KINDS[name]
    model = kind.adapted(lora_dropout=dropout).to(device).train()
    x = kind.input().to(device)
    for _ in range(2):
        model(x).sum().backward()
    with no_wait(device):
        model(x).sum().backward()
    assert model.layer.lora_B.grad is not None


@pytest.mark.parametrize("name", [*KINDS, "MultiheadAttention"])
def test_merging_and_merged_forwards_never_wait(name, device):
    kind = KINDS.get(name, ATTENTION)
    model = kind.adapted(merge_weights=True).to(device).eval()
    x = kind.input().to(device)
    with torch.no_grad():
        model(x)
        lora.refresh(model)
        with no_wait(device):
            model(x)
            model(x)
    assert model.layer.merged


def test_trainable_tokens_never_wait(device):
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 8))
    tokens = lora.LoraConfig(r=2, target_modules=["1"], trainable_token_indices={"0": [3, 17]})
    lora.inject(model, tokens)
    model.to(device)
    ids = torch.arange(20, device=device)
    model(ids).sum().backward()
    with no_wait(device):
        model(ids).sum().backward()
    found = dict(model.named_parameters())["0.trainable_tokens_delta"].grad
    assert found.shape == (2, 8)


def test_check_training_waits_for_all_tensors_together(device):
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))
    lora.inject(model, lora.LoraConfig(r=2, target_modules="all-linear"))
    model.to(device)
    with warnings.catch_warnings(record=True) as waits, no_wait(device, "warn"):
        warnings.simplefilter("always")
        assert len(lora.check_training(model).stuck) == 8
    # not torch's remark that this mode is a prototype, once in a process
    assert sum("called a synchronizing" in str(wait.message) for wait in waits) <= 2
