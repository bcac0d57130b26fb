"""What a config selects in one model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lorakit.injection.selection.trained_in_full import Slot
from lorakit.variants import AdapterSpec, Site


@dataclass(frozen=True)
class Target:
    """One module to adapt."""

    name: str
    module: nn.Module
    spec: AdapterSpec
    site: Site


@dataclass(frozen=True)
class Selection:
    """The modules that a config selects in one model."""

    targets: tuple[Target, ...]
    trained: tuple[Slot, ...]
    """Everything else that is trained."""
