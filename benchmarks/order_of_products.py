"""The low-rank path against one product with a formed W + s B A, by shape, as training needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import product_costs
from benchmarks.inputs import DTYPES, Shape, shapes
from benchmarks.product_costs import products
from benchmarks.registry import Row, Settings
from benchmarks.rounds import interleave, over
from lorakit.functional.matmul import matmul

SECONDS = 0.5
CONDITIONS = {
    "forward": "h^T = A x^T, and y = x W^T, y += s h B^T against y = x (W + s B A)^T",
    "input gradient": "g^T = B^T dy^T, and dx = dy W, dx += s g A against dx = dy (W + s B A)",
    "h and g": "in both paths: the gradients of B and A need them",
    "formed / low rank": "below 1 the formed weight is faster",
    "model": "the path that the constants of product_costs, fitted in the same run, prefer",
    "lost": "time of that path over the faster one's; 1 where the model is right",
    "dtype": "of every tensor; the formed weight is made anew in each call",
    "seconds per cell": SECONDS,
}
S = 0.25
ADDED = {"forward": "up", "input gradient": "up, backward"}
"""What the low-rank path computes where the other one forms a weight, by direction."""


def check(settings: Settings) -> None:
    """Both paths compute the same."""
    product_costs.check(settings)
    for direction in ADDED:
        low, formed = paths(settings, Shape(6, 5, 4, 2), direction, torch.float32).values()
        torch.testing.assert_close(low(), formed())


def rows(settings: Settings) -> Iterator[Row]:
    for dtype in DTYPES:
        for direction in ADDED:
            for shape in shapes(settings):
                cell: Row = {"dtype": dtype, "direction": direction}
                yield cell | row(settings, shape, direction, dtype)


def row(settings: Settings, shape: Shape, direction: str, dtype: str) -> Row:
    candidates = paths(settings, shape, direction, DTYPES[dtype])
    times = interleave(candidates, settings.device, 0.1 if settings.quick else SECONDS)
    preferred = choice(settings, shape, direction, dtype)
    other = "formed" if preferred == "low rank" else "low rank"
    return {
        **asdict(shape),
        "formed / low rank": over(times, "formed", "low rank"),
        "model": preferred,
        "lost": max(1.0, over(times, preferred, other)["median"]),
        "rounds": len(times["formed"]),
    }


def choice(settings: Settings, shape: Shape, direction: str, dtype: str) -> str:
    """The path whose thin products the fitted constants say take less time."""
    constants, _ = product_costs.fitted(settings, dtype)
    size, thin = DTYPES[dtype].itemsize, products(shape)
    forming, adding = (constants.seconds(thin[name], size) for name in ("form", ADDED[direction]))
    return "formed" if forming < adding else "low rank"


def paths(
    settings: Settings, shape: Shape, direction: str, dtype: torch.dtype
) -> dict[str, Callable[[], tuple[Tensor, Tensor]]]:
    """Both orders, each giving the product with the weight and the thin one that training needs.

    The input gradient is the forward with W^T, A and B^T exchanged for W, B^T and A.
    """
    torch.manual_seed(settings.seed)
    options = {"device": settings.device, "dtype": dtype}
    w = torch.randn(shape.out, shape.into, **options)
    a = torch.randn(shape.rank, shape.into, **options)
    b = torch.randn(shape.out, shape.rank, **options)
    forward = direction == "forward"
    x = torch.randn(shape.tokens, shape.into if forward else shape.out, **options)
    down, up = (a, b.t()) if forward else (b.t(), a)

    def through(weight: Tensor) -> Tensor:
        return F.linear(x, weight) if forward else matmul(x, weight)

    @torch.no_grad()
    def low_rank() -> tuple[Tensor, Tensor]:
        h = matmul(down, x.t())
        return through(w).addmm_(h.t(), up, alpha=S), h

    @torch.no_grad()
    def formed() -> tuple[Tensor, Tensor]:
        return through(torch.addmm(w, b, a, alpha=S)), matmul(down, x.t())

    return {"low rank": low_rank, "formed": formed}
