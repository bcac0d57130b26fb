"""What trains in full (heads, biases): a trainable copy in the original's place.

The pretrained tensor is never written. The copy stands under its name, so every name, state_dict
and optimizer sees it; the original waits beside it in `module._lora_originals`, comes back with
`eject`, and takes its place inside `lorakit.disabled`. A base checkpoint that is loaded later
reaches both.

A tensor that was tied to the original keeps it, so the two part. `module._lora_ties` remembers
which it was: transformers' `tie_weights` may put the trained copy there as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.errors import StateError
from lorakit.injection.selection.architectures import mark_loaded
from lorakit.surgery.ties import storage_key

ATTRIBUTE = "_lora_originals"
_TIES = "_lora_ties"
_REDUCE = "__reduce_ex__"


def make(model: nn.Module, slots: Iterable[tuple[nn.Module, str]]) -> None:
    """Put a trainable copy into each (module, name); tensors that were one stay one."""
    slots = list(slots)
    _remember_ties(model, slots)
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
        module.__dict__.setdefault(ATTRIBUTE, {})[name] = original
        slot(module, name)[name] = copy
    if copies:
        mark_loaded(model, (c for c in copies.values() if isinstance(c, nn.Parameter)))
        _watch_loading(model)


def _remember_ties(model: nn.Module, slots: list[tuple[nn.Module, str]]) -> None:
    """Keep what else lies in the memory of these slots."""
    chosen = {(id(module), name) for module, name in slots}
    taken = {storage_key(slot(module, name)[name]) for module, name in slots}
    for module in model.modules() if chosen else ():
        ties = module.__dict__.get(_TIES, {})
        for name, parameter in module._parameters.items():
            if (id(module), name) in chosen:
                ties.pop(name, None)
            elif parameter is not None and storage_key(parameter) in taken:
                module.__dict__.setdefault(_TIES, ties)[name] = parameter


def parted(model: nn.Module) -> list[tuple[str, ...]]:
    """Groups of names that were one memory until some of them, which come first, had a copy."""
    groups: dict[object, list[str]] = {}
    for name, original in originals(model).items():
        groups.setdefault(storage_key(original), []).append(name)
    parted = set()
    for prefix, module in model.named_modules():
        for leaf, tensor in module.__dict__.get(_TIES, {}).items():
            key = storage_key(tensor)
            groups.setdefault(key, []).append(f"{prefix}.{leaf}" if prefix else leaf)
            parted.add(key)
    return [tuple(names) for key, names in groups.items() if key in parted]


def holders(model: nn.Module) -> Iterator[nn.Module]:
    """Every module that holds a trained copy, or may hold one by a tie."""
    return (m for m in model.modules() if ATTRIBUTE in m.__dict__ or _TIES in m.__dict__)


def owners(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of every module that holds a trained copy."""
    for name, module in model.named_modules():
        if ATTRIBUTE in module.__dict__:
            yield name, module


def names(model: nn.Module) -> list[str]:
    """The full names of the tensors that train in full."""
    return [name for name, _, _ in _slots(model)]


def originals(model: nn.Module) -> dict[str, Tensor]:
    """What waits beside the trained copies, by their names."""
    return {name: module.__dict__[ATTRIBUTE][leaf] for name, module, leaf in _slots(model)}


def _slots(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """(full name, module, own name) of every trained copy."""
    for prefix, module in owners(model):
        for leaf in module.__dict__[ATTRIBUTE]:
            yield f"{prefix}.{leaf}" if prefix else leaf, module, leaf


def require_values(model: nn.Module) -> None:
    """Raises StateError if an original has no values, for a model adapted on the meta device."""
    for prefix, module in owners(model):
        for name, original in module.__dict__[ATTRIBUTE].items():
            if original.is_meta and not slot(module, name)[name].is_meta:
                raise StateError(
                    f"The original values of {prefix}.{name} are unknown: the model was adapted "
                    "on the meta device and no base checkpoint was loaded since."
                )


def swap(module: nn.Module) -> None:
    """Exchange this module's own copies and their originals; a second call undoes the first."""
    for attribute in (ATTRIBUTE, _TIES):
        waiting = module.__dict__.get(attribute, {})
        for name, original in waiting.items():
            table = slot(module, name)
            copy = table[name]
            if copy is original or (attribute == _TIES and original.is_meta):
                continue
            original.data = original.data.to(device=copy.device, dtype=copy.dtype)
            table[name], waiting[name] = original, copy


def set_aside(module: nn.Module, aside: bool) -> None:
    """Swap, so that what is copied or pickled meanwhile (`aside`) has the trained copies."""
    swap(module)
    if aside:
        module.__dict__[_REDUCE] = partial(_reduce_with_copies, module)
    else:
        module.__dict__.pop(_REDUCE, None)


def _reduce_with_copies(module: nn.Module, protocol: int) -> tuple[Any, ...]:
    """What copy and pickle ask for, for the module as it is when nothing is set aside."""
    reduced: Any = type(module).__reduce_ex__(module, protocol)
    maker, arguments, state, *rest = reduced
    state = dict(state)
    del state[_REDUCE]
    for table in ("_parameters", "_buffers", ATTRIBUTE, _TIES):
        if table in state:
            state[table] = dict(state[table])
    for attribute in (ATTRIBUTE, _TIES):
        for name, copy in state.get(attribute, {}).items():
            table = "_parameters" if name in state["_parameters"] else "_buffers"
            state[attribute][name], state[table][name] = state[table][name], copy
    return maker, arguments, state, *rest


def forget(model: nn.Module) -> None:
    """Let go of what waits beside the tensors in place."""
    for module in model.modules():
        for attribute in (ATTRIBUTE, _TIES):
            module.__dict__.pop(attribute, None)
        for key in _loading_hooks(module):
            del module._load_state_dict_pre_hooks[key]


def slot(module: nn.Module, name: str) -> dict[str, Any]:
    """The table of the module that holds this parameter or buffer."""
    return module._parameters if name in module._parameters else module._buffers


def _watch_loading(model: nn.Module) -> None:
    """Once a model: only its own hook sees the whole checkpoint, a part's sees that part of it."""
    if not _loading_hooks(model):
        model.register_load_state_dict_pre_hook(_load_originals)


def _loading_hooks(module: nn.Module) -> list[int]:
    hooks = module._load_state_dict_pre_hooks.items()
    return [key for key, hook in hooks if getattr(hook, "hook", None) is _load_originals]


def _load_originals(
    model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Before a load: a checkpoint without A and B is a base, so it is the originals' value too.

    Unless it holds nothing but what trains: then it is a trained head.
    """
    waiting = originals(model)
    with_adapters = any(key.endswith(("lora_A", "lora_B")) for key in state_dict)
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
    """Give a tensor on the meta device its value and stay the same object."""
    if isinstance(original, nn.Parameter):
        value = nn.Parameter(value, original.requires_grad)
    torch.utils.swap_tensors(original, value)
