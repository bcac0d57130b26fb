"""Why a module cannot be adapted: its class, its weight, its names, or its own forward."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import is_parametrized

from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import ADAPTED, CONV1D, OWN, keeps_its_forward, lora_class_of
from lorakit.layers.parameter import ModuleParameter
from lorakit.private.torch_names import is_fake
from lorakit.surgery.split import is_conv1d
from lorakit.variants.registry import adapter_names


def refusal(module: nn.Module, in_rows: bool = False) -> str | None:
    """Why this module cannot be adapted, or None if it can; `in_rows` as in `lora_class_of`."""
    name = type(module).__name__
    if isinstance(module, AdapterLayer):
        if not module.is_shared:
            return "already has an adapter"
        whole = in_rows or module.site.rows is None
        return None if whole else "has a forward of its own, so only its rows can be adapted"
    if any(isinstance(p, UninitializedParameter) for p in module._parameters.values()):
        return "is a lazy module with uninitialized parameters; run one forward pass first"
    if reason := overridden_forward(module):
        return reason
    if is_parametrized(module):
        return "is parametrized; call torch.nn.utils.parametrize.remove_parametrizations first"
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return f"has type {name}; transposed convolutions are not supported"
    if isinstance(module, ModuleParameter) and (reason := _owner_refusal(module)):
        return reason
    leaf = lora_class_of(module, in_rows)
    if leaf is None:
        known = next((c for c in ADAPTED if isinstance(module, c)), None)
        if known is None:
            return f"has type {name}, which is not supported"
        if reason := weight_refusal(ADAPTED[known].weight_of(module)):
            return reason
        return (
            f"has type {name}, an unregistered subclass of {known.__name__}; if its forward "
            "computes the same function, register the subclass with lorakit.layers.register"
        )
    weight = leaf.weight_of(module)
    if weight is None:
        return leaf.without_weight
    return weight_refusal(weight) or _name_refusal(module, leaf) or _forward_refusal(module)


def _owner_refusal(module: ModuleParameter) -> str | None:
    """Why its module cannot read this parameter adapted."""
    owner, parameter = module.owner, module.parameter
    if isinstance(owner, AdapterLayer):
        return f"is a parameter of a {type(owner).__name__} that is adapted itself"
    if is_parametrized(owner):
        return "is a parameter of a parametrized module, which is not supported"
    if parameter is not None and parameter.ndim not in (2, 3):
        shape = tuple(parameter.shape)
        return f"has the shape {shape}; target_parameters is for two or three dimensions"
    return overridden_forward(owner)


def overridden_forward(module: nn.Module) -> str | None:
    """Why nothing that is added to the class of this module would run; None if it would."""
    if "forward" not in module.__dict__ or _is_class_forward(module):
        return None
    return (
        "has a forward overridden on the instance, so its adapter would not run; if that is a hook "
        "of accelerate, load the model without device_map or offload, or call "
        "accelerate.hooks.remove_hook_from_module on it first"
    )


def _is_class_forward(module: nn.Module) -> bool:
    """Whether the instance's forward is its class's, as after removing accelerate's hooks."""
    own = module.__dict__["forward"]
    same_function = getattr(own, "__func__", None) is type(module).forward
    return same_function and getattr(own, "__self__", None) is module


def weight_refusal(weight: Tensor | None) -> str | None:
    """Why nothing is trained beside this weight: it is sharded or quantised. None if it is not."""
    if weight is None:
        return None
    if hasattr(weight, "ds_id"):
        return "has a weight sharded by DeepSpeed ZeRO-3, which is not supported"
    if type(weight) not in (nn.Parameter, Tensor) and not is_fake(weight):
        kind = type(weight).__name__
        return f"has a weight of type {kind} (quantised or sharded), which is not supported"
    if not weight.is_floating_point() or weight.itemsize == 1:
        return f"has a quantised weight of dtype {weight.dtype}, which is not supported"
    return None


def _name_refusal(module: nn.Module, leaf: type[AdapterLayer]) -> str | None:
    """Whether the module, or its registered class, means something else by a layer's names."""
    registered = (module._parameters, module._buffers, module._modules)
    own, taken = set(module.__dict__).union(*registered), OWN | adapter_names()
    if is_conv1d(module):
        taken |= set(CONV1D)
    if keeps_its_forward(type(module)):
        classes = [c for c in type(module).__mro__ if not issubclass(leaf.torch_class, c)]
        own |= {name for c in classes for name in vars(c)}
        taken |= set(dir(leaf)) - set(dir(leaf.torch_class)) - {"fan_in_fan_out"}
    if not (both := sorted(own & taken)):
        return None
    return f"has its own {', '.join(both)}, a name that adapted layers use; rename it"


def _forward_refusal(module: nn.Module) -> str | None:
    """Whether a registered class's own forward would write the weight, as torch's does."""
    own = type(module).forward is not nn.Embedding.forward
    if own and isinstance(module, nn.Embedding) and module.max_norm is not None:
        return "has max_norm, with which its own forward writes to its weight"
    return None
