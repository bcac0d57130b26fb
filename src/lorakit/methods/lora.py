"""LoRA as a method: what `lorakit.inject` does, and its files (arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType

from torch import nn

from lorakit.checkpoint import AdapterBundle
from lorakit.config import LoraConfig
from lorakit.injection.adaptation import eject, inject
from lorakit.injection.folding import fold
from lorakit.injection.inspection.report import Report
from lorakit.injection.modes import MergeReport, merged
from lorakit.injection.selection.matching import untrained_rows
from lorakit.injection.transfer.loading import LoadReport, load_bundle
from lorakit.injection.transfer.saving import bundle_of
from lorakit.methods.applied import has_lora, require_plain
from lorakit.methods.base import Method
from lorakit.methods.saved_modules import joined

LORA_DEFAULTS = MappingProxyType({"r": 8, "lora_alpha": 16, "target_modules": "all-linear"})
"""The defaults in recipes; the last two differ from those of LoraConfig."""


class Lora(Method[LoraConfig]):
    """Low-rank adapters on frozen weights, and rows of their own for tokens that are new."""

    name = "lora"
    title = "LoRA"
    config_type = LoraConfig
    defaults = LORA_DEFAULTS
    has_adapters = True

    def apply(self, model: nn.Module, config: LoraConfig, head: Sequence[str] = ()) -> Report:
        require_plain(model)
        return inject(model, for_model(model, config, head))

    def undo(self, model: nn.Module) -> None:
        eject(model)

    def is_applied(self, model: nn.Module) -> bool:
        return has_lora(model)

    def bundle(self, model: nn.Module) -> AdapterBundle:
        return bundle_of(model)

    def load(
        self, model: nn.Module, bundle: AdapterBundle, origin: str, check_base: bool = True
    ) -> LoadReport:
        self.require_own(bundle, origin)
        return load_bundle(model, bundle, origin, check_base)

    def inference(self, model: nn.Module) -> AbstractContextManager[MergeReport]:
        return merged(model)

    def fold(self, model: nn.Module) -> MergeReport:
        return fold(model)


def for_model(model: nn.Module, config: LoraConfig, head: Sequence[str]) -> LoraConfig:
    """The config that also trains a new head, and the rows of tokens that are new in the model."""
    config = config.replace(modules_to_save=joined(config.modules_to_save, head))
    rows = config.trainable_token_indices or untrained_rows(model, config)
    return config.replace(trainable_token_indices=rows or None)
