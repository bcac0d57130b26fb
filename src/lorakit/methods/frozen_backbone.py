"""Methods that freeze the backbone, and train heads beside what is their own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lorakit.injection.adaptation import eject
from lorakit.injection.folding import fold
from lorakit.injection.modes import MergeReport
from lorakit.methods.applied import forget
from lorakit.methods.saved_modules import AnyConfig, copies, with_modules
from lorakit.methods.tensor_method import TensorMethod
from lorakit.surgery.additions import added_names


class FrozenBackbone(TensorMethod[AnyConfig]):
    """A method that writes no pretrained weight: it trains copies and added modules."""

    def with_head(self, config: AnyConfig, head: Sequence[str]) -> AnyConfig:
        return with_modules(config, head)

    def heads(self, config: AnyConfig) -> Sequence[str]:
        return config.modules_to_save or ()

    def release(self, model: nn.Module) -> None:
        eject(model)

    def learned(self, model: nn.Module) -> dict[str, Tensor]:
        state = model.state_dict(keep_vars=True)
        return copies(model) | {name: state[name] for name in added_names(model)}

    def undo(self, model: nn.Module) -> None:
        self.revert(model)

    def fold(self, model: nn.Module) -> MergeReport:
        note = self.require_applied(model)
        report = fold(model)
        forget(model, note)
        return report
