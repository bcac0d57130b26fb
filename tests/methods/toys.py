"""Two methods as a program outside of lorakit would add them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.errors import TargetError
from lorakit.methods import Additive, MethodConfig, Selective
from lorakit.surgery.additions import Addition
from lorakit.surgery.disabling import Disableable


@dataclass(frozen=True)
class NormsConfig(MethodConfig):
    biases: bool = False


class Norms(Selective[NormsConfig]):
    """Trains the weights of layer norms, which the model has already."""

    name = "norms"
    title = "layer norms"
    config_type = NormsConfig
    needs = "layer norms"

    def names(self, model: nn.Module, config: NormsConfig) -> Sequence[str]:
        leaves = ("weight", "bias") if config.biases else ("weight",)
        norms = [name for name, m in model.named_modules() if isinstance(m, nn.LayerNorm)]
        return [f"{name}.{leaf}" for name in norms for leaf in leaves]


@dataclass(frozen=True)
class ScalesConfig(MethodConfig):
    target: str = "dense"
    start: float = 1.0


class Scale(nn.Module):
    def __init__(self, start: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((1,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor.to(x.dtype)


class Scaled(Disableable):
    """Whose output goes through its scale."""

    toy: Scale

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        return output if self.is_off() else self.toy(output)


class Scales(Additive[ScalesConfig]):
    """Adds a learned scale to the output of some layers, which the model has not."""

    name = "scales"
    title = "one scale a layer"
    config_type = ScalesConfig
    defaults = MappingProxyType({"start": 0.5})

    def additions(self, model: nn.Module, config: ScalesConfig) -> Sequence[Addition]:
        layers = [m for name, m in model.named_modules() if name.endswith(config.target)]
        if not layers:
            raise TargetError(f"{config.target!r} matches no layer.")
        return [Addition(layer, "toy", Scale(config.start), Scaled) for layer in layers]
