"""The adapter of one module as a value, without the module.

A layer computes with one, a file stores one for each module, and sums of adapters combine them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lorakit.errors import StateError
from lorakit.functional import svd
from lorakit.variants.base import Variant
from lorakit.variants.registry import VARIANTS
from lorakit.variants.site import LinearSite, Pair, Shape, Site
from lorakit.variants.spec import AdapterSpec


@dataclass(frozen=True)
class ModuleAdapter:
    """Settings, tensors by name, and the site: the layout of the weight that they adapt.

    `site` is None where a file does not store it, as loralib's does not; it is resolved with the
    module. The rank is then that of B, until the module is known to be a convolution.

    >>> from lorakit.variants import LinearSite
    >>> tensors = {"lora_A": torch.ones(1, 3), "lora_B": torch.ones(2, 1)}
    >>> adapter = ModuleAdapter(AdapterSpec(1, lora_alpha=2), tensors, LinearSite(3, 2))
    >>> adapter.delta()
    tensor([[2., 2., 2.],
            [2., 2., 2.]])
    """

    spec: AdapterSpec
    """Rank, alpha, variant, dropout."""
    tensors: Mapping[str, Tensor]
    """`lora_A`, `lora_B` and what else the variant has."""
    site: Site | None = None

    @property
    def variant(self) -> Variant:
        """The strategy that the spec names."""
        return VARIANTS[self.spec.variant]

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of the tensors, by name."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    @property
    def parameters(self) -> int:
        """How many numbers the tensors hold."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    @property
    def bytes(self) -> int:
        """How much memory the tensors take."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def with_factors(self, a: Tensor, b: Tensor, **changes: Any) -> ModuleAdapter:
        """The same with another A and B, and with other fields changed."""
        return replace(self, tensors={**self.tensors, "lora_A": a, "lora_B": b}, **changes)

    def block(self, start: int, stop: int) -> ModuleAdapter | None:
        """The adapter of the rows [start, stop) of the weight as it is stored.

        None where they cannot be adapted by themselves: in slices, of a convolution, or where dW
        depends on all of W. Raises StateError if the site is unknown.
        """
        found = self.variant.block(self._site, self.tensors, start, stop)
        return None if found is None else replace(self, site=found[0], tensors=found[1])

    def delta(self, weight: Tensor | None = None) -> Tensor:
        """dW in the layout of the module's weight, in at least float32.

        `weight` is that weight; LoRA needs none. Raises StateError if the variant needs it, or if
        the site is unknown.
        """
        weight = self._weight(weight)
        return self.variant.delta(self._site, weight, self.tensors, self.spec.scaling)

    def factors(self, weight: Tensor | None = None) -> Iterator[Pair]:
        """A (R, I) and B (O, R), whose products are dW, for each of the weight's `Site.parts`.

        They are as small as the variant has them: LoRA's own, with s in B. `weight` and errors are
        those of `delta`.
        """
        weight = self._weight(weight)
        return self.variant.factors(self._site, weight, self.tensors, self.spec.scaling)

    @property
    def has_row_form(self) -> bool:
        """Whether `functional.rows` computes it, for rows of a batch with one of their own each."""
        is_one = self.variant.is_low_rank or self.variant.scales_rows
        return is_one and isinstance(self.site, LinearSite)

    def row_offset(self, weight: Tensor) -> Tensor | None:
        """d of the variant's output u + d * (u - b), where u is LoRA's own; None for 0."""
        return self.variant.row_offset(self._site, weight, self.tensors, self.spec.scaling)

    @property
    def is_meta(self) -> bool:
        """Whether a tensor is on the meta device and has no values."""
        return any(tensor.is_meta for tensor in self.tensors.values())

    @cached_property
    def singular_values(self) -> Tensor:
        """Of s * B A, the largest first, from the factors: no matrix of W's size is formed.

        Fused slices and groups have some each, and they are listed together.

        Raises StateError for a variant whose dW is not s * B A.
        """
        if not self.variant.is_low_rank:
            raise StateError(
                f"The update of {self.variant.title} is not s * B A, so A and B alone do not give "
                "its singular values; decompose delta(weight)."
            )
        pairs = self._site.pairs(self.tensors["lora_A"].detach(), self.tensors["lora_B"].detach())
        values = [svd.singular_values(a, b, self.spec.scaling) for a, b in pairs]
        return torch.cat(values).sort(descending=True).values

    def norm(self, weight: Tensor | None = None) -> float:
        """||dW||, Frobenius; from A and B alone where they give it, else of `delta(weight)`."""
        values = self.singular_values if self.variant.is_low_rank else self.delta(weight)
        return float(torch.linalg.vector_norm(values.detach()))

    def _weight(self, weight: Tensor | None) -> Tensor:
        """The weight, or its shape alone where the variant needs no more."""
        if weight is None and self.variant.needs_weight:
            raise StateError(
                f"The update of {self.variant.title} depends on the base weight: delta(weight)."
            )
        return torch.empty(self._site.weight_shape, device="meta") if weight is None else weight

    @property
    def _site(self) -> Site:
        if self.site is None:
            raise StateError(
                "The file of this adapter does not say the type of its layer; load it onto the "
                "model with lorakit.load_adapter first."
            )
        return self.site
