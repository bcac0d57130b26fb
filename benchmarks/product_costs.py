"""Seconds of a thin product = operations / rate + bytes / bandwidth + overhead, fitted.

The product with W itself is in every order of the products and cancels, so the constants are those
of the products that differ: those with A and B, and the one that forms W + s B A.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from statistics import median

import torch
from torch import Tensor

from benchmarks.inputs import DTYPES, Shape, shapes
from benchmarks.registry import Row, Settings, Unavailable, spread
from benchmarks.rounds import interleave
from lorakit.functional.matmul import matmul

SECONDS = 0.5
LEAST = 1e-15
"""Of any cost, in seconds: a rate is a number, and no device has that one."""
CONDITIONS = {
    "products": "A x^T; y += s h B^T; B^T dy^T; dx += s g A; W + s B A",
    "rows": "of A and B^T contiguous",
    "operations": "2 m k n of (m, k) times (k, n)",
    "bytes": "what the product reads and writes, each tensor once, a sum in place twice",
    "fit": "non-negative least squares of the relative error",
    "seconds per shape": SECONDS,
}


@dataclass(frozen=True)
class Product:
    """(m, k) times (k, n); `added` to a third tensor, which is read too."""

    m: int
    k: int
    n: int
    added: bool

    @property
    def operations(self) -> int:
        return 2 * self.m * self.k * self.n

    def bytes(self, itemsize: int) -> int:
        written = self.m * self.n * (2 if self.added else 1)
        return itemsize * (self.m * self.k + self.k * self.n + written)


@dataclass(frozen=True)
class Constants:
    """Seconds of an operation, of a byte and of a call."""

    operation: float
    byte: float
    call: float

    def seconds(self, product: Product, itemsize: int) -> float:
        moved = self.byte * product.bytes(itemsize)
        return self.operation * product.operations + moved + self.call


def products(shape: Shape) -> dict[str, Product]:
    """The thin products of a layer, by what they compute.

    >>> products(Shape(tokens=5, into=3, out=4, rank=2))["form"]
    Product(m=4, k=2, n=3, added=True)
    """
    t, i, o, r = shape.tokens, shape.into, shape.out, shape.rank
    return {
        "down": Product(t, i, r, False),
        "up": Product(t, r, o, True),
        "down, backward": Product(t, o, r, False),
        "up, backward": Product(t, r, i, True),
        "form": Product(o, r, i, True),
    }


def check(settings: Settings) -> None:
    """The fit finds constants that made the times."""
    if not find_spec("scipy"):
        raise Unavailable("scipy is not installed")
    true = Constants(2e-11, 3e-10, 5e-6)
    pieces = {p: true.seconds(p, 4) for s in shapes(settings) for p in products(s).values()}
    found = fit(pieces, 4)
    for product, seconds in pieces.items():
        assert abs(found.seconds(product, 4) / seconds - 1) < 1e-6


def rows(settings: Settings) -> Iterator[Row]:
    for dtype in DTYPES:
        constants, times = fitted(settings, dtype)
        size = DTYPES[dtype].itemsize
        errors = [abs(constants.seconds(p, size) / seconds - 1) for p, seconds in times.items()]
        yield {
            "dtype": dtype,
            "operations per second": 1 / constants.operation,
            "bytes per second": 1 / constants.byte,
            "seconds per call": constants.call,
            "relative error": spread(errors),
            "products": len(times),
        }


@cache
def fitted(settings: Settings, dtype: str) -> tuple[Constants, Mapping[Product, float]]:
    """The constants of this dtype, and the times that they were fitted to; measured once."""
    times: dict[Product, float] = {}
    seconds = 0.05 if settings.quick else SECONDS
    for shape in shapes(settings):
        calls = {p: call(p, settings, DTYPES[dtype]) for p in products(shape).values()}
        new = {str(p): run for p, run in calls.items() if p not in times}
        if new:
            measured = interleave(new, settings.device, seconds)
            times |= {p: median(measured[str(p)]) for p in calls if str(p) in measured}
    return fit(times, DTYPES[dtype].itemsize), times


def call(shape: Product, settings: Settings, dtype: torch.dtype) -> Callable[[], Tensor]:
    """The product, as a layer would call it; `form` leaves W as it is."""
    options = {"device": settings.device, "dtype": dtype}
    left = torch.randn(shape.m, shape.k, **options)
    if shape.added:
        right = torch.randn(shape.k, shape.n, **options)
        return partial(torch.addmm, torch.zeros(shape.m, shape.n, **options), left, right)
    rows = torch.randn(shape.n, shape.k, **options)
    return torch.no_grad()(partial(matmul, rows, left.t()))


def fit(times: Mapping[Product, float], itemsize: int) -> Constants:
    """The constants with the least sum of squared relative errors; what is free costs `LEAST`."""
    import numpy
    from scipy.optimize import nnls

    rows = [(p.operations / t, p.bytes(itemsize) / t, 1 / t) for p, t in times.items()]
    matrix = numpy.array(rows)
    scale = matrix.max(axis=0)  # the columns differ by ten orders of magnitude
    solution, _ = nnls(matrix / scale, numpy.ones(len(rows)))
    return Constants(*(max(float(value), LEAST) for value in solution / scale))
