"""What is trained in full (heads, biases): trainable copies that replace the originals.

The pretrained tensor is never written. The copy is registered under its name, so state_dict and
optimizers see it; the original is stored in the module's `Alteration`, restored by `eject`, and
used inside `lorakit.disabled`. A base checkpoint that is loaded later is copied to both.

A copy is float32 also where the original is narrower; the module then reads it rounded to the
dtype of the original (`surgery.rounded_reads`), and computes in that dtype as before.

A tensor that was tied to the original still is, and so no longer tied to the copy. The `Alteration`
records it: transformers' `tie_weights` may tie it to the trained copy as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.errors import StateError
from lorakit.functional.initialise import adapter_dtype
from lorakit.injection.selection.architectures import mark_loaded
from lorakit.layers.conversion import lora_layers
from lorakit.surgery.alteration import alteration, altered
from lorakit.surgery.composition import mix_in, mix_out
from lorakit.surgery.disabling import ReadsOriginals, is_disabled
from lorakit.surgery.rounded_reads import read_as_stored, read_rounded
from lorakit.surgery.ties import storage_key


def make(model: nn.Module, places: Iterable[tuple[nn.Module, str]]) -> None:
    """Replace each (module, name) by a trainable copy; one tensor in several places stays one."""
    places = list(places)
    _remember_ties(model, places)
    copies: dict[int, Tensor] = {}
    for module, name in places:
        original = slot(module, name)[name]
        assert original is not None
        copy = copies.get(id(original))
        if copy is None:
            is_parameter = name in module._parameters
            copy = _trainable(original) if is_parameter else original.detach().clone()
            copies[id(original)] = copy
        if copy.dtype != original.dtype:
            read_rounded(module, name)
        altered(module).originals[name] = original
        slot(module, name)[name] = copy
    for module in holders(model):
        mix_in(module, ReadsOriginals)
    if copies:
        mark_loaded(model, (c for c in copies.values() if isinstance(c, nn.Parameter)))
        _watch_loading(model)


def _trainable(original: Tensor) -> nn.Parameter:
    """A master copy, in at least float32, as A and B are; of integers a frozen one."""
    trains = original.is_floating_point()
    dtype = adapter_dtype(original.dtype) if trains else original.dtype
    return nn.Parameter(original.detach().clone().to(dtype), requires_grad=trains)


def _remember_ties(model: nn.Module, places: list[tuple[nn.Module, str]]) -> None:
    """Record the other parameters that are tied to these."""
    chosen = {(id(module), name) for module, name in places}
    taken = {storage_key(slot(module, name)[name]) for module, name in places}
    for module in model.modules() if chosen else ():
        for name, parameter in module._parameters.items():
            if (id(module), name) in chosen:
                _ties(module).pop(name, None)
            elif parameter is not None and storage_key(parameter) in taken:
                altered(module).ties[name] = parameter
                if parameter.dtype != adapter_dtype(parameter.dtype):
                    read_rounded(module, name)


def untied(model: nn.Module) -> list[tuple[str, ...]]:
    """Groups of parameters that were tied until the first ones got a trained copy, or all did."""
    groups: dict[object, dict[str, int]] = {}
    for name, module, leaf in _slots(model):
        group = groups.setdefault(storage_key(_originals(module)[leaf]), {})
        group[name] = id(slot(module, leaf)[leaf])
    for prefix, module in model.named_modules():
        for leaf, tensor in _ties(module).items():
            group = groups.setdefault(storage_key(tensor), {})
            group[f"{prefix}.{leaf}" if prefix else leaf] = id(slot(module, leaf)[leaf])
    return [tuple(group) for group in groups.values() if len(set(group.values())) > 1]


def holders(model: nn.Module) -> Iterator[nn.Module]:
    """Every module that has a trained copy, or a parameter that may be tied to one."""
    return (m for m in model.modules() if _originals(m) or _ties(m))


def owners(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of every module that has a trained copy."""
    for name, module in model.named_modules():
        if _originals(module):
            yield name, module


def values(model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """The trained copies themselves, by module and own name."""
    return {
        name: {leaf: slot(module, leaf)[leaf] for leaf in _originals(module)}
        for name, module in owners(model)
    }


def slots(model: nn.Module) -> set[tuple[int, str]]:
    """(identity of the module, own name) of every trained copy."""
    return {(id(module), leaf) for _, module, leaf in _slots(model)}


def names(model: nn.Module) -> list[str]:
    """The full names of the tensors that are trained in full."""
    return [name for name, _, _ in _slots(model)]


def originals(model: nn.Module) -> dict[str, Tensor]:
    """The original tensors, by the full names of their trained copies."""
    return {name: _originals(module)[leaf] for name, module, leaf in _slots(model)}


def _slots(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """(full name, module, own name) of every trained copy."""
    for prefix, module in owners(model):
        for leaf in _originals(module):
            yield f"{prefix}.{leaf}" if prefix else leaf, module, leaf


def require_values(model: nn.Module) -> None:
    """Raises StateError if an original has no values, for a model adapted on the meta device."""
    for prefix, module in owners(model):
        for name, original in _originals(module).items():
            if original.is_meta and not slot(module, name)[name].is_meta:
                raise StateError(
                    f"The original values of {prefix}.{name} are unknown: the model was adapted "
                    "on the meta device and no base checkpoint was loaded since."
                )


def follow(module: nn.Module) -> None:
    """Bring this module's originals to the device and dtype of their copies."""
    record = altered(module)
    for waiting in (record.originals, record.ties):
        for name, original in waiting.items():
            copy = slot(module, name)[name]
            if name in record.rounded or (waiting is record.ties and original.is_meta):
                continue  # those have moved with the module
            original.data = original.data.to(device=copy.device, dtype=copy.dtype)


def restore(modules: Iterable[nn.Module]) -> None:
    """Put the originals of these modules back in the place of their copies; see `follow`."""
    for module in modules:
        record = altered(module)
        for waiting in (record.originals, record.ties):
            for name, original in waiting.items():
                if not (waiting is record.ties and original.is_meta):
                    slot(module, name)[name] = original


def in_use(model: nn.Module) -> bool:
    """Whether the trained copies are in use, and not the originals."""
    return not any(map(is_disabled, holders(model)))


def forget(model: nn.Module) -> None:
    """Drop the originals; the tensors in use stay, and read as they are stored."""
    for module in model.modules():
        read_as_stored(module)
        mix_out(module, ReadsOriginals)
        _originals(module).clear()
        _ties(module).clear()
        for key in _loading_hooks(module):
            del module._load_state_dict_pre_hooks[key]


def _originals(module: nn.Module) -> dict[str, Tensor]:
    record = alteration(module)
    return record.originals if record is not None else {}


def _ties(module: nn.Module) -> dict[str, Tensor]:
    record = alteration(module)
    return record.ties if record is not None else {}


def slot(module: nn.Module, name: str) -> dict[str, Any]:
    """The module's dict (`_parameters` or `_buffers`) that has this tensor."""
    return module._parameters if name in module._parameters else module._buffers


def _watch_loading(model: nn.Module) -> None:
    """Register one hook on the root, whose state_dict alone is the whole checkpoint."""
    if not _loading_hooks(model):
        model.register_load_state_dict_pre_hook(_load_originals)


def _loading_hooks(module: nn.Module) -> list[int]:
    hooks = module._load_state_dict_pre_hooks.items()
    return [key for key, hook in hooks if getattr(hook, "hook", None) is _load_originals]


def _load_originals(
    model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Before load_state_dict: a checkpoint without A and B is a base, so the originals get it too.

    Unless it has nothing but the trained copies: then it is a trained head.
    """
    waiting = originals(model)
    with_adapters = any(
        f"{prefix}{name}.{leaf}" in state_dict
        for name, layer in lora_layers(model)
        for leaf in layer.tensor_names
    )
    if with_adapters or state_dict.keys() <= {prefix + name for name in waiting}:
        return
    for name, module, leaf in _slots(model):
        value, original = state_dict.get(prefix + name), waiting[name]
        if value is None or value.shape != original.shape:
            continue
        device = slot(module, leaf)[leaf].device
        value = value.detach().to(device, original.dtype, copy=True)
        if original.is_meta:
            _materialise(original, value)
        else:
            original.data = value


def _materialise(original: Tensor, value: Tensor) -> None:
    """Give a tensor on the meta device its value, keeping the same object."""
    if isinstance(original, nn.Parameter):
        value = nn.Parameter(value, original.requires_grad)
    torch.utils.swap_tensors(original, value)
