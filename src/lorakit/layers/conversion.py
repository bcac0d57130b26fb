"""Turn a live torch module into an adapted one, and back.

The module stays the same object and its class changes, as `torch.nn.utils.parametrize` does it, so
every name, Parameter, tie, hook and reference stays valid. Exact types only: a subclass may compute
something else in its forward, so one that is not registered is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from torch import Tensor, nn

from lorakit.errors import ConfigError, TargetError
from lorakit.layers.attention import MultiheadAttention
from lorakit.layers.base import AdapterLayer
from lorakit.layers.composition import of_subclass
from lorakit.layers.conv import Conv1d, Conv2d, Conv3d
from lorakit.layers.embedding import Embedding
from lorakit.layers.linear import Linear, MergedLinear
from lorakit.layers.merge_cache import unwatch
from lorakit.layers.merged_weight import PASSING
from lorakit.layers.parameter import ModuleParameter, ParameterLayer
from lorakit.private.torch_names import OutProjection
from lorakit.surgery.alteration import NAME as ALTERATION
from lorakit.surgery.alteration import alteration, altered
from lorakit.surgery.atomicity import complete
from lorakit.surgery.split import is_conv1d
from lorakit.variants import AdapterSpec, LinearSite, OutProjSite, RowsSite, Site
from lorakit.variants.registry import adapter_names

ADAPTED: dict[type[nn.Module], type[AdapterLayer]] = {
    nn.Linear: Linear,
    OutProjection: Linear,
    nn.Embedding: Embedding,
    nn.Conv1d: Conv1d,
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
    nn.MultiheadAttention: MultiheadAttention,
    ModuleParameter: ParameterLayer,
}
_REGISTERED: set[type[nn.Module]] = set()
"""Subclasses of these that a user has registered."""


def register(torch_class: type[nn.Module], lora_class: type[AdapterLayer]) -> None:
    """Let `inject` adapt modules of exactly `torch_class` as `lora_class`.

    `torch_class` must compute what the torch class of `lora_class` computes. It keeps its own
    methods: its forward computes the base layer's output, and all of the output when merged.

    Raises ConfigError if it is not a subclass of that.
    """
    if not issubclass(torch_class, lora_class.torch_class):
        raise ConfigError(
            f"{torch_class.__name__} is not a subclass of {lora_class.torch_class.__name__}, so it "
            f"cannot be adapted as {lora_class.__name__}."
        )
    ADAPTED[torch_class] = lora_class
    if torch_class is not lora_class.torch_class:
        _REGISTERED.add(torch_class)


def lora_class_of(module: nn.Module, in_rows: bool = False) -> type[AdapterLayer] | None:
    """The class that adapts this module, None if there is none; `refusal` says whether it may.

    `in_rows`: only rows of its weight get other values, which its own forward then reads. So that
    may be any function of the weight, as in transformers' scaled embeddings.
    """
    found = Linear if is_conv1d(module) else ADAPTED.get(type(module))
    return Embedding if found is None and in_rows and isinstance(module, nn.Embedding) else found


def is_linear(module: nn.Module) -> bool:
    """Whether this is a linear layer by its mathematics: nn.Linear, Conv1D or fused attention."""
    linear = isinstance(module, nn.Linear | nn.MultiheadAttention) or is_conv1d(module)
    return linear and not (isinstance(module, AdapterLayer) and not module.is_shared)


def site_of(module: nn.Module) -> Site:
    """The site of this module, adapted or not."""
    if isinstance(module, AdapterLayer):
        return module.site
    leaf = lora_class_of(module)
    if leaf is None:
        raise TargetError(f"Modules of type {type(module).__name__} are not supported.")
    site = leaf.site_of(module)
    if type(module) is OutProjection and isinstance(site, LinearSite):
        return OutProjSite(site.in_features, site.out_features)
    return site


def keeps_its_forward(kind: type[nn.Module]) -> bool:
    """Whether a module of this class runs its own forward when it is adapted."""
    return kind in _REGISTERED or (issubclass(kind, nn.Embedding) and kind is not nn.Embedding)


def base_weight(module: nn.Module) -> Tensor:
    """The weight that an adapter of this module adapts."""
    leaf = type(module) if isinstance(module, AdapterLayer) else lora_class_of(module)
    weight = (leaf or AdapterLayer).weight_of(module)
    assert weight is not None
    return weight


CONV1D = ("in_features", "out_features", "fan_in_fan_out")
"""What an adapted Conv1D adds besides, in the order in which `adapt` gives the values."""


def adapt(
    module: nn.Module,
    spec: AdapterSpec,
    site: Site | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> AdapterLayer:
    """Change the module's class and attach an adapter; the module must pass `refusal`, and its
    site the variant's.

    `site` defaults to the module's own. `tensors` are the adapter's values, newly initialized by
    default. If that fails, the module is unchanged, apart from a frozen weight.
    """
    leaf = lora_class_of(module, in_rows=isinstance(site, RowsSite))
    if leaf is None:
        raise TargetError(f"Modules of type {type(module).__name__} are not supported.")
    if site is not None and site.slices is not None:
        leaf = MergedLinear
    before, original = set(module.__dict__), type(module)
    try:
        if is_conv1d(module):
            own = Linear.site_of(module)
            values = (own.in_features, own.out_features, True)
            module.__dict__.update(zip(CONV1D, values, strict=True))
        module.__dict__.pop("forward", None)  # the class's own; `refusal` rejects others
        if site is None and tensors is None:
            site = site_of(module)
        module.__class__ = of_subclass(leaf, original) if keeps_its_forward(original) else leaf
        assert isinstance(module, AdapterLayer)
        module.attach(spec, site, tensors)
        record = altered(module)
        record.original_class = original
        record.attributes = frozenset(set(module.__dict__) - before - {ALTERATION})
    except BaseException:
        added = set(module.__dict__) - before
        complete([partial(_strip, module, original, adapter_names(), added, leaf, None)])
        raise
    return module


def original_class(layer: AdapterLayer) -> type[nn.Module]:
    """The class that the module had, or would have without LoRA."""
    record = alteration(layer)
    return (record.original_class if record is not None else None) or layer.torch_class


def class_name(module: nn.Module) -> str:
    """The name of the class that the module has without LoRA; of a parameter its module's."""
    if isinstance(module, ModuleParameter):
        return type(module.owner).__name__
    kind = original_class(module) if isinstance(module, AdapterLayer) else type(module)
    return kind.__name__


def require_plain_form(layers: Iterable[AdapterLayer]) -> None:
    """Raises TargetError if `restore` cannot make plain modules of these layers."""
    for layer in layers:
        if original_class(layer) is nn.Linear and getattr(layer, "fan_in_fan_out", False):
            raise TargetError(
                "A layer constructed with fan_in_fan_out=True cannot become an nn.Linear, which "
                "stores its weight as (out, in)."
            )


def restoration(module: AdapterLayer, weight: nn.Parameter | None = None) -> Callable[[], None]:
    """A step that restores the original class and removes the adapter; it may run twice.

    `weight` replaces the layer's parameter. Raises TargetError if the layer has no plain form.
    """
    require_plain_form([module])
    record = alteration(module)
    added = record.attributes if record is not None else frozenset()
    original, names = original_class(module), module.variant.tensor_names
    return partial(_strip, module, original, names, OWN | added, type(module), weight)


OWN = {"spec", "site", "variant", "scaling"} | PASSING
"""What an adapted layer adds to the `__dict__` of its torch class."""


def _strip(
    module: nn.Module,
    original: type[nn.Module],
    names: Iterable[str],
    attributes: Iterable[str],
    leaf: type[AdapterLayer],
    weight: nn.Parameter | None,
) -> None:
    """Restore the class; remove the adapter and the attributes that were added with it.

    `leaf` is the class of the layer; `weight` replaces its parameter, if there is one.
    """
    unwatch(module)
    for name in names:
        module._parameters.pop(name, None)
    for name in attributes:
        module.__dict__.pop(name, None)
    module.__class__ = original
    leaf.give_back(module, weight)
    record = alteration(module)
    if record is not None:
        record.original_class, record.attributes = None, frozenset()


def lora_layers(model: nn.Module) -> Iterable[tuple[str, AdapterLayer]]:
    """(name, layer) of every layer in the model with an adapter of its own; a tied one once."""
    for name, module in model.named_modules():
        if isinstance(module, AdapterLayer) and not module.is_shared and module.r:
            yield name, module
