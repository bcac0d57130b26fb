"""loralib's two functions on models; adapters are found by layer type instead of by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from lorakit.config import BIASES, Bias, is_bias
from lorakit.errors import ConfigError
from lorakit.layers.base import AdapterLayer
from lorakit.layers.lora_layer import LoRALayer


def mark_only_lora_as_trainable(model: nn.Module, bias: Bias = "none") -> None:
    """Freeze all of `model` but A, B (DoRA's m, ...) and the biases asked for, which then train.

    `bias` is "none", "all" (every parameter called bias) or "lora_only" (of adapted layers).
    A head stays frozen: unfreeze it afterwards. A tied tensor trains if one of its names does.

    Raises ConfigError for another `bias`, before anything is frozen.
    Source: loralib's function of that name.
    """
    wanted = _lora_names(model, bias, _trained_names)
    named = list(model.named_parameters(remove_duplicate=False))
    trained = {id(parameter) for name, parameter in named if name in wanted}
    for _, parameter in named:
        parameter.requires_grad_(id(parameter) in trained)


def lora_state_dict(model: nn.Module, bias: Bias = "none") -> dict[str, Tensor]:
    """Copies of A, B (DoRA's m, ...) and the biases asked for, named as in `model`'s state_dict.

    `bias` is as in `mark_only_lora_as_trainable`. Raises ConfigError for another one.
    Source: loralib's function of that name. `lorakit.save_adapter` also keeps rank, scale and head.
    """
    wanted = _lora_names(model, bias, _adapter_names)
    return {
        name: tensor.detach().clone()
        for name, tensor in model.state_dict(keep_vars=True).items()
        if name in wanted
    }


def _adapter_names(module: nn.Module) -> tuple[str, ...]:
    """The adapter's own parameters; of a user's LoRALayer those whose names begin so."""
    if isinstance(module, AdapterLayer):
        return module.tensor_names
    if not isinstance(module, LoRALayer):
        return ()
    return tuple(name for name in module._parameters if name.startswith("lora_"))


def _trained_names(module: nn.Module) -> tuple[str, ...]:
    """Those of them that train."""
    frozen = module.variant.frozen if isinstance(module, AdapterLayer) else frozenset()
    return tuple(name for name in _adapter_names(module) if name not in frozen)


def _lora_names(
    model: nn.Module, bias: Bias, own: Callable[[nn.Module], tuple[str, ...]]
) -> set[str]:
    """Full names: each module's `own` names, and the biases that `bias` selects."""
    if bias not in BIASES:
        raise ConfigError(f"bias is {bias!r}; it must be one of {', '.join(BIASES)}.")
    names = set()
    for prefix, module in model.named_modules(remove_duplicate=False):
        adapter = own(module)
        for leaf in module._parameters:
            if leaf in adapter or (
                is_bias(leaf) and (bias == "all" or (bias == "lora_only" and adapter))
            ):
                names.add(f"{prefix}.{leaf}" if prefix else leaf)
    return names
