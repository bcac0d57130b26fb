"""The head alone, on the frozen body: what any other method has to beat."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lorakit.methods.saved_modules import MethodConfig
from lorakit.methods.selective import Selective


class Head(Selective[MethodConfig]):
    """Only `modules_to_save` train, and the task's new head is always among them."""

    name = "head"
    title = "head only"
    config_class = MethodConfig
    needs = "a head"

    def names(self, model: nn.Module, config: MethodConfig) -> Sequence[str]:
        return ()
