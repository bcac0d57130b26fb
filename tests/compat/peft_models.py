"""The same adapter in lorakit and in PEFT, on the models of `peft_cases`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.lora.layer import MultiheadAttention
from torch import Tensor, nn

import lorakit as lora
from lorakit.checkpoint.formats.peft.encoding import encode
from lorakit.injection.transfer.saving import bundle_of
from tests.compat.peft_cases import Case

GRADIENTS = {"rtol": 1e-9, "atol": 1e-9}
"""Of float64, where gradients of some hundred add up layer by layer."""


def output(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Logits, or what the model has in their place."""
    result = model(**batch)
    if isinstance(result, Tensor):
        return result
    return result["logits"] if "logits" in result else result[0]


def randomise(model: nn.Module) -> None:
    """Let everything that trains differ from where it starts, running statistics too."""
    torch.manual_seed(13)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
        for name, buffer in model.named_buffers():
            if "running" in name and ".original_module." not in name:
                buffer.add_(torch.rand_like(buffer))


def adapted(case: Case) -> nn.Module:
    model = case.model()
    lora.inject(model, lora.LoraConfig(**our_config(case)))
    randomise(model)
    return model


def our_config(case: Case) -> dict[str, Any]:
    return {k: v for k, v in case.config.items() if k != "fan_in_fan_out"} | {"slices": case.slices}


def peft_config(case: Case, **options: Any) -> peft.LoraConfig:
    """A config of its own: PEFT writes into the lists that it is given."""
    return peft.LoraConfig(**copy.deepcopy(dict(case.config)), **options)


def in_peft(base: nn.Module, path: Path, **options: Any) -> nn.Module:
    return mended(peft.PeftModel.from_pretrained(base, path, **options).eval())


def mended(theirs: nn.Module) -> nn.Module:
    """Take back what PEFT counts twice: it adds the update of an attention's out_proj to the
    weight, and lets the out_proj add it once more (huggingface/peft pull request 3774).
    """
    for module in theirs.modules():
        if isinstance(module, MultiheadAttention):
            module.base_layer.out_proj.scaling["default"] /= 2
    return theirs


def doubled(case: Case, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """The batch, its numbers that are no ids in float64."""
    batch = {name: tensor.to(device) for name, tensor in case.batch().items()}
    return {name: t.double() if t.is_floating_point() else t for name, t in batch.items()}


def gradients(
    ours: nn.Module, theirs: nn.Module, batch: Mapping[str, Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The gradient of every tensor that trains in PEFT, lorakit's and PEFT's.

    By the name that it has in the file. In float64, where nothing but another formula differs:
    these small models with large adapters multiply a rounding of float32 by thousands, in PEFT as
    much as here. The adapter of `ours` is lost.
    """
    values = encode(bundle_of(ours)).tensors
    for model in (ours.double(), theirs.double()):
        model.zero_grad()
        output(model, batch).square().sum().backward()
    trained = {name: p for name, p in ours.named_parameters() if p.requires_grad}
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        parameter.data = parameter.grad
    mine = encode(bundle_of(ours)).tensors
    found = 0
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            key = name.replace(".default", "").replace(".modules_to_save", "")
            key = key.replace("lora_magnitude_vector.weight", "lora_magnitude_vector")
            # A block-shaped B and a grouped A have zeros that train in PEFT and not here.
            zeros = values[key] != 0
            yield mine[key], parameter.grad * zeros * (2 if ".out_proj.lora_" in key else 1)
            found += 1
    assert found >= len(trained)
