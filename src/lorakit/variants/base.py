"""A kind of adapter as a strategy: which tensors it has, how they start, what they change.

A variant has no state and knows no module. With the geometry of a weight (`Site`) it says which
tensors an adapter has; with these and the weight W it says dW; and, where the layer itself is at
hand, it computes the adapted forward at less cost than a product with W + dW.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Protocol

from torch import Tensor

from lorakit.functional.merge import merge
from lorakit.variants.site import Shape, Site
from lorakit.variants.spec import AdapterSpec

Tensors = Mapping[str, Tensor]
"""A module's tensors by their own names: those of the adapter, perhaps among others."""


class Host(Protocol):
    """A live layer, as far as a forward needs it."""

    @property
    def site(self) -> Site: ...
    @property
    def base_weight(self) -> Tensor: ...
    @property
    def base_bias(self) -> Tensor | None: ...

    def plain(self, input: Tensor, weight: Tensor) -> Tensor:
        """The layer's own function with `weight` in the place of W."""

    def adapted(self, input: Tensor, a: Tensor, b: Tensor, s: float, dropout: float) -> Tensor:
        """The layer's own function plus s * (B A)'s on the input after dropout."""


class Variant(ABC):
    """One kind of adapter. A subclass of one's own is made known by `lorakit.variants.register`."""

    name: ClassVar[str]
    """What configs and files say."""
    title: ClassVar[str]
    """What tables for people say."""
    tensor_names: ClassVar[tuple[str, ...]] = ("lora_A", "lora_B")
    """The adapter's tensors, in the order in which they are listed and written."""
    frozen: ClassVar[frozenset[str]] = frozenset()
    """Those of them that do not train."""
    needs_weight: ClassVar[bool] = False
    """Whether dW depends on W."""
    takes_dropout: ClassVar[bool] = False
    """Whether `forward` has a branch whose input can be dropped."""

    def refusal(self, site: Site) -> str | None:
        """Why such an adapter cannot stand beside this weight; None if it can."""
        return None

    def shapes(self, site: Site, r: int) -> dict[str, Shape]:
        """The shape of each tensor at rank `r`; by default those of A and B."""
        return dict(zip(self.tensor_names, site.factor_shapes(r), strict=True))

    def initial(self, site: Site, weight: Tensor, spec: AdapterSpec) -> dict[str, Tensor]:
        """Starting values beside `weight`; by default A and B, and what follows from them."""
        factors = site.initial_factors(weight, spec.r, spec.init_lora_weights)
        tensors = dict(zip(("lora_A", "lora_B"), factors, strict=True))
        return tensors | self.derived(site, weight, tensors, spec.scaling)

    def derived(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> dict[str, Tensor]:
        """The tensors whose starting values follow from W, A and B; none by default.

        When another base is loaded into the layer, those that still are at their start follow it.
        """
        return {}

    @abstractmethod
    def delta(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Tensor:
        """dW, laid out as W is stored, in at least float32."""

    def forward(self, host: Host, x: Tensor, tensors: Tensors, s: float, dropout: float) -> Tensor:
        """The layer's output with W + dW; a variant that knows a cheaper way has its own."""
        weight = host.base_weight
        return host.plain(x, merge(weight, self.delta(host.site, weight, tensors, s)))
