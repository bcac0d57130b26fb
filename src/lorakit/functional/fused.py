"""LoRA on a linear layer as one differentiable function, with its gradients derived by hand.

    y = x W^T + b + c D A^T B^T        D = x * m,  c = s / (1 - p)

Shapes: x (T, I), W (O, I), A (R, I), B (O, R), y (T, O); m (T, I) is the dropout mask of zeros and
ones (p its probability; p = 0: D = x, c = s). With h = D A^T and G = dL/dy:

    dL/dB = c G^T h            since y depends on B through c h B^T
    g     = c G B              dL/dh
    dL/dA = g^T D              since h = D A^T
    dL/dx = G W + (g A) * m    or G (W + s B A) where p = 0
    dL/db = sum over T of G

What is kept for backward is x itself, never a copy; W, A and B are parameters. h is computed again,
and m is drawn again from its seed (`dropout`). With A frozen h of R rows is kept and x is not, with
both frozen nothing is; an input that needs no gradient gets none.

Products with one side of R are laid out with R rows, h^T = A x^T and g^T = c B^T G^T, which is how
they run fastest (`benchmarks/LOG.md`); `order` decides when W + s B A is formed instead. A layer of
slices has one pair for each; A x^T is then one product for all of them.

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
from torch.autograd import forward_ad

from lorakit.errors import StateError
from lorakit.functional import linear, slices
from lorakit.functional.dropout import draw_seed, keep_mask
from lorakit.functional.order import forming_pays
from lorakit.functional.precision import without_autocast
from lorakit.functional.slices import Slices


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

    A few tokens without gradient take the straight way; so does what `definition` must serve:
    compiled and traced code, torch.func's transforms, tensor subclasses, a weight that trains.

    >>> x, w = torch.ones(1, 2), torch.eye(2)
    >>> lora_linear(x, w, None, torch.ones(1, 2), torch.tensor([[1.0], [0.0]]), s=0.5)
    tensor([[2., 1.]])
    """
    plain = not (torch.is_grad_enabled() or dropout or transposed or parts)
    if plain and x.ndim == 2 and x.shape[0] <= x.shape[1] and _interpreter() is None:
        y = F.linear(x, weight, bias)
        if a.dtype is not x.dtype:
            a = a.to(x.dtype)
        if b.dtype is not y.dtype:
            b = b.to(y.dtype)
        return y.addmm_(F.linear(x, a), b.t(), alpha=s)
    if weight.requires_grad or _must_be_seen_through(x):
        return definition(x, weight, bias, a, b, Form(s, dropout, transposed, parts))
    form = Form(s, dropout, transposed, parts, draw_seed() if dropout else 0)
    if torch.is_grad_enabled():
        adapted: Tensor = _FusedLinear.apply(x, weight, bias, a, b, form)  # type: ignore[no-untyped-call]
        return adapted
    return _output(x, weight, bias, a, b, form, may_form=True)[0]


def definition(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, form: Form
) -> Tensor:
    """The same in plain torch operations, each with a gradient of its own."""
    if form.parts is None:
        return linear.lora_linear(x, weight, bias, a, b, form.s, form.dropout, form.transposed)
    return slices.lora_slices(
        x, weight, bias, a, b, form.s, form.parts, form.dropout, form.transposed
    )


_interpreter = torch._C._functorch.peek_interpreter_stack
"""Gives None unless one of torch.func's transforms runs."""


def _must_be_seen_through(x: Tensor) -> bool:
    """Whether something records or transforms the single operations."""
    return (
        torch.compiler.is_compiling()
        or type(x) not in (Tensor, torch.nn.Parameter)
        or _interpreter() is not None
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
    )


class _FusedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, form: Form
    ) -> Tensor:
        trains_a, trains_b = a.requires_grad, b.requires_grad
        needs_h = trains_b and not trains_a
        y, h_RT = _output(x, weight, bias, a, b, form, may_form=not needs_h)
        ctx.save_for_backward(x if trains_a else None, weight, a, b, h_RT if needs_h else None)
        ctx.form, ctx.x_dtype = form, x.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with without_autocast(gradients[0]):  # in the types of forward
            return _gradients(ctx, gradients[0])


def _output(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, form: Form, may_form: bool
) -> tuple[Tensor, Tensor | None]:
    """y, and h^T (R, T) where the low-rank path ran."""
    if may_form and not form.dropout and _keeps_small_updates(x, weight):
        tokens, features = x.numel() // x.shape[-1], weight.numel() // x.shape[-1]
        if forming_pays(tokens, x.shape[-1], features, weight, a.shape[0]):
            return linear.project(x, _formed(weight, a, b, form), bias, form.transposed), None
    y = linear.project(x, weight, bias, form.transposed)
    h_RT = a.to(y.dtype) @ _dropped(x, y.dtype, form).t()
    y_TO = y.view(-1, y.shape[-1])
    for span, h, b_HR in _pairs(h_RT, b, form.parts):
        y_TO[:, span].addmm_(h.t(), _turned(b_HR, y.dtype), alpha=form.scale)
    return y, h_RT


def _gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    """Of x, W, b, A and B, as the module's docstring derives them."""
    x, weight, a, b, h_RT = ctx.saved_tensors
    form: Form = ctx.form
    if x is None and b.requires_grad and torch.is_grad_enabled():
        raise StateError(
            "A gradient of a gradient needs the input, which a layer with a frozen A does not "
            "keep; let lora_A train, or differentiate with torch.func."
        )
    needs_x, _, needs_bias, needs_a, needs_b, _ = ctx.needs_input_grad
    dy_TO = dy.reshape(-1, dy.shape[-1])
    forms = needs_x and not form.dropout and forming_pays(len(dy_TO), 0, a.shape[1], weight, len(a))
    if needs_a:
        dropped = _dropped(x, dy.dtype, form)
    if needs_a or (needs_x and not forms):
        g_RT = _down(dy_TO, a, b, form)
    if needs_b and x is not None:
        h_RT = a.to(dy.dtype) @ dropped.t()

    dx = da = db = None
    if needs_x:
        w = _formed(weight.to(dy.dtype), a, b, form) if forms else weight.to(dy.dtype)
        dx_TI = dy_TO @ (w.t() if form.transposed else w)
        if not forms:
            dx_TI = _add_low_rank(dx_TI, g_RT, a, form)
        dx = dx_TI.view(*dy.shape[:-1], a.shape[1]).to(ctx.x_dtype)
    if needs_a:
        da = (g_RT @ dropped).to(a.dtype)
    if needs_b:
        db = _gradient_of_b(h_RT, dy_TO, b, form).to(b.dtype)
    return dx, None, dy_TO.sum(0) if needs_bias else None, da, db, None


def _down(dy_TO: Tensor, a: Tensor, b: Tensor, form: Form) -> Tensor:
    """g^T = c B^T G^T, (R, T)."""
    pairs = _pairs(a, b * form.scale, form.parts)
    return _stacked([_turned(b_HR, dy_TO.dtype) @ dy_TO[:, span].t() for span, _, b_HR in pairs])


def _gradient_of_b(h_RT: Tensor, dy_TO: Tensor, b: Tensor, form: Form) -> Tensor:
    """c G^T h, computed as (h^T G)^T."""
    pairs = _pairs(h_RT, b, form.parts)
    return _stacked([(h @ dy_TO[:, span]).t() for span, h, _ in pairs]) * form.scale


def _add_low_rank(dx_TI: Tensor, g_RT: Tensor, a: Tensor, form: Form) -> Tensor:
    """dx + (g A) * m."""
    a = a.to(dx_TI.dtype)
    if not form.dropout:
        return dx_TI.addmm_(g_RT.t(), a)
    update = g_RT.t() @ a
    return dx_TI.addcmul_(update, keep_mask(update, form.dropout, form.seed))


def _formed(weight: Tensor, a: Tensor, b: Tensor, form: Form) -> Tensor:
    """W + s B A in the type of W, stored as W is."""
    formed = weight.clone()
    w_OI = formed.t() if form.transposed else formed
    for span, a_RI, b_HR in _pairs(a.to(weight.dtype), b.to(weight.dtype), form.parts):
        w_OI[span].addmm_(b_HR, a_RI, alpha=form.s)
    return formed


def _pairs(a: Tensor, b: Tensor, parts: Slices | None) -> Iterable[tuple[slice, Tensor, Tensor]]:
    """For each pair: its part of the output, and its rows of A (or of h^T, g^T) and of B."""
    if parts is None:
        return [(slice(None), a, b)]
    return [(slice(*span), a_RI, b_HR) for span, a_RI, b_HR in slices.pairs(a, b, parts)]


def _stacked(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _dropped(x: Tensor, dtype: torch.dtype, form: Form) -> Tensor:
    """x * m as (T, I); x itself where there is no dropout."""
    x_TI = x.reshape(-1, x.shape[-1]).to(dtype)
    return x_TI * keep_mask(x_TI, form.dropout, form.seed) if form.dropout else x_TI


def _turned(b_HR: Tensor, dtype: torch.dtype) -> Tensor:
    """B^T with its R rows contiguous."""
    return b_HR.t().to(dtype, memory_format=torch.contiguous_format)


def _keeps_small_updates(x: Tensor, weight: Tensor) -> bool:
    """Whether the product is computed in full precision, so that W + s B A loses nothing of B A."""
    wide = weight.dtype in (torch.float32, torch.float64) and x.dtype is weight.dtype
    return wide and not torch.is_autocast_enabled(x.device.type)
