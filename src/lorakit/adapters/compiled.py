"""The adapters of a set in compiled code: one operation after the base's own.

A graph computes the base's output, and the operation writes the chosen adapter into it. Which
adapter that is, and how many there are, it finds when it runs: nothing of it is in a graph or its
guards, so switching, loading and other rows of a batch compile nothing anew. It has no gradient;
that of `compiled_training` has one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from typing import Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

_NAME = "lorakit::write_adapter"


class Writer(Protocol):
    """A module of a set."""

    module: nn.Module
    name: str

    def plan_in_graph(self) -> Callable[[Tensor], Tensor] | None:
        """What runs here and now where there are gradients; None for the base."""

    def learning(self) -> list[Tensor]:
        """The Parameters of the adapters that run here and now."""

    def write(self, input: Tensor, output: Tensor) -> None:
        """Turn the base's output for this input into that of the chosen adapter, in place."""


_numbers = count()
_writers: WeakValueDictionary[int, Writer] = WeakValueDictionary()


def number_of(writer: Writer) -> int:
    """A number by which the operation finds this module."""
    number = next(_numbers)
    _writers[number] = writer
    return number


def writer_of(number: int) -> Writer:
    """The module with this number."""
    return _writers[number]


def _write(input: Tensor, output: Tensor, writer: int) -> None:
    place = _writers[writer]
    with torch.no_grad(), as_traced(place.module, input, output):
        place.write(input, output)


def as_traced(module: nn.Module, input: Tensor, output: Tensor) -> AbstractContextManager[object]:
    """Inside, autocast is as it was where the module was traced, with this input and output.

    A graph has the casts in it and turns autocast off, so only types tell: 16 bits beside weights
    of 32.
    """
    narrow = (t.dtype for t in (output, input) if t.dtype in (torch.bfloat16, torch.float16))
    weights = (weight for weight in module._parameters.values() if weight is not None)
    dtype = next(narrow, None)
    if dtype is None or all(weight.dtype != torch.float32 for weight in weights):
        return nullcontext()
    # no cache: what is cast in a forward without gradients would have none in backward
    return torch.autocast(output.device.type, dtype, cache_enabled=False)


torch.library.define(
    _NAME,
    "(Tensor input, Tensor(a!) output, int writer) -> ()",
    tags=(torch.Tag.cudagraph_unsafe,),  # a replay would write the adapter of the recording
)
torch.library.impl(_NAME, "CompositeExplicitAutograd", _write)
torch.library.register_fake(_NAME, lambda input, output, writer: None)  # tracing needs no values


def write_adapter(input: Tensor, output: Tensor, writer: int) -> None:
    """Let the module with this number write its adapter into the output."""
    torch.ops.lorakit.write_adapter(input, output, writer)
