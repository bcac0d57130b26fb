"""A site: the layout of the weight that an adapter belongs to, without the module.

A site knows the shapes of A and B for its weight W, how they are initialised, and the layout of
their product as W is stored. So everything that depends on the type of a layer is defined here
once, for live layers, for files and for sums of adapters.

    site            W as stored                A                      B
    LinearSite      (O, I), transposed (I, O)  (R, I)                 (O, R)
    SlicedSite      the same, in slices        (R * N, I)             (heights of the N slices, R)
    RowsSite        (V, D), some of its rows   none: (N, D) values, see `trainable_tokens`
    EmbeddingSite   (V, O)                     (R, V)                 (O, R)
    ConvSite        (O, I/G, *kernel)          (R, I/G, *kernel)      (O, R/G, 1, ...)
    ConvSite, square  loralib's matrix form    (R * k, I * k)         (O/G * k, R * k)
    ParameterSite   (E, O, I), transposed (E, I, O), or (O, I)   (E * R, I)   (O, R * E)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from lorakit.functional import embedding, linear, slices
from lorakit.functional.initialise import INITIALISERS, embedding_factors
from lorakit.functional.slices import Slices
from lorakit.functional.token_rows import Rows

Shape = tuple[int, ...]
Pair = tuple[Tensor, Tensor]
Part = tuple[tuple[int, int], Tensor]
"""(first row, last row + 1) of the output, and what stands there."""


class Site(ABC):
    """One module's weight as a linear map from `in_features` to `out_features`."""

    kind: ClassVar[str]
    description: ClassVar[str]
    """What such a module is, in a message: "is a linear layer"."""
    in_features: int
    """I, the width of an input; for a table, the number of its rows."""
    out_features: int
    """O, the width of an output."""
    slices: Slices | None = None
    """The slices of a fused weight; None: the weight is adapted as a whole."""
    rows: Rows | None = None
    """The rows of a table that have values of their own; None: it is adapted as a whole."""

    @property
    @abstractmethod
    def weight_shape(self) -> Shape:
        """Of W, as it is stored."""

    @property
    def max_rank(self) -> int:
        """The rank above which another row of A adds nothing: min(in, out)."""
        return min(self.in_features, self.out_features)

    def rank_problem(self, r: int) -> str | None:
        """Why rank `r` is not supported here; None if it is."""
        return None

    @abstractmethod
    def factor_shapes(self, r: int) -> tuple[Shape, Shape]:
        """Of A and B at rank `r`."""

    @abstractmethod
    def initial_factors(self, weight: Tensor, r: int, init: bool | str) -> Pair:
        """Initial values of A and B for `weight`, as `init_lora_weights` says."""

    @abstractmethod
    def product(self, a: Tensor, b: Tensor, s: float) -> Tensor:
        """s * B A, laid out as W is stored, in at least float32."""

    @abstractmethod
    def pairs(self, a: Tensor, b: Tensor) -> Iterator[Pair]:
        """The matrices A (R, I) and B (O, R) whose products, side by side, hold B A's numbers."""

    @abstractmethod
    def join(self, pairs: Sequence[Pair]) -> Pair:
        """A and B of these `pairs`, each of the rank `pair_rank`."""

    def pair_rank(self, r: int) -> int:
        """The rank of each of `pairs` in an adapter of rank `r`."""
        return r

    @abstractmethod
    def parts(self, weight: Tensor) -> Iterator[Part]:
        """What of a weight, or of a change of it, stands where each product of `pairs` does.

        Each is laid out (O, I), or as the matrices of a convolution's products are.
        """

    def block(self, a: Tensor, b: Tensor, start: int, stop: int) -> tuple[Site, Pair] | None:
        """The site of the rows [start, stop) of W as stored, and what they need of A and of B.

        None where they have no site of their own; the change of W is then computed as a whole.
        """
        return None


class Sited(Protocol):
    """An adapter, or a layer that has one."""

    @property
    def site(self) -> Site | None: ...


@dataclass(frozen=True)
class LinearSite(Site):
    """W (out, in), or (in, out) where `transposed`, as GPT-2's Conv1D stores it."""

    in_features: int
    out_features: int
    transposed: bool = False
    """Whether W is stored (in, out)."""

    kind: ClassVar[str] = "linear"
    description: ClassVar[str] = "is a linear layer"

    @property
    def weight_shape(self) -> Shape:
        shape = self.out_features, self.in_features
        return shape[::-1] if self.transposed else shape

    def factor_shapes(self, r: int) -> tuple[Shape, Shape]:
        return (r, self.in_features), (self.out_features, r)

    def initial_factors(self, weight: Tensor, r: int, init: bool | str) -> Pair:
        return INITIALISERS[init](self._as_OI(weight), r)

    def product(self, a: Tensor, b: Tensor, s: float) -> Tensor:
        return self._as_OI(linear.delta(a, b, s))

    def pairs(self, a: Tensor, b: Tensor) -> Iterator[Pair]:
        yield a, b

    def join(self, pairs: Sequence[Pair]) -> Pair:
        ((a, b),) = pairs
        return a, b

    def parts(self, weight: Tensor) -> Iterator[Part]:
        yield (0, self.out_features), self._as_OI(weight)

    def block(self, a: Tensor, b: Tensor, start: int, stop: int) -> tuple[Site, Pair] | None:
        if self.transposed:
            return replace(self, in_features=stop - start), (a[:, start:stop], b)
        return replace(self, out_features=stop - start), (a, b[start:stop])

    def _as_OI(self, weight: Tensor) -> Tensor:
        """From W's layout to (out, in), and back."""
        return weight.t() if self.transposed else weight


@dataclass(frozen=True)
class SlicedSite(LinearSite):
    """The slices of one fused weight, some of them adapted, each by a pair of its own."""

    slices: Slices = ()
    """Height of each slice of the output, from the top, and whether it is adapted."""

    @property
    def max_rank(self) -> int:
        return min(self.in_features, *slices.adapted_heights(self.slices))

    def factor_shapes(self, r: int) -> tuple[Shape, Shape]:
        heights = slices.adapted_heights(self.slices)
        return (r * len(heights), self.in_features), (sum(heights), r)

    def initial_factors(self, weight: Tensor, r: int, init: bool | str) -> Pair:
        weight_OI = self._as_OI(weight)
        spans = slices.adapted_spans(self.slices)
        factors = [INITIALISERS[init](weight_OI[start:stop], r) for start, stop in spans]
        return torch.cat([a for a, _ in factors]), torch.cat([b for _, b in factors])

    def product(self, a: Tensor, b: Tensor, s: float) -> Tensor:
        return self._as_OI(slices.delta(a, b, s, self.slices))

    def pairs(self, a: Tensor, b: Tensor) -> Iterator[Pair]:
        for _, a_RI, b_HR in slices.pairs(a, b, self.slices):
            yield a_RI, b_HR

    def join(self, pairs: Sequence[Pair]) -> Pair:
        return torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs])

    def parts(self, weight: Tensor) -> Iterator[Part]:
        for start, stop in slices.adapted_spans(self.slices):
            yield (start, stop), self._as_OI(weight)[start:stop]

    def block(self, a: Tensor, b: Tensor, start: int, stop: int) -> tuple[Site, Pair] | None:
        return None


@dataclass(frozen=True)
class InProjSite(LinearSite):
    """nn.MultiheadAttention's in_proj_weight, which holds query, key and value."""

    kind: ClassVar[str] = "attention"
    description: ClassVar[str] = "is an nn.MultiheadAttention"


@dataclass(frozen=True)
class OutProjSite(LinearSite):
    """nn.MultiheadAttention's out_proj, which files name apart from other linear layers."""

    kind: ClassVar[str] = "out_proj"
    description: ClassVar[str] = "is nn.MultiheadAttention's out_proj"


@dataclass(frozen=True)
class RowsSite(LinearSite):
    """Some rows of an embedding or of a head, which store a row for each token.

    Both are (tokens, width) as a linear layer's weight is (out, in). Where only a file is known,
    `out_features` is the least that holds the rows.
    """

    rows: Rows = ()
    """In ascending order."""

    kind: ClassVar[str] = "rows"
    description: ClassVar[str] = "is adapted in some of its rows"

    @property
    def max_rank(self) -> int:
        return len(self.rows)

    def rank_problem(self, r: int) -> str | None:
        if self.rows[-1] >= self.out_features:
            return (
                f"has {self.out_features} rows, and row {self.rows[-1]} is to be trained; call "
                f"resize_token_embeddings({self.rows[-1] + 1}) on the model first"
            )
        return None if r == len(self.rows) else f"has {len(self.rows)} rows to train, not {r}"


@dataclass(frozen=True)
class EmbeddingSite(Site):
    """A table W (V, O): its inputs are the V row numbers."""

    in_features: int
    out_features: int

    kind: ClassVar[str] = "embedding"
    description: ClassVar[str] = "is an embedding"

    @property
    def weight_shape(self) -> Shape:
        return self.in_features, self.out_features

    def factor_shapes(self, r: int) -> tuple[Shape, Shape]:
        return (r, self.in_features), (self.out_features, r)

    def initial_factors(self, weight: Tensor, r: int, init: bool | str) -> Pair:
        return embedding_factors(weight, r, init)

    def product(self, a: Tensor, b: Tensor, s: float) -> Tensor:
        return embedding.delta(a, b, s)

    def pairs(self, a: Tensor, b: Tensor) -> Iterator[Pair]:
        yield a, b

    def join(self, pairs: Sequence[Pair]) -> Pair:
        ((a, b),) = pairs
        return a, b

    def parts(self, weight: Tensor) -> Iterator[Part]:
        yield (0, self.out_features), weight.t()

    def block(self, a: Tensor, b: Tensor, start: int, stop: int) -> tuple[Site, Pair] | None:
        return replace(self, in_features=stop - start), (a[:, start:stop], b)
