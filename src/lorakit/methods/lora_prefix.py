"""LoRA with virtual tokens, the LoRA+PE and LoRA+PL of the paper (arXiv 2106.09685, table 15)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from torch import Tensor, nn

from lorakit.checkpoint import AdapterBundle
from lorakit.config import LoraConfig
from lorakit.errors import ConfigError, require
from lorakit.injection.inspection.report import factor_names
from lorakit.injection.installation import install
from lorakit.injection.modes import MergeReport, merged
from lorakit.injection.selection.matching import select
from lorakit.injection.transfer.pretrained import keep_loadable
from lorakit.injection.transfer.saving import bundle_of
from lorakit.methods.lora import LORA_DEFAULTS, for_model
from lorakit.methods.prefix_embedding import embedding_additions
from lorakit.methods.prefix_layer import layer_additions
from lorakit.methods.prefixes.config import PrefixLayerConfig
from lorakit.methods.prefixes.method import Prefixed
from lorakit.methods.prefixes.places import Places
from lorakit.methods.saved_modules import joined
from lorakit.surgery.additions import Addition
from lorakit.surgery.wrappers import unwrapped

WHERE = {"embedding": embedding_additions, "layer": layer_additions}
"""What virtual tokens hold: word embeddings, or activations in every layer."""


@dataclass(frozen=True)
class LoraPrefixConfig(PrefixLayerConfig):
    """The settings of both."""

    where: str = "embedding"
    """What virtual tokens hold: embedding (word embeddings) or layer (activations in every
    layer)."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """LoRA's settings, as in the section lora."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.lora, Mapping):  # of a file
            object.__setattr__(self, "lora", LoraConfig(**self.lora))
        listed = f"where is {self.where!r}; it must be one of {', '.join(WHERE)}"
        require({listed: self.where in WHERE})
        if not isinstance(self.lora, LoraConfig):
            raise ConfigError(f"lora is {self.lora!r}; it must be LoRA's settings.")


class LoraPrefix(Prefixed[LoraPrefixConfig]):
    """Low-rank adapters and virtual tokens, each as it is alone."""

    name = "lora_prefix"
    title = "LoRA + prefix"
    config_type = LoraPrefixConfig
    defaults = MappingProxyType({"lora": LORA_DEFAULTS})

    def virtual_tokens(
        self, model: nn.Module, found: Places, config: LoraPrefixConfig
    ) -> Sequence[Addition]:
        return WHERE[config.where](model, found, config)

    def heads(self, config: LoraPrefixConfig) -> Sequence[str]:
        return joined(config.lora.modules_to_save, config.modules_to_save or ()) or ()

    def prepare(self, model: nn.Module, config: LoraPrefixConfig) -> None:
        lora = for_model(model, config.lora, self.heads(config))
        selection = select(model, lora)
        install(model, lora, selection, additions=self.additions(model, config))
        keep_loadable(model)

    def learned(self, model: nn.Module) -> dict[str, Tensor]:
        state = model.state_dict(keep_vars=True)
        return super().learned(model) | {name: state[name] for name in factor_names(model)}

    def bundle(self, model: nn.Module) -> AdapterBundle:
        whole = super().bundle(model)
        lora, factors = bundle_of(model), factor_names(unwrapped(model))
        rest = {name: value for name, value in whole.trained.items() if name not in factors}
        return replace(whole, config=lora.config, adapters=lora.adapters, trained=rest)

    def inference(self, model: nn.Module) -> AbstractContextManager[MergeReport]:
        return merged(model)
