"""LoRA for any PyTorch model: adapt it, train megabytes, merge, eject, save in PEFT's format.

Every name is loaded when it is first used, so importing lorakit costs nothing and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorakit import adapters as adapters
    from lorakit import checkpoint as checkpoint
    from lorakit import errors as errors
    from lorakit import layers as layers
    from lorakit import losses as losses
    from lorakit import methods as methods
    from lorakit import surgery as surgery
    from lorakit import tasks as tasks
    from lorakit import utils as utils
    from lorakit import variants as variants
    from lorakit.adapters import AdapterSet as AdapterSet
    from lorakit.algebra import combine as combine
    from lorakit.algebra import resize as resize
    from lorakit.checkpoint import AdapterBundle as AdapterBundle
    from lorakit.config import LoraConfig as LoraConfig
    from lorakit.derivation import extract as extract
    from lorakit.injection.adaptation import eject as eject
    from lorakit.injection.adaptation import inject as inject
    from lorakit.injection.folding import fold as fold
    from lorakit.injection.inspection.health import check_training as check_training
    from lorakit.injection.modes import disabled as disabled
    from lorakit.injection.modes import merged as merged
    from lorakit.injection.modes import refresh as refresh
    from lorakit.injection.selection.catalogue import targets as targets
    from lorakit.layers import Conv1d as Conv1d
    from lorakit.layers import Conv2d as Conv2d
    from lorakit.layers import Conv3d as Conv3d
    from lorakit.layers import ConvLoRA as ConvLoRA
    from lorakit.layers import Embedding as Embedding
    from lorakit.layers import Linear as Linear
    from lorakit.layers import LoRALayer as LoRALayer
    from lorakit.layers import MergedLinear as MergedLinear
    from lorakit.layers import lora_state_dict as lora_state_dict
    from lorakit.layers import mark_only_lora_as_trainable as mark_only_lora_as_trainable
    from lorakit.merging import merge_files as merge_files
    from lorakit.merging import subtract as subtract
    from lorakit.methods.files import load_adapter as load_adapter
    from lorakit.methods.files import save_adapter as save_adapter
    from lorakit.planner.fit import plan_to_fit as plan_to_fit
    from lorakit.planner.planning import plan as plan

_HOME = {
    "AdapterBundle": "lorakit.checkpoint",
    "AdapterSet": "lorakit.adapters",
    "Conv1d": "lorakit.layers",
    "Conv2d": "lorakit.layers",
    "Conv3d": "lorakit.layers",
    "ConvLoRA": "lorakit.layers",
    "Embedding": "lorakit.layers",
    "Linear": "lorakit.layers",
    "LoRALayer": "lorakit.layers",
    "LoraConfig": "lorakit.config",
    "MergedLinear": "lorakit.layers",
    "check_training": "lorakit.injection.inspection.health",
    "combine": "lorakit.algebra",
    "disabled": "lorakit.injection.modes",
    "eject": "lorakit.injection.adaptation",
    "extract": "lorakit.derivation",
    "fold": "lorakit.injection.folding",
    "inject": "lorakit.injection.adaptation",
    "load_adapter": "lorakit.methods.files",
    "lora_state_dict": "lorakit.layers",
    "mark_only_lora_as_trainable": "lorakit.layers",
    "merge_files": "lorakit.merging",
    "merged": "lorakit.injection.modes",
    "plan": "lorakit.planner.planning",
    "plan_to_fit": "lorakit.planner.fit",
    "refresh": "lorakit.injection.modes",
    "resize": "lorakit.algebra",
    "save_adapter": "lorakit.methods.files",
    "subtract": "lorakit.merging",
    "targets": "lorakit.injection.selection.catalogue",
}
_MODULES = (
    "adapters", "checkpoint", "errors", "layers", "losses", "methods", "surgery", "tasks", "utils",
    "variants",
)  # fmt: skip

__all__ = [*sorted((*_HOME, *_MODULES))]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"lorakit.{name}")
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module 'lorakit' has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lorakit")
    except PackageNotFoundError:
        return "unknown"  # sources on the path, which nothing has installed


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
