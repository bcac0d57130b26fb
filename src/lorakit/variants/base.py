"""A variant of LoRA as a strategy: its tensors, their initial values, and dW.

A variant is stateless and independent of modules. For the layout of a weight (`Site`) it defines
the tensors of an adapter; from these and the weight W it computes dW; and for a live layer it
computes the adapted forward at less cost than a product with W + dW.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from lorakit.functional.merge import merge, rounding_loss
from lorakit.functional.token_rows import Rows
from lorakit.variants.site import Pair, RowsSite, Shape, Site
from lorakit.variants.spec import AdapterSpec

Tensors = Mapping[str, Tensor]
"""A module's tensors by their own names: those of the adapter, perhaps among others."""


class Host(Protocol):
    """What a variant's forward needs of the layer."""

    @property
    def site(self) -> Site: ...
    @property
    def base_weight(self) -> Tensor: ...
    @property
    def base_bias(self) -> Tensor | None: ...

    def plain(self, input: Tensor, weight: Tensor) -> Tensor:
        """The base layer's forward with `weight` in place of W."""

    def adapted(self, input: Tensor, a: Tensor, b: Tensor, s: float, dropout: float) -> Tensor:
        """The base layer's output, plus s * B A applied to the input after dropout."""

    def with_rows(self, input: Tensor, rows: Rows, values: Tensor) -> Tensor:
        """The base layer's output with `values` in these rows of W."""


class Variant(ABC):
    """One variant of LoRA. Register a subclass with `lorakit.variants.register`."""

    name: ClassVar[str]
    """Its name in configs and files."""
    title: ClassVar[str]
    """Its name in reports."""
    tensor_names: ClassVar[tuple[str, ...]] = ("lora_A", "lora_B")
    """The adapter's tensors, in the order in which they are listed and written."""
    frozen: ClassVar[frozenset[str]] = frozenset()
    """Those of them that are frozen."""
    is_low_rank: ClassVar[bool] = False
    """Whether dW is s * B A and nothing else, so that its norm and rank follow from A and B."""
    beyond_product: ClassVar[str] = "changes the base weight itself"
    """What it does where it is not `is_low_rank`, for messages."""
    needs_weight: ClassVar[bool] = False
    """Whether dW depends on W."""
    scales_rows: ClassVar[bool] = False
    """Whether W + dW is W + s * B A with row o, of (out, in), times 1 + d[o]; see `row_offset`."""
    takes_dropout: ClassVar[bool] = False
    """Whether `forward` supports dropout."""
    changes_bias: ClassVar[bool] = False
    """Whether it adds a vector to the output, too, which the layer's bias can hold."""
    is_worth_merging: ClassVar[bool] = True
    """Whether `forward` costs more than a cached merged weight, which takes W's memory again."""

    def refusal(self, site: Site) -> str | None:
        """Why this variant does not support the site; None if it does. By default whole weights."""
        return site.description if isinstance(site, RowsSite) else None

    def shapes(self, site: Site, r: int) -> dict[str, Shape]:
        """The shape of each tensor at rank `r`; by default those of A and B."""
        return dict(zip(self.tensor_names, site.factor_shapes(r), strict=True))

    def initial(self, site: Site, weight: Tensor, spec: AdapterSpec) -> dict[str, Tensor]:
        """Initial values for `weight`; by default A and B, and what is derived from them."""
        factors = site.initial_factors(weight, spec.r, spec.init_lora_weights)
        tensors = dict(zip(("lora_A", "lora_B"), factors, strict=True))
        return tensors | self.derived(site, weight, tensors, spec.scaling)

    def derived(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> dict[str, Tensor]:
        """The tensors whose initial values are computed from W, A and B; none by default.

        When another base is loaded, those that still have their initial values are recomputed.
        """
        return {}

    def block(
        self, site: Site, tensors: Tensors, start: int, stop: int
    ) -> tuple[Site, dict[str, Tensor]] | None:
        """Site and tensors whose dW is the rows [start, stop) of this one's, as W is stored.

        By default None: the rows of dW depend on all of W, or may do.
        """
        return None

    def row_offset(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Tensor | None:
        """d (O,) of a variant that `scales_rows`, differentiable in what trains; None for 0."""
        return None

    @abstractmethod
    def delta(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Tensor:
        """dW, laid out as W is stored, in at least float32."""

    def bias_delta(self, tensors: Tensors, s: float) -> Tensor:
        """What is added to the output, in at least float32, where it `changes_bias`."""
        raise NotImplementedError

    def factors(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Iterator[Pair]:
        """A (R, I) and B (O, R), whose products are the parts of dW; by default of its full rank.

        Override it where dW has a lower one.
        """
        for _, delta_OI in site.parts(self.delta(site, weight, tensors, s)):
            height, width = delta_OI.shape
            if height < width:
                yield delta_OI, torch.eye(height).to(delta_OI)
            else:
                yield torch.eye(width).to(delta_OI), delta_OI

    def merged(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Tensor:
        """W + dW, in the type of W."""
        return merge(weight, self.delta(site, weight, tensors, s))

    def rounding_loss(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> float:
        """The share of dW that merging loses to rounding."""
        return rounding_loss(weight, self.delta(site, weight, tensors, s))

    def forward(self, host: Host, x: Tensor, tensors: Tensors, s: float, dropout: float) -> Tensor:
        """The layer's output with W + dW; override it where there is a cheaper way."""
        return host.plain(x, self.merged(host.site, host.base_weight, tensors, s))
