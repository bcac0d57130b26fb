"""What is trained besides the adapters: `modules_to_save` and biases."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from lorakit.config import LoraConfig, is_bias
from lorakit.injection.selection.architectures import unloaded

Slot = tuple[nn.Module, str]
"""A module and the name of its own parameter or buffer."""

WOULD_STAY_RANDOM = (
    "is newly initialized, since the checkpoint lacks it, and would not be trained; add its module "
    "to modules_to_save, or load the model without it"
)


def tensors_in_full(
    model: nn.Module,
    config: LoraConfig,
    saved: Iterable[nn.Module],
    adapted: Iterable[nn.Module],
) -> list[Slot]:
    """Every tensor of the `saved` modules, and the biases that the config trains."""
    slots: dict[tuple[int, str], Slot] = {}
    for container in saved:
        for module in container.modules():
            transient = module._non_persistent_buffers_set
            tensors = {**module._parameters, **module._buffers}
            for leaf, tensor in tensors.items():
                if tensor is not None and leaf not in transient:
                    slots[id(module), leaf] = module, leaf
    own = {id(module) for module in adapted}
    for module in model.modules():
        wanted = config.bias == "all" or (config.bias == "lora_only" and id(module) in own)
        for leaf, parameter in module._parameters.items() if wanted else ():
            if parameter is not None and is_bias(leaf):
                slots[id(module), leaf] = module, leaf
    return list(slots.values())


def newly_initialized(model: nn.Module, trained: Iterable[Slot]) -> list[tuple[str, str]]:
    """(name, what is wrong) of weights missing from the checkpoint that would not train either."""
    slots = {(id(module), leaf) for module, leaf in trained}
    return [
        (name, WOULD_STAY_RANDOM)
        for name in unloaded(model)
        for parent, _, leaf in [name.rpartition(".")]
        if (id(model.get_submodule(parent)), leaf) not in slots
    ]
