"""Full fine-tuning: every parameter is trained, in place.

Trainable copies, as heads have them, would take the memory of the whole model once more. So this is
the only method that writes pretrained weights, and it cannot be undone. What trains is float32: a
narrower model becomes that. Loading keeps a model's dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from lorakit.errors import StateError
from lorakit.functional.initialise import adapter_dtype
from lorakit.injection.inspection.report import Report
from lorakit.injection.modes import MergeReport
from lorakit.methods.applied import forget
from lorakit.methods.tensor_method import TensorMethod
from lorakit.surgery.parameters import state_tensors


@dataclass(frozen=True)
class FullConfig:
    """Full fine-tuning has no settings of its own."""


class Full(TensorMethod[FullConfig]):
    """Every parameter is trained."""

    name = "full"
    title = "full fine-tuning"
    config_type = FullConfig
    rate = 0.02

    def with_head(self, config: FullConfig, head: Sequence[str]) -> FullConfig:
        return config  # the head is in everything

    def heads(self, config: FullConfig) -> Sequence[str]:
        return ()

    def apply(self, model: nn.Module, config: FullConfig, head: Sequence[str] = ()) -> Report:
        report = super().apply(model, config, head)
        for tensor in state_tensors(model).values():
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(adapter_dtype(tensor.dtype))
        return report

    def prepare(self, model: nn.Module, config: FullConfig) -> None:
        model.requires_grad_(True)

    def release(self, model: nn.Module) -> None:
        """Nothing but requires_grad was changed."""

    def learned(self, model: nn.Module) -> dict[str, Tensor]:
        return state_tensors(model)

    def undo(self, model: nn.Module) -> None:
        raise StateError(
            "Full fine-tuning changes the base weights in place, so it cannot be undone; load the "
            "base again."
        )

    def fold(self, model: nn.Module) -> MergeReport:
        forget(model, self.require_applied(model))
        return MergeReport(0, {})
