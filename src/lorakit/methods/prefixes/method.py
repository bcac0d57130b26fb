"""What the methods with virtual tokens have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TypeVar

from torch import nn

from lorakit.injection.inspection.health import mark_training_start
from lorakit.methods.additive import Additive
from lorakit.methods.applied import remember
from lorakit.methods.prefixes.config import PrefixConfig
from lorakit.methods.prefixes.places import Places, places
from lorakit.methods.prefixes.rows import ComputedRows
from lorakit.surgery.additions import Addition

AnyPrefix = TypeVar("AnyPrefix", bound=PrefixConfig)


class Prefixed(Additive[AnyPrefix]):
    """A method with virtual tokens."""

    position_settings = ("prefix", "infix")

    @abstractmethod
    def virtual_tokens(
        self, model: nn.Module, found: Places, config: AnyPrefix
    ) -> Sequence[Addition]:
        """What gives the model its virtual tokens at these places; raises TargetError."""

    def additions(self, model: nn.Module, config: AnyPrefix) -> Sequence[Addition]:
        found = places(model)
        if found.positions is not None:
            self.require_room(asdict(config), found.positions)
        return self.virtual_tokens(model, found, config)

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
