"""What trains in full (heads, biases): a trainable copy in the original's place.

The pretrained tensor is never written. The copy stands under its name, so every name, state_dict
and optimizer sees it; the original waits beside it in `module._lora_originals`, comes back with
`eject`, and takes its place inside `lorakit.disabled`. A base checkpoint that is loaded later
reaches both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.errors import StateError

ATTRIBUTE = "_lora_originals"


def make(slots: Iterable[tuple[nn.Module, str]]) -> None:
    """Put a trainable copy into each (module, name); tensors that were one stay one."""
    copies: dict[int, Tensor] = {}
    for module, name in slots:
        original = slot(module, name)[name]
        assert original is not None
        copy = copies.get(id(original))
        if copy is None:
            copy = original.detach().clone()
            if name in module._parameters:
                copy = nn.Parameter(copy, requires_grad=copy.is_floating_point())
            copies[id(original)] = copy
        if ATTRIBUTE not in module.__dict__:
            module.__dict__[ATTRIBUTE] = {}
            module.register_load_state_dict_pre_hook(_load_originals)
        module.__dict__[ATTRIBUTE][name] = original
        slot(module, name)[name] = copy


def owners(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of every module that holds a trained copy."""
    for name, module in model.named_modules():
        if ATTRIBUTE in module.__dict__:
            yield name, module


def names(model: nn.Module) -> list[str]:
    """The full names of the tensors that train in full."""
    return [
        f"{prefix}.{name}" if prefix else name
        for prefix, module in owners(model)
        for name in module.__dict__[ATTRIBUTE]
    ]


def swap(model: nn.Module) -> None:
    """Exchange every copy and its original; a second call undoes the first."""
    for prefix, module in list(owners(model)):
        originals = module.__dict__[ATTRIBUTE]
        for name in originals:
            table = slot(module, name)
            copy, original = table[name], originals[name]
            assert copy is not None
            if original.is_meta and not copy.is_meta:
                raise StateError(
                    f"The original values of {prefix}.{name} are unknown: the model was adapted "
                    "on the meta device and no base checkpoint was loaded since."
                )
            original.data = original.data.to(device=copy.device, dtype=copy.dtype)
            table[name], originals[name] = original, copy


def forget(model: nn.Module) -> None:
    """Let go of what waits beside the tensors in place."""
    for _, module in list(owners(model)):
        del module.__dict__[ATTRIBUTE]
        hooks = module._load_state_dict_pre_hooks
        for key, hook in list(hooks.items()):
            if getattr(hook, "hook", None) is _load_originals:
                del hooks[key]


def slot(module: nn.Module, name: str) -> dict[str, Any]:
    """The table of the module that holds this parameter or buffer."""
    return module._parameters if name in module._parameters else module._buffers


def _load_originals(
    module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Before a load: a checkpoint without A and B is a base, so it is the original's value too."""
    if any(key.endswith(("lora_A", "lora_B")) for key in state_dict):
        return
    for name, original in module.__dict__[ATTRIBUTE].items():
        value = state_dict.get(prefix + name)
        if value is not None and value.shape == original.shape:
            device = slot(module, name)[name].device
            with torch.no_grad():
                original.data = value.detach().to(device, original.dtype, copy=True)
