"""Train the head alone, with a frozen backbone: the baseline of all other methods."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lorakit.methods.saved_modules import MethodConfig, saved_names
from lorakit.methods.selective import Selective


class Head(Selective[MethodConfig]):
    """Only `modules_to_save` are trained, which always include the task's new head."""

    name = "head"
    title = "head only"
    config_type = MethodConfig
    rate = 8.0
    needs = "a head"

    def names(self, model: nn.Module, config: MethodConfig) -> Sequence[str]:
        return saved_names(model, self.heads(config))
