"""A merged weight that one CUDA stream computes, used by others.

Whoever runs several streams orders what these do with the tensors that he knows. He does not know
of a cache that some forward has built, so a forward on another stream waits for it, and its memory
is kept until that stream has read it, though the layer may drop it before.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Computed(NamedTuple):
    """The stream that computed a tensor, and the event after it."""

    stream: torch.cuda.Stream
    event: torch.cuda.Event

    @classmethod
    def now(cls, tensor: Tensor) -> Computed | None:
        """Of a tensor whose computation has just been queued; None where there are no streams."""
        if not tensor.is_cuda:
            return None
        stream = torch.cuda.current_stream(tensor.device)
        return cls(stream, stream.record_event())


def let_use(tensor: Tensor, computed: Computed | None) -> None:
    """Let the current stream use a tensor that perhaps another one computed."""
    if computed is None:
        return
    stream = torch.cuda.current_stream(tensor.device)
    if stream != computed.stream:
        stream.wait_event(computed.event)
        tensor.record_stream(stream)
