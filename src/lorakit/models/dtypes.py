"""The dtypes that a run stores and computes in, in training and in inference.

Trainable parameters are float32, and so are their gradients and their files. In bf16 and fp16 the
model computes under autocast, and frozen parameters are stored in that dtype too: no weight is then
cast in a forward, and the base takes half the memory. A classification head stays float32. In fp32
nothing is converted.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import nn

from lorakit.errors import ConfigError
from lorakit.layers.base import AdapterLayer
from lorakit.models.fp32_attention import use_fastest_attention
from lorakit.models.fp32_head import head_modules, keep_in_float32

Dtype = Literal["fp32", "bf16", "fp16"]

_STORED = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_dtype(setting: Literal["auto"] | Dtype) -> Dtype:
    """The dtype to compute in: `auto` is bf16 where the hardware multiplies in it, else fp32.

    Raises ConfigError for a dtype that this machine cannot train in.
    """
    if setting == "auto":
        return "bf16" if _multiplies_bf16() else "fp32"
    if setting == "fp16" and not torch.accelerator.is_available():
        raise ConfigError(
            "training.dtype fp16 needs an accelerator, and there is none; use auto, bf16 or fp32."
        )
    if setting == "bf16" and torch.cuda.is_available() and not _multiplies_bf16():
        raise ConfigError(
            "training.dtype bf16 is not supported by this GPU; use auto, fp16 or fp32."
        )
    return setting


def inference_dtype(setting: Literal["auto"] | Dtype) -> Dtype:
    """The dtype of a run on this machine; fp32 where the machine cannot compute in the run's."""
    try:
        return resolve_dtype(setting)
    except ConfigError:
        return "fp32"


def compute_in(model: nn.Module, dtype: Dtype) -> None:
    """Prepare a transformers model to compute in `dtype`, under `autocast`."""
    if dtype == "fp32":
        return
    head = head_modules(model)
    cast_frozen(model, dtype, keep=head)
    for module in head:
        keep_in_float32(module)
    use_fastest_attention(model, dtype)


def autocast(device: torch.device, dtype: Dtype) -> AbstractContextManager[Any]:
    """The context that a model prepared by `compute_in` computes in."""
    return torch.autocast(device.type, _STORED.get(dtype), enabled=dtype in _STORED)


def cast_frozen(model: nn.Module, dtype: Dtype, keep: Iterable[nn.Module] = ()) -> None:
    """Cast the frozen parameters to the dtype that the model computes in, but those in `keep`.

    Frozen tensors of an adapter stay as they are. So does a frozen vector beside a trainable
    parameter: torch's norms take a scale and a shift of one dtype only.
    """
    if dtype == "fp32":
        return
    kept = {inner for module in keep for inner in module.modules()}
    for module in model.modules():
        if module in kept:
            continue
        adapter = module.tensor_names if isinstance(module, AdapterLayer) else ()
        own = [p for n, p in module._parameters.items() if p is not None and n not in adapter]
        trains = any(parameter.requires_grad for parameter in own)
        for parameter in own:
            if parameter.requires_grad or (trains and parameter.ndim == 1):
                continue
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(_STORED[dtype])


def _multiplies_bf16() -> bool:
    """Whether the training device has instructions for bfloat16 products."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if torch.accelerator.is_available():
        return False
    processor = torch.cpu.get_capabilities()
    return any(processor.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
