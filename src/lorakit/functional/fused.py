"""LoRA on a linear layer as one differentiable function, with its gradients derived by hand.

    y = x W^T + b + c D A^T B^T        D = x * m,  c = s / (1 - p)

Shapes: x (T, I), W (O, I), A (R, I), B (O, R), y (T, O); m (T, I) is the dropout mask of zeros and
ones (p its probability; p = 0: D = x, c = s). With h = D A^T and G = dL/dy:

    dL/dB = c G^T h              since y depends on B through c h B^T
    g     = G B                  c g is dL/dh
    dL/dA = c g^T D              since h = D A^T
    dL/dx = G W + c (g A) * m
    dL/db = sum over T of G

What is kept for backward is x itself, never a copy; W, A and B are parameters. h is computed again,
and m is drawn again from its seed (`dropout`). With A frozen h of R rows is kept and x is not, with
both frozen nothing is; an input that needs no gradient gets none. A small input (`FEW`) without
dropout keeps x and h: torch's own operations serve it faster.

Products with one side of R are laid out with R rows, h^T = A x^T and g^T = B^T G^T, which is how
they run fastest (`benchmarks/LOG.md`); `matmul` decides by which library they are computed. A layer
of slices has one pair for each; A x^T is then one product for all of them.

A and B are computed with in the type of the layer's output and get gradients of their own type, so
a bfloat16 base with float32 adapters, and autocast, compute in bfloat16 and keep no float32 copy of
an activation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lorakit.errors import StateError
from lorakit.functional import linear, slices
from lorakit.functional.capture import is_captured
from lorakit.functional.dropout import draw_seed, keep_mask
from lorakit.functional.matmul import matmul
from lorakit.functional.precision import autocast_is_on, without_autocast
from lorakit.functional.slices import Slices
from lorakit.private.torch_names import forward_ad_level, is_fake, peek_interpreter_stack

FEW = 2**16
"""Numbers in x up to which training takes single operations; there the two ways cost the same."""


class Form(NamedTuple):
    """What is no tensor: the scale, dropout and its seed, how W is stored and cut."""

    s: float
    dropout: float = 0.0
    transposed: bool = False
    parts: Slices | None = None
    seed: int = 0

    @property
    def scale(self) -> float:
        """c = s / (1 - p)."""
        return self.s / (1 - self.dropout)


def lora_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    s: float,
    dropout: float = 0.0,
    transposed: bool = False,
    parts: Slices | None = None,
) -> Tensor:
    """`linear.lora_linear`, or `slices.lora_slices` where there are `parts`, at the least cost.

    A few tokens without gradient take the straight way. `definition` serves compiled and traced
    code, torch.func's transforms, tensor subclasses, a weight that trains, dropout in a CUDA graph,
    and the training on a small input without dropout.

    >>> x, w = torch.ones(1, 2), torch.eye(2)
    >>> lora_linear(x, w, None, torch.ones(1, 2), torch.tensor([[1.0], [0.0]]), s=0.5)
    tensor([[2., 1.]])
    """
    plain = not (torch.is_grad_enabled() or dropout or transposed or parts)
    if plain and x.ndim == 2 and x.shape[0] <= x.shape[1] and peek_interpreter_stack() is None:
        y = F.linear(x, weight, bias)
        if a.dtype is not x.dtype:
            a = a.to(x.dtype)
        if b.dtype is not y.dtype:
            b = b.to(y.dtype)
        return y.addmm_(F.linear(x, a), b.t(), alpha=s)
    trains = torch.is_grad_enabled()
    if weight.requires_grad or needs_plain_operations(x):
        return definition(x, weight, bias, a, b, Form(s, dropout, transposed, parts))
    if is_captured(x) if dropout else trains and _is_small(x):
        return definition(x, weight, bias, a, b, Form(s, dropout, transposed, parts))
    form = Form(s, dropout, transposed, parts, draw_seed() if dropout and not is_fake(x) else 0)
    if trains:
        adapted: Tensor = _FusedLinear.apply(x, weight, bias, a, b, form)  # type: ignore[no-untyped-call]
        return adapted
    return _output(x, weight, bias, a, b, form)[0]


def definition(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, form: Form
) -> Tensor:
    """The same in plain torch operations, each with a gradient of its own."""
    if form.parts is None:
        return linear.lora_linear(x, weight, bias, a, b, form.s, form.dropout, form.transposed)
    return slices.lora_slices(
        x, weight, bias, a, b, form.s, form.parts, form.dropout, form.transposed
    )


def _is_small(x: Tensor) -> bool:
    """Whether calls cost more than arithmetic here, and `definition` too keeps x itself.

    Not asked of compiled code, which would be compiled anew for small and for large inputs.
    """
    if torch.compiler.is_compiling():
        return False
    return x.numel() <= FEW and x.is_contiguous() and not autocast_is_on(x)


def needs_plain_operations(x: Tensor) -> bool:
    """Whether something traces or transforms the single operations (compile, torch.func, jvp)."""
    return (
        torch.compiler.is_compiling()
        or (type(x) not in (Tensor, torch.nn.Parameter) and not is_fake(x))
        or peek_interpreter_stack() is not None
        or forward_ad_level() >= 0
        or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    )


class _FusedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, form: Form
    ) -> Tensor:
        trains_a, trains_b = a.requires_grad, b.requires_grad
        y, h_RT = _output(x, weight, bias, a, b, form)
        needs_h = trains_b and not trains_a
        ctx.save_for_backward(x if trains_a else None, weight, a, b, h_RT if needs_h else None)
        ctx.form, ctx.x_dtype = form, x.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with without_autocast(gradients[0]):  # in the types of forward
            return _gradients(ctx, gradients[0])


def _output(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, form: Form
) -> tuple[Tensor, Tensor]:
    """y, and h^T (R, T)."""
    y = linear.project(x, weight, bias, form.transposed)
    x_TI = x.reshape(-1, x.shape[-1])
    return y, add_update(y.view(-1, y.shape[-1]), x_TI, a, b, form)


def add_update(y_TO: Tensor, x_TI: Tensor, a: Tensor, b: Tensor, form: Form) -> Tensor:
    """Add c D A^T B^T to y, in place; gives h^T (R, T)."""
    dropped = x_TI.to(y_TO.dtype)
    if form.dropout:
        dropped = dropped * keep_mask(dropped, form.dropout, form.seed)
    h_RT = matmul(a.to(y_TO.dtype), dropped.t())
    for span, h, b_HR in _pairs(h_RT, b.to(y_TO.dtype), form.parts):
        y_TO[:, span].addmm_(h.t(), b_HR.t(), alpha=form.scale)
    return h_RT


def _gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    """Of x, W, b, A and B, as the module's docstring derives them, c outside of each product."""
    x, weight, lora_A, lora_B, h_RT = ctx.saved_tensors
    form: Form = ctx.form
    if x is None and lora_B.requires_grad and torch.is_grad_enabled():
        raise StateError(
            "Double backward is not supported while lora_A is frozen, since the layer then does "
            "not save its input. Make lora_A trainable, or differentiate with torch.func."
        )
    needs_x, _, needs_bias, needs_a, needs_b, _ = ctx.needs_input_grad
    dy_TO = dy.reshape(-1, dy.shape[-1])
    dx_TI = None
    if needs_x:
        w = weight.to(dy.dtype)
        dx_TI = matmul(dy_TO, w.t() if form.transposed else w)
    x_TI = None if x is None else x.reshape(-1, x.shape[-1])
    needs = needs_a, needs_b
    da, db = update_gradients(dy_TO, x_TI, h_RT, lora_A, lora_B, form, needs, dx_TI)
    dx = None
    if dx_TI is not None:
        dx = dx_TI.view(*dy.shape[:-1], lora_A.shape[1]).to(ctx.x_dtype)
    return dx, None, dy_TO.sum(0) if needs_bias else None, da, db, None


def update_gradients(
    dy_TO: Tensor,
    x_TI: Tensor | None,
    h_RT: Tensor | None,
    lora_A: Tensor,
    lora_B: Tensor,
    form: Form,
    needs: tuple[bool, bool],
    dx_TI: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """Of A and B, where `needs` says so; adds c (g A) * m to `dx_TI`, in place.

    One of x and h^T may be missing: x where A needs no gradient, h^T where it is computed again.
    """
    needs_a, needs_b = needs
    a, b = lora_A.to(dy_TO.dtype), lora_B.to(dy_TO.dtype)
    mask = dropped = da = db = None
    if form.dropout and (dx_TI is not None or x_TI is not None):
        mask = keep_mask(dy_TO.new_empty(len(dy_TO), a.shape[1]), form.dropout, form.seed)
    if x_TI is not None and (needs_a or needs_b):
        dropped = x_TI.to(dy_TO.dtype)
        dropped = dropped if mask is None else dropped * mask
    if needs_a or dx_TI is not None:
        pairs = _pairs(a, b, form.parts)
        g_RT = _stacked([matmul(b_HR.t(), dy_TO[:, span].t()) for span, _, b_HR in pairs])
    if needs_a:
        assert dropped is not None
        da = matmul(g_RT, dropped).to(lora_A.dtype) * form.scale
    if needs_b:
        h_RT = matmul(a, dropped.t()) if dropped is not None else h_RT
        assert h_RT is not None
        pairs = _pairs(h_RT, b, form.parts)
        db = _stacked([matmul(h, dy_TO[:, span]).t() for span, h, _ in pairs])
        db = db.to(lora_B.dtype) * form.scale
    if dx_TI is not None:
        if mask is None:
            dx_TI.addmm_(g_RT.t(), a, alpha=form.scale)
        else:
            dx_TI.addcmul_(matmul(g_RT.t(), a), mask, value=form.scale)
    return da, db


def _pairs(a: Tensor, b: Tensor, parts: Slices | None) -> Iterable[tuple[slice, Tensor, Tensor]]:
    """For each pair: its part of the output, and its rows of A (or of h^T, g^T) and of B."""
    if parts is None:
        return [(slice(None), a, b)]
    return [(slice(*span), a_RI, b_HR) for span, a_RI, b_HR in slices.pairs(a, b, parts)]


def _stacked(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0]
