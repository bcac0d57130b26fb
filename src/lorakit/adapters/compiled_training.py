"""Adapters that learn in compiled code: an operation after the base's own, and one in backward.

As in `compiled`, a graph knows neither the adapters nor how many there are. So none of their
gradients is in it: the operation of the backward computes the adapters' part once more, with
autograd, from the input that the graph keeps, and what their Parameters get arrives in `.grad`, as
by `backward()` everywhere (`torch.autograd.grad` does not find them).

What a forward has chosen is found by its *ticket*: a tensor whose memory belongs to a Python object
that knows it. The graph keeps the ticket for its backward; when it lets go, the object goes too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from lorakit.adapters.compiled import Writer, as_traced, writer_of
from lorakit.adapters.trained import Segments
from lorakit.errors import StateError
from lorakit.private.torch_names import version_of

_FORWARD, _BACKWARD = "lorakit::with_adapter", "lorakit::with_adapter_backward"

LEARNING = torch.zeros((), device="cpu", requires_grad=True)
RESTING = torch.zeros((), device="cpu")
"""An input of the operation: where adapters learn, it has a backward even if the module's input
needs no gradient. Its own gradient is 0."""


class Step(bytearray):
    """One forward of one module, as its backward has to know it; its bytes are its number."""

    def __init__(self, number: int, place: Writer, device: torch.device) -> None:
        super().__init__(number.to_bytes(8, sys.byteorder, signed=True))
        self.module: Any = place.module
        self._name, self._training = place.name, self.module.training
        self._plan = place.plan_in_graph()
        self._random = _random_state(device) if self._training else None
        self._learning = [(tensor, version_of(tensor)) for tensor in place.learning()]

    def output(self, input: Tensor, base: Tensor) -> Tensor:
        """The output with the adapters, where `base` is that without; never the same memory."""
        if isinstance(self._plan, Segments):
            return self._plan.added(input, base)
        return base.clone() if self._plan is None else self._plan(input)

    def backward(self, gradient: Tensor, input: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of input and base; the adapters' go where theirs are collected.

        Raises StateError for adapters that have changed in place since the forward.
        """
        if any(version_of(tensor) != version for tensor, version in self._learning):
            raise StateError(
                f"The adapters of {self._name} have changed in place, as by an optimizer's step, "
                "between a forward and its backward, which needs them as they were; call "
                "backward() before."
            )
        if self._plan is None:
            return torch.zeros_like(input), gradient.clone()
        x = input.detach().requires_grad_(input.is_floating_point())
        base = gradient.new_zeros(()).expand_as(gradient)
        with as_traced(self.module, input, gradient), _in_mode(self.module, self._training):
            if isinstance(self._plan, Segments) and self._plan.scales_rows:
                base = self.module.base_forward(x.detach()).requires_grad_()
            with torch.enable_grad(), _again(self._random, input.device):
                output = self.output(x, base)
        if output.requires_grad:
            torch.autograd.backward(output, gradient)
        to_base = base.grad
        if to_base is None:
            is_sum = isinstance(self._plan, Segments)
            to_base = gradient.clone() if is_sum else torch.zeros_like(gradient)
        return torch.zeros_like(input) if x.grad is None else x.grad, to_base


_numbers = count()
_steps: WeakValueDictionary[int, Step] = WeakValueDictionary()


def with_adapter(input: Tensor, base: Tensor, writer: int, learns: bool) -> Tensor:
    """The output of the module with this number, from that of the base; differentiable.

    `learns` says whether any adapter of the set does.
    """
    anchor = LEARNING if learns else RESTING
    output: Tensor = torch.ops.lorakit.with_adapter(input, base, anchor, writer)[0]
    return output


def _forward(input: Tensor, base: Tensor, anchor: Tensor, writer: int) -> tuple[Tensor, Tensor]:
    step = Step(number := next(_numbers), writer_of(writer), input.device)
    _steps[number] = step
    with torch.no_grad(), as_traced(step.module, input, base):
        output = step.output(input, base).contiguous()
    return output, torch.frombuffer(step, dtype=torch.int64)


def _backward(gradient: Tensor, input: Tensor, ticket: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    step = _steps.get(int(ticket))
    if step is None:
        raise StateError(
            "The backward pass of a compiled model does not find the adapters of its forward: "
            "hooks of saved tensors (torch.autograd.graph.saved_tensors_hooks, save_on_cpu) gave "
            "it a copy of the tensor by which it does. Run the forward outside of these hooks, or "
            "let them return tensors of int64 as they are."
        )
    to_input, to_base = step.backward(gradient, input)
    return to_input.contiguous(), to_base.contiguous(), torch.zeros((), device="cpu")


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: Any) -> None:
    ctx.save_for_backward(inputs[0], output[1])


def _differentiate(ctx: Any, gradient: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    input, ticket = ctx.saved_tensors
    found = torch.ops.lorakit.with_adapter_backward(gradient, input, ticket)
    return found[0] if input.is_floating_point() else None, found[1], found[2], None


def _empty_like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _define(name: str, schema: str, run: Any, fake: Any) -> None:
    torch.library.define(name, schema, tags=(torch.Tag.cudagraph_unsafe,))
    torch.library.impl(name, "CompositeExplicitAutograd", run)
    torch.library.register_fake(name, fake)


_define(
    _FORWARD,
    "(Tensor input, Tensor base, Tensor anchor, int writer) -> (Tensor, Tensor)",
    _forward,
    lambda input, base, anchor, writer: (
        _empty_like(base),
        torch.empty(1, dtype=torch.int64, device="cpu"),
    ),
)
_define(
    _BACKWARD,
    "(Tensor gradient, Tensor input, Tensor ticket) -> (Tensor, Tensor, Tensor)",
    _backward,
    lambda gradient, input, ticket: (
        _empty_like(input),
        _empty_like(gradient),
        torch.empty((), device="cpu"),
    ),
)
torch.library.register_autograd(_FORWARD, _differentiate, setup_context=_keep)


@contextmanager
def _in_mode(module: Any, training: bool) -> Iterator[None]:
    """Inside, the module trains or not, whatever was chosen since its forward."""
    before, module.training = module.training, training
    try:
        yield
    finally:
        module.training = before


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_device


@contextmanager
def _again(state: tuple[Tensor, Tensor | None] | None, device: torch.device) -> Iterator[None]:
    """Inside, dropout drops what it has dropped after this state."""
    if state is None:
        yield
        return
    with torch.random.fork_rng([device] if state[1] is not None else []):
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1], device)
        yield
