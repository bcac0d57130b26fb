"""What `inject` did to a model, kept on the model, and what a model has to be for what follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary, ref

from torch import nn

from lorakit.config import LoraConfig
from lorakit.errors import StateError
from lorakit.injection import trained_copies
from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import lora_layers
from lorakit.surgery.alteration import alteration
from lorakit.surgery.foreign import require_no_peft


@dataclass(frozen=True)
class Injection:
    """What `eject` and `save_adapter` need to know; stored in the model's `Alteration`."""

    config: LoraConfig
    required_grad: Mapping[str, bool]
    """Whether each parameter required a gradient before."""
    adapted: tuple[str, ...]
    """Names of the adapted modules, relative to the model that has this record."""
    model_class: str
    """The class of the model that was injected."""


def injection_of(model: nn.Module) -> Injection | None:
    """The injection into this model or one of its submodules; None if there is none."""
    return next((injection for _, injection in injections(model)), None)


def injections(model: nn.Module) -> Iterator[tuple[str, Injection]]:
    """(name, injection) of every injection into this model or one of its submodules."""
    for name, module in model.named_modules():
        record = alteration(module)
        if record is not None and record.injection is not None:
            yield name, record.injection


def shared_modules(model: nn.Module) -> list[nn.Module]:
    """The modules that run the adapters of an `AdapterSet`."""
    return [m for m in model.modules() if (record := alteration(m)) is not None and record.shared]


class Claim:
    """An `AdapterSet` has the modules of this model, before the first adapter runs there too.

    It lasts as long as the set keeps this object.
    """

    def __init__(self, model: nn.Module) -> None:
        for module in model.modules():
            _CLAIMS[module] = ref(self)


_CLAIMS: WeakKeyDictionary[nn.Module, ref[Claim]] = WeakKeyDictionary()


def require_no_set(model: nn.Module) -> None:
    """Raises StateError for a model with an `AdapterSet`."""
    found = shared_modules(model)
    if found or any(m in _CLAIMS and _CLAIMS[m]() is not None for m in model.modules()):
        raise StateError(
            f"This {type(model).__name__} has an AdapterSet, whose adapters run in {len(found)} of "
            "its modules. Load, save and remove them with the methods of the set, or close() it "
            "first."
        )


def require_adapters(model: nn.Module) -> list[AdapterLayer]:
    """The adapted layers, and those that run a set's adapters; StateError if there are none."""
    layers = [layer for _, layer in lora_layers(model)]
    layers += [module for module in shared_modules(model) if isinstance(module, AdapterLayer)]
    if not layers and injection_of(model) is None:
        require_no_peft(model)
        raise StateError(
            f"This {type(model).__name__} has no adapters. Add them with lorakit.inject or "
            "lorakit.load_adapter."
        )
    return layers


def require_enabled(model: nn.Module) -> list[AdapterLayer]:
    """The adapted layers; raises StateError if there are none, or they are disabled."""
    require_no_set(model)
    layers = require_adapters(model)
    if not all(layer.active for layer in layers) or not trained_copies.in_use(model):
        raise StateError(
            "The adapters are disabled, and the original heads and biases are in use; exit "
            "`with lorakit.disabled(model)` first."
        )
    return layers


def require_whole(model: nn.Module) -> list[AdapterLayer]:
    """As `require_enabled`; also raises StateError for a submodule of the injected model."""
    layers = require_enabled(model)
    here = {id(injection) for _, injection in injections(model)}
    records = filter(None, map(alteration, layers))
    made_by = [record.part_of for record in records if record.part_of is not None]
    whole = next(
        (injection.model_class for injection in made_by if id(injection) not in here), None
    )
    if whole is not None:
        raise StateError(
            f"This {type(model).__name__} is a submodule of the {whole} that was passed to "
            f"lorakit.inject, and can only be restored with it; pass the {whole}."
        )
    return layers
