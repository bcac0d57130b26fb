"""`rows` where adapters train: each has tensors of its own, and its rows lie together.

    z[k] = x[k] W^T + b + c_k D_k A_k^T B_k^T       x[k]: the inputs of segment k

As in `fused`, with gradients derived by hand: the products with W, forward and backward, are one
for all rows, x is kept once, and each segment adds what is its own to its part of y and of dL/dx.
A row that no segment has is the base's. `fused.Form` says scale, dropout, and how W is stored and
cut; of the segments' forms only the scale, dropout and seed may differ.

Source: the segmented form of Punica (arXiv 2310.18547), SGMV.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorakit.functional import linear, slices
from lorakit.functional.fused import (
    Form,
    add_update,
    needs_plain_operations,
    update_gradients,
)
from lorakit.functional.matmul import matmul
from lorakit.functional.precision import without_autocast


class Segment(NamedTuple):
    """The rows start to stop - 1 of a batch, and the adapter that they have."""

    start: int
    stop: int
    a: Tensor
    b: Tensor
    form: Form


def definition(
    x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool, segments: Sequence[Segment]
) -> Tensor:
    """Segment by segment, in operations that each have a gradient of their own."""
    y = linear.project(x, weight, bias, transposed)
    parts, done = [], 0
    for start, stop, a, b, form in segments:
        if form.parts is not None:
            a, b = slices.as_block(a, b, form.parts)
        update = linear.low_rank(x[start:stop], a, b, form.dropout).to(y.dtype)
        parts += [y[done:start], linear.add_scaled(y[start:stop], update, form.s)]
        done = stop
    return torch.cat([*parts, y[done:]])


def add_segments(
    x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool, segments: Sequence[Segment]
) -> Tensor:
    """`definition` at the least cost; the segments are in the order of their rows.

    Shapes: x (N, ..., I), W (O, I), or (I, O) where `transposed`, A (R_k, I), B (O, R_k).

    >>> x, one = torch.ones(2, 1), torch.ones(1, 1)
    >>> add_segments(x, one, None, False, [Segment(1, 2, one, one, Form(2.0))]).flatten()
    tensor([1., 3.])
    """
    if weight.requires_grad or needs_plain_operations(x):
        return definition(x, weight, bias, transposed, segments)
    factors = [factor for segment in segments for factor in (segment.a, segment.b)]
    output: Tensor = _Segmented.apply(x, weight, bias, transposed, segments, *factors)  # type: ignore[no-untyped-call]
    return output


class _Segmented(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        transposed: bool,
        segments: Sequence[Segment],
        *factors: Tensor,
    ) -> Tensor:
        y = linear.project(x, weight, bias, transposed)
        x_TI, y_TO = x.reshape(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        spans = [_span(segment, x) for segment in segments]
        for span, (_, _, a, b, form) in zip(spans, segments, strict=True):
            add_update(y_TO[span], x_TI[span], a, b, form)
        ctx.save_for_backward(x, weight, *factors)
        ctx.forms = [(span, s.form) for span, s in zip(spans, segments, strict=True)]
        ctx.transposed = transposed
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with without_autocast(gradients[0]):  # in the types of forward
            return _gradients(ctx, gradients[0])


def _span(segment: Segment, x: Tensor) -> slice:
    """The tokens of a segment's rows."""
    tokens = x.shape[1:-1].numel()
    return slice(segment.start * tokens, segment.stop * tokens)


def _gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, *factors = ctx.saved_tensors
    needs_x, _, needs_bias, _, _, *needs = ctx.needs_input_grad
    dy_TO, x_TI = dy.reshape(-1, dy.shape[-1]), x.reshape(-1, x.shape[-1])
    dx_TI = None
    if needs_x:
        w = weight.to(dy.dtype)
        dx_TI = matmul(dy_TO, w.t() if ctx.transposed else w)
    found: list[Tensor | None] = []
    for n, (span, form) in enumerate(ctx.forms):
        a, b = factors[2 * n : 2 * n + 2]
        needs_ab = needs[2 * n], needs[2 * n + 1]
        part = None if dx_TI is None else dx_TI[span]
        found += update_gradients(dy_TO[span], x_TI[span], None, a, b, form, needs_ab, part)
    dx = None if dx_TI is None else dx_TI.view(x.shape).to(x.dtype)
    return dx, None, dy_TO.sum(0) if needs_bias else None, None, None, *found
