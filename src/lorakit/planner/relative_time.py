"""The time of a step over that of another one: an estimate from arithmetic, in tokens.

A pass is a product with each weight: forward, gradients of the inputs, gradients of what trains,
and with checkpointing the forward again. A micro-batch costs `OVERHEAD` tokens more than it has,
and where the base is quantised each pass that reads a weight makes a copy of it first. In tokens of
one pass, for m micro-batches of B L tokens in all, where a share t of the parameters trains:

    (p + t) (B L + OVERHEAD m) + p UNPACKING m

with p = 2, or 3 with checkpointing, and the last term for a quantised base alone.
"""

from __future__ import annotations

import math

from lorakit.planner.settings import StepSettings
from lorakit.tasks.batching import OVERHEAD

_UNPACKING = 200
"""Tokens in whose time a GPU makes a 16-bit copy of a 4-bit weight: it moves 2.5 bytes, while it
does 2 operations a token; an A100 does 312e12 operations and moves 2e12 bytes in a second."""


def relative_time(settings: StepSettings, asked: StepSettings, trained: float) -> float:
    """`trained` is the share of the parameters that train; 1 is the time of the step `asked`."""
    return _tokens(settings, trained) / _tokens(asked, trained)


def _tokens(settings: StepSettings, trained: float) -> float:
    """The time, in tokens of one pass."""
    micro_batches = math.ceil(settings.batch / settings.rows)
    reads = 2 + bool(settings.checkpointing)
    copies = reads * _UNPACKING if settings.quantised else 0
    tokens = settings.batch * settings.length + OVERHEAD * micro_batches
    return (reads + trained) * tokens + micro_batches * copies
