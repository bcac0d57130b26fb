"""Two methods as a program outside of lorakit would add them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.errors import TargetError
from lorakit.injection.adaptation import eject
from lorakit.injection.modes import MergeReport
from lorakit.methods import MethodConfig, Selective, TensorMethod
from lorakit.methods.saved_modules import copies, saved_names, train_copies, with_modules


@dataclass(frozen=True)
class NormsConfig(MethodConfig):
    biases: bool = False


class Norms(Selective[NormsConfig]):
    """Trains the weights of layer norms, which the model has already."""

    name = "norms"
    title = "layer norms"
    config_class = NormsConfig
    needs = "layer norms"

    def names(self, model: nn.Module, config: NormsConfig) -> Sequence[str]:
        leaves = ("weight", "bias") if config.biases else ("weight",)
        norms = [name for name, m in model.named_modules() if isinstance(m, nn.LayerNorm)]
        return [f"{name}.{leaf}" for name in norms for leaf in leaves]


@dataclass(frozen=True)
class ScalesConfig(MethodConfig):
    target: str = "dense"
    start: float = 1.0


class Scales(TensorMethod[ScalesConfig]):
    """Adds a learned scale to the output of some layers, which the model has not."""

    name = "scales"
    title = "one scale a layer"
    config_class = ScalesConfig
    defaults = MappingProxyType({"start": 0.5})

    def with_head(self, config: ScalesConfig, head: Sequence[str]) -> ScalesConfig:
        return with_modules(config, head)

    def prepare(self, model: nn.Module, config: ScalesConfig) -> None:
        modules = config.modules_to_save or ()
        layers = [m for name, m in model.named_modules() if name.endswith(config.target)]
        if not layers:
            raise TargetError(f"{config.target!r} matches no layer.")
        train_copies(model, saved_names(model, modules), modules)
        for layer in layers:
            layer.toy_scale = nn.Parameter(torch.full((1,), config.start))
            layer.toy_hook = layer.register_forward_hook(scaled)

    def release(self, model: nn.Module) -> None:
        eject(model)
        for layer in model.modules():
            if "toy_scale" in layer._parameters:
                layer.toy_hook.remove()
                del layer.toy_scale, layer.toy_hook

    def learned(self, model: nn.Module) -> dict[str, Tensor]:
        scales = {n: p for n, p in model.named_parameters() if n.endswith(".toy_scale")}
        return copies(model) | scales

    def undo(self, model: nn.Module) -> None:
        self.revert(model)

    def fold(self, model: nn.Module) -> MergeReport:
        raise TargetError("The method scales has no plain form.")


def scaled(layer: Any, inputs: object, output: Tensor) -> Tensor:
    return output * layer.toy_scale.to(output.dtype)
