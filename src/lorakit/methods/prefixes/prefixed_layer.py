"""Blocks whose inputs are trained at the virtual tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lorakit.errors import StateError
from lorakit.methods.prefixes.state import here
from lorakit.surgery.disabling import Disableable

STATES = "hidden_states"
"""What transformers calls the input of a block, where it is not given by its place."""


class LayerNumber(nn.Module):
    """Which of the layers a block is."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class PrefixedLayer(Disableable):
    """A mixin in front of a block's class.

    Gradient checkpointing recomputes `forward`; its input is replaced before, in `__call__`, and
    kept as it is then. So what is recomputed does not depend on what else runs at that time.
    """

    prefix: LayerNumber

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_off():
            return super().__call__(*args, **kwargs)
        activations = here.activations
        if activations is None:
            raise StateError(
                f"This {type(self).__name__} was called outside of its model's forward, which says "
                "where its virtual tokens are."
            )
        if activations.layout is None:
            return super().__call__(*args, **kwargs)
        own_VD = activations.rows[:, self.prefix.number]
        states: Tensor = args[0] if args else kwargs[STATES]
        states = activations.layout.replace(states, own_VD.expand(len(states), -1, -1))
        if args:
            return super().__call__(states, *args[1:], **kwargs)
        return super().__call__(**{**kwargs, STATES: states})
