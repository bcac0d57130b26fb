"""What the methods with virtual tokens have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from lorakit.injection.inspection.health import mark_training_start
from lorakit.methods.additive import Additive
from lorakit.methods.applied import remember
from lorakit.methods.prefixes.config import PrefixConfig
from lorakit.methods.prefixes.rows import ComputedRows

AnyPrefix = TypeVar("AnyPrefix", bound=PrefixConfig)


class Prefixed(Additive[AnyPrefix]):
    """A method with virtual tokens."""

    def finish(self, model: nn.Module) -> None:
        """Keep the virtual tokens of the network that computed them while they trained."""
        note = self.require_applied(model)
        for module in list(model.modules()):
            for name, child in module._modules.items():
                if isinstance(child, ComputedRows):
                    module._modules[name] = child.settled()
        config = replace(note.config, reparametrisation=None)
        remember(model, self.name, config, note.required_grad)
        mark_training_start(model)

    def extra_positions(self, settings: Mapping[str, Any]) -> int:
        return int(settings["prefix"] + settings["infix"])
