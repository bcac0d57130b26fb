"""What several files here assert of a whole model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.layers.base import AdapterLayer
from tests.injection import zoo
from tests.tolerances import EXACT

Snapshot = dict[str, Any]


def snapshot(model: nn.Module) -> Snapshot:
    """Everything about a model that `inject` must leave alone or `eject` bring back."""
    modules = dict(model.named_modules(remove_duplicate=False))
    return {
        "modules": {name: id(module) for name, module in modules.items()},
        "types": {name: type(module) for name, module in modules.items()},
        "attributes": {
            name: set(module.__dict__)  # an adapted layer keeps its cache among them
            for name, module in modules.items()
            if not isinstance(module, AdapterLayer)
        },
        "hooks": {name: _hooks(module) for name, module in modules.items()},
        "parameters": {n: id(p) for n, p in model.named_parameters(remove_duplicate=False)},
        "buffers": {name: id(buffer) for name, buffer in model.named_buffers()},
        "requires_grad": {n: p.requires_grad for n, p in model.named_parameters()},
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "training": {name: module.training for name, module in modules.items()},
    }


def _hooks(module: nn.Module) -> list[int]:
    tables = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    state = (module._load_state_dict_pre_hooks, module._state_dict_hooks)
    return [id(hook) for table in (*tables, *state) for hook in table.values()]


def assert_same(before: Snapshot, after: Snapshot) -> None:
    assert before.keys() == after.keys()
    for what in before.keys() - {"values"}:
        assert before[what] == after[what], what
    assert_close(after["values"], before["values"], **EXACT)


def outputs(case: zoo.Case, model: nn.Module) -> Tensor:
    """Without gradients: torch chooses its attention kernel by whether there are any."""
    with torch.no_grad():
        return case.output(model)


def q_and_v(case: zoo.Case, **fields: Any) -> lora.LoraConfig:
    """Query and value of the architecture, as slices where they are fused."""
    slices: dict[str, dict[str, list[Any]]] = {
        "gpt2": {"c_attn": [True, False, True]},
        "phi3": {"qkv_proj": [(16, True), (8, False), (8, True)]},
        "fused": {"qkv": [(8, True), (4, False), (4, True)]},
    }
    fixed = {"r": 2, "target_modules": list(case.targets), "slices": slices.get(case.name, {})}
    return lora.LoraConfig(**fixed | fields)


def slow_delta(layer: AdapterLayer) -> Tensor:
    """scaling * B_i A_i for each adapted slice of a linear layer, laid out as its weight."""
    a, b, r, scaling = layer.lora_A, layer.lora_B, layer.r, layer.lora_alpha / layer.r
    transposed = isinstance(layer, lora.Linear) and layer.fan_in_fan_out
    out_features = layer.base_weight.shape[1 if transposed else 0]
    delta = torch.zeros(out_features, a.shape[1], dtype=a.dtype)
    row = used = pair = 0
    for height, adapted in getattr(layer.site, "slices", None) or ((out_features, True),):
        if adapted:
            b_i, a_i = b[used : used + height], a[pair * r : (pair + 1) * r]
            delta[row : row + height] = scaling * b_i @ a_i
            used, pair = used + height, pair + 1
        row += height
    return delta.t() if transposed else delta


def loss(y: Tensor) -> Tensor:
    """One number that no normalisation before it makes constant, as it would a sum of squares."""
    return (y * torch.linspace(-1, 1, y.numel(), device=y.device).reshape(y.shape).exp()).sum()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """By name, of every parameter that requires one; a missing one is an error."""
    found = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    missing = [name for name, grad in found.items() if grad is None]
    assert not missing, f"no gradient: {missing}"
    return {name: grad.clone() for name, grad in found.items() if grad is not None}


def train(model: nn.Module, case: zoo.Case, steps: int = 2, lr: float = 0.05) -> None:
    """A few optimizer steps on everything that requires a gradient."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(case.output(model)).backward()
        gradients(model)
        optimizer.step()
    optimizer.zero_grad()
