"""`rows` where adapters train: each has tensors of its own, and its rows lie together.

    z[k] = x[k] W^T + b + c_k D_k A_k^T B_k^T       x[k]: the inputs of segment k

As in `fused`, with gradients derived by hand: the products with W, forward and backward, are one
for all rows, x is kept once, and each segment adds what is its own to its part of y and of dL/dx.
A row that no segment has is the base's. `fused.Form` says scale, dropout, and how W is stored and
cut; of the segments' forms only the scale, dropout and seed may differ.

Where few tokens make calls dear (`fused.FEW`) and the segments are alike in all but their numbers,
their factors are stacked, (K, R, I) and (K, O, R), and the products of all are batched ones:

    h = x A^T    y += c h B^T     g = G B    dL/dx += c g A    dL/dA = c g^T x    dL/dB = c G^T h

Source: the segmented form of Punica (arXiv 2310.18547), SGMV.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorakit.functional import fused, linear, slices
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
    return add_to(x, linear.project(x, weight, bias, transposed), segments)


def add_to(x: Tensor, y: Tensor, segments: Sequence[Segment]) -> Tensor:
    """`definition` where y, the base's output, is at hand; y is kept for no gradient."""
    bounds = [bound for segment in segments for bound in (segment.start, segment.stop)]
    sizes = [stop - start for start, stop in pairwise([0, *bounds, len(x)])]
    inputs, outputs = x.split(sizes), [*y.split(sizes)]
    for n, (_, _, a, b, form) in enumerate(segments):
        if form.parts is not None:
            a, b = slices.as_block(a, b, form.parts)
        own = 2 * n + 1  # before it are the rows without a segment
        update = linear.low_rank(inputs[own], a, b, form.dropout).to(y.dtype)
        outputs[own] = linear.add_scaled(outputs[own], update, form.s)
    return torch.cat(outputs)


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
        ctx.alike = _are_alike(x, segments)
        if ctx.alike:
            count, (a_KRI, b_KOR) = len(segments), _stacks(factors, y.dtype)
            h_KMR = torch.bmm(_cut(x_TI.to(y.dtype), count), a_KRI.transpose(1, 2))
            scale = segments[0].form.scale
            _cut(y_TO, count).baddbmm_(h_KMR, b_KOR.transpose(1, 2), alpha=scale)
        else:
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
    if ctx.alike:
        found = _batched_gradients(dy_TO, x_TI, factors, ctx.forms[0][1].scale, dx_TI)
    for n, (span, form) in enumerate(() if ctx.alike else ctx.forms):
        a, b = factors[2 * n : 2 * n + 2]
        needs_ab = needs[2 * n], needs[2 * n + 1]
        part = None if dx_TI is None else dx_TI[span]
        found += update_gradients(dy_TO[span], x_TI[span], None, a, b, form, needs_ab, part)
    dx = None if dx_TI is None else dx_TI.view(x.shape).to(x.dtype)
    return dx, None, dy_TO.sum(0) if needs_bias else None, None, None, *found


def _are_alike(x: Tensor, segments: Sequence[Segment]) -> bool:
    """Whether batched products serve these: few tokens, and nothing but the numbers differs."""
    first = segments[0]
    rows, form = first.stop - first.start, first.form
    return (
        x.numel() <= fused.FEW
        and len(segments) > 1
        and len(segments) * rows == len(x)  # none is without an adapter
        and not (form.dropout or form.parts)
        and all(
            s.stop - s.start == rows and s.form == form and s.a.shape == first.a.shape
            for s in segments
        )
        and all(factor.requires_grad for s in segments for factor in (s.a, s.b))
    )


def _stacks(factors: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A (K, R, I) and B (K, O, R)."""
    return torch.stack([*factors[::2]]).to(dtype), torch.stack([*factors[1::2]]).to(dtype)


def _cut(tokens: Tensor, count: int) -> Tensor:
    return tokens.view(count, -1, tokens.shape[-1])


def _batched_gradients(
    dy_TO: Tensor, x_TI: Tensor, factors: Sequence[Tensor], scale: float, dx_TI: Tensor | None
) -> list[Tensor | None]:
    """Of each A and B, in turn; adds to `dx_TI`, in place."""
    count = len(factors) // 2
    a_KRI, b_KOR = _stacks(factors, dy_TO.dtype)
    dy_KMO, x_KMI = _cut(dy_TO, count), _cut(x_TI.to(dy_TO.dtype), count)
    g_KMR = torch.bmm(dy_KMO, b_KOR)
    h_KMR = torch.bmm(x_KMI, a_KRI.transpose(1, 2))
    if dx_TI is not None:
        _cut(dx_TI, count).baddbmm_(g_KMR, a_KRI, alpha=scale)
    da_KRI = torch.bmm(g_KMR.transpose(1, 2), x_KMI) * scale
    db_KOR = torch.bmm(dy_KMO.transpose(1, 2), h_KMR) * scale
    pairs = zip(da_KRI.to(factors[0].dtype), db_KOR.to(factors[1].dtype), strict=True)
    return [gradient for pair in pairs for gradient in pair]
