"""Turn a live torch module into an adapted one, and back.

The module object stays: its class changes, as `torch.nn.utils.parametrize` does it, so every name,
Parameter, tie, hook and reference stays too. Exact types only: a subclass may compute something
else in its forward, so one that is not registered is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import is_parametrized

from lorakit.errors import ConfigError, TargetError
from lorakit.layers.attention import MultiheadAttention
from lorakit.layers.base import LoraLayer
from lorakit.layers.conv import Conv1d, Conv2d, Conv3d
from lorakit.layers.dora import DoraLinear
from lorakit.layers.embedding import Embedding
from lorakit.layers.linear import Linear, MergedLinear
from lorakit.layers.spec import AdapterSpec
from lorakit.private.torch_names import OutProjection
from lorakit.surgery.parameters import parameter_like
from lorakit.surgery.split import is_conv1d

_ADAPTED: dict[type[nn.Module], type[LoraLayer]] = {
    nn.Linear: Linear,
    OutProjection: Linear,
    nn.Embedding: Embedding,
    nn.Conv1d: Conv1d,
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
    nn.MultiheadAttention: MultiheadAttention,
}


def register(torch_class: type[nn.Module], lora_class: type[LoraLayer]) -> None:
    """Let `inject` adapt modules of exactly `torch_class` as `lora_class`.

    `torch_class` must compute what the torch class of `lora_class` computes.

    Raises ConfigError if it is not a subclass of that.
    """
    if not issubclass(torch_class, lora_class.torch_class):
        raise ConfigError(
            f"{torch_class.__name__} is no {lora_class.torch_class.__name__}, "
            f"so {lora_class.__name__} cannot adapt it."
        )
    _ADAPTED[torch_class] = lora_class


def kind(module: nn.Module) -> type[LoraLayer] | None:
    """The class that adapts this module, None if there is none; whether it may is `refusal`'s."""
    return Linear if is_conv1d(module) else _ADAPTED.get(type(module))


def is_linear(module: nn.Module) -> bool:
    """Whether this is a linear layer by its mathematics: nn.Linear, Conv1D or fused attention."""
    return (
        isinstance(module, nn.Linear | nn.MultiheadAttention) or is_conv1d(module)
    ) and not isinstance(module, LoraLayer)


def refusal(module: nn.Module) -> str | None:
    """Why this module cannot be adapted, or None if it can."""
    name = type(module).__name__
    if isinstance(module, LoraLayer):
        return "is adapted already"
    if any(isinstance(p, UninitializedParameter) for p in module._parameters.values()):
        return "has no shape yet; run one forward first"
    if "forward" in module.__dict__ and not _repeats_its_class(module):
        return (
            "has a forward of its own in place of its class's, which would pass the adapter by; if "
            "that is accelerate's hook, load the model without device_map or offload, or call "
            "accelerate.hooks.remove_hook_from_module on it first"
        )
    if is_parametrized(module):
        return "is parametrised; torch.nn.utils.parametrize.remove_parametrizations comes first"
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return f"is a {name}; transposed convolutions have no adapter"
    if kind(module) is None:
        known = next((c for c in _ADAPTED if isinstance(module, c)), None)
        if known is None:
            return f"is a {name}, which has no adapter"
        return (
            f"is a {name}, an unknown subclass of {known.__name__}; if it computes the same, "
            "name it with lorakit.layers.register"
        )
    if isinstance(module, nn.MultiheadAttention) and module._parameters["in_proj_weight"] is None:
        return "is a MultiheadAttention with kdim or vdim of its own, which has no fused weight"
    if module._parameters.get(_weight_name(module)) is None:
        return "has no parameter called weight (pruned, weight-normalised or quantised)"
    return _weight_refusal(base_weight(module))


def dora_refusal(module: nn.Module) -> str | None:
    """Why this module, adapted or not, cannot have DoRA; None if it can."""
    if isinstance(module, Linear):
        return "has slices, and use_dora is for whole weights" if module.spec.slices else None
    within_attention = type(module) is OutProjection
    if kind(module) is Linear and not within_attention:
        return None
    what = "is nn.MultiheadAttention's out_proj" if within_attention else f"is a {_named(module)}"
    return f"{what}; use_dora is for linear layers and GPT-2's Conv1D"


def _named(module: nn.Module) -> str:
    return (original_class(module) if isinstance(module, LoraLayer) else type(module)).__name__


def _repeats_its_class(module: nn.Module) -> bool:
    """Whether the module's own forward is its class's, which accelerate's hooks leave behind."""
    own = module.__dict__["forward"]
    same_function = getattr(own, "__func__", None) is type(module).forward
    return same_function and getattr(own, "__self__", None) is module


def _weight_refusal(weight: Tensor) -> str | None:
    if hasattr(weight, "ds_id"):
        return "is sharded by ZeRO-3, which is not supported"
    if type(weight) not in (nn.Parameter, Tensor):
        return f"has a weight of type {type(weight).__name__} (quantised or sharded)"
    if not weight.is_floating_point():
        return f"has a quantised weight of type {weight.dtype}"
    return None


def base_weight(module: nn.Module) -> Tensor:
    """The weight that an adapter of this module would stand beside."""
    weight = module._parameters[_weight_name(module)]
    assert weight is not None
    return weight


def _weight_name(module: nn.Module) -> str:
    return "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight"


def features(module: nn.Module) -> tuple[int, int]:
    """(in, out) of the linear map that this module's weight stands for."""
    weight = base_weight(module)
    if isinstance(module, nn.Embedding) or is_conv1d(module):
        return weight.shape[0], weight.shape[1]
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return weight[0].numel() * module.groups, weight.shape[0]
    return weight.shape[1], weight.shape[0]


def adapt(
    module: nn.Module, spec: AdapterSpec, factors: tuple[Tensor, ...] | None = None
) -> LoraLayer:
    """Change the module's class and attach A and B; the module must pass `refusal`, and
    `dora_refusal` if that is what the spec asks for.

    `factors` gives A and B (and DoRA's magnitude) their values; without it they are drawn. If that
    fails, the module is as it was, apart from a frozen weight.
    """
    lora_class = kind(module)
    if lora_class is None:
        raise TargetError(f"{type(module).__name__} cannot be adapted.")
    if spec.slices is not None:
        lora_class = MergedLinear
    if spec.use_dora:
        lora_class = DoraLinear
    before, original = set(module.__dict__), type(module)
    if is_conv1d(module):
        module.in_features, module.out_features = features(module)  # type: ignore[assignment]
        module.fan_in_fan_out = True  # type: ignore[assignment]
    module.__dict__.pop("forward", None)  # the class's own, or `refusal` had refused
    module.__class__ = lora_class
    assert isinstance(module, LoraLayer)
    try:
        module.attach(spec, factors)
    except BaseException:
        _strip(module, original, set(module.__dict__) - before)
        raise
    added = set(module.__dict__) - before | {"_original_class", "_added"}
    module.__dict__.update(_original_class=original, _added=frozenset(added))
    return module


def original_class(layer: LoraLayer) -> type[nn.Module]:
    """The class that the module had, or would have without LoRA."""
    found: type[nn.Module] = layer.__dict__.get("_original_class", layer.torch_class)
    return found


def require_plain_form(layers: Iterable[LoraLayer]) -> None:
    """Raises TargetError if `restore` cannot make plain modules of these layers."""
    for layer in layers:
        if original_class(layer) is nn.Linear and getattr(layer, "fan_in_fan_out", False):
            raise TargetError(
                "A layer constructed with fan_in_fan_out=True has no plain form: nn.Linear stores "
                "its weight (out, in)."
            )


def restore(module: LoraLayer, weight: Tensor | None = None) -> None:
    """Give the module its class back and remove A and B; `weight` replaces its parameter.

    Raises TargetError if there is no class to give back.
    """
    require_plain_form([module])
    original = original_class(module)
    own = {"spec", "scaling", "_active", "_merging", "_merged", "_merged_from", "_square_form"}
    _strip(module, original, own | module.__dict__.get("_added", frozenset()))
    if weight is not None:
        name = _weight_name(module)
        old = module._parameters[name]
        assert old is not None
        module._parameters[name] = parameter_like(old, weight)


def _strip(module: LoraLayer, original: type[nn.Module], attributes: Iterable[str]) -> None:
    """Give the class back; remove A, B and the attributes that came with them."""
    for name in attributes:
        module.__dict__.pop(name, None)
    for name in module.tensor_names:
        module._parameters.pop(name, None)
    module.__class__ = original  # type: ignore[assignment]


def lora_layers(model: nn.Module) -> Iterable[tuple[str, LoraLayer]]:
    """(name, layer) of every adapted layer in the model; a shared one once."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and module.r:
            yield name, module
