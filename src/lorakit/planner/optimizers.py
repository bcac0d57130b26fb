"""The optimizers that are planned with, and the state that each keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Make = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

_BLOCK, _SMALL = 256, 4096


class StateOnly(torch.optim.Optimizer):
    """An optimizer by its formula: a step makes the state of `state_of`, and steps nowhere."""

    def __init__(
        self, params: Iterable[nn.Parameter], state_of: Callable[[Tensor], list[Tensor]]
    ) -> None:
        super().__init__(params, {})
        self._state_of = state_of

    def step(self, _: Any = None) -> None:  # type: ignore[override]
        """Make the state of every parameter that has a gradient, and its update for a moment."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                torch.empty_like(parameter)
                if not self.state[parameter]:
                    self.state[parameter] = dict(enumerate(self._state_of(parameter)))


def adamw_8bit_state(parameter: Tensor) -> list[Tensor]:
    """Two moments of one byte a parameter, each with a float32 scale for 256 of them.

    Tensors of fewer than 4,096 parameters keep float32 moments. Dettmers et al., arXiv 2110.02861,
    section 2, with bitsandbytes' sizes.
    """
    size = parameter.numel()
    if size < _SMALL:
        return [torch.zeros(size) for _ in range(2)]
    moments = [torch.zeros(size, dtype=torch.uint8) for _ in range(2)]
    return [*moments, *(torch.zeros(-(-size // _BLOCK)) for _ in range(2))]


def adafactor_state(parameter: Tensor) -> list[Tensor]:
    """The means of the squared gradient's rows and columns; of a vector every value.

    Shazeer and Stern, arXiv 1804.04235, algorithm 4; torch.optim.Adafactor keeps as much.
    """
    if parameter.ndim < 2:
        return [torch.zeros(parameter.shape)]
    rows, columns = parameter.shape[:-1], (*parameter.shape[:-2], parameter.shape[-1])
    return [torch.zeros(rows), torch.zeros(columns)]


OPTIMIZERS: dict[str, Make] = {
    "adamw": partial(torch.optim.AdamW, fused=True),
    "adamw_unfused": partial(torch.optim.AdamW, foreach=False),
    "adamw_8bit": partial(StateOnly, state_of=adamw_8bit_state),
    "adafactor": partial(StateOnly, state_of=adafactor_state),
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "rmsprop": torch.optim.RMSprop,
}
"""By name. adamw is fused, as transformers' default and lorakit's training are."""
