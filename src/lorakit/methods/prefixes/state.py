"""What one forward of a model says to its parts, in the thread that runs it.

The model with the head says where the prompt ends; the backbone says to its blocks which rows they
put where. Each is in force inside the call that said it, so forwards in several threads, and a
backward after several forwards, cannot take another's.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from torch import Tensor, nn

from lorakit.methods.prefixes.layout import Layout


@dataclass(frozen=True)
class Activations:
    """What the blocks put in the places of the virtual tokens: (V, L, d), for each layer."""

    rows: Tensor
    layout: Layout | None
    """None in later steps of generation, whose inputs are completions alone."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """Where the prompts of a model's inputs end."""

    whose: nn.Module
    """What the model with the head has been given for it, which tells one model from another."""
    ends: Tensor | int | None
    """(B,) or a number: how many tokens the prompt has. None: it is all of the input."""


class _Thread(threading.local):
    def __init__(self) -> None:
        self.prompt: Prompt | None = None
        """None: no model with a head runs that says it."""
        self.activations: Activations | None = None
        """None: no forward of a model with prefix layers runs."""


here = _Thread()
