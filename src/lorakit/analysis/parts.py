"""The matrices that an adapter changes: a weight, or a slice or a group of one, and its update.

Everything is computed in float64, from the factors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from lorakit.functional import svd
from lorakit.functional.svd import Svd
from lorakit.variants import ModuleAdapter
from lorakit.variants.site import Pair

_FACTORS = ("lora_A", "lora_B")


@dataclass(frozen=True)
class Part:
    """One matrix (O, I), what an adapter adds to it, and the weight itself where it is known."""

    name: str
    """The module's; of several parts each with its rows: attn.c_attn[0:768]."""
    shape: tuple[int, int]
    rank: int
    """Of the adapter here: the rows of A, or how many rows of a table have values of their own."""
    update: Svd
    """dW."""
    pair: Pair | None
    """A and B, of a variant that has them."""
    weight: Tensor | None

    @property
    def update_rank(self) -> int:
        """How many of the first `rank` singular values of dW are more than rounding errors."""
        return min(self.rank, numerical_rank(self.update.values_K, self.shape))

    @cached_property
    def directions(self) -> dict[str, Tensor]:
        """Orthonormal columns, those of the largest singular value first, by what they are of.

        The paper compares those of A and of B. They change with M in (B M)(M^-1 A), which is the
        same update; those of dW do not.
        """
        own = {
            "dW, input": self.update.right_IK[:, : self.update_rank],
            "dW, output": self.update.left_OK[:, : self.update_rank],
        }
        if self.pair is None:
            return own
        a_RI, b_OR = self.pair
        return {"A": _directions(a_RI.t()), "B": _directions(b_OR), **own}


def parts_of(name: str, adapter: ModuleAdapter, weight: Tensor | None) -> Iterator[Part]:
    """The parts of one module.

    Raises StateError if the update depends on the weight and that is None, or if the file does not
    say the type of the layer.
    """
    wide = {leaf: tensor.detach().double() for leaf, tensor in adapter.tensors.items()}
    adapter = replace(adapter, tensors=wide)
    factors, site = list(adapter.factors(weight)), adapter.site
    assert site is not None
    where = torch.empty(site.weight_shape, device="meta") if weight is None else weight
    named = all(factor in wide for factor in _FACTORS)
    pairs = list(site.pairs(*map(wide.__getitem__, _FACTORS))) if named else [None] * len(factors)
    for (rows, matrix), (a, b), pair in zip(site.parts(where), factors, pairs, strict=True):
        yield Part(
            name if len(factors) == 1 else f"{name}[{rows[0]}:{rows[1]}]",
            (matrix.shape[0], matrix.shape[1]),
            adapter.spec.r if pair is None else pair[0].shape[0],
            svd.decompose(a, b, 1.0),
            pair,
            None if weight is None else matrix,
        )


def numerical_rank(values: Tensor, shape: tuple[int, ...]) -> int:
    """How many singular values of a matrix of this shape are more than rounding leaves of zero.

    >>> numerical_rank(torch.tensor([2.0, 1e-3, 1e-20]).double(), (5, 3))
    2
    """
    if not len(values):
        return 0
    return int((values > values[0] * max(shape) * torch.finfo(values.dtype).eps).sum())


def _directions(matrix: Tensor) -> Tensor:
    """Its left singular vectors without those of zero, which could be any."""
    identity = torch.eye(matrix.shape[1], dtype=matrix.dtype)
    left, values, _ = svd.decompose(identity, matrix, 1.0)  # by QR first: it is tall
    return left[:, : numerical_rank(values, tuple(matrix.shape))]
