"""`lorakit.inject` and `lorakit.eject`: adapt a live model in place, and restore it."""

from __future__ import annotations

from torch import nn

from lorakit.config import LoraConfig
from lorakit.errors import ConfigError, StateError
from lorakit.injection import trained_copies
from lorakit.injection.inspection.report import Report, describe
from lorakit.injection.installation import install, uninstall
from lorakit.injection.record import require_no_set, require_whole
from lorakit.injection.selection.matching import select
from lorakit.injection.transfer.pretrained import keep_loadable
from lorakit.layers.conversion import lora_layers, require_plain_form
from lorakit.surgery.foreign import require_no_peft


def inject(model: nn.Module, config: LoraConfig) -> Report:
    """Add a trainable `scaling * B @ A` to what `config` targets in `model`; freeze the rest.

    In place: every parameter keeps its name, and every module and Parameter is the same object,
    except those trained by `modules_to_save` and `bias`, which are replaced by trainable copies.
    The output is bit-identical, since B is zero at first.

    Raises TargetError that lists every pattern without a match and every module that cannot be
    adapted, StateError if the model has adapters, lorakit's or PEFT's, or trained copies already,
    ConfigError for a config that is no LoraConfig. The model is then as it was.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> report = inject(model, LoraConfig(r=2, target_modules=["0"]))
    >>> report.trainable_parameters
    16
    """
    _require_config(config)
    require_no_peft(model)
    require_no_set(model)
    adapted = [name for name, _ in lora_layers(model)]
    if adapted:
        raise StateError(
            f"This model already has {len(adapted)} adapted layers ({adapted[0]}, ...). "
            "Remove the adapters with lorakit.eject, or merge them into the weights with "
            "lorakit.fold."
        )
    if trained := trained_copies.names(model):
        raise StateError(
            f"This model already trains {len(trained)} tensors in full ({trained[0]}, ...). Remove "
            "the trained copies with lorakit.eject, or keep their values with lorakit.fold."
        )
    install(model, config, select(model, config))
    keep_loadable(model)
    return describe(model)


def _require_config(config: object) -> None:
    if not isinstance(config, LoraConfig):
        kind = type(config)
        raise ConfigError(
            f"The config is a {kind.__module__}.{kind.__qualname__}; pass a lorakit.LoraConfig, "
            "whose fields have PEFT's names: lorakit.LoraConfig(r=8, target_modules=[...]), or "
            "lorakit.LoraConfig(**fields) for a dict of them."
        )


def eject(model: nn.Module) -> None:
    """Remove every adapter of `model`; restore the classes, Parameters and requires_grad flags.

    Base weights are bit-identical to those before `inject`. The weights of the adapters are lost:
    save them first with `save_adapter`, or merge them into the base with `fold` instead.

    Raises StateError if nothing is adapted, inside `lorakit.disabled`, or for a submodule of the
    model that was injected.
    """
    require_plain_form(require_whole(model))
    trained_copies.require_values(model)
    uninstall(model)
