"""Replicas of torch.nn.DataParallel, whose tensors are plain attributes and no Parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.layers import conversion
from tests.tolerances import EXACT


class Own(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(input, self.weight, self.bias)


def replica(module: nn.Module) -> nn.Module:
    """As torch.nn.parallel.replicate makes it, on the same device."""
    made = module._replicate_for_data_parallel()
    for name, parameter in module._parameters.items():
        if parameter is None:
            made._parameters[name] = None
        else:
            setattr(made, name, parameter * 1)
    for name, child in module._modules.items():
        made._modules[name] = replica(child)  # type: ignore[arg-type]
    return made


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "ADAPTED", dict(conversion.ADAPTED))
    monkeypatch.setattr(conversion, "_REGISTERED", set(conversion._REGISTERED))
    lora.layers.register(Own, lora.Linear)


@pytest.mark.parametrize("mode", ["training", "inference", "merged"])
@pytest.mark.parametrize(
    ("module", "settings"),
    [
        (lambda: nn.Linear(8, 8), {}),
        (lambda: nn.Linear(8, 8), {"merge_weights": True}),
        (lambda: nn.Linear(8, 8), {"use_dora": True, "merge_weights": True}),
        (lambda: nn.Linear(8, 8), {"slices": {"0": [True, False]}, "merge_weights": True}),
        (lambda: Own(8, 8), {}),
        (lambda: Own(8, 8), {"merge_weights": True}),
        (attention, {}),
        (attention, {"target_modules": ["linear1", "linear2"], "use_dora": True}),
    ],
)
def test_a_replica_gives_the_layer_s_output(module: Any, settings: Any, mode: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(module()).train(mode == "training")
    targets = ["0"] if not isinstance(model[0], nn.TransformerEncoderLayer) else "all-linear"
    options = {"r": 2, "target_modules": targets, "init_lora_weights": False} | settings
    lora.inject(model, lora.LoraConfig(**options))
    x = torch.randn(2, 3, 8)
    if mode == "training":
        assert_close(replica(model)(x), model(x), **EXACT)
    elif mode == "inference":
        with torch.no_grad():
            assert_close(replica(model)(x), model(x), **EXACT)
    else:
        with torch.no_grad(), lora.merged(model):
            assert_close(replica(model)(x), model(x), **EXACT)
